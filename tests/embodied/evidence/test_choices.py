"""Feedback as choices: probabilities that add up, gradients by finite differences, people who answer as is said."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from embodied.evidence.acting import demonstrate, demonstrated
from embodied.evidence.learning import learn
from embodied.evidence.options import Chosen, Options, choose, chosen, log_probability
from embodied.evidence.pairs import felt, thurstone, undecided
from embodied.evidence.plans import against, all_plans, corrections, found
from embodied.evidence.proxies import designs, proxy_choices
from embodied.evidence.statements import critiques, feature_queries, reasons
from embodied.losses import bt_ties, check_loss, pairwise
from embodied.planning import evaluate, expected_features, optimal
from envs.delivery import CHANCES, FEATURES, board

WORLD = board()
W = torch.tensor([-0.5, 1.5, -1.5, 0.5, -0.5, -1.0], dtype=torch.float64)
START = 75  # near goal, coins and a roadblock
N = 20_000


def fits(counts, probability, least=1e-4):
    """Chi-square over the options that can be taken at all."""
    counts, probability = np.asarray(counts), np.asarray(probability)
    can = probability > 0
    assert counts[~can].sum() == 0
    return chisquare(counts[can], probability[can] / probability[can].sum() * counts.sum()).pvalue > least


def questions():
    rng = np.random.default_rng(0)
    about = torch.from_numpy(rng.integers(0, 3, (4, 2, 6)).astype(float))
    bank = designs(board(gamma=0.9), rng.normal(size=(7, 6)))
    return {
        "correction": corrections(WORLD, np.array([START, 4]), rng.integers(4, size=(2, 3)), 2, 0.5),
        "feature query": feature_queries(torch.tensor([[0, 4], [5, 1]]), 6),
        "critique": critiques(about[:, 0]),
        "reason": reasons(about),
        "proxy": proxy_choices(bank, torch.tensor([START, 4])),
        "among samples": against(about[:, 0], about[:, 1:]).options,
    }


@pytest.mark.parametrize("kind", questions())
def test_probabilities_add_up_and_have_the_gradient_of_finite_differences(kind):
    asked = questions()[kind]
    p = log_probability(asked, W).exp()
    assert torch.allclose(p.sum(-1), torch.ones(len(asked)).double()) and (p[asked.beside == -math.inf] == 0).all()
    said = choose(asked, W, np.random.default_rng(0))
    assert torch.autograd.gradcheck(lambda w: chosen(said, w), W.clone().requires_grad_())


@pytest.mark.parametrize("kind", questions())
def test_people_answer_as_the_likelihood_says(kind):
    asked = questions()[kind]
    one = asked[torch.zeros(N, dtype=torch.int64)]
    counts = torch.bincount(choose(one, 0.5 * W, np.random.default_rng(1)).index, minlength=asked.features.shape[1])
    assert fits(counts, log_probability(asked, 0.5 * W).exp()[0])


def test_plans_find_what_walking_them_finds():
    plans = all_plans(WORLD, 3)
    got = found(WORLD, np.array([START, 68]), plans)
    for b, state in enumerate((START, 68)):
        for k, plan in enumerate(plans):
            at, total = state, np.zeros(6)
            for action in plan:
                if not WORLD.terminal[at]:
                    total += WORLD.features[at, action, 0]
                    at = WORLD.next[at, action, 0]
            assert got[b, k].tolist() == total.tolist()


def test_a_correction_is_within_reach_and_costs_what_was_changed():
    original = np.array([[0, 0, 0]])
    asked = corrections(WORLD, np.array([START]), original, radius=1, effort=0.5)
    apart = (all_plans(WORLD, 3) != 0).sum(1)
    assert asked.beside[0].tolist() == [-0.5 * d if d <= 1 else -math.inf for d in apart]
    free, dear = (corrections(WORLD, np.array([START]), original, 3, e) for e in (0.0, 3.0))
    same = int(np.flatnonzero(apart == 0)[0])
    assert log_probability(dear, W)[0, same] > log_probability(free, W)[0, same]


def test_how_much_was_changed_counts():
    """Who finds changes dear makes few; taken for one who has them free, their corrections are much less likely, and
    they seem to care for less."""
    rng = np.random.default_rng(0)
    asked = corrections(WORLD, rng.choice(WORLD.starts, 1000), rng.integers(4, size=(1000, 3)), 2, effort=2.0)
    said = choose(asked, W, rng)
    free = Options(asked.features, torch.where(asked.beside == -math.inf, -math.inf, 0.0))
    right = learn([lambda w: chosen(said, w)], 6)
    wrong = learn([lambda w: chosen(Chosen(free, said.index), w)], 6)
    assert wrong.loss > right.loss + 100
    assert np.linalg.norm(wrong.weights) < np.linalg.norm(right.weights)
    assert np.linalg.norm(right.weights) == pytest.approx(W.norm().item(), rel=0.2)


def test_a_demonstration_among_samples_is_told_apart_with_that_probability():
    """P(it is this one | the set) by Bayes, from the demonstrator's own likelihood and that of samples at random."""
    rng = np.random.default_rng(3)
    one = demonstrate(WORLD, W, np.array([START]), 5, rng)
    actions = np.concatenate([one.action.numpy()[:, None], rng.integers(4, size=(1, 6, 5))], 1)
    finds = found(WORLD, np.array([START]), actions)
    said = against(finds[:, 0], finds[:, 1:])
    # A sample has probability 4^-T, a plan of the demonstrator e^(u - V): their ratio is e^u up to a constant.
    plans = found(WORLD, np.array([START]), all_plans(WORLD, 5))[0] @ W
    log_p = finds[0] @ W - plans.logsumexp(0)
    ratio = (log_p + 5 * math.log(4)).exp()
    assert chosen(said, W).exp().reciprocal().item() == pytest.approx((ratio[0] / ratio.sum()).item())
    ends = bool(WORLD.terminal[one.state[0]].any())
    assert ends or demonstrated(WORLD, one, W).item() == pytest.approx(-log_p[0].item())


def test_a_proxy_is_worth_what_its_policy_earns_under_the_true_reward():
    near = board(gamma=0.9)
    proxies = np.random.default_rng(0).normal(size=(5, 6))
    bank = designs(near, proxies)
    phi = expected_features(near)
    for proxy, seen in zip(proxies, bank, strict=True):
        policy = optimal(near, phi @ proxy).policy()
        earned = evaluate(near, policy, (phi @ W.numpy())[..., None])[:, 0]
        assert (seen @ W).numpy() == pytest.approx(earned, abs=1e-9)
    p = log_probability(proxy_choices(bank, torch.tensor([START])), W).exp()[0]
    u = bank[:, START] @ W
    assert p.tolist() == pytest.approx(((u - u.max()).exp() / (u - u.max()).exp().sum()).tolist())


def test_reasons_are_about_what_differs_and_a_comparison_by_that_alone():
    about = torch.tensor([[[1.0, 0, 0], [0, 0, 2]]]).double()
    p = log_probability(reasons(about), torch.tensor([1.0, 5.0, -1.0]).double()).exp()[0]
    u = np.array([1.0, -np.inf, 2.0, -1.0, -np.inf, -2.0])  # first because of 0, of 2; second because of 0, of 2
    assert p.tolist() == pytest.approx((np.exp(u) / np.exp(u).sum()).tolist())
    with pytest.raises(ValueError, match="question 0 leaves nothing that could be said; drop it"):
        reasons(about[:, [0, 0]])


def test_statements_are_about_the_features_that_were_asked_about():
    p = log_probability(feature_queries(torch.tensor([[1, 4]]), 6), W).exp()[0]
    u = torch.stack([W[1], W[4], -W[1], -W[4]]).exp()
    assert p[[1, 4, 7, 10]].tolist() == pytest.approx((u / u.sum()).tolist()) and (p > 0).sum() == 4


def test_thurstone_is_the_normal_distribution_and_a_sound_loss():
    rng = np.random.default_rng(0)
    for gap, sigma in ((0.7, 1.0), (-1.5, 2.0)):
        p = math.exp(-thurstone(torch.tensor(gap).double(), torch.tensor(0.0).double(), sigma).item())
        assert p == pytest.approx(0.5 * (1 + math.erf(gap / (2 * sigma))))
        first = felt(torch.tensor([[gap, 0.0]]).double().expand(N, 2), rng, sigma)[:, 0].sum().item()
        assert fits([first, N - first], [p, 1 - p])
    report = check_loss(pairwise(thurstone))
    assert report.growth == pytest.approx(2, abs=0.01) and report.shift_invariant and report.swap_symmetric
    with pytest.raises(ValueError, match="sigma is 0; choose it above 0"):
        thurstone(torch.zeros(1), torch.zeros(1), 0)


def test_ties_come_as_rao_and_kupper_say():
    theta, gap = 2.0, 0.6
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]).double()
    p = (-bt_ties(theta)(torch.tensor([[gap, 0.0]]).double().expand(3, 2), target)).exp()
    assert p[0].item() == pytest.approx(math.exp(gap) / (math.exp(gap) + theta)) and p.sum().item() == pytest.approx(1)
    said = undecided(torch.tensor([[gap, 0.0]]).double().expand(N, 2), np.random.default_rng(0), theta)[:, 0]
    assert fits([int((said == x).sum()) for x in (1.0, 0.5, 0.0)], p)


def test_what_makes_no_sense_is_a_sentence():
    asked = feature_queries(torch.tensor([[0, 1]]), 3)
    for call, message in (
        (lambda: Options(torch.zeros(2, 3), torch.zeros(2)), r"features are \[2, 3\], beside \[2\]; give \[B,K,D\]"),
        (lambda: Options(torch.full((1, 2, 1), math.nan), torch.zeros(1, 2)), "features must be finite"),
        (lambda: Chosen(asked, torch.tensor([6])), r"index is \[1\] of 1 questions; give options below 6"),
        (lambda: Chosen(asked, torch.tensor([2])), "question 0 was answered by what was not possible"),
        (lambda: feature_queries(torch.tensor([[1, 1]]), 3), "name two different features"),
        (lambda: all_plans(WORLD, 7), "4 actions in 7 steps make 16384 plans; at most 4096"),
        (lambda: corrections(WORLD, np.array([1]), np.zeros((1, 2), int), 0), "radius is 0, effort 0.0"),
        (lambda: found(board(chances=CHANCES), np.array([0]), np.zeros((1, 1), int)), "has several outcomes"),
        (lambda: learn([], len(FEATURES)), "0 kinds of evidence, prior 10.0; give at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_an_impossible_answer_stops_learning():
    with pytest.raises(ValueError, match="a likelihood is inf"):
        learn([lambda w: w.sum() + torch.tensor([math.inf])], 2)


def test_each_evidence_has_a_rationality_of_its_own():
    rng = np.random.default_rng(0)
    asked = [feature_queries(torch.from_numpy(np.argsort(rng.random((20_000, 6)), 1)[:, :2]), 6) for _ in range(2)]
    said = [choose(o, beta * W, rng) for o, beta in zip(asked, (1.0, 0.3), strict=True)]
    got = learn([lambda w: chosen(said[0], w), lambda w: chosen(said[1], w)], 6)
    assert got.weights == pytest.approx(W.numpy(), abs=0.1) and got.rationality == pytest.approx([1, 0.3], rel=0.1)
