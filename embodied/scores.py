"""Scores: what a segment is worth, as one number.

Two kinds. A `Score` turns log-probabilities into numbers: `(logp, ref, mask) [B,K,T] -> [B,K]`, where `ref` is the
reference policy and is never differentiated (scores without a reference ignore it). A `Scorer` turns segments into
numbers, `[B,K]`, or `[E,B,K]` for an ensemble. The score owns the scale: sums grow with T, means do not, and neither
beta nor tau can be carried from one to the other.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from embodied.feedback import Segments

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
Scorer = Callable[[Segments], Tensor]
Reward = Callable[[Tensor | dict[str, Tensor], Tensor], Tensor]
Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


def log_prob(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    """Sum of log-probabilities over the steps, [B,K]. Of densities: fair only between equal lengths (CPO)."""
    return _sum(logp, mask)


def mean_log_prob(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    """Mean log-probability of a step, [B,K]; doubling a segment leaves it unchanged (SimPO, arXiv 2405.14734)."""
    return _mean(logp, mask)


def log_ratio(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    """Sum of log pi/pi_ref, [B,K]: the reward implied by a policy, up to beta (DPO, arXiv 2305.18290, eq. 5)."""
    return _sum(logp - ref.detach(), mask)


def mean_log_ratio(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    """Mean of log pi/pi_ref over the steps, [B,K] (the usual reading of IPO's loss on sequences)."""
    return _mean(logp - ref.detach(), mask)


def log_odds(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    """Log-odds p/(1-p) of the mean step probability, [B,K] (ORPO, arXiv 2403.07691).

    Raises ValueError for a positive mean: 1-p has no meaning for the density of a continuous action.
    """
    mean = _mean(logp, mask)
    if (mean > 0).any():
        raise ValueError(
            f"log_odds needs probabilities, but a mean log-probability is {mean.max().item():.4g}, so it is a density; "
            "use mean_log_prob or log_ratio for continuous actions"
        )
    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)  # probability 1 up to rounding would give infinite odds
    return mean - _log1mexp(mean)


def discounted_log_prob(gamma: float) -> Score:
    """Sum of gamma^t log pi over the steps t = 0, 1, ... (CPL, arXiv 2310.13639). 0 < gamma <= 1."""
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}; choose it above 0 and at most 1")

    def score(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
        steps = torch.arange(logp.shape[-1], dtype=logp.dtype, device=logp.device)
        return _sum(logp * gamma**steps, mask)

    return score


def f_divergence(kind: Divergence, alpha: float = 0.5) -> Score:
    """f'(pi/pi_ref) of the whole segment, [B,K], without the constants that cancel in a pair (f-DPO, arXiv 2309.16240).

    With u = log pi/pi_ref: reverse_kl u; forward_kl -e^-u; js log sigmoid(u); alpha e^((alpha-1)u)/(alpha-1), which
    tends to reverse_kl (up to a constant) for alpha -> 1. Exponents are cut just below overflow, where the gradient
    becomes 0.
    """
    if kind not in ("reverse_kl", "forward_kl", "js", "alpha"):
        raise ValueError(f"no f-divergence {kind!r}; choose reverse_kl, forward_kl, js or alpha")
    if kind == "alpha" and alpha == 1:
        raise ValueError("alpha is 1, where the alpha divergence is the reverse KL; choose reverse_kl")

    def score(logp: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
        u = log_ratio(logp, ref, mask)
        if kind == "reverse_kl":
            return u
        if kind == "forward_kl":
            return -_exp(-u)
        if kind == "js":
            return logsigmoid(u)
        return _exp((alpha - 1) * u) / (alpha - 1)

    return score


class Return(nn.Module):
    """The plain sum of a learned reward over a segment; `reward` maps obs [...,O], act [...,A] to [...] or [E,...]."""

    def __init__(self, reward: Reward) -> None:
        super().__init__()
        self.reward = reward

    def forward(self, segments: Segments) -> Tensor:
        """[B,K] or [E,B,K], in units of the reward."""
        return _sum(self.reward(segments.obs, segments.act), segments.mask)


def _sum(step: Tensor, mask: Tensor) -> Tensor:
    # where, not a product: padding may hold NaN
    return torch.where(mask, step, 0.0).sum(-1)


def _mean(step: Tensor, mask: Tensor) -> Tensor:
    return _sum(step, mask) / mask.sum(-1)


def _exp(x: Tensor) -> Tensor:
    info = torch.finfo(x.dtype)
    return torch.exp(x.clamp(max=torch.log(torch.tensor(info.max, dtype=torch.float64)).item() - 8.7))  # 80 in float32


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, exact on both ends (Maechler 2012)."""
    near = x > -0.6931471805599453
    small = torch.where(near, x, -1.0)  # both branches see harmless numbers where they are not taken: no NaN gradients
    large = torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))
