"""The same on the main job's arm: a policy cloned from carriers of whom some hurry, in MuJoCo, judged by the simulated
person who wants the cup upright and around the laptop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from embodied.fit import fit, imitate
from embodied.records import Array
from envs.arm import ACTION, HORIZON, OBSERVATION, CupArms, Layouts, draw
from envs.carriers import careful, hurried
from policies.gaussian import GaussianPolicy
from rapport.beside import Act, Ground, feedback, point_mass
from rapport.cup import pools
from rapport.cup.measure import measure
from rapport.cup.people import CAREFUL
from rapport.cup.train import TEMPERATURE

DEMOS, CLONING, HELD_OUT = 500, 1000, 256  # episodes, steps, layouts
LAPSE = 0.05  # of the person's answers are the toss of a coin


def arm(seed: int, hurry: float = 0.7) -> Ground:
    """`hurry`: the share of demonstrations in which the carrier goes straight over the laptop, the cup leant. At .7 the
    policy itself does so four times in five, and its noise decides when it does not; at 1 it never does otherwise."""

    def episodes(act: Act, where: Layouts) -> pools.Rollouts:
        return pools.roll_out(CupArms(len(where), seed=0), where, [act], None, np.random.default_rng(0))

    def roll_out(act: Act, where: Layouts) -> tuple[Array, Array]:
        done = episodes(act, where)
        return done.obs, done.act

    def worth(obs: Array, act: Array) -> Array:
        return CAREFUL.worth(obs.astype(float), act.astype(float))

    def prefers(worth: Array, rng: np.random.Generator) -> Array:
        sure = 1 / (1 + np.exp((worth[:, 1] - worth[:, 0]) / TEMPERATURE))
        return rng.random(len(worth)) < (1 - LAPSE) * sure + LAPSE / 2

    policy = cloned(hurry, seed)
    layouts = draw(np.random.default_rng([seed, 14]), HELD_OUT)
    before, best = (float(worth(*roll_out(act, layouts)).mean()) for act in (policy.act, careful()))

    def figures(now: GaussianPolicy) -> dict[str, float]:
        done = episodes(now.act, layouts)
        gained = (float(worth(done.obs, done.act).mean()) - before) / (best - before)
        seen = measure(CAREFUL, done)
        return {
            "share gained of the utility that cloning misses": gained,
            "wishes met": seen.wishes,
            "task done": seen.task,
        }

    return Ground(policy, HORIZON, 0.1, lambda n, rng: draw(rng, n), roll_out, worth, prefers, careful(), figures)


def cloned(hurry: float, seed: int) -> GaussianPolicy:
    """Every carrier's hand shakes slowly, so that the policy sees how they come back."""
    rng = np.random.default_rng([seed, 10])
    fast, slow, is_fast = hurried(rng, DEMOS), careful(), rng.random((DEMOS, 1)) < hurry
    envs, shake = CupArms(DEMOS, seed=0), np.zeros((DEMOS, ACTION))
    seen, done = [], []
    obs, _ = envs.reset(options={"layouts": draw(rng, DEMOS)})
    for _ in range(HORIZON):
        act = np.where(is_fast, fast(obs), slow(obs))
        seen.append(obs)
        done.append(act)
        shake = pools.slowly(shake, rng)
        obs, *_ = envs.step(np.clip(act + 0.3 * shake, -1, 1))
    obs_all, act_all = (np.concatenate(x)[:, None, None] for x in (seen, done))
    demos = feedback(obs_all, act_all, np.ones((len(obs_all), 1)))
    policy = GaussianPolicy(OBSERVATION, ACTION, seed=seed, log_std=-1.6)
    policy.standardise(demos.segments)
    opt = torch.optim.Adam(policy.parameters(), lr=2e-3)
    fit(imitate(policy), demos, opt, steps=CLONING, batch=1024, rng=rng)
    return policy


GROUNDS: dict[str, Callable[[int], Ground]] = {"point": point_mass, "arm": arm}
