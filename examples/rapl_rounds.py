"""PPO paid by RAPL on a body never seen, with and without further answers about what the policy does now.

    python examples/rapl_rounds.py --seeds 0 1 2             # from fifty rankings alone
    python examples/rapl_rounds.py --seeds 0 1 2 --more 5    # and five more after each tenth of the steps

The reward reads true positions in place of pictures, what a perfect trunk would tell: what goes wrong here is the
reward's doing. The sweeping world, covering, the long stick; a minute of one core for a seed. Lines tell the true
return, the share that succeeds, and what the films are worth to the reward: where that rises and success falls, the
policy has found what the reward mistakes. Each further ranking is of two films of the policy, one of them with noise
on its actions, and one from before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from embodied.records import Array
from embodied.video_methods import fitted
from embodied.videos import VideoReward, padding, ranked
from envs.state import check
from rapport.rapl.ground import WORLDS, ground
from rapport.rapl.rivals import labels
from rapport.train.learner import Learner
from rapport.visual import acting, rewards
from rapport.visual.settings import Settings

LOOKS, ANSWERS, NOISE = 10, 50, 0.3
SHOWN = 20  # episodes whose worth is told
WORLD, BODY = WORLDS["covering"], "long"


class Paid(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Pays what the positions of an episode [T,2] are worth, when it ends."""

    def __init__(self, env: gymnasium.Env[Any, Any], worth: Callable[[Array], float]) -> None:
        super().__init__(env)
        self.worth_of, self.film = worth, list[Array]()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.film = []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, own, terminated, truncated, info = self.env.step(action)
        self.film.append(np.asarray(obs[: WORLD.positions], np.float32))
        over = bool(terminated or truncated)
        paid = self.worth_of(np.stack(self.film)) if over else 0.0
        return obs, paid, terminated, truncated, {**info, "own": float(own)}

    def state_dict(self) -> dict[str, Any]:
        return {"film": np.array(self.film)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.film = list(np.array(state["film"]))


def run(seed: int, more: int, steps: int, cache: Path) -> None:
    made = ground(WORLD, "none", seed, cache, eyes="positions")
    first = list(made.pool)
    pool, value = list(made.pool), made.value.tolist()
    groups, rng = labels(made, ANSWERS, seed).groups.tolist(), np.random.default_rng([seed, 777])

    def learned(session: int) -> tuple[VideoReward, float]:
        which = np.array(groups)
        said = ranked(pool, which, np.array(value)[which])
        draws = np.random.default_rng([seed, 202, session])
        model = fitted("rapl", pool, list(made.demos), [said], draws, seed=seed)
        return model, rewards.scale(model, first)

    now = [learned(0)]  # the last of them is paid

    def worth(film: Array) -> float:
        model, scale = now[-1]
        return float(model.worth(*padding([film]))[0]) * scale

    settings = Settings(
        env="envs.pixels.sweep:SweepEnv",
        env_kwargs={"task": WORLD.task, "body": BODY},
        reward="true",
        frames=made.pool.shape[1],
        steps=steps,
        sessions=LOOKS,
        seed=seed,
    )
    where = acting.place(settings)

    def make() -> Paid:
        return Paid(where.plain.make(), worth)

    world = replace(where.plain, make=make, drawn=make, checked=check(make, seed=seed))
    agent = acting.learner(world, settings, lambda n: None)
    each = -(-steps // LOOKS // agent.chunk) * agent.chunk
    for session in range(1, LOOKS + 1):
        agent.advance(each)
        row = acting.looked_at(agent.act, where, settings, None)
        shown = played(agent, make(), SHOWN, 0.0, np.random.default_rng([seed, 778, session]))
        paid = np.mean([worth(film) for film, _ in shown])
        told = f"true return {row['return']:.3f}, success {row['success']:.0%}, worth {paid:.2f}"
        print(f"seed {seed}, {session * each} steps: {told}", flush=True)
        if more and session < LOOKS:
            films = played(agent, make(), more, 0.0, rng) + played(agent, make(), more, NOISE, rng)
            before = len(pool)
            pool += [film for film, _ in films]
            value += [true for _, true in films]
            groups += [
                [int(rng.integers(before)), before + k, before + more + int(rng.integers(more))] for k in range(more)
            ]
            now.append(learned(session))


def played(agent: Learner, env: Paid, n: int, noise: float, rng: np.random.Generator) -> list[tuple[Array, float]]:
    """Positions [T,2] and the true return of n episodes of what the agent does, with noise on its actions."""
    found = []
    for _ in range(n):
        obs, over, true = env.reset(seed=int(rng.integers(2**31)))[0], False, 0.0
        while not over:
            act = agent.act(np.asarray(obs)[None])[0]
            if noise:
                act = np.clip(act + rng.normal(0, noise, act.shape), -1, 1).astype(np.float32)
            obs, _, terminated, truncated, info = env.step(act)
            true, over = true + info["own"], bool(terminated or truncated)
        found.append((np.stack(env.film), true))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--more", type=int, default=0, help="further answers after each tenth of the steps")
    parser.add_argument("--steps", type=int, default=30_720)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        run(seed, args.more, args.steps, args.cache)
