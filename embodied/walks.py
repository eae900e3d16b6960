"""Stretches of walks on worlds given as arrays, and what is said about pairs of them.

A step of a segment is obs = [state, next state, features that were found], act = [action]; so a linear reward, and with
it the partial return, needs nothing but the segment, while `steps` gives the indices that tables are looked up with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.planning import Tables
from embodied.records import Array

Ended = Literal["keep", "mask", "refuse"]
STATE, NEXT, FOUND = 0, 1, 2  # columns of an observation; features from FOUND on


@dataclass(frozen=True, eq=False)
class Steps:
    """Segments as indices: state, next, action int [B,K,T], found [B,K,T,D], mask bool [B,K,T], end int [B,K]: where
    the last step led."""

    state: Tensor
    next: Tensor
    action: Tensor
    found: Tensor
    mask: Tensor
    end: Tensor


def steps(segments: Segments) -> Steps:
    """Raises ValueError for observations that are not steps on arrays, and for segments that cross an episode's end."""
    obs = segments.obs
    if isinstance(obs, dict) or obs.ndim != 4 or obs.shape[-1] <= FOUND or segments.act.shape[-1] != 1:
        seen = sorted(obs) if isinstance(obs, dict) else list(obs.shape)
        raise ValueError(
            f"observations are {seen}; give [B,K,T,2+D] of state, next state and features, actions [B,K,T,1]"
        )
    state, after = obs[..., STATE].long(), obs[..., NEXT].long()
    mask = segments.mask
    if (mask[..., 1:] & ~mask[..., :-1]).any():
        raise ValueError("a mask has a gap; put padding at the end of a segment")
    jump = mask[..., 1:] & (state[..., 1:] != after[..., :-1])
    if jump.any():
        b, k, t = jump.nonzero()[0].tolist()
        raise ValueError(
            f"alternative {k} of row {b} comes to state {int(after[b, k, t])} and goes on from "
            f"{int(state[b, k, t + 1])}: it crosses the end of an episode; cut segments within episodes"
        )
    end = after.gather(-1, mask.sum(-1, keepdim=True) - 1).squeeze(-1)
    return Steps(state, after, segments.act[..., 0].long(), obs[..., FOUND:], mask, end)


def walks(
    world: Tables, policy: Array, shape: tuple[int, int], length: int, rng: np.random.Generator, ended: Ended = "mask"
) -> Segments:
    """B groups of K walks of a policy [S,A] from uniform starts, `length` steps each.

    ended: what becomes of steps after the end of an episode. "keep": they stay where they are and find nothing;
    "mask": they are padding; "refuse": such a walk is drawn again. Raises ValueError where hardly any walk of that
    length fits into an episode.
    """
    n = shape[0] * shape[1]
    obs, act = _walk(world, lambda t, s: policy[s], rng.choice(world.starts, n), length, rng)
    real = ~world.terminal[obs[:, :, STATE].astype(int)]
    for _ in range(1000):
        short = np.flatnonzero(~real.all(1))
        if ended != "refuse" or not len(short):
            break
        again = rng.choice(world.starts, len(short))
        obs[short], act[short] = _walk(world, lambda t, s: policy[s], again, length, rng)
        real = ~world.terminal[obs[:, :, STATE].astype(int)]
    else:
        raise ValueError(f"episodes hardly ever last {length} steps; take shorter segments, or mask what is after")
    return _segments(obs, act, real if ended == "mask" else np.ones_like(real), shape)


def walks_from(world: Tables, policy: Array, start: Array, length: int, rng: np.random.Generator) -> Segments:
    """One walk of `length` steps from each state `start` [B,K], steps after the end masked; policy [S,A], or one for
    each walk, [B,K,S,A]."""
    own = np.broadcast_to(policy, (*start.shape, *policy.shape[-2:])).reshape(-1, *policy.shape[-2:])
    obs, act = _walk(world, lambda t, s: own[np.arange(len(s)), s], start.ravel(), length, rng)
    return _segments(obs, act, ~world.terminal[obs[:, :, STATE].astype(int)], start.shape)


def every_way(world: Tables, start: Array, length: int) -> Segments:
    """All sequences of `length` actions from each state `start` [B], K = A^length in the order of counting; steps after
    the end are masked. Raises ValueError where an action has more than one outcome, and for more than a million ways.
    """
    actions = world.next.shape[1]
    if len(start) * actions**length > 1_000_000:
        raise ValueError(
            f"{len(start)} times {actions} to the power of {length} ways are too many; take fewer steps or states"
        )
    if (world.prob.max(-1) < 1)[~world.terminal].any():
        raise ValueError("some action has more than one outcome, so actions do not say where a way leads; draw walks")
    ways = np.stack(np.unravel_index(np.arange(actions**length), (actions,) * length), -1)  # [K,T]
    sure = np.eye(actions)[np.tile(ways, (len(start), 1))]  # [B*K,T,A]
    # Nothing is left to chance, so any stream will do.
    obs, act = _walk(world, lambda t, s: sure[:, t], np.repeat(start, len(ways)), length, np.random.default_rng(0))
    return _segments(obs, act, ~world.terminal[obs[:, :, STATE].astype(int)], (len(start), len(ways)))


def _segments(obs: Array, act: Array, mask: Array, shape: tuple[int, ...]) -> Segments:
    obs, act, mask = (x.reshape(*shape, *x.shape[1:]) for x in (obs, act, mask))
    return Segments(
        torch.from_numpy(obs.astype(np.float32)),
        torch.from_numpy(act.astype(np.float32)),
        torch.from_numpy(mask),
        torch.full(mask.shape, torch.nan),
    )


def _walk(
    world: Tables, chance: Callable[[int, Array], Array], state: Array, length: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """From each state [n]; chance(t, state) are the probabilities [n,A] of the next action."""
    n = len(state)
    obs, act = np.zeros((n, length, FOUND + world.features.shape[-1])), np.zeros((n, length, 1))
    for t in range(length):
        action = drawn(chance(t, state), rng)
        outcome = drawn(world.prob[state, action], rng)
        after = np.where(world.terminal[state], state, world.next[state, action, outcome])
        found = world.features[state, action, outcome] * ~world.terminal[state][:, None]
        obs[:, t, STATE], obs[:, t, NEXT], obs[:, t, FOUND:], act[:, t, 0] = state, after, found, action
        state = after
    return obs, act


def drawn(prob: Array, rng: np.random.Generator) -> Array:
    """One index of each row of probabilities [N,M], [N]."""
    return np.asarray((prob.cumsum(-1) < rng.random((len(prob), 1))).sum(-1).clip(max=prob.shape[-1] - 1))


def partial_return(weights: Array, segments: Segments) -> Array:
    """The sum of what was found, [B,K], with features paid by `weights` [D]; undiscounted."""
    at = steps(segments)
    return np.asarray(((at.found.double().numpy() @ weights) * at.mask.numpy()).sum(-1))


def labels(score: Array, rng: np.random.Generator | None = None, decimals: int = 2) -> Tensor:
    """What a teacher says about pairs with these scores [B,2], as a target [B,2].

    With rng: the first with probability sigmoid(first - second). Without: the better one, and a tie where both are
    alike when rounded to `decimals`.
    """
    gap = np.asarray(score[:, 0] - score[:, 1], np.float64)
    if rng is not None:
        first = (rng.random(len(gap)) < 0.5 * (1 + np.tanh(gap / 2))).astype(np.float64)
    else:
        first = 0.5 * (1 + np.sign(np.round(score[:, 0], decimals) - np.round(score[:, 1], decimals)))
    return torch.as_tensor(np.stack([first, 1 - first], -1), dtype=torch.float32)


def answered(segments: Segments, target: Tensor) -> Feedback:
    """Pairs and what was said about them. Raises ValueError when all are ties, which say nothing."""
    n = len(segments)
    if n and bool((target == 0.5).all()):
        raise ValueError(
            f"all {n} answers are ties, so nothing can be learned of what is better; ask about other pairs"
        )
    start = segments.obs[:, :, 0, STATE] if isinstance(segments.obs, Tensor) else torch.zeros(n, 2)
    same = (start == start[:, :1]).all(-1)
    return Feedback(segments, target, torch.ones(n), torch.zeros(n, dtype=torch.int64), same)
