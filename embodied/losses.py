"""Losses: how scores are held against what annotators said. All are minimised.

A user writes a pair loss `f(better [B], worse [B]) -> [B]`, two lines; `pairwise(f)` makes it a `Loss`, ties and soft
targets included, and `check_loss(f)` says whether it can be trusted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

PairLoss = Callable[[Tensor, Tensor], Tensor]  # (better [...,B], worse [...,B]) -> [...,B]
# (score [...,B,K], target [B,K]) -> [...,B]; the target is never differentiated
Loss = Callable[[Tensor, Tensor], Tensor]


def logistic(better: Tensor, worse: Tensor, beta: float = 1.0, margin: float = 0.0) -> Tensor:
    """softplus(margin - beta (better - worse)): Bradley-Terry, DPO (arXiv 2305.18290, eq. 7), SimPO with a margin."""
    return softplus(margin - beta * (better - worse))


def square(better: Tensor, worse: Tensor, tau: float = 0.1) -> Tensor:
    """(better - worse - 1/(2 tau))^2: IPO (arXiv 2310.12036). A certain preference keeps a finite gap."""
    return (better - worse - 1 / (2 * tau)) ** 2


def hinge(better: Tensor, worse: Tensor, beta: float = 1.0) -> Tensor:
    """max(0, 1 - beta (better - worse)): SLiC (arXiv 2305.10425). Silent once the gap is 1/beta."""
    return relu(1 - beta * (better - worse))


def biased(better: Tensor, worse: Tensor, beta: float = 1.0, bias: float = 0.5) -> Tensor:
    """softplus(beta (bias worse - better)): CPL (arXiv 2310.13639). bias < 1 keeps the likelihood on what was seen."""
    if not 0 < bias <= 1:
        raise ValueError(f"bias is {bias}; choose it above 0 and at most 1")
    return softplus(beta * (bias * worse - better))


def saturating(better: Tensor, worse: Tensor, beta: float = 1.0) -> Tensor:
    """1 - sigmoid(beta (better - worse)): KTO (arXiv 2402.01306). Bounded, so a hopeless label is given up."""
    return torch.sigmoid(-beta * (better - worse))


def pairwise(f: Callable[..., Tensor], **settings: float) -> Loss:
    """q f(first, second) + (1-q) f(second, first) for target [q, 1-q]; `settings` are handed to f.

    Swapping the pair and its target changes nothing, whatever f is. The side whose weight is 0 is not evaluated, so
    that an infinite f there does no harm. Targets outside [0,1] (the unbiased label model) are weights like any other.
    Raises ValueError when K is not 2.
    """
    f = partial(f, **settings)

    def side(weight: Tensor, better: Tensor, worse: Tensor) -> Tensor:
        live = weight != 0
        # A dead side is given the swapped pair, which the other side evaluates anyway: where() on the value alone would
        # leave 0 * inf in the gradient.
        value = f(torch.where(live, better, worse), torch.where(live, worse, better))
        return torch.where(live, weight * value, 0.0)

    def loss(score: Tensor, target: Tensor) -> Tensor:
        first, second, q, p = _pair(score, target)
        return side(q, first, second) + side(p, second, first)

    return loss


def pointwise(f: Callable[..., Tensor], *, good: float = 1.0, bad: float = 1.0, **settings: float) -> Loss:
    """sum over k of target good f(score, 0) + (1 - target) bad f(0, score): each alternative alone, against nought.

    Targets in [0,1] are how desirable each is; any K, so one segment with a label 1 or 0 will do. For a log-ratio,
    nought is the reference. Unlike `pairwise` it pins the scores themselves, not their differences. Makes KTO of
    `saturating`, BCO (arXiv 2404.04656) of `logistic`, hard SPPO (arXiv 2405.00675) of `square`.
    """
    f = partial(f, **settings)

    def loss(score: Tensor, target: Tensor) -> Tensor:
        target, nought = target.detach(), torch.zeros_like(score)
        return (target * good * f(score, nought) + (1 - target) * bad * f(nought, score)).sum(-1)

    return loss


def toward(eta: float) -> Loss:
    """sum over k of (score - eta (target - 1/2))^2 / 2: SPPO (arXiv 2405.00675), targets are win rates in [0,1]."""
    return lambda score, target: ((score - eta * (target.detach() - 0.5)) ** 2).sum(-1) / 2


def noise_contrastive(beta: float) -> Loss:
    """sum over k of target softplus(-beta score) + softplus(beta score) / K: NCA (arXiv 2402.05369).

    The target is the share of each alternative and sums to 1.
    """

    def loss(score: Tensor, target: Tensor) -> Tensor:
        return (target.detach() * softplus(-beta * score) + softplus(beta * score) / score.shape[-1]).sum(-1)

    return loss


def scaled(loss: Loss, beta: float) -> Loss:
    """The loss of beta times the score."""
    return lambda score, target: loss(beta * score, target)


def bt_ties(theta: float) -> Loss:
    """Bradley-Terry with ties (Rao and Kupper 1967): P(first) = e^a/(e^a + theta e^b), and what is left is the tie.

    theta > 1 is how wide the indifference is: two equal scores tie with probability (theta-1)/(theta+1). A target .5/.5
    is a tie, 1/0 a decision, and those between are mixtures of both. Raises ValueError when K is not 2 or theta <= 1.
    """
    if not 1 < theta < math.inf:
        raise ValueError(
            f"theta is {theta}; choose it above 1, since at 1 a tie is impossible, or take pairwise(logistic)"
        )
    width = math.log(theta)

    def loss(score: Tensor, target: Tensor) -> Tensor:
        first, second, q, p = _pair(score, target)
        tie = 2 * torch.minimum(q, p).clamp(min=0)
        # P(tie) is P(first) P(second) (theta^2 - 1)
        decided_first, decided_second = softplus(width - (first - second)), softplus(width + (first - second))
        return (q + tie / 2) * decided_first + (p + tie / 2) * decided_second - tie * math.log(theta**2 - 1)

    return loss


def plackett_luce(score: Tensor, target: Tensor) -> Tensor:
    """-log probability of a ranking: the best is chosen from all, the next from the rest, and so on.

    score [...,B,K], target [B,K]: larger is better, only the order counts. Members of a tied group are each compared
    with the whole group (Breslow 1974); a tied last group of n counts n-1 comparisons, so that a tied pair is the mean
    of both orders and K = 2 is Bradley-Terry. (Plackett 1975; Luce 1959.)
    """
    target = target.detach()
    choice = target.unsqueeze(-2) <= target.unsqueeze(-1)  # [B,K,K]: row k, what k was chosen from, itself included
    gap = score.unsqueeze(-2) - score.unsqueeze(-1)  # [...,B,K,K], j over k
    terms = torch.where(choice, gap, -math.inf).logsumexp(-1)
    last = target == target.amin(-1, keepdim=True)
    group = last.sum(-1, keepdim=True).to(score.dtype)
    return (torch.where(last, (group - 1) / group, 1.0) * terms).sum(-1)


def pro_ranking(score: Tensor, target: Tensor) -> Tensor:
    """PRO (arXiv 2306.17492): a ranking in which each choice has temperatures of its own, the gaps in reward.

    score [...,B,K], target [B,K] rewards: the best is chosen from all with logits score times its gap to the chosen
    one, the chosen one's being the largest gap; then the next from the rest. Shifting all rewards changes nothing;
    shifting all scores does for K > 2. A choice among equals says nothing. The unit of reward is the temperature.
    """
    reward, order = target.detach().to(score.dtype).sort(-1, descending=True)
    score = score.gather(-1, order.expand(score.shape))
    gap = reward.unsqueeze(-1) - reward.unsqueeze(-2)  # [B,K,K]: row k, what k is above
    gap = gap + torch.diag_embed(gap[..., -1])
    logits = score.unsqueeze(-2) * gap
    later = torch.ones_like(gap, dtype=torch.bool).triu()
    terms = torch.where(later, logits, -math.inf).logsumexp(-1) - logits.diagonal(dim1=-2, dim2=-1)
    # A choice among equals is log of their number, without a gradient; the last is no choice, and nought.
    return terms.sum(-1)


def _pair(score: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if score.shape[-1] != 2 or target.shape[-1] != 2:
        raise ValueError(
            f"this loss compares K = 2 alternatives, got score {list(score.shape)} and target {list(target.shape)}; "
            "expand rankings with all_pairs, or use plackett_luce"
        )
    return score[..., 0], score[..., 1], target.detach()[..., 0], target.detach()[..., 1]


class LossError(ValueError):
    """A loss that must not be trained with; the message says what is wrong, where, and how to mend it."""


@dataclass(frozen=True)
class LossReport:
    """How a sound loss behaves far out, where training goes wrong first."""

    growth: float
    """Exponent of the loss in the gap of a wrong pair, between 1e3 and 1e4: 0 bounded, 1 linear, 2 quadratic."""
    saturation: float
    """Gradient on a pair that is wrong by 1e4, relative to one wrong by 1: 0 means that such a pair is given up."""
    shift_invariant: bool
    """Only the difference of the scores counts."""
    swap_symmetric: bool
    """Swapping both alternatives and the target changes nothing; true for every pair loss."""


def check_loss(loss: Loss | PairLoss) -> LossReport:
    """Try a loss, or a pair loss f(better, worse), on pairs from equal to wrong by 1e4, in float32 and float64.

    Raises LossError for a wrong shape, a value or gradient that is not finite, a gradient that differs from finite
    differences, or one that does not pull a confidently wrong pair apart. The rest is reported, not judged.
    """
    score = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 2).roll(1, 0) + 0.0137
    loss = as_loss(loss)
    _check_shape(loss, score)
    _check_finite(loss)
    _check_gradient(loss, score)
    _check_sign(loss)
    wrong = torch.tensor([[-0.5, 0.5], [-500, 500], [-5000, 5000]], dtype=torch.float64)
    first_better = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, 2)
    values, gradient = _evaluate(loss, wrong, first_better)
    low, high = values[1:].abs().clamp(min=1e-300).log10().tolist()
    pull = (gradient[:, 1] - gradient[:, 0]).tolist()
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.8, 0.2], [0.3, 0.7]], dtype=torch.float64)
    base = loss(score, target)
    return LossReport(
        growth=round(high - low, 3),
        saturation=pull[2] / pull[0] if pull[0] else math.inf,
        shift_invariant=torch.allclose(loss(score + 1.7, target), base, rtol=1e-9, atol=1e-9),
        swap_symmetric=torch.allclose(loss(score.flip(-1), target.flip(-1)), base, rtol=1e-12, atol=1e-12),
    )


def as_loss(loss: Loss | PairLoss) -> Loss:
    """A pair loss as the `Loss` that `pairwise` makes of it; a Loss as it is. Raises LossError for what is neither."""
    score = torch.tensor([[0.3, -0.2], [0.1, 0.4], [0.0, 0.6]], dtype=torch.float64)
    value = loss(score, torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, 2))
    if not isinstance(value, Tensor):
        raise LossError(f"shape: the loss returned a {type(value).__name__}; return a tensor, one number per pair")
    return pairwise(loss) if value.shape == score.shape else loss  # elementwise in both arguments: a pair loss


def _check_shape(loss: Loss, score: Tensor) -> None:
    for scores in (score, score.expand(3, 5, 2)):  # the latter is an ensemble's
        where = f"shape: scores {list(scores.shape)} and a target [5, 2]"
        mend = "return one number per pair, [...,B] from scores [...,B,K], and do not average"
        try:
            shape = loss(scores, torch.full((5, 2), 0.5, dtype=torch.float64)).shape
        except (RuntimeError, IndexError, ValueError) as error:
            raise LossError(f"{where} raised {type(error).__name__}: {error}; {mend}") from error
        if shape != scores.shape[:-1]:
            raise LossError(f"{where} gave a result of shape {list(shape)}; {mend}")


def _evaluate(loss: Loss, score: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    score = score.clone().requires_grad_()
    values = loss(score, target)
    if not values.requires_grad:
        raise LossError(
            "gradient: the loss does not depend on the scores, or was detached from them; compute it with torch"
        )
    (gradient,) = torch.autograd.grad(values.sum(), score)
    return values.detach(), gradient


def _check_finite(loss: Loss) -> None:
    gaps = [0.0, 1e-3, 1.0, 10.0, 100.0, 1e3, 1e4]
    for dtype in (torch.float64, torch.float32):
        score = torch.tensor([[s * g / 2, -s * g / 2] for g in gaps for s in (1, -1)], dtype=dtype)
        for q in (1.0, 0.5):
            values, gradient = _evaluate(loss, score, torch.tensor([[q, 1 - q]], dtype=dtype).expand_as(score))
            bad = ~(torch.isfinite(values) & torch.isfinite(gradient).all(-1))
            if bad.any():
                row = int(bad.nonzero()[0])
                raise LossError(
                    f"finite: scores {score[row].tolist()} with target {[q, 1 - q]} give {values[row].item()} with "
                    f"gradient {gradient[row].tolist()} in {dtype}; use softplus and logsigmoid, not log and exp"
                )


def _check_gradient(loss: Loss, score: Tensor) -> None:
    step = 1e-5
    for q in (1.0, 0.5, 0.2):
        target = torch.tensor([[q, 1 - q]], dtype=score.dtype).expand_as(score)
        _, gradient = _evaluate(loss, score, target)
        numeric = torch.empty_like(gradient)
        for b, k in torch.cartesian_prod(torch.arange(len(score)), torch.arange(2)).tolist():
            nudge = torch.zeros_like(score)
            nudge[b, k] = step
            numeric[b, k] = (loss(score + nudge, target) - loss(score - nudge, target)).sum() / (2 * step)
        bad = (gradient - numeric).abs() > 1e-6 * (1 + gradient.abs())
        if bad.any():
            row = int(bad.nonzero()[0, 0])
            raise LossError(
                f"gradient: at scores {score[row].tolist()} with target {[q, 1 - q]} it is {gradient[row].tolist()}, "
                f"finite differences give {numeric[row].tolist()}; look for a detach, rounding or a wrong backward"
            )


def _check_sign(loss: Loss) -> None:
    gaps = torch.tensor([1.0, 3.0, 10.0, 100.0, 1e4], dtype=torch.float64)
    for centre in (0.0, -2.0, 2.0):
        score = torch.stack([centre - gaps / 2, centre + gaps / 2], -1)
        for q in (1.0, 0.0):
            pair = score if q else score.flip(-1)
            _, gradient = _evaluate(loss, pair, torch.tensor([[q, 1 - q]], dtype=score.dtype).expand_as(pair))
            # descent raises better - worse where the push is negative
            push = (gradient[:, 0] - gradient[:, 1]) * (1 if q else -1)
            bad = push > 0 if (push < 0).any() else push >= 0
            if bad.any():
                row = int(bad.nonzero()[0])
                raise LossError(
                    f"sign: at scores {pair[row].tolist()} with target {[q, 1 - q]} the gradient is "
                    f"{gradient[row].tolist()}, which lowers the better or leaves it; write f(better, worse)"
                )
