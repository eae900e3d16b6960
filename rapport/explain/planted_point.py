"""The same people about clips of the point mass, where the best policy and its values are known in closed form."""

from __future__ import annotations

import numpy as np

from embodied.episodes import Episode
from embodied.feedback import Feedback
from embodied.records import Array
from embodied.walks import labels
from envs.point import HORIZON, Lqr, lqr, quadratic_reward
from rapport.beside import feedback, roll_out, starts
from rapport.explain.planted import Person

GOALS, EACH, LENGTH = 40, 10, 5
SURE = 3.0  # the deviation of the gaps, in logits


def recorded(rng: np.random.Generator) -> list[Episode]:
    """Ten episodes towards each of forty goals, with more noise or less."""
    made: list[tuple[Array, Array]] = []
    for goal, noise in zip(rng.uniform(-1, 1, (GOALS, 2)), rng.uniform(0.05, 0.6, GOALS), strict=True):
        best = lqr(goal)

        def act(obs: Array, best: Lqr = best, noise: float = noise) -> Array:
            return np.clip(best.act(obs) + rng.normal(0, noise, (len(obs), 2)), -1, 1)

        made += zip(*roll_out(act, starts(EACH, rng)), strict=True)
    return [Episode(f"e{i}", obs, act, terminated=True) for i, (obs, act) in enumerate(made)]


def person(kind: Person, n: int, seed: int) -> tuple[list[Episode], Feedback]:
    """The recordings, and n answers about pairs of clips of five steps, given with slips.

    Who answers by return or regret wants the point at a goal of their own; cpl: acts by a random linear map of what is
    seen, which is best for nothing.
    """
    rng = np.random.default_rng([seed, n])
    episodes = recorded(rng)
    which = rng.integers(len(episodes), size=(n, 2))
    time = rng.integers(HORIZON - LENGTH + 1, size=(n, 2))[..., None] + np.arange(LENGTH)
    obs = np.stack([e.obs for e in episodes])[which[..., None], time]
    act = np.stack([e.act for e in episodes])[which[..., None], time]
    score = utility(kind, obs, act, rng)
    spread = float((score[:, 0] - score[:, 1]).std())
    target = labels(score * (SURE / spread if spread else 0.0), rng).numpy()
    return episodes, feedback(obs, act, target)


def utility(kind: Person, obs: Array, act: Array, rng: np.random.Generator) -> Array:
    """[B,2], in any unit."""
    goal, habit = rng.uniform(-0.8, 0.8, 2), rng.normal(0, 0.7, (2, obs.shape[-1]))
    if kind == "random":
        return np.zeros(obs.shape[:2])
    if kind == "cpl":
        return np.asarray(-((act - obs @ habit.T) ** 2).sum((-1, -2)))
    paid, best = quadratic_reward(goal)(obs, act), lqr(goal)
    begin, end = (best.value(obs[:, :, t].reshape(-1, obs.shape[-1])).reshape(obs.shape[:2]) for t in (0, -1))
    missed = begin - paid[..., :-1].sum(-1) - end
    return np.asarray({"return": paid.sum(-1), "regret": -missed, "mixture": (paid.sum(-1) - missed) / 2}[kind])
