"""Regret as what people compare: how far a stretch falls short of the best that could have been done.

Knox et al. (2022, arXiv 2206.02231), on worlds given as arrays (`planning.Tables`). `Return(LinearReward(D))` and
`Regret(LinearReward(D), bank)` are two scorers of one reward, and every loss of the core takes either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from embodied.feedback import Feedback, Segments
from embodied.fit import FitReport, fit, ranking
from embodied.losses import Loss, logistic, pairwise
from embodied.planning import Tables, evaluate, expected_features, optimal
from embodied.records import Array, Segment
from embodied.scores import Scorer
from embodied.walks import FOUND, STATE, steps

Form = Literal["deterministic", "stochastic"]


def regret(world: Tables, reward: Array, segments: Segments) -> Array:
    """-sum gamma^t A*(s,a), [B,K], at least 0, under reward [S,A] (eq. 4 of the paper, which has no discount).

    It counts what was chosen, whatever then happened. Where actions have one outcome it is the same as the fall from
    what was to be had to what was got and is still to be had, V*(s_0) - sum gamma^t r_t - gamma^L V*(s_L) (eq. 3).
    """
    at, advantage = steps(segments), optimal(world, reward).advantage
    each = advantage[at.state.numpy(), at.action.numpy()] * at.mask.numpy()
    return np.asarray(-each @ world.gamma ** np.arange(each.shape[-1]))


def utility(world: Tables, reward: Array, decimals: int | None = None) -> Callable[[Segment], float]:
    """Minus the regret of one stored segment, for the simulated teachers (`oracle`, `noisy`).

    decimals: rounded to so many, so that what is as good as equal ties (the paper rounds to 2).
    """
    advantage = optimal(world, reward).advantage

    def of(segment: Segment) -> float:
        each = advantage[segment.obs[:, STATE].astype(int), segment.act[:, 0].astype(int)]
        value = float(each @ world.gamma ** np.arange(len(each)))
        return value if decimals is None else round(value, decimals)

    return of


@dataclass(frozen=True, eq=False)
class Bank:
    """What N candidate policies are expected to find: state [N,S,D] from each state, action [N,S,A,D] after each
    action; float64. 0 in terminal states."""

    state: Tensor
    action: Tensor
    gamma: float


def successor_features(world: Tables, policies: Array) -> Bank:
    """The bank of policies [N,S,A]."""
    phi = expected_features(world)
    state = evaluate(world, policies, np.broadcast_to(phi, (len(policies), *phi.shape)))
    ahead = (world.prob[..., None] * state[:, world.next]).sum(-2)
    action = np.where(world.terminal[:, None, None], 0.0, phi + world.gamma * ahead)
    return Bank(torch.from_numpy(state), torch.from_numpy(action), world.gamma)


def candidates(world: Tables, n: int, rng: np.random.Generator, pays: Array, without: Array | None = None) -> Array:
    """At most n policies [N,S,A], each the best for some weights drawn from `pays` (with replacement), no two of which
    find the same.

    without: a reward [S,A] whose own best policies are left out, so that the answer is not among the candidates.
    Fewer come back where 20 n draws bring no more.
    """
    phi = expected_features(world)
    weights = rng.choice(np.asarray(pays, np.float64), (20 * n, phi.shape[-1]))
    truth = None if without is None else optimal(world, without).value[world.starts]
    kept: list[Array] = []
    seen: set[bytes] = set()
    for chunk in np.array_split(weights, 20):
        policies = optimal(world, np.einsum("sad,nd->nsa", phi, chunk)).policy()
        found = evaluate(world, policies, np.broadcast_to(phi, (len(policies), *phi.shape)))
        for policy, psi in zip(policies, found, strict=True):
            name = np.round(psi[world.starts], 3).tobytes()
            if name in seen:
                continue
            seen.add(name)
            if truth is not None and without is not None:
                value = evaluate(world, policy, without[..., None])[world.starts, 0]
                if np.allclose(value, truth, rtol=1e-9, atol=1e-6):
                    continue
            kept.append(policy)
            if len(kept) == n:
                return np.stack(kept)
    if not kept:
        raise ValueError("every candidate is the best policy itself; on this board there is nothing to tell apart")
    return np.stack(kept)


class LinearReward(nn.Module):
    """weights [D] of what was found; 0 at first."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(features))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        """obs [...,2+D] -> [...]."""
        return obs[..., FOUND:] @ self.weights


def soft_maximum(value: Tensor, temperature: float) -> Tensor:
    """sum_i softmax(v / T)_i v_i over the first dimension; the maximum for T -> 0."""
    return (torch.softmax(value / temperature, 0) * value).sum(0)


class Regret(nn.Module):
    """Minus the regret of a segment, [B,K], under the best of a bank's policies for the reward as it is now.

    Differentiable in the reward's weights: V(s) is the soft maximum over the bank of w.psi_i(s). form: "deterministic"
    counts what was got (eq. 3 of the paper), "stochastic" what was chosen (eq. 4, by the actions' psi).
    `temperature` may be lowered while one learns.
    """

    def __init__(
        self, reward: LinearReward, bank: Bank, form: Form = "deterministic", temperature: float = 1e-3
    ) -> None:
        super().__init__()
        self.reward, self.bank, self.form, self.temperature = reward, bank, form, temperature

    def forward(self, segments: Segments) -> Tensor:
        at, weights = steps(segments), self.reward.weights.double()
        value = soft_maximum(self.bank.state @ weights, self.temperature)  # [S]
        discount = self.bank.gamma ** torch.arange(at.mask.shape[-1])
        if self.form == "stochastic":
            advantage = soft_maximum(self.bank.action @ weights, self.temperature) - value[:, None]
            return (torch.where(at.mask, advantage[at.state, at.action], 0.0) * discount).sum(-1)
        got = (torch.where(at.mask, at.found.double() @ weights, 0.0) * discount).sum(-1)
        ahead = self.bank.gamma ** at.mask.sum(-1).double() * value[at.end]
        return got + ahead - value[at.state[..., 0]]


def follow(world: Tables, reward: LinearReward, tolerance: float = 1e-6) -> Array:
    """The best policy [S,A] for what was learned. Raises ValueError for weights that are not finite."""
    weights = reward.weights.detach().double().numpy()
    return optimal(world, expected_features(world) @ weights).policy(tolerance)


def learn(
    scorer: Scorer,
    data: Feedback,
    reward: LinearReward,
    *,
    steps: int = 400,
    rate: float = 0.5,
    loss: Loss | None = None,
) -> FitReport:
    """Adam on all pairs at once (the paper's setting), for either scorer of a linear reward.

    For `Regret` the soft maximum is sharpened in ten stages, from temperature 1 to the scorer's own: at .001 from the
    start the gradient jumps from policy to policy. Raises ValueError as `fit` does.
    """
    opt = torch.optim.Adam(reward.parameters(), lr=rate)
    objective = ranking(scorer, loss or pairwise(logistic))
    rng = np.random.default_rng(0)  # all rows are in every batch: nothing is drawn
    if not isinstance(scorer, Regret):
        return fit(objective, data, opt, steps=steps, batch=len(data), rng=rng)
    final = scorer.temperature
    losses: list[float] = []
    for part, temperature in zip(np.array_split(np.arange(steps), 10), np.geomspace(1, final, 10), strict=True):
        scorer.temperature = float(temperature)
        losses += fit(objective, data, opt, steps=len(part), batch=len(data), rng=rng).losses
    scorer.temperature = final
    return FitReport(tuple(losses))
