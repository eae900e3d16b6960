"""How each kind of answer is held against scores: the likelihoods of one utility, each with a rationality of its own.

Whoever answers chooses among alternatives, with probability proportional to e^(beta u) (reward-rational choice, Jeon,
Milli and Dragan, arXiv 2002.04833): among two, among K, among orders, or among the moments at which to stop. Verdicts
and grades are read off the same utility by a logistic with thresholds (McCullagh 1980). Comparisons are the unit: their
beta is 1, and so the utility is in nats of preference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid, softplus

from embodied.losses import Loss, plackett_luce
from embodied.values import CLASSES, STRENGTH


def choice(score: Tensor, target: Tensor) -> Tensor:
    """-log softmax of the best of K, [...,B]: the others are left unranked. score [...,B,K], target [B,K] one-hot."""
    return -(target.detach() * log_softmax(score, -1)).sum(-1)


def verdict(score: Tensor, target: Tensor) -> Tensor:
    """P(good) = sigmoid(u), so that a stretch is good when its utility is above 0; summed over K."""
    return (softplus(score) - target.detach() * score).sum(-1)


def stopped(score: Tensor, target: Tensor) -> Tensor:
    """Which of the T prefixes is best, where after a stop nothing more is gained: a `choice` among running sums of the
    steps' scores [...,B,T]. For rewards of single steps; one with a memory is asked about each step without its past.
    """
    return choice(score.cumsum(-1), target)


def ordinal(utility: Tensor, cuts: Tensor, level: Tensor) -> Tensor:
    """-log P(level), [...]: P(level <= j) = sigmoid(cuts_j - u), the proportional odds of McCullagh (1980).

    utility [...], level int [...] in 0..C, cuts [...,C] rising along the last dimension; all broadcast.
    """
    inner = torch.cat([cuts[..., :1] - math.inf, cuts, cuts[..., -1:] + math.inf], -1)
    shape = torch.broadcast_shapes(inner.shape[:-1], utility.shape)  # type: ignore[no-untyped-call]
    inner = inner.expand(*shape, -1)
    level = level.expand(inner.shape[:-1]).unsqueeze(-1)
    low, high = (inner.gather(-1, level + side).squeeze(-1) for side in (0, 1))
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b-a)), without a difference of nearly equal numbers
    between = torch.isfinite(low) & torch.isfinite(high)
    gap = torch.where(between, torch.log(-torch.expm1(-torch.where(between, high - low, 1.0))), 0.0)
    return -(_logsigmoid(high - utility) + _logsigmoid(utility - low) + gap)


def _logsigmoid(x: Tensor) -> Tensor:
    # Infinity is certain, and its gradient none.
    return torch.where(x == math.inf, 0.0, logsigmoid(torch.where(x == math.inf, 0.0, x)))


CHOICES: Mapping[str, Loss] = MappingProxyType(
    {"rank": plackett_luce, "choose": choice, "mark": verdict, "stop": stopped}
)


class Likelihoods(nn.Module):
    """The likelihoods of all kinds but comparisons, whose loss is the user's own; one set of parameters per member.

    beta [E] of each kind, the thresholds between ratings, and those between grades (alike on both sides of the tie).
    Everything is learned with the reward. Thresholds of ratings are known up to a constant, which the reward of every
    step may take up.
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        self.log_beta = nn.ParameterDict(
            {kind: nn.Parameter(torch.zeros(members)) for kind in ("grade", "rate", *CHOICES)}
        )
        even = torch.logit(torch.arange(1, CLASSES) / CLASSES)  # each rating as likely at u = 0
        self.rate_first = nn.Parameter(even[:1].repeat(members, 1))
        self.rate_gaps = nn.Parameter(_inverse_softplus(even.diff()).repeat(members, 1))
        self.grade_gaps = nn.Parameter(
            _inverse_softplus(torch.tensor([0.5] + [1.0] * (STRENGTH - 1))).repeat(members, 1)
        )

    def loss(self, kind: str, unit: bool) -> Loss:
        """score [E,B,K], target [B,K] -> [E,B]. unit: beta is 1, as where nothing else says how large utility is.

        Raises ValueError for a kind without a likelihood.
        """
        if kind not in self.log_beta:
            raise ValueError(f"there is no likelihood of kind {kind!r}; use one of {', '.join(sorted(self.log_beta))}")
        of: Callable[[Tensor, Tensor], Tensor] = {"grade": self._grade, "rate": self._rate, **CHOICES}[kind]

        def loss(score: Tensor, target: Tensor) -> Tensor:
            beta = 1.0 if unit else self.log_beta[kind].exp()[:, None, None]
            return of(beta * score, target)

        return loss

    def rate_cuts(self) -> Tensor:
        """[E,CLASSES-1], rising."""
        return torch.cat([self.rate_first, softplus(self.rate_gaps)], -1).cumsum(-1)

    def grade_cuts(self) -> Tensor:
        """[E,2*STRENGTH], rising, alike on both sides of 0."""
        right = softplus(self.grade_gaps).cumsum(-1)
        return torch.cat([-right.flip(-1), right], -1)

    def _rate(self, score: Tensor, target: Tensor) -> Tensor:
        level = target.detach().round().long()
        if (level != target).any() or level.min() < 1 or level.max() > CLASSES:
            raise ValueError(
                f"a rating is {target.min():g} or {target.max():g}; give whole numbers from 1 to {CLASSES}, or make "
                "comparisons of another scale with all_pairs"
            )
        return ordinal(score, self.rate_cuts()[:, None, None], level - 1).sum(-1)

    def _grade(self, score: Tensor, target: Tensor) -> Tensor:
        level = target.detach()[..., 0].round().long() + STRENGTH
        return ordinal(score[..., 0] - score[..., 1], self.grade_cuts()[:, None], level)


def _inverse_softplus(x: Tensor) -> Tensor:
    return torch.log(torch.expm1(x))
