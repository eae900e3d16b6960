"""Losses: golden numbers, laws, far-out behaviour, and `check_loss` against losses that are wrong in known ways."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from embodied.feedback import Feedback, Segments
from embodied.label_models import as_given, smooth, unbias
from embodied.losses import LossError, bt_ties, check_loss, hinge, logistic, pairwise, plackett_luce, square
from embodied.scores import (
    f_divergence,
    log_odds,
    log_prob,
    log_ratio,
    mean_log_prob,
    mean_log_ratio,
)

PAIR = {
    "logistic": pairwise(logistic, beta=0.7, margin=0.2),
    "square": pairwise(square, tau=0.3),
    "hinge": pairwise(hinge, beta=0.7),
    "ties": bt_ties(1.5),
    "plackett_luce": plackett_luce,
}

# One pair: sums of log-probabilities -5.0 (4 steps) and -7.5 (5 steps), reference -5.5 and -7.0; beta = tau = .3,
# eps = .1, margin .5. Columns: loss, derivative by the sum of the better one's log-probabilities, by that of the worse.
forward, alpha = f_divergence("forward_kl"), f_divergence("alpha", 0.5)
GOLDEN = [
    ("sigmoid", log_ratio, logistic, dict(beta=0.3), as_given, 0.554355244, -0.127667245, 0.127667245),
    ("hinge", log_ratio, hinge, dict(beta=0.3), as_given, 0.7, -0.3, 0.3),
    ("cdpo", log_ratio, logistic, dict(beta=0.3), smooth(0.1), 0.584355244, -0.097667245, 0.097667245),
    ("robust", log_ratio, logistic, dict(beta=0.3), unbias(0.1), 0.516855244, -0.165167245, 0.165167245),
    ("ipo mean", mean_log_ratio, square, dict(tau=0.3), as_given, 2.078402778, -0.720833333, 0.576666667),
    ("ipo sum", log_ratio, square, dict(tau=0.3), as_given, 0.444444444, -1.333333333, 1.333333333),
    ("sigmoid_norm", mean_log_ratio, logistic, dict(beta=0.3), as_given, 0.659966604, -0.036234855, 0.028987884),
    ("js", f_divergence("js"), logistic, dict(beta=0.3), as_given, 0.620957048, -0.052391714, 0.086379333),
    ("forward KL", forward, logistic, dict(beta=0.3), as_given, 0.548988455, -0.076871626, 0.208958744),
    ("alpha .5", alpha, logistic, dict(beta=0.3), as_given, 0.553022416, -0.099248348, 0.163632863),
    ("simpo", mean_log_prob, logistic, dict(beta=0.3, margin=0.5), as_given, 0.928057400, -0.045350931, 0.036280745),
    ("cpo", log_prob, logistic, dict(beta=0.3), as_given, 0.386871006, -0.096246390, 0.096246390),
    ("orpo odds / .1", log_odds, logistic, {}, as_given, 0.53956970, -0.14611203, 0.10735413),
]


def golden_log_probs() -> tuple[Tensor, Tensor, Tensor]:
    """The sums of the golden pair, spread unevenly over 4 and 5 steps; padding holds rubbish."""
    share = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0], [0.3, 0.1, 0.2, 0.15, 0.25]], dtype=torch.float64)
    mask = share > 0
    logp = torch.where(mask, share * torch.tensor([[-5.0], [-7.5]], dtype=torch.float64), 123.0)
    even = mask / mask.sum(-1, keepdim=True, dtype=torch.float64)
    ref = torch.where(mask, even * torch.tensor([[-5.5], [-7.0]], dtype=torch.float64), torch.nan)
    return logp[None].requires_grad_(), ref[None], mask[None]


def told(target: Tensor) -> Feedback:
    mask = torch.ones(*target.shape, 1, dtype=torch.bool)
    nothing = torch.zeros(*mask.shape, 1)
    segments = Segments(nothing, nothing, mask, torch.zeros(mask.shape))
    one = torch.ones(len(target))
    return Feedback(segments, target, one, one.long(), one.bool())


@pytest.mark.parametrize(("name", "score", "f", "settings", "label_model", "value", "better", "worse"), GOLDEN)
@pytest.mark.parametrize("better_first", [True, False])
def test_golden_numbers(name, score, f, settings, label_model, value, better, worse, better_first):
    logp, ref, mask = golden_log_probs()
    order = [0, 1] if better_first else [1, 0]
    scores = score(logp[:, order], ref[:, order], mask[:, order])
    loss = pairwise(f, **settings)
    target = label_model(loss, scores.detach(), told(torch.eye(2, dtype=torch.float64)[order][:1]))
    result = loss(scores, target)
    (gradient,) = torch.autograd.grad(result.sum(), logp)
    tolerance = 1e-8 if "/ .1" in name else 1e-9  # the odds term is printed times .1
    assert result.item() == pytest.approx(value, abs=tolerance)
    coefficients = torch.tensor([[better], [worse]], dtype=torch.float64).expand(2, 5)
    assert torch.allclose(gradient[0], torch.where(mask[0], coefficients, 0.0), rtol=0, atol=tolerance)


def test_golden_plackett_luce():
    score = torch.tensor([[-1.0, -1.2, -0.8, -2.0]], dtype=torch.float64, requires_grad=True)
    loss = plackett_luce(score, torch.tensor([[2, 1.2, 0.3, -1]]))
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert loss.item() == pytest.approx(2.568213783, abs=1e-9)
    expected = [-0.706573885, -0.419760379, 0.634140580, 0.492193684]
    assert gradient[0].tolist() == pytest.approx(expected, abs=1e-9)


scores = st.lists(st.floats(-8, 8), min_size=2, max_size=2)
chances = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])


@pytest.mark.parametrize("name", PAIR)
@given(score=scores, q=chances)
def test_swapping_the_pair_and_the_target_changes_nothing(name, score, q):
    score = torch.tensor([score], dtype=torch.float64)
    target = torch.tensor([[q, 1 - q]], dtype=torch.float64)
    swapped = PAIR[name](score.flip(-1), target.flip(-1))
    assert torch.allclose(PAIR[name](score, target), swapped, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", PAIR)
@given(seed=st.integers(0, 10**6))
def test_gradients_agree_with_finite_differences(name, seed):
    gen = torch.Generator().manual_seed(seed)
    score = (4 * torch.rand(3, 4, 2, generator=gen, dtype=torch.float64) - 2).requires_grad_()
    q = torch.rand(4, generator=gen, dtype=torch.float64) * 1.4 - 0.2
    target = torch.stack([q, 1 - q], -1)
    (gradient,) = torch.autograd.grad(PAIR[name](score, target).sum(), score)
    direction = torch.randn(score.shape, generator=gen, dtype=torch.float64)
    with torch.no_grad():
        up, down = (PAIR[name](score + sign * 1e-6 * direction, target).sum() for sign in (1, -1))
    assert ((up - down) / 2e-6).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", PAIR)
def test_targets_and_padding_rows_carry_no_gradient(name):
    score = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    target = torch.full((5, 2), 0.5, dtype=torch.float64, requires_grad=True)
    loss = PAIR[name](score, target)
    assert loss.shape == (3, 5)
    assert torch.autograd.grad(loss.sum(), target, allow_unused=True) == (None,)


@pytest.mark.parametrize("name", PAIR)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gap", [-1e4, 1e4])
@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_gaps_of_ten_thousand_are_finite(name, dtype, gap, q):
    score = torch.tensor([[gap / 2, -gap / 2]], dtype=dtype, requires_grad=True)
    loss = PAIR[name](score, torch.tensor([[q, 1 - q]]))
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()
    if name in ("logistic", "hinge", "ties", "plackett_luce"):
        assert gradient.abs().max() <= 1.01  # linear growth: the pull has a bound


def test_the_side_without_weight_is_never_felt():
    """An exponential loss is infinite on the wrong side of a gap of 1e4: 0 * inf must not leak, nor its gradient."""
    loss = pairwise(lambda better, worse: torch.exp(worse - better))
    score = torch.tensor([[[1e4, 0.0], [0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    value = loss(score, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    (gradient,) = torch.autograd.grad(value.sum(), score)
    assert value.tolist() == [[0.0, 1.0]]
    assert torch.isfinite(gradient).all()


def test_targets_outside_the_unit_interval_are_weights():
    score = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    value = pairwise(logistic)(score, torch.tensor([[1.25, -0.25]], dtype=torch.float64))
    assert value.item() == pytest.approx(
        1.25 * math.log1p(math.exp(-0.7)) - 0.25 * math.log1p(math.exp(0.7)), abs=1e-14
    )


@given(first=st.floats(-5, 5), second=st.floats(-5, 5), theta=st.floats(1.01, 20))
def test_rao_kupper_is_a_probability(first, second, theta):
    score = torch.tensor([[first, second]], dtype=torch.float64).expand(3, 2)
    nats = bt_ties(theta)(score, torch.tensor([[1, 0], [0, 1], [0.5, 0.5]], dtype=torch.float64))
    a, b = math.exp(first), math.exp(second)
    win, lose = a / (a + theta * b), b / (b + theta * a)
    assert torch.exp(-nats).tolist() == pytest.approx([win, lose, 1 - win - lose], abs=1e-12)


def test_a_mixed_target_is_the_mixture_of_a_tie_and_a_decision():
    score = torch.tensor([[0.3, -0.4]], dtype=torch.float64).expand(3, 2)
    mixed, decided, tied = bt_ties(2.0)(score, torch.tensor([[0.75, 0.25], [1, 0], [0.5, 0.5]], dtype=torch.float64))
    assert mixed.item() == pytest.approx(((decided + tied) / 2).item(), abs=1e-14)


lists = st.lists(st.floats(-6, 6), min_size=2, max_size=6)


@given(score=lists, seed=st.integers(0, 10**6))
def test_plackett_luce_does_not_see_the_order_of_the_columns_and_pulls_sum_to_zero(score, seed):
    gen = torch.Generator().manual_seed(seed)
    score = torch.tensor([score], dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 4, score.shape, generator=gen)  # ties included
    columns = torch.randperm(score.shape[1], generator=gen)
    loss = plackett_luce(score, target)
    assert torch.allclose(loss, plackett_luce(score[:, columns], target[:, columns]), rtol=1e-12, atol=1e-12)
    assert torch.allclose(loss, plackett_luce(score + 3.7, target), rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(loss.sum(), score)
    assert abs(gradient.sum().item()) < 1e-12


@given(score=lists, seed=st.integers(0, 10**6))
def test_plackett_luce_is_a_chain_of_choices(score, seed):
    target = torch.randperm(len(score), generator=torch.Generator().manual_seed(seed))
    remaining = [score[k] for k in target.argsort(descending=True).tolist()]
    nats = 0.0
    while remaining:
        nats -= remaining[0] - math.log(sum(map(math.exp, remaining)))
        remaining = remaining[1:]
    loss = plackett_luce(torch.tensor([score], dtype=torch.float64), target[None])
    assert loss.item() == pytest.approx(nats, abs=1e-10)


@given(score=scores, q=st.sampled_from([0.0, 0.5, 1.0]))
def test_plackett_luce_of_two_is_bradley_terry_ties_included(score, q):
    score, target = torch.tensor([score], dtype=torch.float64), torch.tensor([[q, 1 - q]])
    assert torch.allclose(plackett_luce(score, target), pairwise(logistic)(score, target), rtol=1e-12, atol=1e-12)


def test_losses_of_pairs_refuse_lists():
    for loss in (pairwise(logistic), bt_ties(2.0)):
        with pytest.raises(ValueError, match=r"K = 2.*\[4, 3\].*all_pairs"):
            loss(torch.zeros(4, 3), torch.zeros(4, 3))
    for theta in (1.0, 0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="theta"):
            bt_ties(theta)


# --- check_loss


@pytest.mark.parametrize(
    ("loss", "growth", "saturation", "shift"),
    [
        (logistic, 1, 1 / torch.sigmoid(torch.tensor(1.0)).item(), True),
        (hinge, 1, 1, True),
        (square, 2, (1e4 + 5) / 6, True),
        (pairwise(square), 2, (1e4 + 5) / 6, True),
        (bt_ties(2.0), 1, 1 / torch.sigmoid(torch.tensor(1 + math.log(2))).item(), True),
        (plackett_luce, 1, 1 / torch.sigmoid(torch.tensor(1.0)).item(), True),
        (lambda better, worse: softplus(0.5 * worse - better), 1, None, False),  # a biased one
        (lambda better, worse: torch.sigmoid(worse - better), 0, 0, True),  # bounded: gives hopeless pairs up
    ],
)
def test_sound_losses_pass_and_are_described(loss, growth, saturation, shift):
    report = check_loss(loss)
    assert report.growth == pytest.approx(growth, abs=0.05)
    assert saturation is None or report.saturation == pytest.approx(saturation, rel=1e-3)
    assert report.shift_invariant is shift
    assert report.swap_symmetric


def test_a_loss_that_favours_the_first_is_reported():
    assert not check_loss(
        lambda score, target: 2 * pairwise(logistic)(score, target) * target[:, 0].add(1)
    ).swap_symmetric


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return softplus(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * torch.sigmoid(x) * 1.001


def steep(better, worse):
    return torch.exp(worse - better)


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda better, worse: -torch.log(torch.sigmoid(better - worse)), "^finite.*softplus"),
        (steep, "^finite.*inf"),
        (
            lambda better, worse: logistic(better, worse) + ((worse - better) ** 2).sqrt(),
            "^finite.*gradient.*nan",
        ),
        (lambda better, worse: -logsigmoid(worse - better), "^sign.*f\\(better, worse\\)"),
        (lambda better, worse: 0 * (worse - better), "^sign"),
        (lambda better, worse: WrongBackward.apply(worse - better), "^gradient.*finite differences"),
        (lambda better, worse: softplus(worse - better) * (worse - better).detach().abs(), "^gradient"),
        (lambda better, worse: softplus((worse - better).detach()), "^gradient.*detached"),
        (lambda better, worse: logistic(better, worse).mean(), "^shape.*average"),
        (lambda better, worse: logistic(better, worse).tolist(), "^shape.*list.*tensor"),
        (lambda score, target: -(target * score).sum(-1, keepdim=True), "^shape"),
        (lambda score, target: torch.einsum("bk,bk->b", score, 1 - 2 * target), "^shape.*3, 5, 2"),
    ],
)
def test_each_way_of_being_wrong_has_its_sentence(loss, sentence):
    with pytest.raises(LossError, match=sentence):
        check_loss(loss)
