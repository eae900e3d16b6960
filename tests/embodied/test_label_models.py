"""Label models: cDPO and robust DPO from any pair loss, the identity that makes the robust one unbiased, and EM."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn.functional import softplus

from embodied import checkpoint
from embodied.annotators import TRUST, reliabilities
from embodied.feedback import Feedback, Segments
from embodied.label_models import EM, as_given, smooth, unbias
from embodied.losses import bt_ties, hinge, logistic, pairwise, plackett_luce, square
from embodied.rewards.ensemble import RewardEnsemble


def told(q: float) -> Feedback:
    mask = torch.ones(1, 2, 1, dtype=torch.bool)
    segments = Segments(torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1), mask, torch.zeros(1, 2, 1))
    one = torch.ones(1)
    return Feedback(segments, torch.tensor([[q, 1 - q]], dtype=torch.float64), one, one.long(), one.bool())


gaps, shares = st.floats(-10, 10), st.floats(0, 0.49)


@given(gap=gaps, eps=shares)
def test_smoothing_is_conservative_dpo_and_unbiasing_is_robust_dpo(gap, eps):
    loss = pairwise(logistic, beta=0.3)
    score = torch.tensor([[gap, 0.0]], dtype=torch.float64)
    right, wrong = softplus(-0.3 * score[:, 0]), softplus(0.3 * score[:, 0])
    conservative = loss(score, smooth(eps)(loss, score, told(1.0)))
    assert torch.allclose(conservative, (1 - eps) * right + eps * wrong, rtol=1e-13, atol=1e-13)
    robust = loss(score, unbias(eps)(loss, score, told(1.0)))
    assert torch.allclose(robust, ((1 - eps) * right - eps * wrong) / (1 - 2 * eps), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("loss", [pairwise(logistic), pairwise(square), pairwise(hinge), bt_ties(1.5)])
@given(gap=gaps, eps=shares, q=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_mean_over_flipped_labels_is_the_loss_of_the_true_label(loss, gap, eps, q):
    score = torch.tensor([[gap, 0.5]], dtype=torch.float64)
    model = unbias(eps)
    kept, flipped = (loss(score, model(loss, score, told(label))) for label in (q, 1 - q))
    assert torch.allclose((1 - eps) * kept + eps * flipped, loss(score, told(q).target), rtol=1e-9, atol=1e-9)


@given(eps=shares, q=st.floats(0, 1))
def test_unbias_undoes_smooth_and_both_sum_to_one(eps, q):
    loss, score = pairwise(logistic), torch.zeros(1, 2)
    target = smooth(eps)(loss, score, told(q))
    assert target.sum().item() == pytest.approx(1)
    assert unbias(eps)(loss, score, told(target[0, 0].item()))[0, 0].item() == pytest.approx(q, abs=1e-10)


def test_as_given_and_zero_noise_change_nothing():
    loss, score, feedback = pairwise(logistic), torch.zeros(1, 2), told(0.8)
    for model in (as_given, smooth(0.0), unbias(0.0)):
        assert torch.equal(model(loss, score, feedback), feedback.target)


@pytest.mark.parametrize(("make", "eps"), [(smooth, -0.1), (smooth, 0.6), (unbias, 0.5), (unbias, -0.1)])
def test_impossible_shares_are_refused(make, eps):
    with pytest.raises(ValueError, match=f"eps is {eps}"):
        make(eps)


def test_lists_are_refused():
    three = told(1.0)
    mask = torch.ones(1, 3, 1, dtype=torch.bool)
    segments = Segments(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1), mask, torch.zeros(1, 3, 1))
    ranking = Feedback(segments, torch.zeros(1, 3), three.weight, three.annotator, three.same_context)
    for model in (smooth(0.1), unbias(0.1), EM()):
        with pytest.raises(ValueError, match=r"K = 3.*all_pairs"):
            model(pairwise(logistic), torch.zeros(1, 3), ranking)


def said(first, annotator, obs=None):
    """Pairs with P(first better) = first [B], by these annotators [B]; observations [B,2,T,O], or none worth a look."""
    first, annotator = torch.as_tensor(first, dtype=torch.float64), torch.as_tensor(annotator)
    obs = torch.zeros(len(first), 2, 1, 1) if obs is None else obs
    mask, one = torch.ones(obs.shape[:3], dtype=torch.bool), torch.ones(len(first))
    segments = Segments(obs, torch.zeros(*obs.shape[:3], 0), mask, torch.zeros(mask.shape))
    return Feedback(segments, torch.stack([first, 1 - first], -1), one, annotator, one.bool())


def certain(eta):
    """EM whose reliabilities are so, whatever it is shown."""
    return EM([(eta * 1e9 + 1e-9, (1 - eta) * 1e9 + 1e-9)])


LOSSES = {
    "logistic": pairwise(logistic),
    "square": pairwise(square),
    "hinge": pairwise(hinge),
    "ties": bt_ties(1.5),
    "list": plackett_luce,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@given(gaps=st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), eta=st.floats(0.05, 0.99))
def test_em_targets_are_probabilities_under_any_loss(loss, gaps, eta):
    score = torch.tensor([[[gap, 0.0], [0.0, gap]] for gap in gaps])  # an ensemble of 3, 2 rows
    model = certain(eta)
    target = model(loss, score, said([1.0, 0.3], [0, 1]))
    assert ((target >= 0) & (target <= 1)).all() and torch.allclose(target.sum(-1), torch.ones(2).double())
    model.update(loss, score, said([1.0, 0.3], [0, 1]))
    assert ((model.eta > 0) & (model.eta < 1)).all()


def test_em_over_dpo_is_the_golden_number():
    """Computed apart from this code: beta = .3, log-ratios .5 and -.5, eta = .9."""
    loss, score = pairwise(logistic, beta=0.3), torch.tensor([[0.5, -0.5]], dtype=torch.float64, requires_grad=True)
    value = loss(score, certain(0.9)(loss, score.detach(), said([1.0], [0])))
    assert value.item() == pytest.approx(0.577171137, abs=1e-8)
    (gradient,) = torch.autograd.grad(value.sum(), score)
    assert gradient[0].tolist() == pytest.approx([-0.104851352, 0.104851352], abs=1e-8)
    likelihood = -torch.log(
        0.9 * torch.sigmoid(0.3 * torch.diff(-score)) + 0.1 * torch.sigmoid(0.3 * torch.diff(score))
    )
    assert torch.allclose(torch.autograd.grad(likelihood.sum(), score)[0], gradient, atol=1e-8)


@given(gap=gaps, q=st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_a_sure_annotator_is_taken_as_given_a_coin_is_not_heard_and_a_tie_stays(gap, q):
    loss, score, feedback = pairwise(logistic), torch.tensor([[gap, 0.0]], dtype=torch.float64), said([q], [0])
    assert torch.allclose(certain(1.0)(loss, score, feedback), feedback.target, atol=1e-9)
    p = 1 / (1 + math.exp(-gap))
    sure = abs(2 * q - 1)
    assert certain(0.5)(loss, score, feedback)[0, 0].item() == pytest.approx(sure * p + (1 - sure) / 2, abs=1e-9)
    assert certain(0.9)(loss, score, said([0.5], [0])).tolist() == [[0.5, 0.5]]


def test_update_is_the_maximum_of_the_posterior_and_em_steps_climb_to_it():
    gen = torch.Generator().manual_seed(0)
    score = torch.randn(90, 2, generator=gen, dtype=torch.float64)
    feedback = said(torch.randint(0, 3, (90,), generator=gen) / 2, torch.arange(90) % 3)
    loss, model = pairwise(logistic), EM()
    model.update(loss, score, feedback)
    p = torch.sigmoid(score[:, 0] - score[:, 1])
    right = torch.where(feedback.target[:, 0] == 1, p, 1 - p)[feedback.target[:, 0] != 0.5]
    who = feedback.annotator[feedback.target[:, 0] != 0.5]

    def height(eta, k):
        likelihood = torch.log(eta * right + (1 - eta) * (1 - right))[who == k].sum().item()
        return likelihood + TRUST[0] * math.log(eta) + TRUST[1] * math.log(1 - eta)

    for k in range(3):
        best = minimize_scalar(lambda e, k=k: -height(e, k), bounds=(1e-6, 1 - 1e-6), options={"xatol": 1e-9}).x
        assert model.eta[k].item() == pytest.approx(max(best, 0.5), abs=1e-6)
        heights, eta = [height(0.8, k)], 0.8
        for _ in range(300):
            w = eta * right / (eta * right + (1 - eta) * (1 - right))
            eta = (TRUST[0] + w[who == k].sum().item()) / (sum(TRUST) + int((who == k).sum()))
            heights.append(height(eta, k))
        assert np.diff(heights).min() > -1e-10 and eta == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("loss", [pairwise(logistic), pairwise(square, tau=2.0)])
def test_planted_reliabilities_are_found_from_calibrated_scores(loss):
    """An adversary is not listened to, and turned around only by what else is known of him."""
    planted, rows = torch.tensor([0.95, 0.8, 0.6, 0.1]), 20_000
    gen = torch.Generator().manual_seed(0)
    gap = 1.5 + 1.5 * torch.randn(rows, generator=gen, dtype=torch.float64)
    who = torch.arange(rows) % 4
    truth = torch.rand(rows, generator=gen) < torch.sigmoid(gap)
    right = torch.rand(rows, generator=gen) < planted[who]
    feedback = said((truth == right).double(), who)
    score = torch.stack([gap, torch.zeros_like(gap)], -1)  # both losses make sigmoid(gap) of it
    alone, told = EM(), EM([TRUST] * 3 + [(1.0, 2.0)])
    for model in (alone, told):
        model.update(loss, score, feedback)
        assert model.eta[:3].tolist() == pytest.approx(planted[:3].tolist(), abs=0.03)
    assert alone.eta[3] == 0.5 and told.eta[3] < 1 / 3 + 1e-6


def test_scores_that_say_nothing_leave_the_prior_and_weight_0_is_no_answer():
    model, loss = EM(), pairwise(logistic)
    model.update(loss, torch.zeros(4, 2), said([1.0, 0.0, 1.0, 0.5], [0, 0, 1, 2]))
    assert model.eta.tolist() == pytest.approx([0.8] * 3)
    one = said([1.0], [0])
    model.update(loss, torch.tensor([[-50.0, 50.0]]), one)
    assert model.eta.tolist() == pytest.approx([4 / 6])
    nothing = Feedback(one.segments, one.target, torch.zeros(1), one.annotator, one.same_context)
    model.update(loss, torch.tensor([[-50.0, 50.0]]), nothing)
    assert model.eta.tolist() == pytest.approx([0.8]) and model.reliability(3).tolist() == pytest.approx([0.8] * 3)


def taught(seed, planted, rows=300):
    gen = torch.Generator().manual_seed(seed)
    obs = torch.randn(rows, 2, 5, 6, generator=gen)
    utility = (obs @ torch.tensor([1.0, -1.0, 0.5, 0.0, 0.7, -0.3])).sum(-1)
    who = torch.arange(rows) % len(planted)
    right = torch.rand(rows, generator=gen) < torch.tensor(planted)[who]
    return said(((utility[:, 0] > utility[:, 1]) == right).float(), who, obs)


def ranked(model, feedback):
    gap = torch.diff(model.utilities(feedback.segments).mean(0)).squeeze(-1)
    return ((gap < 0) == (feedback.target[:, 0] == 1)).float().mean().item()


def test_a_reward_ranks_better_when_one_of_three_people_answers_at_random():
    held_out, gains = taught(999, [1.0], 1000), []
    for seed in range(3):
        accuracy = []
        for label_model in (as_given, EM()):
            model = RewardEnsemble(6, 0, hidden=(32, 32), seed=seed, label_model=label_model, steps=120)
            model.fit(taught(seed, [0.95, 0.95, 0.5]), np.random.default_rng(seed))
            accuracy.append(ranked(model, held_out))
        gains.append(accuracy[1] - accuracy[0])
        assert label_model.eta[2] < label_model.eta[:2].min() - 0.1
    assert min(gains) > 0 and np.mean(gains) > 0.01


def test_overlap_and_gold_found_beforehand_turn_an_adversary_around():
    feedback = taught(0, [0.95, 0.95, 0.1], 150)
    truth = taught(0, [1.0, 1.0, 1.0], 150).target[:, 0].tolist()
    answers = [
        (str(n), str(int(k)), q.item())
        for n, (k, q) in enumerate(zip(feedback.annotator, feedback.target[:, 0], strict=True))
    ]
    gold = {str(n): truth[n] for n in range(60)}
    known = [r.beta for r in reliabilities(answers, gold).annotators]
    model = RewardEnsemble(6, 0, hidden=(32, 32), label_model=EM(known), steps=60)
    model.fit(feedback, np.random.default_rng(0))
    assert model.label_model.eta[2] < 0.3 and model.label_model.eta[:2].min() > 0.85


def test_reliabilities_are_saved_with_the_reward_and_a_resumed_fit_is_the_same(tmp_path):
    def fresh(label_model):
        return RewardEnsemble(6, 0, hidden=(8,), label_model=label_model, steps=30)

    feedback, rng = taught(0, [0.95, 0.5], 40), np.random.default_rng(0)
    one = fresh(EM())
    one.fit(feedback, rng)
    checkpoint.save(tmp_path, 1, reward=one, rng=rng)
    one.fit(feedback, rng)
    other, rng = fresh(EM()), np.random.default_rng(9)
    checkpoint.load(tmp_path, reward=other, rng=rng)
    assert len(other.label_model.eta) == 2
    other.fit(feedback, rng)
    assert torch.equal(one.label_model.eta, other.label_model.eta)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(checkpoint.CheckpointError, match="label_model"):
        checkpoint.load(tmp_path, reward=fresh(as_given))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"known": [(4.0, 1.0), (0.0, 3.0)]}, r"known\[1\] is Beta\(0.0, 3.0\); give counts"),
        ({"prior": (math.nan, 1.0)}, r"prior is Beta\(nan, 1.0\); give"),
        ({"every": 0}, "every is 0; give at least 1"),
    ],
)
def test_impossible_settings_of_em_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EM(**settings)


def test_what_em_cannot_read_is_refused():
    with pytest.raises(ValueError, match=r"a target is -0\.5; give probabilities"):
        EM()(pairwise(logistic), torch.zeros(1, 2), said([1.5], [0]))
    with pytest.raises(ValueError, match="an annotator is -1; number them from 0"):
        EM().update(pairwise(logistic), torch.zeros(1, 2), said([1.0], [-1]))
