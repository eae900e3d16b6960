"""Exact values of small worlds given as arrays: what each policy earns, and what could be earned at best.

Everything is batched over rewards or policies, and solved, not iterated: with gamma .999 sweeps of value iteration
would have to be counted in tens of thousands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embodied.records import Array


class Tables(Protocol):
    """S states, A actions, M outcomes of an action, D features of an outcome.

    next int [S,A,M], prob [S,A,M], features [S,A,M,D], terminal bool [S] (from there nothing is earned, whatever the
    other arrays say), starts int [N], gamma in (0,1].
    """

    @property
    def next(self) -> Array: ...
    @property
    def prob(self) -> Array: ...
    @property
    def features(self) -> Array: ...
    @property
    def terminal(self) -> Array: ...
    @property
    def starts(self) -> Array: ...
    @property
    def gamma(self) -> float: ...


@dataclass(frozen=True, eq=False)
class World:
    """Arrays of one's own. Raises ValueError where they do not fit together or probabilities do not add up to 1."""

    next: Array
    prob: Array
    features: Array
    terminal: Array
    starts: Array
    gamma: float

    def __post_init__(self) -> None:
        states = len(self.terminal)
        shape = (states, *self.next.shape[1:])
        if self.next.shape != shape or self.prob.shape != shape or self.features.shape[:-1] != shape or len(shape) != 3:
            raise ValueError(
                f"next is {self.next.shape}, prob {self.prob.shape}, features {self.features.shape}, terminal "
                f"[{states}]; give [S,A,M], [S,A,M], [S,A,M,D] and [S]"
            )
        for name, index in (("next", self.next), ("starts", self.starts)):
            if index.dtype.kind not in "iu" or not index.size or index.min() < 0 or index.max() >= states:
                raise ValueError(f"{name} must be whole numbers from 0 to {states - 1}, at least one")
        if (self.prob < 0).any() or not np.allclose(self.prob.sum(-1), 1):
            raise ValueError("prob must be at least 0 and add up to 1 over the outcomes of an action")
        if not np.isfinite(self.features).all() or not 0 < self.gamma <= 1:
            raise ValueError(f"features must be finite and gamma, {self.gamma}, above 0 and at most 1")


def endless(world: Tables) -> World:
    """The same without an end: what was terminal goes on for ever where it is, and may earn there."""
    stay = np.where(world.terminal[:, None, None], np.arange(len(world.terminal))[:, None, None], world.next)
    return World(stay, world.prob, world.features, np.zeros_like(world.terminal), world.starts, world.gamma)


@dataclass(frozen=True, eq=False)
class Values:
    """Of the best policy: value [...,S], action_value [...,S,A]; 0 in terminal states."""

    value: Array
    action_value: Array

    @property
    def advantage(self) -> Array:
        """[...,S,A], at most 0: what an action falls short of the best."""
        return np.asarray(self.action_value - self.value[..., None])

    def policy(self, tolerance: float = 1e-6) -> Array:
        """The best policy [...,S,A], each of the best actions as likely; those that differ by less than `tolerance`
        (relative to the largest value) are equally good."""
        return greedy(self.action_value, tolerance)


def expected_features(world: Tables) -> Array:
    """[S,A,D], what an action is expected to find; 0 in terminal states."""
    found = (world.prob[..., None] * world.features).sum(2)
    return np.asarray(np.where(world.terminal[:, None, None], 0.0, found))


def uniform_policy(world: Tables) -> Array:
    """Every action alike, [S,A]."""
    shape = world.next.shape[:2]
    return np.full(shape, 1 / shape[1])


def greedy(score: Array, tolerance: float = 1e-6) -> Array:
    """The actions of highest score [...,S,A], those within `tolerance` of it (relative to the largest) alike."""
    slack = tolerance * max(1.0, float(np.abs(score).max()))
    best = score >= score.max(-1, keepdims=True) - slack
    return np.asarray(best / best.sum(-1, keepdims=True))


def evaluate(world: Tables, policy: Array, payoff: Array) -> Array:
    """The discounted sum of `payoff` [...,S,A,D] that a policy [...,S,A] expects from each state, [...,S,D].

    With features as payoff these are successor features (Dayan 1993). Raises ValueError when a number is not finite,
    and when gamma is 1 and some state never comes to an end.
    """
    if not np.isfinite(payoff).all():
        raise ValueError("a payoff is NaN or infinite; values of it mean nothing, mend the reward")
    goes_on = ~world.terminal
    states = len(goes_on)
    steps = np.zeros((*policy.shape[:-2], states, states))
    rows = np.arange(states)
    for action in range(policy.shape[-1]):
        for outcome in range(world.prob.shape[-1]):
            share = policy[..., action] * world.prob[:, action, outcome] * goes_on
            # each row occurs once, so nothing is lost by adding in place
            steps[..., rows, world.next[:, action, outcome]] += share
    if world.gamma == 1:
        _ends(steps, world.terminal)
    once = (policy[..., None] * payoff).sum(-2) * goes_on[:, None]
    return np.linalg.solve(np.eye(states) - world.gamma * steps, once)


def _ends(steps: Array, terminal: Array) -> None:
    ended = np.broadcast_to(terminal, steps.shape[:-1])
    for _ in range(len(terminal)):
        ended = ended | ((steps > 0) & ended[..., None, :]).any(-1)
    if not ended.all():
        state = int(np.argwhere(~ended)[0, -1])
        raise ValueError(
            f"gamma is 1 and from state {state} the policy never comes to an end, so it has no finite value: some loop "
            "costs nothing or pays; take gamma below 1, or another reward"
        )


def optimal(world: Tables, reward: Array) -> Values:
    """The best that can be had under reward [...,S,A], exact up to rounding (policy iteration, Howard 1960).

    Raises ValueError for rewards that are not finite, and at gamma 1 for those that make a loop worth staying in.
    """
    policy = np.broadcast_to(uniform_policy(world), reward.shape)  # at gamma 1 a start from which every state ends
    chosen = None
    slack = 1e-10 * max(1.0, float(np.abs(reward).max()))
    for _ in range(1000):
        value = evaluate(world, policy, reward[..., None])[..., 0]
        ahead = (world.prob * value[..., world.next]).sum(-1)
        action_value = np.where(world.terminal[:, None], 0.0, reward + world.gamma * ahead)
        best = action_value.argmax(-1)
        if chosen is not None:
            # An action is given up for one that is really better, or rounding would make it run in circles.
            gain = action_value.max(-1) - np.take_along_axis(action_value, chosen[..., None], -1)[..., 0]
            better = gain > slack + 1e-12 * np.abs(action_value).max(-1)
            if not better.any():
                return Values(action_value.max(-1), action_value)
            best = np.where(better, best, chosen)
        chosen = best
        policy = np.eye(reward.shape[-1])[chosen]
    raise ValueError("the best policy was not found in 1000 improvements; are rewards of very different sizes mixed?")


def mean_return(world: Tables, policy: Array, reward: Array) -> Array:
    """The discounted return of a policy [...,S,A] under reward [S,A], its mean over the starts, [...]."""
    payoff = np.broadcast_to(reward, policy.shape)[..., None]
    return np.asarray(evaluate(world, policy, payoff)[..., world.starts, 0].mean(-1))


def scaled_return(world: Tables, policy: Array, reward: Array) -> Array:
    """(J - J of random actions) / (best J - J of random actions), [...]: 1 is the optimum; above .9 is near-optimal.

    Raises ValueError where random actions are as good as the best.
    """
    least = mean_return(world, uniform_policy(world), reward)
    most = optimal(world, reward).value[world.starts].mean()
    if not most - least > 1e-9 * max(1.0, abs(most)):
        raise ValueError(f"random actions earn {least:.6g}, the best {most:.6g}; on this board nothing can be told")
    return np.asarray((mean_return(world, policy, reward) - least) / (most - least))
