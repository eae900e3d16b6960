"""PEBBLE and its kin on a point mass whose optimum is known: off-policy, relabelled, from few answers.

Lee et al. (2021, arXiv 2106.05091) and B-Pref's teachers (arXiv 2111.03026), run by `rapport.train` as users run it.
The environment pays a person's reward to its teacher alone; what comes out is held against the exact optimum (LQR) of
it. Controls: the true reward reaches the optimum, and answers that say nothing miss it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from matplotlib.figure import Figure

from embodied.label_models import as_given, smooth
from embodied.records import Array
from embodied.rewards.ensemble import RewardEnsemble
from embodied.teachers import BPREF
from envs.point import HORIZON, PointMass, quadratic_reward
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.reproduce.prefrl import scaled_return
from rapport.train import METHODS, Method, Settings, ensemble, pebble, train, true_reward

DOMAINS = ("point",)
STEPS, ANSWERS, SESSIONS, CLIP = 3_000, 60, 8, 10
AGENT = {"batch_size": 64, "policy_kwargs": {"net_arch": [32, 32]}, "learning_starts": 200, "gamma": 0.95}
FLOOR = -1.0  # scores below it say no more than that nothing was learned


class Point(gymnasium.Env[Array, Array]):
    """One point of `PointMass`, which pays what somebody who wants it at `goal` thinks of it."""

    def __init__(self, goal: tuple[float, float]) -> None:
        self.points = PointMass(1, seed=0)
        self.observation_space = self.points.single_observation_space
        self.action_space = self.points.single_action_space
        self.pays = quadratic_reward(np.asarray(goal))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        start = self.np_random.uniform(-1, 1, (1, 4)) * [1, 1, 0.2, 0.2]
        self.seen, _ = self.points.reset(options={"state": start})
        return self.seen[0], {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        act = np.clip(action, -1, 1)[None]
        reward = float(self.pays(self.seen, act)[0])
        self.seen, _, terminated, _, info = self.points.step(act)
        obs = info["final_obs"][0] if terminated[0] else self.seen[0]
        return np.asarray(obs), reward, False, bool(terminated[0]), {}


@dataclass(frozen=True)
class Outcome:
    """`scaled` return of the last policy: 0 does nothing, 1 is the optimum. `stale`: the largest difference between a
    reward in the replay and what the learned reward says of that step today."""

    scaled: float
    stale: float


def run(
    seed: int, method: Method, tick: Callable[[int], object], teacher: str = "oracle", mute: bool = False
) -> Outcome:
    """One person, one agent. mute: every answer is taken for a tie, so that nothing can be learned from it."""
    goal = np.random.default_rng([seed, 1]).uniform(-0.8, 0.8, 2)
    settings = Settings(
        env="rapport.reproduce.pebble:Point",
        env_kwargs={"goal": [float(x) for x in goal]},
        method=method,
        answers=ANSWERS if method.reward != "true" else 0,
        steps=STEPS,
        seed=seed,
        teacher=teacher,
        sessions=SESSIONS,
        clip=CLIP,
        horizon=HORIZON,
        episodes=1,
    )

    def network(obs: int, act: int, seed: int) -> RewardEnsemble:
        said = smooth(0.5) if mute else as_given
        return RewardEnsemble(obs, act, hidden=(64, 64), seed=seed, steps=60, label_model=said)

    own = network if method.semi is None and method.reward == "ensemble" else None
    with tempfile.TemporaryDirectory() as folder:
        trained = train(settings, folder, reward=own, progress=tick, kwargs=AGENT)
    agent: Any = trained.actor
    score, _ = scaled_return(agent.act, goal)
    return Outcome(max(score, FLOOR), _stale(agent, trained.reward) if method.relabel and own else np.nan)


def _stale(agent: Any, reward: RewardEnsemble) -> float:
    buffer = agent.sb3.model.replay_buffer
    size = buffer.size()
    said = reward.reward(buffer.observations[:size, 0], buffer.actions[:size, 0])
    return float(np.abs(said - buffer.rewards[:size, 0]).max())


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """About two CPU-minutes; with `full` also the other methods and all of B-Pref's teachers."""
    arms: dict[str, dict[str, Any]] = {
        "pebble": {"method": pebble()},
        "answers that say nothing": {"method": pebble(), "mute": True},
        "the true reward": {"method": true_reward()},
        "without relabelling": {"method": ensemble()},
    }
    if full:
        arms |= {name: {"method": METHODS[name]()} for name in ("surf", "rune")}
        arms |= {f"teacher {name}": {"method": pebble(), "teacher": name} for name in BPREF if name != "oracle"}
    total, done = STEPS * len(arms), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(done / total)

    found = {name: run(seed, tick=tick, **arm) for name, arm in arms.items()}
    draw(out / "scores.png", {name: o.scaled for name, o in found.items()})
    # Last, the mean and sd of the development seeds 1000 to 1009.
    mechanism = [
        Mechanism("the replay holds today's rewards, largest difference", found["pebble"].stale, 1e-4),
    ]
    comparisons = [
        Comparison(
            f"scaled return, {name} less pebble",
            (found[name].scaled - found["pebble"].scaled,),
            paper,
            (np.nan, np.nan),
        )
        for name, paper in _PAPERS.items()
        if name in found
    ]
    return mechanism, comparisons


_PAPERS = {
    "without relabelling": "PEBBLE, figure 5: relabelling improves sample efficiency; no figure given in numbers",
    "surf": "SURF: the same returns with about half the answers",
    "rune": "RUNE: higher success at equal answers on Meta-world",
    "teacher mistake": "B-Pref: mistakes hurt most",
    "teacher noisy": "B-Pref: hurts less than mistakes",
    "teacher skip": "B-Pref: hardly hurts",
    "teacher myopic": "B-Pref: hardly hurts",
    "teacher equal": "B-Pref: hardly hurts",
}


def draw(path: Path, scores: Mapping[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(6.4, 0.9 + 0.4 * len(scores)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(list(scores), list(scores.values()), color=[f"C{i}" for i in range(len(scores))])
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="scaled true return (0 = doing nothing, 1 = the known optimum)")
    figure.savefig(path, dpi=140)
