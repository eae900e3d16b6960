"""A policy cloned from somebody who goes beside the goal of the point mass, and pairs of its own episodes: what the
reproductions of the direct methods have in common.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch

from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.fit import fit, imitate
from embodied.methods import Method
from embodied.records import Array
from envs.point import HORIZON, PointMass, lqr, quadratic_reward
from policies.gaussian import GaussianPolicy
from rapport.reproduce.prefrl import scaled_return

PAIRS, STEPS, BATCH = 600, 150, 64
NO_CLAIM = (float("nan"), float("nan"))  # a range that leaves the verdict of a comparison open


def roll_out(act: Callable[[Array], Array], starts: Array) -> tuple[Array, Array]:
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


def own_episodes(policy: GaussianPolicy, n: int, k: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """k episodes of the policy from each of n starts: obs [n,k,T,5], act [n,k,T,2]."""
    where = np.repeat(starts(n, rng), k, axis=0)
    return tuple(x.reshape(n, k, *x.shape[1:]) for x in roll_out(lambda o: policy.act(o, False), where))  # type: ignore[return-value]


def learned(policy: GaussianPolicy, method: Method, data: Feedback, seed: int, steps: int = STEPS) -> GaussianPolicy:
    """A copy of the policy, fitted to the data by the method against the policy as it was."""
    mine = copy.deepcopy(policy)
    opt = torch.optim.Adam(mine.parameters(), lr=3e-4)
    fit(direct(mine, method, policy), data, opt, steps=steps, batch=BATCH, rng=np.random.default_rng([seed, 12]))
    return mine


def own_pairs(policy: GaussianPolicy, goal: Array, seed: int) -> Feedback:
    """Pairs of the policy's own episodes, each from one start; the one of the higher true return is the better."""
    obs, act = own_episodes(policy, PAIRS, 2, np.random.default_rng([seed, 11]))
    total = quadratic_reward(goal)(obs, act).sum(-1)
    first = (total[:, 0] > total[:, 1]).astype(float)
    return feedback(obs, act, np.stack([first, 1 - first], -1))


def goal_of(seed: int) -> Array:
    return np.random.default_rng([seed, 13]).uniform(-0.8, 0.8, 2)


def share_gained(now: GaussianPolicy, before: GaussianPolicy, goal: Array) -> float:
    """Of the return that the one before missed of the optimum's."""
    begun = scaled_return(before.act, goal)[0]
    return (scaled_return(now.act, goal)[0] - begun) / (1 - begun)
