"""What is wanted at a table: where things begin, the true reward of a step, success, and what a policy is told.

The rewards of group and clutter follow the Franka tasks of RAPL (Tian et al., "What matters to you? Towards visual
representation alignment for robot learning", ICLR 2024). Ours has a tool in place of two fingers, so the hand's distance
stands for both; objects cannot be lifted and the hand does not leave its area, so the terms for these are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.pixels.table_model import AREAS, GOAL, GOAL_HALF, LIKED, OTHERS, RADIUS, STRIP, Task

Array = npt.NDArray[Any]

STEPS: dict[Task, int] = {"group": 45, "clutter": 45, "wipe": 30}
INTRUSION = 0.04  # m; an object that is not liked has to be further than this from the goal line
EVEN = 0.08  # of half the width; the largest mean deviation that leaves no trace
BINS = 8  # of the strip's width, whose shares of time a policy is told
MIDDLE, UNIT = np.array([0.52, 0.0]), 0.3  # m; positions are told as (x - MIDDLE) / UNIT


def features(task: Task) -> int:
    return 3 + 2 * (LIKED[task] + OTHERS[task]) + (BINS if task == "wipe" else 0)


def start(task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
    """Where the hand begins [2] m, and the objects [K,3]: x, y in m, angle in rad; the liked ones first."""
    area = AREAS[task]
    hand = np.array([rng.uniform(*area.start_x), rng.uniform(*area.start_y)])
    if task == "wipe":
        return hand, np.zeros((0, 3))
    middle = np.array([rng.uniform(0.46, 0.52), rng.uniform(-0.08, 0.08)])
    apart = rng.uniform(0.08, 0.20 if task == "group" else 0.14)
    across = np.array([rng.uniform(-0.15, 0.15), rng.choice([-0.5, 0.5])]) * apart
    placed = [middle + across, middle - across]
    while len(placed) < LIKED[task] + OTHERS[task]:
        at = np.array([rng.uniform(0.42, 0.58), rng.uniform(-0.30, 0.30)])
        beside = abs(at[1] - middle[1]) > apart / 2 + 0.075  # so that there is a way to the goal
        if beside and min(np.linalg.norm(at - other) for other in placed) > 2.6 * RADIUS:
            placed.append(at)
    angle = rng.uniform(-np.pi, np.pi, len(placed))
    return hand, np.concatenate([np.array(placed), angle[:, None]], 1)


def step_reward(task: Task, hand: Array, objects: Array, action: Array) -> Array:
    """[...] of the hand [...,2] m and objects [...,K,2] m after an action [...,2] in [-1,1]. In wipe 0: there only a
    whole episode has a value, see `uneven`."""
    if task == "wipe":
        return np.zeros(hand.shape[:-1])
    liked, others = objects[..., : LIKED[task], :], objects[..., LIKED[task] :, :]
    away = np.abs(liked[..., 0] - GOAL).max(-1)
    reward = -3 * away - 0.5 * np.linalg.norm(liked - hand[..., None, :], axis=-1).sum(-1)
    reward = reward - 0.01 * (action**2).sum(-1)
    if task == "group":
        return np.asarray(reward - 3 * gap(liked))
    return np.asarray(reward - 0.5 * _intruders(others))


def gap(pair: Array) -> Array:
    """How far two objects [...,2,2] are from touching, m."""
    return np.maximum(np.linalg.norm(pair[..., 0, :] - pair[..., 1, :], axis=-1) - 2 * RADIUS, 0.0)


def uneven(y: Array) -> Array:
    """Mean deviation [...] of the sorted places y [...,T] m, across the strip, from an even grid over all of it, as a
    share of half its width: 0 where every part was wiped equally long."""
    low, high = STRIP.y
    grid = np.linspace(low, high, y.shape[-1])
    return np.abs(np.sort(y, -1) - grid).mean(-1) / ((high - low) / 2)


def success(task: Task, hand: Array, objects: Array) -> bool:
    """Of an episode: hand [T,2] and objects [T,K,2] m after every step."""
    if task == "wipe":
        return bool(uneven(hand[:, 1]) < EVEN)
    there = np.abs(objects[-1, : LIKED[task], 0] - GOAL) <= GOAL_HALF
    return bool(there.all() and not _intruders(objects[-1, LIKED[task] :]))


def _intruders(others: Array) -> Array:
    return (np.abs(others[..., 0] - GOAL) < INTRUSION).sum(-1)


def observe(task: Task, hand: Array, objects: Array, steps: int) -> Array:
    """float32 [O] of an episode so far, hand [t+1,2] and objects [K,2] m: place of the hand and of each object, the share
    of `steps` that is over, and in wipe the share of them spent in each of BINS parts of the width."""
    told = [(hand[-1] - MIDDLE) / UNIT, ((objects - MIDDLE) / UNIT).ravel(), [(len(hand) - 1) / steps]]
    if task == "wipe":
        low, high = STRIP.y
        part = np.clip(((hand[1:, 1] - low) / (high - low) * BINS).astype(int), 0, BINS - 1)
        told.append(np.bincount(part, minlength=BINS) / steps)
    return np.concatenate(told).astype(np.float32)
