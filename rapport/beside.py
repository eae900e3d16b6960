"""A cloned policy, and pairs of its own episodes: what the reproductions of the direct methods have in common.

Each of them is written once for any `Ground`: the point mass below, or the arm (`beside_arm.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.fit import fit, imitate
from embodied.label_models import EM
from embodied.methods import Method, em_preference
from embodied.records import Array
from envs.point import HORIZON, PointMass, lqr, quadratic_reward
from policies.gaussian import GaussianPolicy
from rapport.reproduce import Comparison
from rapport.reproduce.prefrl import scaled_return

PAIRS, STEPS, BATCH = 600, 150, 64
NO_CLAIM = (float("nan"), float("nan"))  # a range that leaves the verdict of a comparison open

Act = Callable[[Array], Array]
"""obs [N,O] -> actions [N,A]."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Where a policy acts, who judges it, and what they wish."""

    policy: GaussianPolicy
    """As it was before anybody was asked."""
    horizon: int
    """Steps of an episode."""
    beta: float
    """What suits a sum of log-ratios over an episode."""
    starts: Callable[[int, np.random.Generator], Any]
    """n places to start from, with rows."""
    roll_out: Callable[[Act, Any], tuple[Array, Array]]
    """obs [N,T,O], act [N,T,A] from N starts."""
    worth: Callable[[Array, Array], Array]
    """The true worth [...] of episodes [...,T,O], [...,T,A], which no learner sees."""
    prefers: Callable[[Array, np.random.Generator], Array]
    """Of pairs of worths [N,2], whether the first is said to be the better, bool [N]."""
    teacher: Act
    """Somebody who does what is wished, without noise."""
    figures: Callable[[GaussianPolicy], dict[str, float]]
    """What becomes of a policy, by name; the first is the share gained of what cloning misses."""


def point_mass(seed: int) -> Ground:
    """A policy cloned from somebody who goes beside the goal; the episode of the higher true return is the better."""
    goal = goal_of(seed)
    policy = cloned(goal, seed)
    reward = quadratic_reward(goal)
    return Ground(
        policy=policy,
        horizon=HORIZON,
        beta=0.5,
        starts=starts,
        roll_out=roll_out,
        worth=lambda obs, act: reward(obs, act).sum(-1),
        prefers=lambda worth, rng: worth[:, 0] > worth[:, 1],
        teacher=lqr(goal).act,
        figures=lambda now: {"share gained of the return that cloning misses": share_gained(now, policy, goal)},
    )


def roll_out(act: Act, starts: Array) -> tuple[Array, Array]:
    """obs [N,T,5], act [N,T,2] from states [N,4]."""
    env = PointMass(len(starts), seed=0)
    obs, _ = env.reset(options={"state": starts})
    seen, done = [], []
    for _ in range(HORIZON):
        seen.append(obs)
        done.append(act(obs))
        obs, *_ = env.step(done[-1])
    return np.stack(seen, 1), np.stack(done, 1)


def starts(n: int, rng: np.random.Generator) -> Array:
    return rng.uniform(-1, 1, (n, 4)) * [1, 1, 0.2, 0.2]


def cloned(goal: Array, seed: int) -> GaussianPolicy:
    """A policy cloned from somebody who goes half a metre beside the goal, and shakes."""
    rng = np.random.default_rng([seed, 10])
    angle = rng.uniform(0, 2 * np.pi)
    beside = lqr(goal + 0.5 * np.array([np.cos(angle), np.sin(angle)]))
    obs, act = roll_out(lambda o: np.clip(beside.act(o) + rng.normal(0, 0.2, (len(o), 2)), -1, 1), starts(500, rng))
    demos = feedback(obs[:, None], act[:, None], np.ones((500, 1)))
    policy = GaussianPolicy(5, 2, seed=seed, hidden=(64, 64), log_std=-1.6)
    policy.standardise(demos.segments)
    fit(imitate(policy), demos, torch.optim.Adam(policy.parameters(), lr=1e-3), steps=400, batch=64, rng=rng)
    return policy


def feedback(obs: Array, act: Array, target: Array) -> Feedback:
    """obs [B,K,T,O], act [B,K,T,A], target [B,K]."""
    seen, done = (torch.from_numpy(x.astype(np.float32)) for x in (obs, act))
    mask = torch.ones(obs.shape[:3], dtype=torch.bool)
    one = torch.ones(len(obs))
    segments = Segments(seen, done, mask, torch.full(mask.shape, torch.nan))
    return Feedback(segments, torch.from_numpy(target.astype(np.float32)), one, one.long() * 0, one.bool())


def own_episodes(ground: Ground, n: int, k: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """k episodes of the policy from each of n starts: obs [n,k,T,O], act [n,k,T,A]."""
    where = ground.starts(n, rng)[np.repeat(np.arange(n), k)]
    obs, act = ground.roll_out(lambda o: ground.policy.act(o, False), where)
    return obs.reshape(n, k, *obs.shape[1:]), act.reshape(n, k, *act.shape[1:])


def own_pairs(ground: Ground, seed: int) -> Feedback:
    """Pairs of the policy's own episodes, each from one start."""
    rng = np.random.default_rng([seed, 11])
    obs, act = own_episodes(ground, PAIRS, 2, rng)
    first = ground.prefers(ground.worth(obs, act), rng).astype(float)
    return feedback(obs, act, np.stack([first, 1 - first], -1))


def learned(ground: Ground, method: Method, data: Feedback, seed: int, steps: int = STEPS) -> GaussianPolicy:
    """A copy of the policy, fitted to the data by the method against the policy as it was."""
    mine = copy.deepcopy(ground.policy)
    opt = torch.optim.Adam(mine.parameters(), lr=3e-4)
    rng = np.random.default_rng([seed, 12])
    fit(direct(mine, method, ground.policy), data, opt, steps=steps, batch=BATCH, rng=rng)
    return mine


def trusted(ground: Ground, method: Method, data: Feedback, seed: int) -> tuple[GaussianPolicy, EM]:
    """The same while it is learned whose labels can be trusted."""
    em = EM()
    mine = copy.deepcopy(ground.policy)
    objective = direct(mine, em_preference(method, em), ground.policy)
    opt, rng = torch.optim.Adam(mine.parameters(), lr=3e-4), np.random.default_rng([seed, 12])
    for _ in range(STEPS // 15):
        fit(objective, data, opt, steps=15, batch=BATCH, rng=rng)
        em.update(method.loss, objective.score(data.segments).detach(), data)
    return mine, em


def beside(ground: Ground, what: str, policy: GaussianPolicy, paper: str) -> list[Comparison]:
    """What becomes of the policy, as comparisons."""
    return [Comparison(f"{name}: {what}", (x,), paper, NO_CLAIM) for name, x in ground.figures(policy).items()]


def goal_of(seed: int) -> Array:
    return np.random.default_rng([seed, 13]).uniform(-0.8, 0.8, 2)


def share_gained(now: GaussianPolicy, before: GaussianPolicy, goal: Array) -> float:
    """Of the return that the one before missed of the optimum's."""
    begun = scaled_return(before.act, goal)[0]
    return (scaled_return(now.act, goal)[0] - begun) / (1 - begun)
