"""Somebody acts for what they want, not always at the best: what was demonstrated, and how the world looks after it.

Plans of T actions have probability proportional to e^u, steps after the end of an episode being free (maximum entropy,
Ziebart et al. 2008; for worlds with chance, of maximum causal entropy, Ziebart 2010). Everything is computed, by soft
value iteration over the T steps; the gradient is what was found less what was expected to be found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from embodied.planning import Tables, expected_features
from embodied.records import Array
from embodied.walks import drawn


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """state, action int [B,T]; steps from a terminal state are none. Raises ValueError for two shapes."""

    state: Tensor
    action: Tensor

    def __post_init__(self) -> None:
        if self.state.ndim != 2 or self.state.shape != self.action.shape:
            raise ValueError(f"state is {list(self.state.shape)}, action {list(self.action.shape)}; give both [B,T]")


@dataclass(frozen=True, eq=False)
class Sighting:
    """state int [B]: how the world was found after somebody had acted in it for `length` steps; start [B,S]: what is
    known of how it was before, a probability for each state. Raises ValueError where they do not fit."""

    state: Tensor
    start: Tensor
    length: int

    def __post_init__(self) -> None:
        if self.start.shape[:1] != self.state.shape or self.start.ndim != 2 or self.length < 1:
            raise ValueError(
                f"state is {list(self.state.shape)}, start {list(self.start.shape)}, length {self.length}; give [B], "
                "[B,S] and at least one step"
            )
        if (self.start < 0).any() or not torch.allclose(self.start.sum(-1), torch.ones(len(self.start)).double()):
            raise ValueError("start must be at least 0 and add up to 1 over the states")


def soft_policy(world: Tables, weights: Tensor, length: int) -> Tensor:
    """log pi_t(a|s) of each of T steps, [T,S,A], under reward features . weights [D]."""
    reward = torch.from_numpy(expected_features(world)) @ weights
    after, prob = torch.from_numpy(_after(world)), torch.from_numpy(np.asarray(world.prob, np.float64))
    ahead = torch.zeros_like(reward)
    steps = []
    for _ in range(length):
        action_value = reward + ahead
        steps.append(log_softmax(action_value, -1))
        ahead = (prob * action_value.logsumexp(-1)[after]).sum(-1)
    return torch.stack(steps[::-1])


def demonstrated(world: Tables, data: Demonstrations, weights: Tensor) -> Tensor:
    """-log P of the actions, [B]: maximum-entropy inverse reinforcement learning."""
    length = data.state.shape[1]
    each = soft_policy(world, weights, length)[torch.arange(length), data.state, data.action]
    return -torch.where(torch.from_numpy(world.terminal)[data.state], 0.0, each).sum(-1)


def demonstrate(world: Tables, weights: Tensor, start: Array, length: int, rng: np.random.Generator) -> Demonstrations:
    """A simulated person who drives so, from each of the states `start` [B]."""
    return follow(world, soft_policy(world, weights, length).exp().numpy(), start, rng)


def follow(world: Tables, policy: Array, start: Array, rng: np.random.Generator) -> Demonstrations:
    """A walk of T steps by a policy [T,S,A] from each of the states `start` [B]."""
    state, after, states, actions = np.asarray(start), _after(world), [], []
    for step in policy:
        action = drawn(step[state], rng)
        states.append(state)
        actions.append(action)
        state = after[state, action, drawn(world.prob[state, action], rng)]
    return Demonstrations(*(torch.from_numpy(np.stack(x, 1)) for x in (states, actions)))


def presence(world: Tables, weights: Tensor, start: Tensor, length: int) -> Tensor:
    """P(state) after so many steps of such a person who began as `start` [B,S] says, [B,S]: every past at once."""
    policy = soft_policy(world, weights, length).exp()
    states, actions, outcomes = world.prob.shape
    row = torch.arange(states)[:, None, None].expand(-1, actions, outcomes)
    cell = (row * states + torch.from_numpy(_after(world))).flatten()
    prob = torch.from_numpy(np.asarray(world.prob, np.float64))
    where = start
    for step in policy:
        moves = torch.zeros(states**2, dtype=step.dtype).index_add(0, cell, (step[..., None] * prob).flatten())
        where = where @ moves.reshape(states, states)
    return where


def sighted(world: Tables, data: Sighting, weights: Tensor) -> Tensor:
    """-log P of what was found, [B]: the state of the world as evidence of what people wanted (Shah et al. 2019, arXiv
    1902.04198). Raises ValueError for a state that nobody could have come to."""
    seen = presence(world, weights, data.start, data.length).gather(1, data.state[:, None])[:, 0]
    if (seen <= 0).any():
        b = int(torch.nonzero(seen <= 0)[0])
        raise ValueError(f"state {int(data.state[b])} of row {b} cannot be reached in {data.length} steps; give more")
    return -seen.log()


def sight(world: Tables, weights: Tensor, start: Tensor, length: int, rng: np.random.Generator) -> Sighting:
    """Worlds in which such a person has acted, one for each row of `start` [B,S]."""
    chance = presence(world, weights, start, length).numpy()
    return Sighting(torch.from_numpy(drawn(chance / chance.sum(-1, keepdims=True), rng)), start, length)


def _after(world: Tables) -> Array:
    """[S,A,M], where terminal states stay what they are."""
    stay = np.arange(len(world.terminal))[:, None, None]
    return np.asarray(np.where(world.terminal[:, None, None], stay, world.next))
