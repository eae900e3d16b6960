"""PEBBLE and its kin swing a pendulum up: off-policy, relabelled, from few answers, run by `rapport.train` as users do.

Lee et al. (2021, arXiv 2106.05091), with B-Pref's teachers (arXiv 2111.03026). The agent sees answers alone; its score
is the share of the cost of hanging down that it saves, on fixed starts. Controls: the true reward swings it up, answers
that say nothing do not. That every step in the replay holds the reward of today is checked by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from embodied.label_models import as_given, smooth
from embodied.rewards.ensemble import RewardEnsemble
from embodied.teachers import BPREF
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.train import METHODS, Method, Settings, pebble, train, true_reward
from rapport.train.learner import EVALUATION, returns
from rapport.train.spaces import world
from rapport.train.training import FIT

DOMAINS = ("pendulum",)
ENV, STEPS, ANSWERS, SESSIONS, CLIP, EPISODES = "Pendulum-v1", 6_000, 80, 8, 25, 20
AGENT = {"batch_size": 64, "policy_kwargs": {"net_arch": [64, 64]}, "learning_starts": 400}
LAST = 3  # rounds whose best policy is scored, in every arm alike: the last one alone is a draw


@dataclass(frozen=True)
class Outcome:
    """`curve`: true return after each round. `stale`: the largest difference between a reward in the replay and what
    the learned reward says of that step today (NaN where that is not looked at)."""

    curve: tuple[float, ...]
    stale: float

    @property
    def score(self) -> float:
        """1 - cost / cost of hanging down, not below 0: by how much one misses is no measure of anything."""
        return max(0.0, 1 - max(self.curve[-LAST:]) / hanging())


def hanging() -> float:
    """The true return of doing nothing."""
    place = world(ENV, {}, 0, 0)
    return float(returns(lambda obs: np.zeros((len(obs), 1), np.float32), place, EPISODES, EVALUATION).mean())


def run(
    seed: int, method: Method, tick: Callable[[int], object], teacher: str = "oracle", mute: bool = False
) -> Outcome:
    """One teacher, one agent. mute: every answer is taken for a tie, so that nothing can be learned from it."""
    settings = Settings(
        env=ENV,
        method=method,
        answers=ANSWERS if method.reward != "true" else 0,
        steps=STEPS,
        seed=seed,
        teacher=teacher,
        sessions=SESSIONS,
        clip=CLIP,
        episodes=EPISODES,
    )

    def network(obs: int, act: int, seed: int) -> RewardEnsemble:
        said = smooth(0.5) if mute else as_given
        return RewardEnsemble(obs, act, seed=seed, steps=FIT, label_model=said)

    with tempfile.TemporaryDirectory() as folder:
        trained = train(settings, folder, reward=network if mute else None, progress=tick, kwargs=AGENT)
    stale = _stale(trained.actor, trained.reward) if method.relabel and method.name == "pebble" else np.nan
    return Outcome(tuple(float(row["return"]) for row in trained.rows), stale)


def _stale(agent: Any, reward: RewardEnsemble) -> float:
    buffer = agent.sb3.model.replay_buffer
    size = buffer.size()
    act = agent.sb3.module.unscale_action(buffer.actions[:size, 0])
    said = reward.reward(buffer.observations[:size, 0], act)
    return float(np.abs(said - buffer.rewards[:size, 0]).max())


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """About two CPU-minutes; with `full` also the other methods and all of B-Pref's teachers."""
    arms: dict[str, dict[str, Any]] = {
        "pebble": {"method": pebble()},
        "answers that say nothing": {"method": pebble(), "mute": True},
        "the true reward": {"method": true_reward()},
    }
    if full:
        arms["without relabelling"] = {"method": replace(pebble(), name="pebble without relabelling", relabel=False)}
        arms |= {name: {"method": METHODS[name]()} for name in ("surf", "rune", "transformer")}
        arms |= {f"teacher {name}": {"method": pebble(), "teacher": name} for name in BPREF if name != "oracle"}
    total, done = STEPS * len(arms), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(done / total)

    found = {name: run(seed, tick=tick, **arm) for name, arm in arms.items()}
    score = {name: outcome.score for name, outcome in found.items()}
    draw(out / "curves.png", found)
    # Last, the mean and sd of the development seeds 1000 to 1009.
    mechanism = [
        Mechanism("largest difference of the replay from today's reward", found["pebble"].stale, 1e-4),
        Mechanism(f"score, {ANSWERS} answers", score["pebble"], 0.55, "at least", (0.827, 0.064)),
        Mechanism("score, the true reward", score["the true reward"], 0.75, "at least", (0.865, 0.018)),
        Mechanism(
            "score, answers that say nothing", score["answers that say nothing"], 0.46, "at most", (0.058, 0.098)
        ),
    ]
    comparisons = [
        Comparison(f"score, {name} less pebble", (score[name] - score["pebble"],), paper, claim)
        for name, (paper, claim) in _PAPERS.items()
        if name in found
    ]
    return mechanism, comparisons


# Of these papers' figures none was verified: a direction is claimed where the paper is about it, else nothing.
_WORSE, _BETTER, _OPEN = (-np.inf, 0.0), (0.0, np.inf), (np.nan, np.nan)
_PAPERS = {
    "without relabelling": ("PEBBLE: relabelling helps", _WORSE),
    "surf": ("SURF: better than PEBBLE at equal answers", _BETTER),
    "rune": ("RUNE: better than PEBBLE at equal answers", _BETTER),
    "transformer": ("Preference Transformer: shown off-line, nothing claimed here", _OPEN),
    "teacher mistake": ("B-Pref: mistakes hurt", _WORSE),
    "teacher noisy": ("B-Pref: nothing claimed here", _OPEN),
    "teacher skip": ("B-Pref: nothing claimed here", _OPEN),
    "teacher myopic": ("B-Pref: nothing claimed here", _OPEN),
    "teacher equal": ("B-Pref: nothing claimed here", _OPEN),
}


def draw(path: Path, arms: Mapping[str, Outcome]) -> None:
    """True return after each round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, outcome in arms.items():
        axes.plot(range(len(outcome.curve)), outcome.curve, label=name, linewidth=1.6)
    axes.axhline(hanging(), color="0.6", linewidth=0.8)
    axes.set(xlabel="round (0: before training)", ylabel="true return (grey line: hanging down)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=140)
