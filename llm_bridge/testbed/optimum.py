"""What is possible: the best policy under a KL, best-of-n and DPO's loss, exactly, where all answers can be listed.

Q questions have A answers each, or kinds of answers. `log_ref` float64 [Q,A] is the reference policy's log-probability,
each row summing to probability 1, and `gold` float64 [Q,A] the reward. Figures are means over the questions, KLs in
nats. All of it is differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def tilted(log_ref: Tensor, gold: Tensor, beta: float) -> Tensor:
    """log pi* [Q,A], pi* ∝ pi_ref exp(gold / beta): it maximises E[gold] - beta KL(pi, pi_ref) (DPO, arXiv 2305.18290,
    eq. 4). Raises ValueError unless beta is above 0."""
    if not beta > 0:
        raise ValueError(f"beta is {beta}; give a number above 0, in units of the reward")
    return (log_ref + gold / beta).log_softmax(-1)


def reward(log_pi: Tensor, gold: Tensor) -> Tensor:
    """E[gold] under a policy log_pi [Q,A]."""
    return (log_pi.exp() * gold).sum(-1).mean()


def kl(log_pi: Tensor, log_ref: Tensor) -> Tensor:
    """KL(pi, pi_ref), where pi may be 0."""
    never = log_pi.isneginf()  # where before the product, or 0 times infinity would be its value and its slope
    gap = torch.where(never, 0.0, log_pi) - torch.where(never, 0.0, log_ref)
    return (log_pi.exp() * gap).sum(-1).mean()


@dataclass(frozen=True)
class Point:
    """A policy seen from afar: where it stands, and how far from the reference."""

    beta: float
    reward: float
    kl: float


def frontier(log_ref: Tensor, gold: Tensor, betas: Sequence[float]) -> list[Point]:
    """No policy has more reward at the same KL, or less KL at the same reward, than these."""
    points = []
    for beta in betas:
        best = tilted(log_ref, gold, beta)
        points.append(Point(beta, reward(best, gold).item(), kl(best, log_ref).item()))
    return points


def best_reward(log_ref: Tensor, gold: Tensor, nats: float) -> float:
    """The most that E[gold] can be while the mean KL is `nats`. Raises ValueError for a KL below 0 or not finite."""
    if not 0 <= nats < math.inf:
        raise ValueError(f"the KL is {nats}; give a finite number of at least 0")
    if nats == 0:
        return reward(log_ref, gold).item()
    low, high = math.log(1e-3), math.log(1e3)  # beta; the KL falls as it grows
    ends = frontier(log_ref, gold, (math.exp(low), math.exp(high)))
    if nats >= ends[0].kl:
        return ends[0].reward
    if nats <= ends[1].kl:  # so near to the reference the reward grows with the root of the KL
        start = reward(log_ref, gold).item()
        return start + (ends[1].reward - start) * math.sqrt(nats / ends[1].kl)
    for _ in range(60):
        middle = (low + high) / 2
        if frontier(log_ref, gold, (math.exp(middle),))[0].kl > nats:
            low = middle
        else:
            high = middle
    return frontier(log_ref, gold, (math.exp(high),))[0].reward


def share_of_possible_gain(log_ref: Tensor, gold: Tensor, earned: float, nats: float) -> float:
    """What a policy of reward `earned` at KL `nats` gains over the reference, over what could be gained at that KL.

    1 on the frontier, 0 for the reference, below 0 for one that is worse. A policy that drifts pays: its KL grows, and
    with it what it is held against. Raises ValueError as `best_reward` does.
    """
    start = reward(log_ref, gold).item()
    possible = best_reward(log_ref, gold, nats) - start
    return (earned - start) / possible if possible > 0 else 0.0


def best_of(log_ref: Tensor, gold: Tensor, n: int) -> Tensor:
    """log pi [Q,A] of the best of n answers of the reference by gold, one of several equally good ones by chance.

    P(best = v) = F(v)^n - F(v-)^n, shared among the answers worth v as the reference has them. Raises ValueError for n
    below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; draw at least 1 answer")
    prob = log_ref.exp()
    below, upto = ((prob[:, None] * part).sum(-1) for part in (_worse(gold, True), _worse(gold, False)))
    same = upto - below
    # (F^n - f^n) / (F - f) as a sum, since both powers may be nearly the same.
    ratio = torch.stack([upto**i * below ** (n - 1 - i) for i in range(n)]).sum(0)
    # Where an answer is impossible so is choosing it, whatever the ratio.
    return torch.where(same > 0, log_ref + ratio.log(), -torch.inf)


def _worse(gold: Tensor, strictly: bool) -> Tensor:
    """Whether answer j is worth less than answer i, or at most as much, [Q,A,A]."""
    mine, other = gold[:, :, None], gold[:, None]
    return other < mine if strictly else other <= mine


def dpo_loss(log_pi: Tensor, log_ref: Tensor, gold: Tensor, beta: float, temperature: float) -> Tensor:
    """DPO's loss (arXiv 2305.18290, eq. 7) over all the pairs that could be drawn, each with its chance.

    Both answers are drawn from the reference, and the first is preferred with probability sigmoid(gap in gold /
    temperature). Least at pi ∝ pi_ref exp(gold / (beta temperature)).
    """
    ratio = log_pi - log_ref.detach()
    prob = log_ref.detach().exp()
    first = torch.sigmoid((gold[:, :, None] - gold[:, None]) / temperature)
    drawn = prob[:, :, None] * prob[:, None]
    # Twice, since of every pair either may be the one that was drawn first.
    return -2 * (drawn * first * logsigmoid(beta * (ratio[:, :, None] - ratio[:, None]))).sum((-2, -1)).mean()
