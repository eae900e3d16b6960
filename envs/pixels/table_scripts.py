"""Scripted behaviour at a table, good, middling and bad, and films of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.pixels.films import Films
from envs.pixels.nuisance import Level, Nuisance
from envs.pixels.table import TableEnv
from envs.pixels.table_arms import Name
from envs.pixels.table_control import DT, SPEED
from envs.pixels.table_looks import Camera
from envs.pixels.table_model import AREAS, GOAL, LIKED, RADIUS, STRIP, Task
from envs.pixels.table_tasks import MIDDLE, UNIT

Array = npt.NDArray[Any]

FACE = 0.015  # m; from the hand to the pushing side of what it holds, about
HALF = 0.09  # m; half the width of that, about
_NOISE = 0.08  # of an action
_STEP = SPEED * DT  # m


def films(
    task: Task,
    arm: Name,
    n: int,
    rng: np.random.Generator,
    *,
    nuisance: Nuisance | Level = "none",
    camera: Camera = "front",
    size: int = 64,
    steps: int | None = None,
) -> Films:
    """n videos of scripted random behaviour. Raises RenderError where there is no OpenGL."""
    if n < 1:
        raise ValueError(f"n is {n}; film at least 1 video")
    env = TableEnv(task, arm, nuisance, camera, size, steps)
    t = env.steps
    frames = np.empty((n, t, size, size, 3), np.uint8)
    act = np.empty((n, t, 2), np.float32)
    state = np.empty((n, t, *env.observation_space.shape), np.float32)
    reward, success = np.empty((n, t)), np.empty(n, bool)
    try:
        pictures = env.pictures()
        for i in range(n):
            act[i], state[i], reward[i], success[i], qpos = _episode(env, rng)
            frames[i] = pictures.frames(qpos, env.look_seed, t + 1, 1)
    finally:
        env.close()
    return Films(frames, act, state, reward, success)


def _episode(env: TableEnv, rng: np.random.Generator) -> tuple[Array, Array, Array, bool, Array]:
    obs, info = env.reset(seed=int(rng.integers(2**31)))
    hand, objects = hand_of(obs), objects_of(env.task, obs)
    way = script(env.task, hand, objects, env.steps, rng)
    acts, states, rewards, poses = [], [], [], []
    for target in way:
        action = follow(hand_of(obs), target) + _NOISE * rng.normal(size=2)
        acts.append(np.clip(action, -1, 1))
        obs, reward, _, _, info = env.step(acts[-1])
        states.append(obs)
        rewards.append(reward)
        poses.append(env.qpos)
    return np.array(acts), np.array(states), np.array(rewards), info["success"], np.array(poses)


def hand_of(obs: Array) -> Array:
    """The hand's place [2] m from an observation."""
    return np.asarray(obs[:2] * UNIT + MIDDLE, np.float64)


def objects_of(task: Task, obs: Array) -> Array:
    """Places of the liked objects [K,2] m from an observation."""
    return np.asarray(obs[2 : 2 + 2 * LIKED[task]].reshape(-1, 2) * UNIT + MIDDLE, np.float64)


def follow(hand: Array, target: Array) -> Array:
    """The action [2] that brings the hand [2] m to a place [2] m, or as near as one step goes."""
    return np.asarray(np.clip((target - hand) / _STEP, -1, 1))


def path(hand: Array, points: Array, steps: int, speed: Array | float = 1.0) -> Array:
    """Places [steps,2] m on the way from the hand [2] through points [W,2] m, at this share of full speed (of each leg, or
    of all); waits at the end."""
    ends = np.concatenate([hand[None], points])
    legs = np.linalg.norm(np.diff(ends, axis=0), axis=1)
    times = np.concatenate([[0], np.cumsum(legs / (np.maximum(speed, 1e-3) * _STEP))])
    at = np.arange(1, steps + 1)
    return np.stack([np.interp(at, times, ends[:, k]) for k in range(2)], 1)


def script(task: Task, hand: Array, liked: Array, steps: int, rng: np.random.Generator) -> Array:
    """A way [steps,2] m of the hand, of a random kind, for liked objects that begin at [K,2] m."""
    if task == "wipe":
        return _wipe(hand, steps, rng)
    kind = rng.choice(len(_KINDS), p=_SHARES)
    points = np.array(_KINDS[kind](hand, liked, rng))
    points = points + rng.normal(0, rng.choice([0.0, 0.012, 0.03]), points.shape)
    if rng.random() < 0.3:
        points = points[: rng.integers(1, len(points) + 1)]  # gives up
    area = AREAS[task]
    points = np.clip(points, [area.x[0], area.y[0]], [area.x[1], area.y[1]])
    return path(hand, points, steps, rng.uniform(0.45, 1.0))


def _push(x: float, y: float, near: float) -> list[tuple[float, float]]:
    """From behind x, y straight on until what is pushed is `near` metres before the goal line."""
    return [(x - RADIUS - FACE - 0.04, y), (GOAL - near - RADIUS - FACE, y)]


def _near(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, rng.uniform(0.0, 0.16)]))


def _straight(hand: Array, liked: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    x, y = liked[:, 0].min(), liked[:, 1].mean()
    return [(hand[0], y + rng.normal(0, 0.02)), *_push(x, y, _near(rng))]


def _together(hand: Array, liked: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Pushes one to the other's side first."""
    one, other = liked if rng.random() < 0.5 else liked[::-1]
    side = np.sign(one[1] - other[1]) or 1.0
    beside = one[1] + side * (HALF + RADIUS + 0.03)
    touch = other[1] + side * (HALF + 3 * RADIUS)
    squeeze = [(hand[0], beside), (one[0], beside), (one[0], touch), (one[0], touch + side * 0.03), (hand[0], beside)]
    middle = other[1] + side * RADIUS
    return [*squeeze, (hand[0], middle), *_push(min(one[0], other[0]), middle, _near(rng))]


def _one_by_one(hand: Array, liked: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    one, other = liked if rng.random() < 0.5 else liked[::-1]
    side = np.sign(one[1] - other[1]) or 1.0
    points = []
    for at, away in ((one, side), (other, -side)):
        y = at[1] + away * 0.06  # its inner end passes the other by
        points += [(hand[0], y), *_push(at[0], y, _near(rng)), (hand[0] + 0.05, y)]
    return points


def _only_one(hand: Array, liked: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    return _one_by_one(hand, liked, rng)[:3]


def _beside(hand: Array, liked: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Means to push both, and is off to one side."""
    y = liked[:, 1].mean() + rng.choice([-1, 1]) * rng.uniform(0.05, 0.16)
    return [(hand[0], y), *_push(liked[:, 0].min(), y, _near(rng))]


def _wander(hand: Array, liked: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    area = AREAS["group"]
    return [(rng.uniform(*area.x), rng.uniform(*area.y)) for _ in range(rng.integers(2, 7))]


_KINDS = (_straight, _together, _one_by_one, _only_one, _beside, _wander)
_SHARES = (0.20, 0.20, 0.15, 0.10, 0.15, 0.20)


def _wipe(hand: Array, steps: int, rng: np.random.Generator) -> Array:
    """Sweeps of many kinds: over the whole width evenly, over parts, to and fro, or nearly none."""
    low, high = STRIP.y
    x = np.interp(np.arange(steps), np.linspace(0, steps, 5), rng.uniform(*STRIP.x, 5))
    if rng.random() < 0.35:
        # To the end that is nearer, then across in what time is left; more or less so.
        near, far = (low, high) if hand[1] < 0 else (high, low)
        reach = rng.choice([1.0, rng.uniform(0.3, 1.0)])
        ends = np.array([hand[1], reach * near, reach * far])
        first = abs(ends[1] - ends[0]) / _STEP * rng.uniform(1.0, 1.8)
        times = np.array([0.0, first, max(first + 1, steps * rng.uniform(0.8, 1.05))])
    else:
        middle, half = rng.uniform(-0.2, 0.2), rng.uniform(0.02, 0.28)
        count = rng.integers(2, 7)
        ends = np.concatenate([hand[1:], np.clip(middle + rng.uniform(-half, half, count - 1), low, high)])
        times = np.concatenate([[0.0], np.sort(rng.uniform(0, steps, count - 1))])
    return np.stack([x, np.interp(np.arange(1, steps + 1), times, ends)], 1)
