"""What a reward of videos makes a body do: waypoints chosen by the cross-entropy method on that reward alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from embodied.records import Array
from embodied.videos import VideoReward
from envs.pixels.sweep import SweepEnv
from envs.pixels.sweep_physics import STRIDE
from rapport.rapl.ground import World, everywhere

POINTS, CANDIDATES, ELITE, ROUNDS = 5, 40, 8, 5
REACH = 0.9  # of the arena's half width

Judge = Callable[[Array, Array], Array]
"""Positions [N,T,P] and true returns [N] -> what each candidate is worth, [N]."""


@dataclass(frozen=True)
class Planned:
    true: float
    success: bool


def by_reward(reward: VideoReward) -> Judge:
    """A reward that reads true positions."""

    def judge(positions: Array, true: Array) -> Array:
        found: Array = reward.worth(torch.from_numpy(positions), everywhere(positions)).numpy()
        return found

    return judge


def by_truth(positions: Array, true: Array) -> Array:
    return true


def plan(world: World, body: str, judge: Judge, seed: int) -> Planned:
    """One start of the sweeping world, and the best of 40 ways through 5 waypoints, drawn in 5 rounds around the last
    round's best 8; what that way is worth in truth."""
    env, rng = SweepEnv(world.task, body), np.random.default_rng([seed, 300])  # type: ignore[arg-type]
    mean, std = np.zeros((POINTS, 2)), np.full((POINTS, 2), 0.6)
    best = (-np.inf, Planned(0.0, False))
    for _ in range(ROUNDS):
        ways = np.clip(mean + std * rng.normal(size=(CANDIDATES, POINTS, 2)), -REACH, REACH)
        rolled = [_rolled(env, world, way, seed) for way in ways]
        true = np.array([value for _, value, _ in rolled])
        worth = judge(np.stack([positions for positions, _, _ in rolled]), true)
        order = np.argsort(-worth, kind="stable")
        if worth[order[0]] > best[0]:
            best = (float(worth[order[0]]), Planned(float(true[order[0]]), rolled[order[0]][2]))
        elite = ways[order[:ELITE]]
        mean, std = elite.mean(0), elite.std(0) + 0.02
    return best[1]


def _rolled(env: SweepEnv, world: World, way: Array, seed: int) -> tuple[Array, float, bool]:
    """Positions [T,P] of following the waypoints, each for an equal share of the time; true return and success."""
    obs, info = env.reset(seed=seed)
    seen, true = [], 0.0
    for t in range(env.steps):
        aim = way[t * POINTS // env.steps]
        move = np.clip((aim - obs[:2]) / STRIDE, -1, 1)
        action = np.zeros(env.action_space.shape or (2,), np.float32)
        action[:2] = move
        obs, reward, _, _, info = env.step(action)
        seen.append(obs[: world.positions])
        true += reward
    return np.array(seen, np.float32), true, bool(info["success"])
