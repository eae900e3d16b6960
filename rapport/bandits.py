"""Bandits with contexts: what the reproductions of the on-line methods have in common.

Every optimum is known, and so is every expectation over samples: `every` gives all of them with their chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.fit import Objective
from embodied.online import Judge, collect, online
from embodied.reference import Reference
from policies.table import SoftmaxTable

CONTEXTS, ARMS = 8, 6


@dataclass(frozen=True, eq=False)
class Bandit:
    """prior [S,A]: log-probabilities of the policy before; reward [S,A]."""

    prior: Tensor
    reward: Tensor

    def policy(self) -> SoftmaxTable:
        return SoftmaxTable(self.prior)

    def judge(self, segments: Segments) -> Tensor:
        """The reward of each choice, [B,K]."""
        return self.reward[_numbers(segments.obs), _numbers(segments.act)]

    def figures(self, policy: SoftmaxTable) -> tuple[float, float]:
        """Mean reward, and KL from the prior in nats."""
        law = torch.from_numpy(policy.probabilities())
        kl = (law * (law.log() - self.prior)).nansum(-1)  # 0 log 0 is 0
        return (law * self.reward).sum(-1).mean().item(), kl.mean().item()

    def optimum(self, kl: float) -> SoftmaxTable:
        """Of the reward less kl times the KL from the prior."""
        return SoftmaxTable((self.prior + self.reward / kl).log_softmax(-1))

    def efficiency(self, policy: SoftmaxTable) -> float:
        """Its gain in reward, as a share of what the best policy of the same KL gains."""
        reward, far = self.figures(policy)
        low, high = 1e-3, 1e3
        for _ in range(60):
            kl = math.sqrt(low * high)
            low, high = (low, kl) if self.figures(self.optimum(kl))[1] < far else (kl, high)
        begun = self.figures(self.policy())[0]
        return (reward - begun) / (self.figures(self.optimum(high))[0] - begun)

    def share(self, policy: SoftmaxTable, kl: float) -> float:
        """How much of what can be gained of that the policy has gained: 0 for the prior, 1 for the optimum."""
        begun, now, most = (
            reward - kl * far for reward, far in map(self.figures, (self.policy(), policy, self.optimum(kl)))
        )
        return (now - begun) / (most - begun)


def bandit(rng: np.random.Generator, spread: float = 0.0) -> Bandit:
    """Rewards of deviation 1 within a context, and of `spread` between contexts."""
    prior = torch.from_numpy(rng.dirichlet(np.full(ARMS, 3.0), CONTEXTS)).log()
    reward = rng.normal(0, 1, (CONTEXTS, ARMS)) + spread * rng.normal(0, 1, (CONTEXTS, 1))
    return Bandit(prior, torch.from_numpy(reward))


def every(policy: SoftmaxTable, k: int, judge: Judge) -> Feedback:
    """All groups of k that can be drawn, weighed by their chance."""
    segments, chance = policy.every(k)
    one = torch.ones(len(chance))
    return Feedback(segments, judge(segments), chance, one.long(), one.bool(), "reward")


def gradient(objective: Objective, data: Feedback, policy: SoftmaxTable) -> Tensor:
    """Of the expected loss in the logits, [S,A]."""
    loss = (data.weight * objective(data)).sum() / data.weight.sum()
    (found,) = torch.autograd.grad(loss, policy.logits)
    return found


def trained(
    world: Bandit,
    objective: Callable[[SoftmaxTable, Reference], Objective],
    judge: Judge,
    seed: list[int],
    *,
    k: int,
    rounds: int,
    steps: int,
    rate: float,
    draws: int = 8,
    more: Callable[[], list[Tensor]] = list,
    progress: Callable[[float], None] = lambda share: None,
) -> SoftmaxTable:
    """The prior after so many rounds of samples: `draws` of each context in a round, k samples each time.

    `more`: further parameters that the objective learns (a critic's).
    """
    policy, rng = world.policy(), np.random.default_rng(seed)
    reference = Reference(policy)
    learned = objective(policy, reference)
    opt = torch.optim.Adam([*policy.parameters(), *more()], lr=rate)
    gather = partial(collect, torch.arange(CONTEXTS).repeat(draws), policy.sample, judge, k, rng)
    go = {"rounds": rounds, "steps": steps, "batch": draws * CONTEXTS, "rng": rng}
    run = online(learned, gather, opt, reference=reference, policy=policy, **go)  # type: ignore[arg-type]
    for report in run:
        progress((report.round + 1) / rounds)
    return policy


def _numbers(x: Tensor | dict[str, Tensor]) -> Tensor:
    if isinstance(x, dict):
        raise TypeError(f"a bandit's observations are numbers, not a dict of {', '.join(x)}")
    return x[:, :, 0, 0].long()
