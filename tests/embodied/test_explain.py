"""Candidates against what computes the same elsewhere, held-out verdicts against planted truth and known rates."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.special import expit, logit

from embodied import explain as ex
from embodied import held_out as ho
from embodied import preference_models as pm
from embodied.feedback import Segments
from embodied.planning import expected_features, optimal, uniform_policy
from embodied.recorded_values import Recorded, better, recorded
from embodied.regret import regret, successor_features
from embodied.walks import partial_return, walks
from envs.delivery import WEIGHTS, board
from policies.table import SoftmaxTable
from rapport.explain import boards, recordings

HOME = board()
REWARD = expected_features(HOME) @ WEIGHTS
N = 80
ALL = np.arange(N)


@pytest.fixture(scope="module")
def shown():
    return walks(HOME, uniform_policy(HOME), (N, 2), 3, np.random.default_rng(5))


def clips(rng, steps=7):
    """Pairs of unequal length, and the transitions that values are fitted to."""
    mask = np.arange(steps) < rng.integers(2, steps + 1, (N, 2, 1))
    obs, act = rng.normal(size=(N, 2, steps, 3)), rng.normal(size=(N, 2, steps, 2))
    tensors = [torch.from_numpy(x).float() for x in (obs * mask[..., None], act * mask[..., None])]
    return obs, act, mask, Segments(*tensors, torch.from_numpy(mask), torch.full(mask.shape, torch.nan))


def by_recordings(rng):
    obs, act, mask, _ = clips(rng)
    before, done = rng.normal(size=(500, 3)), rng.normal(size=(500, 2))
    after = 0.9 * before + 0.1 * rng.normal(size=(500, 3))
    known = Recorded(recordings.paid(before, done), recordings.seen(before), recordings.seen(after), np.zeros(500))
    return pm.candidates(
        recordings._pairs(obs, act, mask, known, *recordings._first(known)),
        recordings._policy(obs, act, mask, before, done),
    )


@pytest.mark.parametrize("where", ["board", "recordings"])
def test_the_pull_of_every_model_is_its_gradient(where, shown):
    rng = np.random.default_rng(0)
    for model in boards.models(HOME, shown) if where == "board" else by_recordings(rng):
        gap, theta = model.at(ALL[:50]), model.start + 0.3 * rng.normal(size=len(model.start))
        by = rng.normal(size=50)
        for stage in (model.stages[0], model.stages[-1]):
            held = stage(theta)
            if where == "board" and stage is model.stages[-1]:
                held = np.minimum(held * 10, 1)  # below that, finite differences step over a kink now and then
            found = gap(theta, held)[1](by)
            steps = 1e-6 * np.eye(len(theta))
            numeric = [(gap(theta + e, held)[0] - gap(theta - e, held)[0]) @ by / 2e-6 for e in steps]
            np.testing.assert_allclose(found, numeric, rtol=1e-4, atol=1e-5 * np.abs(found).max())


def test_return_and_regret_of_the_true_weights_are_those_of_the_board(shown):
    best = successor_features(HOME, optimal(HOME, REWARD).policy()[None]).state.numpy()
    pairs = boards._pairs(HOME, boards.steps(shown), best)
    units = pm.units(partial_units(shown))
    for model, value in (
        (pm.partial_return(pairs), partial_return(WEIGHTS, shown)),
        (pm.regret(pairs), -regret(HOME, REWARD, shown)),
    ):
        found = model.at(ALL)(WEIGHTS * units, np.array([1e-3]))[0]
        np.testing.assert_allclose(found, value[:, 0] - value[:, 1], atol=1e-8)
    half = pm.mixture(pairs).at(ALL)(np.append(WEIGHTS * units, 0.5), np.array([1e-3]))[0]
    shares = [m.at(ALL)(WEIGHTS * units, np.array([1e-3]))[0] for m in (pm.partial_return(pairs), pm.regret(pairs))]
    # undiscounted and discounted sums are mixed alike
    np.testing.assert_allclose(half, (shares[0] + shares[1]) / 2, atol=1e-8)


def partial_units(shown):
    at = boards.steps(shown)
    each = (at.found.double().numpy() * at.mask.numpy()[..., None]).sum(2)
    return each[:, 0] - each[:, 1]


def test_a_table_policy_scores_as_the_table_does(shown):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(len(HOME.terminal), 4))
    logp = SoftmaxTable(torch.from_numpy(logits)).log_prob(shown) + np.log(4)
    score = torch.where(shown.mask, logp, 0.0).sum(-1).detach().numpy()
    model = pm.table_policy(boards._counts(HOME, boards.steps(shown)), len(HOME.terminal))
    for alpha in (1.0, 0.1):
        theta = np.append(alpha * logits.ravel(), np.log(alpha))
        found = model.at(ALL)(theta, pm.NOTHING)[0]
        np.testing.assert_allclose(found, alpha * (score[:, 0] - score[:, 1]), atol=1e-6)


def test_a_gaussian_policy_scores_by_squared_misses():
    rng = np.random.default_rng(2)
    obs, act, mask, _ = clips(rng)
    model = recordings._policy(obs, act, mask, rng.normal(size=(50, 3)), rng.normal(size=(50, 2)))
    sharp, map_ = np.array([1.3, 0.4]), rng.normal(size=(2, 4))
    begin = model.at(ALL)(np.concatenate([sharp, map_.ravel()]), pm.NOTHING)[0]
    g = np.concatenate([np.ones_like(obs[..., :1]), obs], -1)
    miss = -0.5 * (((sharp * act - g @ map_.T) ** 2).sum(-1) * mask).sum(-1)
    ratio = begin / (miss[:, 0] - miss[:, 1])
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_clips_are_worth_what_they_earned_and_where_they_led():
    """One pair by hand: the values of a state are a known map, discounts those that hold."""
    rng = np.random.default_rng(3)
    obs, act, mask, _ = clips(rng)
    before = rng.normal(size=(500, 3))
    known = Recorded(
        recordings.paid(before, rng.normal(size=(500, 2))),
        recordings.seen(before),
        recordings.seen(0.5 * before),
        np.zeros(500),
    )
    gamma, first = recordings._first(known)
    pairs = recordings._pairs(obs, act, mask, known, gamma, first)
    weights = rng.normal(size=pairs.found.shape[1])
    held = pairs.values.stages[0](weights)
    found = pm.regret(pairs).at(ALL[:1])(weights, held)[0][0]
    paid = recordings.paid(obs, act)
    raw = (paid * mask[..., None]).sum(2)
    unit, map_ = pm.units(raw[:, 0] - raw[:, 1]), held.reshape(-1, len(weights))

    def worth(k):
        last = mask[0, k].sum() - 1
        value = [recordings.seen(obs[0, k, t]) @ map_ @ weights for t in (0, last)]
        earned = sum(gamma**t * paid[0, k, t] @ (weights / unit) for t in range(last))
        return earned + gamma**last * value[1] - value[0]

    assert found == pytest.approx(worth(0) - worth(1), rel=1e-9)


def test_recorded_values_are_those_of_a_known_system():
    """s' = .8 s + action: what s alone earns from here is s / (1 - .8 gamma) if actions are on the average nought."""
    rng = np.random.default_rng(4)
    s, a = rng.normal(size=(40_000, 1)), rng.normal(size=(40_000, 1))
    state, following = (np.concatenate([np.ones_like(x), x], 1) for x in (s, 0.8 * s + a))
    steps = Recorded(s, state, following, np.zeros(40_000))
    found = recorded(steps, 0.9)
    # the error of a constant is that of the mean action, times the value of s, over 1 - gamma: .16
    np.testing.assert_allclose(found[:, 0], [0, 1 / (1 - 0.8 * 0.9)], atol=0.7)
    up = better(steps, 0.9, np.ones(1), found)
    down = better(steps, 0.9, -np.ones(1), found)
    assert up[0, 0] > found[0, 0] + 1 and down[0, 0] < found[0, 0] - 1
    ended = recorded(Recorded(s, state, following, np.ones(40_000)), 0.9)
    np.testing.assert_allclose(ended[:, 0], [0, 1], atol=0.01)


def test_values_that_diverge_are_refused():
    rng = np.random.default_rng(4)
    s = rng.normal(size=(100, 1))
    state, following = (np.concatenate([np.ones_like(x), x], 1) for x in (s, 1.0 / 0.9 * 1.001 * s))
    with pytest.raises(ValueError, match=r"diverge with gamma 0\.9: 100 steps"):
        recorded(Recorded(s, state, following, np.zeros(100)), 0.9)


def sign_model(x):
    """One weight of numbers x [B]."""
    return pm.Model(
        "return", np.zeros(1), lambda rows: lambda theta, _: (x[rows] * theta[0], lambda by: by @ x[rows, None])
    )


def test_a_fit_is_the_maximum_likelihood_with_a_prior():
    first = np.repeat([1.0, 0.0], [70, 30])
    model = sign_model(np.ones(100))
    theta, _ = ho.fit(model, model.at(np.arange(100)), first, 1e-9)
    assert theta[0] == pytest.approx(logit(0.7), abs=1e-3)
    theta, _ = ho.fit(model, model.at(np.arange(100)), first, 10.0)
    assert 100 * (expit(theta[0]) - 0.7) + 10 * theta[0] == pytest.approx(0, abs=0.05)  # the gradient is nought


def test_ties_are_half_of_both_and_a_coin_is_a_coin():
    np.testing.assert_allclose(ho.log_likelihood(np.zeros(3), np.array([1, 0.5, 0])), ex.COIN)
    both = ho.log_likelihood(np.array([1.3, 1.3]), np.array([1.0, 0.0])).mean()
    assert ho.log_likelihood(np.array([1.3]), np.array([0.5]))[0] == pytest.approx(both)


def test_answers_to_one_question_share_a_fold():
    query = np.random.default_rng(0).integers(0, 47, 200)
    fold = ho.folds(query, 10, np.random.default_rng(1))
    assert all(len(set(fold[query == q])) == 1 for q in set(query))
    sizes = np.bincount([fold[query == q][0] for q in set(query)])
    assert len(sizes) == 10 and np.ptp(sizes) <= 1


def test_no_answer_is_predicted_from_itself():
    rng = np.random.default_rng(0)
    x, first = rng.normal(size=90), rng.integers(0, 2, 90).astype(float)
    fold, inner = ho.folds(np.arange(90), 5, rng), ho.folds(np.arange(90), 3, rng)
    other = np.where(fold == 2, 1 - first, first)
    one, two = (ho.held_out(sign_model(x), said, fold, inner)[0] for said in (first, other))
    assert (one[fold == 2] == two[fold == 2]).all() and (one[fold != 2] != two[fold != 2]).any()


def test_bootstrap_intervals_cover_as_often_as_they_say():
    """Three answers to each question, as good as one; taken one by one, the interval would be too narrow."""
    rng = np.random.default_rng(0)
    query, hit, narrow = np.repeat(np.arange(40), 3), 0, 0
    for _ in range(120):
        values = np.repeat(rng.normal(size=40), 3)[:, None]
        for asked in (query, np.arange(120)):
            low, high = np.quantile(ex.resampled(values, asked, rng), [0.025, 0.975])
            hit, narrow = (hit + (low < 0 < high), narrow) if asked is query else (hit, narrow + (low < 0 < high))
    assert hit / 120 > 0.87 and narrow / 120 < 0.87


def test_calibration_of_known_cases():
    sure = np.full(1000, logit(0.75))
    first = np.repeat([1.0, 0.0], [750, 250])
    assert ex.calibration(sure, first)[0] == pytest.approx(0, abs=1e-9)
    error, bins = ex.calibration(sure, np.repeat([1.0, 0.0], 500))
    assert error == pytest.approx(0.25) and [(b.answers, b.observed) for b in bins] == [(1000, 0.5)]
    halves = np.array([40.0, -40.0, 0.0, 0.0])
    assert ex.calibration(halves, np.array([1, 0, 0.5, 0.5]))[0] == pytest.approx(0, abs=1e-9)


PARTS = ("return", "regret", "mixture")


def verdict(gaps, first, seed=0, share=0.5):
    shares = np.full(5, share)
    apart = {"return": {}, "regret": {}, "mixture": {"return": abs(shares), "regret": abs(1 - shares)}}
    return ex.verdict(gaps, apart, first, np.arange(len(first)), np.random.default_rng(seed))


def answers(true, rng):
    return (rng.random(len(true)) < expit(true)).astype(float)


def test_a_model_is_named_only_where_it_is_clearly_better():
    rng = np.random.default_rng(0)
    true, noise = 2 * rng.normal(size=600), 2 * rng.normal(size=600)
    first = answers(true, rng)
    found = verdict({"return": noise, "regret": true, "mixture": 0.95 * true}, first, share=1.1)
    assert found.named == "regret" and found.models[0].model == "regret" and found.open == ("regret",)
    half = (true + noise) / 2
    assert verdict({"return": noise, "regret": half, "mixture": true}, first).named == "mixture"
    nearly = true + 0.5 * rng.normal(size=600)
    found = verdict({"return": nearly[:90], "regret": true[:90], "mixture": noise[:90]}, first[:90])
    assert found.named is None and set(found.open) >= {"return", "regret"} and (found.needed or 91) > 90
    coin = rng.integers(0, 2, 600).astype(float)
    assert verdict({"return": 0.1 * true, "regret": 0.1 * noise, "mixture": 0 * true}, coin).named == "coin"
    # A lead that forty answers cannot show is not thereby none.
    few = verdict({"return": 0.3 * true[:40], "regret": 0.1 * noise[:40], "mixture": 0.1 * noise[:40]}, first[:40])
    assert few.named is None and few.models[0].over_coin.mean > 0.02 and not few.models[0].over_coin.clear


def test_a_part_is_named_against_its_whole_only_where_the_whole_is_surely_as_good_at_most():
    rng = np.random.default_rng(1)
    true, noise, _ = 4 * rng.normal(size=(3, 2000))
    first = answers(true, rng)
    same = {"return": noise, "regret": true, "mixture": true + 0.01 * noise}
    assert verdict(same, first, share=0.9).named == "regret"
    assert verdict(same, first, share=0.5).named is None  # it may be half and half, which these clips do not show
    trifle = same | {"regret": 0.9 * true}  # the mixture is clearly better, and by next to nothing
    assert verdict(trifle, first, share=0.9).named == "regret"
    assert verdict(trifle, first, share=0.5).named == "mixture"
    # 80 answers leave room for a mixture that would be better
    few = {name: gap[:80] for name, gap in same.items()} | {"mixture": 0.5 * true[:80]}
    found = verdict(few, first[:80], share=0.9)
    assert found.named is None and found.open == ("regret", "mixture")


def test_of_two_models_that_are_alike_one_is_seldom_named():
    rng, named = np.random.default_rng(2), 0
    for i in range(150):
        one, two = 2 * rng.normal(size=(2, 100))
        first = answers((one + two) / 2, rng)
        named += verdict({"return": one / 2, "regret": two / 2, "mixture": 0 * one}, first, i).named in PARTS
    assert named / 150 < 0.1  # .05 at most, and the deviation of such a share is .018


def test_what_cannot_be_judged_says_why():
    def reason(first, query=None, n=10):
        first = np.array(first, float)
        with pytest.raises(ex.CannotJudge) as told:
            ex.check(first, np.arange(len(first)) if query is None else query, n)
        return str(told.value)

    assert "no comparison" in reason([])
    assert "all 30 answers are ties" in reason([0.5] * 30)
    assert "all 25 decided answers are for the first clip" in reason([1] * 25 + [0.5] * 5)
    assert "15 different questions" in reason([1, 0] * 15, np.arange(30) // 2)
    assert "at least 40 are needed" in reason([1, 0] * 15, n=20)
    assert "1 folds" in reason([1, 0] * 15, n=1)


def test_pairs_that_do_not_fit_are_refused():
    none = pm.Values(lambda rows: lambda theta, held: (theta, lambda by: by), ())
    with pytest.raises(ValueError, match=r"give \[B,D\] twice"):
        pm.Pairs(np.zeros((3, 2)), np.zeros((3, 1)), none)
    with pytest.raises(ValueError, match="NaN or infinite"):
        pm.Pairs(np.full((3, 2), np.nan), np.zeros((3, 2)), none)


def test_the_best_of_some_policies_is_their_maximum_when_cold():
    ahead = np.array([[[1.0], [0.0]], [[0.0], [2.0]]])
    values = pm.best_of(ahead, csr_array(np.array([[1.0, -1.0]])))
    found = values.at(np.array([0]))(np.ones(1), values.stages[-1](np.zeros(1)))[0]
    assert found[0] == pytest.approx(1 - 2, abs=1e-6)
