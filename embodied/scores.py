"""Scores: what a segment is worth, as one number.

Two kinds. A `Score` turns log-probabilities into numbers: `(logp, ref, weight) [B,K,T] -> [B,K]`, where `ref` is the
reference policy and is never differentiated (scores without a reference ignore it). `weight` is the mask, or says how
much each step counts, 0 on padding (`Steps`). A `Scorer` turns segments into numbers, `[B,K]`, or `[E,B,K]` for an
ensemble. The score owns the scale: sums grow with T, means do not, and neither beta nor tau can be carried from one to
the other.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from embodied.feedback import Segments

Score = Callable[[Tensor, Tensor, Tensor], Tensor]
Scorer = Callable[[Segments], Tensor]
Steps = Callable[[Segments], Tensor]  # -> [B,K,T], how much each step counts: the mask, or weights >= 0
Reward = Callable[[Tensor | dict[str, Tensor], Tensor], Tensor]
Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


def log_prob(logp: Tensor, ref: Tensor, weight: Tensor) -> Tensor:
    """Sum of log-probabilities over the steps, [B,K]. Of densities: fair only between equal lengths (CPO)."""
    return _sum(logp, weight)


def mean_log_prob(logp: Tensor, ref: Tensor, weight: Tensor) -> Tensor:
    """Mean log-probability of a step, [B,K]; doubling a segment leaves it unchanged (SimPO, arXiv 2405.14734)."""
    return _mean(logp, weight)


def log_ratio(logp: Tensor, ref: Tensor, weight: Tensor) -> Tensor:
    """Sum of log pi/pi_ref, [B,K]: the reward implied by a policy, up to beta (DPO, arXiv 2305.18290, eq. 5)."""
    return _sum(logp - ref.detach(), weight)


def mean_log_ratio(logp: Tensor, ref: Tensor, weight: Tensor) -> Tensor:
    """Mean of log pi/pi_ref over the steps, [B,K] (the usual reading of IPO's loss on sequences)."""
    return _mean(logp - ref.detach(), weight)


def log_odds(logp: Tensor, ref: Tensor, weight: Tensor) -> Tensor:
    """Log-odds p/(1-p) of the mean step probability, [B,K] (ORPO, arXiv 2403.07691).

    Raises ValueError for a positive mean: 1-p has no meaning for the density of a continuous action.
    """
    mean = _mean(logp, weight)
    if (mean > 0).any():
        raise ValueError(
            f"log_odds needs probabilities, but a mean log-probability is {mean.max().item():.4g}, so it is a density; "
            "use mean_log_prob or log_ratio for continuous actions"
        )
    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)  # probability 1 up to rounding would give infinite odds
    return mean - _log1mexp(mean)


def discounted_log_prob(gamma: float) -> Score:
    """Sum of gamma^t log pi over the steps t = 0, 1, ... (CPL, arXiv 2310.13639). 0 < gamma <= 1."""
    discounted = _discount(gamma)
    return lambda logp, ref, weight: _sum(discounted(logp), weight)


def discounted_log_ratio(gamma: float) -> Score:
    """Sum of gamma^t log pi/pi_ref over the steps t = 0, 1, ... (CPL-KL, arXiv 2310.13639). 0 < gamma <= 1."""
    discounted = _discount(gamma)
    return lambda logp, ref, weight: _sum(discounted(logp - ref.detach()), weight)


def with_length(score: Score, bonus: float) -> Score:
    """The score and `bonus` for each step: what length alone earns is then not learned (R-DPO, arXiv 2403.19159)."""
    return lambda logp, ref, weight: score(logp, ref, weight) + bonus * weight.sum(-1).to(logp.dtype)


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

    def score(logp: Tensor, ref: Tensor, weight: Tensor) -> Tensor:
        u = log_ratio(logp, ref, weight)
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


def every_step(segments: Segments) -> Tensor:
    """The mask, [B,K,T]: each step counts as much as the next."""
    return segments.mask


def changed(gamma: float, unchanged: float = 1.0, window: int | None = None) -> Steps:
    """Steps in which both segments of a pair differ count `gamma`, the others `unchanged` (RLHF-V, arXiv 2312.00849).

    A step differs if its action or observation does, or if only one segment has it. After a correction every later
    state differs too; `window` stresses the first steps from there alone. Pairs that differ nowhere count as they are.
    Observations in a dict are a shared context and are not compared. Raises ValueError for K other than 2, weights
    below 0 or not finite, and a window below 1.
    """
    if not (0 <= gamma < torch.inf and 0 <= unchanged < torch.inf) or (window is not None and window < 1):
        raise ValueError(
            f"gamma is {gamma}, unchanged {unchanged}, window {window}; give finite weights of at least 0, at least 1"
        )

    def steps(segments: Segments) -> Tensor:
        mask = segments.mask
        if mask.shape[1] != 2:
            raise ValueError(f"a correction changes one segment into another, but K = {mask.shape[1]}; give pairs")
        apart = mask[:, 0] != mask[:, 1]
        for part in (segments.act,) if isinstance(segments.obs, dict) else (segments.act, segments.obs):
            differs = part[:, 0] != part[:, 1]
            apart = apart | differs.reshape(*mask[:, 0].shape, -1).any(-1)
        if window is not None:
            steps = torch.arange(mask.shape[2], device=mask.device)
            apart = apart & (steps < apart.int().argmax(-1, keepdim=True) + window)
        weight = torch.where(apart, torch.tensor(gamma, dtype=torch.float64), unchanged)
        return torch.where(apart.any(-1, keepdim=True), weight, 1.0).unsqueeze(1) * mask

    return steps


def _discount(gamma: float) -> Callable[[Tensor], Tensor]:
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}; choose it above 0 and at most 1")
    return lambda step: step * gamma ** torch.arange(step.shape[-1], dtype=step.dtype, device=step.device)


def _sum(step: Tensor, weight: Tensor) -> Tensor:
    # where before the product: padding may hold NaN
    return (torch.where(weight != 0, step, 0.0) * weight.to(step.dtype)).sum(-1)


def _mean(step: Tensor, weight: Tensor) -> Tensor:
    return _sum(step, weight) / weight.sum(-1).to(step.dtype)


def _exp(x: Tensor) -> Tensor:
    info = torch.finfo(x.dtype)
    return torch.exp(x.clamp(max=torch.log(torch.tensor(info.max, dtype=torch.float64)).item() - 8.7))  # 80 in float32


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, exact on both ends (Maechler 2012)."""
    near = x > -0.6931471805599453
    small = torch.where(near, x, -1.0)  # both branches see harmless numbers where they are not taken: no NaN gradients
    large = torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))
