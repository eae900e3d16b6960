"""Methods of direct alignment: golden numbers, identities between them, laws, and what they refuse."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from embodied import methods as m
from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.label_models import EM, gap_weight
from embodied.losses import check_loss, noise_contrastive, pairwise, pointwise, pro_ranking, saturating, toward
from embodied.methods import Method
from embodied.scores import changed, log_ratio, mean_log_prob, mean_log_ratio


class Given(nn.Module):
    """A policy with a number for each step of each row, whose number is in the observation, and a distance from any
    reference."""

    density = False

    def __init__(self, logp: Tensor, kl: float = 0.0) -> None:
        super().__init__()
        self.logp, self.distance = nn.Parameter(logp.clone()), kl

    def log_prob(self, segments: Segments) -> Tensor:
        return self.logp[segments.obs[:, 0, 0, 0].long()]

    def kl(self, reference: "Given", segments: Segments) -> Tensor:
        return torch.full_like(self.log_prob(segments), self.distance) / segments.mask.sum(-1, keepdim=True)


def told(target: Tensor, mask: Tensor) -> Feedback:
    rows = len(target)
    number = torch.arange(rows, dtype=torch.float32)[:, None, None, None].expand(*mask.shape, 1)
    # What is done tells the alternatives apart, by which a reference's log-probabilities are remembered.
    act = torch.arange(mask.shape[1], dtype=torch.float32)[:, None, None].expand(*mask.shape, 1)
    segments = Segments(number, act, mask, torch.zeros(mask.shape))
    return Feedback(segments, target, torch.ones(rows), torch.zeros(rows, dtype=torch.int64), torch.ones(rows).bool())


def evaluate(
    method: Method, logp: Tensor, ref: Tensor, mask: Tensor, target: Tensor, kl: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Loss [B] and its gradient by each log-probability, [B,K,T]."""
    policy = Given(logp, kl)
    loss = direct(policy, method, Given(ref) if method.reference else None)(told(target, mask))
    (gradient,) = torch.autograd.grad(loss.sum(), policy.logp)
    return loss.detach(), gradient


# One pair: sums of log-probabilities -5.0 (4 steps) and -7.5 (5 steps), reference -5.5 and -7.0; beta = tau = .3,
# eps = .1, margin .5. Columns: loss, derivative by the sum of the better one's log-probabilities, by that of the worse.
B = 0.3
GOLDEN = [
    ("sigmoid", m.dpo(B), 0.554355244, -0.127667245, 0.127667245),
    ("hinge", m.slic(B), 0.7, -0.3, 0.3),
    ("cdpo", m.cdpo(B, 0.1), 0.584355244, -0.097667245, 0.097667245),
    ("robust", m.robust_dpo(B, 0.1), 0.516855244, -0.165167245, 0.165167245),
    ("ipo mean", m.ipo(B), 2.078402778, -0.720833333, 0.576666667),
    ("ipo sum", m.ipo(B, log_ratio), 0.444444444, -1.333333333, 1.333333333),
    ("sigmoid_norm", m.dpo(B, mean_log_ratio), 0.659966604, -0.036234855, 0.028987884),
    ("js", m.f_dpo("js", B), 0.620957048, -0.052391714, 0.086379333),
    ("forward KL", m.f_dpo("forward_kl", B), 0.548988455, -0.076871626, 0.208958744),
    ("alpha .5", m.f_dpo("alpha", B, 0.5), 0.553022416, -0.099248348, 0.163632863),
    ("simpo", m.simpo(B, 0.5), 0.928057400, -0.045350931, 0.036280745),
    ("cpo", m.cpo(B), 0.386871006, -0.096246390, 0.096246390),
    ("orpo", m.orpo(0.1), 0.053956970, -0.014611203, 0.010735413),
    ("kto z=.2", m.kto(B), 0.925207266, -0.074848330, 0.074179165),
    ("sppo_hard", m.sppo_hard(B), 2.722222222, -2.333333333, 2.333333333),
    ("apo_zero", m.apo_zero(B), 0.925140309, -0.074579702, 0.074579702),
    ("nca_pair", m.nca(B), 1.316914096, -0.058156570, 0.069385523),
    ("bco_pair", m.bco(B), 1.241914096, -0.138771046, 0.138771046),
    ("lcpo eta=.9", m.em_preference(m.dpo(B), EM([(9, 1)])), 0.577171137, -0.104851352, 0.104851352),
    ("R-DPO alpha=.2", m.length_dpo(B, 0.2), 0.644396660, -0.142506244, 0.142506244),
]
NAMED = {name: method for name, method, *_ in GOLDEN} | {
    "cpl": replace(m.cpl(B), equal_lengths=False),  # the maths holds; equal lengths are so that it means something
    "cpl_kl": m.cpl_kl(B),
    "sppo": m.sppo(2.0),
    "rankings": m.rankings(B),
    "dense": m.dense_dpo(B),
    "pro": m.pro(),
}


def golden_log_probs() -> tuple[Tensor, Tensor, Tensor]:
    """The sums of the golden pair, spread unevenly over 4 and 5 steps; padding holds rubbish."""
    share = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0], [0.3, 0.1, 0.2, 0.15, 0.25]], dtype=torch.float64)
    mask = share > 0
    logp = torch.where(mask, share * torch.tensor([[-5.0], [-7.5]], dtype=torch.float64), 123.0)
    even = mask / mask.sum(-1, keepdim=True, dtype=torch.float64)
    ref = torch.where(mask, even * torch.tensor([[-5.5], [-7.0]], dtype=torch.float64), torch.nan)
    return logp[None], ref[None], mask[None]


@pytest.mark.parametrize(("name", "method", "value", "better", "worse"), GOLDEN, ids=[row[0] for row in GOLDEN])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_golden_numbers(name, method, value, better, worse, order):
    logp, ref, mask = (x[:, order] for x in golden_log_probs())
    target = torch.eye(2, dtype=torch.float64)[order][:1]
    loss, gradient = evaluate(replace(method, likelihood=0.0), logp, ref, mask, target, kl=0.2)
    assert loss.item() == pytest.approx(value, abs=1e-8)
    wanted = torch.tensor([better, worse], dtype=torch.float64)[order][None, :, None]
    assert torch.allclose(gradient, torch.where(mask, wanted, 0.0), rtol=0, atol=1e-8)


def test_golden_sppo_takes_win_rates():
    logp, ref, mask = golden_log_probs()
    loss, gradient = evaluate(m.sppo(2.0), logp, ref, mask, torch.tensor([[0.8, 0.3]], dtype=torch.float64))
    assert loss.item() == pytest.approx(0.01, abs=1e-8)
    assert torch.allclose(gradient, torch.where(mask, -0.1, 0.0).double(), rtol=0, atol=1e-8)


def test_golden_gap_weight():
    logp, ref, mask = golden_log_probs()
    feedback = told(torch.tensor([[1.0, 0.0]], dtype=torch.float64), mask)
    weight = gap_weight(feedback, torch.tensor([[0.9, 0.4]], dtype=torch.float64)).weight
    loss, gradient = evaluate(m.dpo(B), logp, ref, mask, feedback.target)
    assert (weight * loss).item() == pytest.approx(0.302987334, abs=1e-8)
    wanted = torch.tensor([[[-0.069777563], [0.069777563]]], dtype=torch.float64)
    assert torch.allclose(weight * gradient, torch.where(mask, wanted, 0.0), rtol=0, atol=1e-8)


def test_golden_pro():
    score = torch.tensor([[-1.0, -1.2, -0.8, -2.0]], dtype=torch.float64, requires_grad=True)
    loss = pro_ranking(score, torch.tensor([[2, 1.2, 0.3, -1]], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert loss.item() == pytest.approx(4.900869165, abs=1e-8)
    assert gradient[0].tolist() == pytest.approx([-2.784103789, -1.481993043, 1.172978446, 0.283843233], abs=1e-8)


def drawn(seed: int, rows: int = 3, alternatives: int = 2, steps: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    gen = torch.Generator().manual_seed(seed)
    shape = (2, rows, alternatives, steps)
    logp, ref = -1.5 * torch.rand(shape, generator=gen, dtype=torch.float64) - 0.01
    mask = torch.arange(steps) < torch.randint(1, steps + 1, shape[1:3], generator=gen).unsqueeze(-1)
    return logp, ref, mask


HARD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
IDENTITIES = [
    ("dense without stress is the mean form", m.dense_dpo(B, 1.0), m.dpo(B, mean_log_ratio), 1.0),
    ("cpl_kl without bias is dpo", m.cpl_kl(B, bias=1.0), m.dpo(B), 1.0),
    ("rankings of two are dpo", m.rankings(B), m.dpo(B), 1.0),
    ("labels of the wholly reliable are as given", m.em_preference(m.dpo(B), EM([(1e12, 1e-9)])), m.dpo(B), 1.0),
    ("smoothing by nothing", m.cdpo(B, 0.0), m.dpo(B), 1.0),
    ("unbiasing of nothing", m.robust_dpo(B, 0.0), m.dpo(B), 1.0),
    ("no price of length", m.length_dpo(B, 0.0), m.dpo(B), 1.0),
    ("the reverse KL", m.f_dpo("reverse_kl", B), m.dpo(B), 1.0),
    ("hard sppo is soft sppo twice", m.sppo_hard(B), m.sppo(1 / B), 2.0),
    ("kto at no distance is apo_zero", m.kto(B), m.apo_zero(B), 1.0),
]


@pytest.mark.parametrize(("name", "one", "other", "times"), IDENTITIES, ids=[row[0] for row in IDENTITIES])
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_identities(name, one, other, times, seed):
    logp, ref, mask = drawn(seed)
    ours, theirs = (evaluate(method, logp, ref, mask, HARD) for method in (one, other))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, times * b, rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 10**6))
def test_pro_of_two_is_a_mean_score_dpo_whose_beta_is_the_gap(seed):
    logp, ref, mask = drawn(seed)
    ours, gradient = evaluate(m.pro(likelihood=0.0), logp, ref, mask, 2.5 * HARD - 1)
    mean = Method("", mean_log_prob, pairwise(m.logistic, beta=2.5), reference=False)
    theirs, expected = evaluate(mean, logp, ref, mask, HARD)
    assert torch.allclose(ours, theirs, rtol=1e-12) and torch.allclose(gradient, expected, rtol=1e-12)


@given(seed=st.integers(0, 10**6))
def test_pro_sees_neither_the_order_of_columns_nor_a_shift_of_rewards_but_a_shift_of_scores(seed):
    gen = torch.Generator().manual_seed(seed)
    score, reward = torch.randn(2, 6, 4, generator=gen, dtype=torch.float64)
    loss, columns = pro_ranking(score, reward), torch.randperm(4, generator=gen)
    assert torch.allclose(loss, pro_ranking(score[:, columns], reward[:, columns]), rtol=1e-12)
    assert torch.allclose(loss, pro_ranking(score, reward + 3.7), rtol=1e-9)
    assert not torch.allclose(loss, pro_ranking(score + 1, reward))


def test_pro_of_equals_says_nothing_but_how_many_they_are():
    score = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    loss = pro_ranking(score, torch.ones(1, 3))
    assert loss.item() == pytest.approx(math.log(6), abs=1e-12)
    assert torch.autograd.grad(loss.sum(), score)[0].abs().sum() == 0


def target_of(name: str) -> Tensor:
    return {"pro": torch.tensor([[2.0, 0.5], [-1.0, 1.0], [0.3, 0.1]], dtype=torch.float64)}.get(name, HARD)


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_gradients_agree_with_finite_differences(name, seed):
    logp, ref, mask = drawn(seed)
    _, gradient = evaluate(NAMED[name], logp, ref, mask, target_of(name))
    # EM's target moves with the scores and is not differentiated: held still, it is a target like any other.
    method, target = NAMED[name], target_of(name)
    if isinstance(method.label_model, EM):
        score = method.score(logp, ref, mask)
        target = method.label_model(method.loss, score, told(target, mask))
        method = m.dpo(B)
    direction = torch.randn(logp.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    up, down = (evaluate(method, logp + s * 1e-6 * direction, ref, mask, target)[0].sum() for s in (1, -1))
    assert ((up - down) / 2e-6).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_swapping_a_pair_with_its_target_and_padding_it_change_nothing(name, seed):
    logp, ref, mask = drawn(seed)
    target = target_of(name)
    loss, gradient = evaluate(NAMED[name], logp, ref, mask, target)
    swapped, turned = evaluate(NAMED[name], logp.flip(1), ref.flip(1), mask.flip(1), target.flip(1))
    assert torch.allclose(loss, swapped, rtol=1e-12) and torch.allclose(gradient, turned.flip(1), rtol=1e-12)
    pad = torch.full((3, 2, 2), torch.nan, dtype=torch.float64)
    longer = (torch.cat([x, pad], -1) for x in (logp, ref))
    padded, wider = evaluate(NAMED[name], *longer, torch.cat([mask, torch.zeros(3, 2, 2).bool()], -1), target)
    assert torch.allclose(loss, padded, rtol=1e-12)
    assert torch.allclose(wider[..., :5], gradient, rtol=1e-12) and wider[..., 5:].abs().sum() == 0


CONTRASTS = ["sigmoid", "hinge", "cdpo", "robust", "rankings", "cpo", "ipo sum", "lcpo eta=.9", "R-DPO alpha=.2"]


@pytest.mark.parametrize("name", [n for n in NAMED if n not in ("pro", "dense")])
def test_a_contrast_of_sums_is_deaf_to_what_both_have_in_common_and_no_other_is(name):
    """Pulls on the sums add to nothing: in particular a shift c(x) of the reference changes nothing."""
    logp, ref, _ = drawn(0)
    _, gradient = evaluate(replace(NAMED[name], likelihood=0.0), logp, ref, torch.ones(3, 2, 5).bool(), HARD)
    balance = gradient[..., 0].sum(1).abs().max().item()
    means = ("ipo mean", "sigmoid_norm", "simpo")  # of equal lengths, so they too
    if name in CONTRASTS or name in means:
        assert balance < 1e-12
    else:
        assert balance > 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NAMED)
def test_far_out_everything_is_finite(name, dtype):
    logp = torch.tensor([[[-1e4, -1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1e4, -1.0]]], dtype=dtype)
    ref, mask = logp.flip(0), torch.ones(2, 2, 2).bool()
    method = NAMED[name]
    for target in (HARD[:2], torch.full((2, 2), 0.5)):
        loss, gradient = evaluate(method, logp, ref, mask, target.to(dtype))
        assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMED)
def test_only_the_policy_is_differentiated(name):
    logp, ref, mask = drawn(1)
    policy, reference = Given(logp), Given(ref)
    method = NAMED[name]
    loss = direct(policy, method, reference if method.reference else None)(told(target_of(name), mask))
    gradients = torch.autograd.grad(loss.sum(), [policy.logp, reference.logp], allow_unused=True)
    assert gradients[0].abs().sum() > 0 and gradients[1] is None


@pytest.mark.parametrize(
    ("loss", "growth", "shift"),
    [
        (m.biased, 1, False),
        (saturating, 0, True),
        (pointwise(saturating), 0, False),
        (pointwise(m.logistic), 1, False),
        (pointwise(m.square, tau=0.1), 2, False),
        (pointwise(saturating, good=2.0), 0, False),
        (toward(2.0), 2, False),
        (noise_contrastive(0.5), 1, False),
    ],
)
def test_the_new_losses_are_sound(loss, growth, shift):
    report = check_loss(loss)
    assert report.growth == pytest.approx(growth, abs=0.05)
    assert report.shift_invariant is shift and report.swap_symmetric


def test_one_segment_with_a_label_is_enough_for_the_pointwise_ones():
    logp, ref, mask = drawn(2, rows=2, alternatives=1)
    u = log_ratio(logp, ref, mask)[:, 0]
    loss, _ = evaluate(m.kto(0.5, good=2.0, bad=3.0), logp, ref, mask, torch.tensor([[1.0], [0.0]]), kl=0.4)
    wanted = [2 * torch.sigmoid(-0.5 * (u[0] - 0.4)).item(), 3 * torch.sigmoid(0.5 * (u[1] - 0.4)).item()]
    assert loss.tolist() == pytest.approx(wanted, abs=1e-12)


def test_the_best_alternative_is_made_likely_and_ties_are_shared():
    logp, ref, mask = drawn(3)
    target = torch.tensor([[0.7, 0.3], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    with_, without = (evaluate(replace(m.cpo(), likelihood=c), logp, ref, mask, target)[0] for c in (0.5, 0.0))
    mean = mean_log_prob(logp, ref, mask)
    assert torch.allclose(with_ - without, -0.5 * torch.stack([mean[0, 0], mean[1, 1], mean[2].mean()]))


# --- steps that differ


def corrected(act: list[float], other: list[float], obs: list[float], seen: list[float]) -> Segments:
    steps = torch.tensor([[act, other]])[..., None], torch.tensor([[obs, seen]])[..., None]
    mask = torch.ones(1, 2, len(act)).bool()
    return Segments(steps[1], steps[0], mask, torch.zeros(1, 2, len(act)))


def test_changed_steps_count_more():
    segments = corrected([1, 1, 1, 1], [1, 2, 1, 1], [0, 1, 2, 3], [0, 1, 5, 3])
    assert changed(5.0)(segments)[0].tolist() == [[1, 5, 5, 1]] * 2
    assert changed(5.0, unchanged=0.0)(segments)[0].tolist() == [[0, 5, 5, 0]] * 2
    assert changed(5.0, window=1)(segments)[0].tolist() == [[1, 5, 1, 1]] * 2
    shorter = Segments(segments.obs, segments.act, segments.mask.clone(), segments.log_prob)
    shorter.mask[0, 0, 3] = False
    assert changed(5.0)(shorter)[0].tolist() == [[1, 5, 5, 0], [1, 5, 5, 5]]
    same = corrected([1, 1], [1, 1], [0, 0], [0, 0])
    assert changed(5.0, unchanged=0.0)(same)[0].tolist() == [[1, 1]] * 2
    words = Segments({"prompt": torch.zeros(1, 1, 3)}, segments.act, segments.mask, segments.log_prob)
    assert changed(3.0)(words)[0].tolist() == [[1, 3, 1, 1]] * 2


def test_the_pull_on_a_changed_step_is_gamma_times_that_on_another():
    segments = corrected([1, 1, 1], [1, 2, 1], [0, 1, 2], [0, 1, 2])
    logp, ref, _ = drawn(4, rows=1, steps=3)
    feedback = replace(told(torch.tensor([[1.0, 0.0]]), segments.mask), segments=segments)
    policy = Given(logp)
    for gamma in (5.0, 50.0):
        loss = direct(policy, m.dense_dpo(0.5, gamma), Given(ref))(feedback)
        (pull,) = torch.autograd.grad(loss.sum(), policy.logp)
        assert torch.allclose(pull[0, :, 1] / pull[0, :, 0], torch.tensor(gamma).double(), rtol=1e-12)
    alone = direct(policy, m.dense_dpo(0.5, 1.0, unchanged=0.0), Given(ref))(feedback)
    assert alone.item() == pytest.approx(direct(policy, m.dense_dpo(0.5, 1e9), Given(ref))(feedback).item(), abs=1e-8)


# --- weights by gap


def test_the_higher_of_two_equal_gaps_weighs_more_and_a_tie_nothing():
    feedback = told(torch.tensor([[1.0, 0.0]]).expand(3, 2), torch.ones(3, 2, 1).bool())
    quality = torch.tensor([[0.5, 0.0], [0.5, 1.0], [0.3, 0.3]], dtype=torch.float64)
    weight = gap_weight(feedback, quality).weight
    assert weight[1] > weight[0] > 0 and weight[2] == 0
    linear = gap_weight(feedback, quality, base=1 + 1e-7).weight / math.log1p(1e-7)
    assert linear.tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)
    doubled = gap_weight(replace(feedback, weight=feedback.weight * 2), quality).weight
    assert torch.equal(doubled, 2 * weight)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: m.dpo(0.0), "beta is 0.0; give a finite number above 0"),
        (lambda: m.ipo(-1.0), "tau is -1.0"),
        (lambda: m.kto(math.inf), "beta is inf"),
        (lambda: m.sppo(math.nan), "eta is nan"),
        (lambda: m.cpl(bias=0.0), "bias is 0.0; give a number above 0 and at most 1"),
        (lambda: m.cpl_kl(gamma=1.5), "gamma is 1.5"),
        (lambda: m.cpo(likelihood=-1.0), "likelihood is -1.0"),
        (lambda: m.orpo(0.0), "weight is 0.0"),
        (lambda: m.robust_dpo(eps=0.5), "eps is 0.5"),
        (lambda: m.dense_dpo(gamma=-1.0), "gamma is -1.0"),
        (lambda: m.dense_dpo(window=0), "window 0"),
        (lambda: replace(m.kto(), reference=False), "kto counts from the KL to a reference"),
        (lambda: gap_weight(told(HARD, torch.ones(3, 2, 1).bool()), torch.zeros(3, 3)), r"shape \[3, 3\]"),
        (lambda: gap_weight(told(HARD, torch.ones(3, 2, 1).bool()), torch.zeros(3, 2), 1.0), "base is 1.0"),
        (lambda: changed(2.0)(told(torch.zeros(1, 3), torch.ones(1, 3, 1).bool()).segments), "K = 3; give pairs"),
    ],
)
def test_impossible_settings_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
