"""The simulated people of the main job, and what each wishes for. Nothing that learns imports this file's utilities.

Definitions were fixed before any of the runs that the docs report. A person sees clips, so their utility is a function
of what a clip shows: observations and actions. The wishes are what the result is judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from embodied.records import Array, Segment
from envs.arm import DT, decode
from envs.arm_model import CUP_RADIUS
from envs.arm_task import over_laptop

SETTLE = 10  # steps before the mean tilt is judged: the cup has to be lifted first
COMFORT = 0.03  # m; the careful person starts to worry this far from the laptop


def depth(obs: Array) -> Array:
    """Signed depth of the cup's centre in the laptop's outline, m; [..., O] -> [...]; negative is outside."""
    return over_laptop(-decode(obs)["laptop_offset"], np.zeros(2))


def path(obs: Array) -> Array:
    """Length of the cup's path in each step, m; [..., T, O] -> [..., T]; the last step counts as none."""
    return _difference(obs[..., 0:3], lambda d: np.linalg.norm(d, axis=-1))


def _difference(values: Array, measure: Callable[[Array], Array]) -> Array:
    steps = measure(np.diff(values, axis=-2))
    return np.concatenate([steps, np.zeros((*steps.shape[:-1], 1))], -1)


def tilt(obs: Array) -> Array:
    """Degrees from upright, [..., O] -> [...]."""
    return np.degrees(decode(obs)["tilt"])


def _task(obs: Array) -> Array:
    d = np.linalg.norm(decode(obs)["goal_offset"], axis=-1)
    return 10 * -_difference(d[..., None], lambda x: x[..., 0]) + 0.2 * np.exp(-((d / 0.06) ** 2))


def _spill(obs: Array) -> Array:
    return np.clip((tilt(obs) - 5) / 35, 0, 2)


def _jerk(obs: Array, act: Array) -> Array:
    return np.minimum(np.abs(act - decode(obs)["last_action"]).sum(-1), 1.5)


def _careful(obs: Array, act: Array) -> Array:
    worry = 1 / (1 + np.exp(-(depth(obs) + COMFORT) / 0.03))
    return -3 * worry - _spill(obs) - 0.1 * _jerk(obs, act)


def _short(obs: Array, act: Array) -> Array:
    walked = np.linalg.norm(decode(obs)["velocity"], axis=-1) * DT
    return -_spill(obs) - 40 * walked - 0.1 * _jerk(obs, act)


def clear_of_laptop(obs: Array) -> Array:
    """The cup's centre never over the laptop, [..., T, O] -> bool [...]."""
    return depth(obs).max(-1) <= 0


def whole_cup_clear(obs: Array) -> Array:
    """The cup's centre always its radius away from the laptop's outline, which keeps an upright cup clear of it.
    Reported, not counted as a wish."""
    return depth(obs).max(-1) <= -CUP_RADIUS


def upright(obs: Array) -> Array:
    """Mean tilt under 10 degrees after the first half second."""
    return tilt(obs)[..., SETTLE:].mean(-1) < 10


def short_way(obs: Array) -> Array:
    """The path at most 20 % longer than the straight line from the start to the goal."""
    straight = np.linalg.norm(decode(obs[..., 0, :])["goal_offset"], axis=-1)
    return path(obs).sum(-1) <= 1.2 * straight


@dataclass(frozen=True)
class Person:
    """`liking(obs [..., T, O], act [..., T, A]) -> [..., T]` per step, apart from the task, which everybody cares for;
    `wishes` judge whole episodes, [..., T, O] -> bool [...]."""

    name: str
    wants: str
    liking: Callable[[Array, Array], Array]
    wishes: Mapping[str, Callable[[Array], Array]]

    def worth(self, obs: Array, act: Array) -> Array:
        """Of clips [..., T, O], [..., T, A] -> [...], the task included."""
        return (self.liking(obs, act) + _task(obs)).sum(-1)

    def utility(self, segment: Segment) -> float:
        """Of a clip, the task included."""
        return float(self.worth(segment.obs, segment.act))


CAREFUL = Person(
    "careful",
    "the cup upright, and carried around the laptop",
    _careful,
    {"around the laptop": clear_of_laptop, "upright": upright},
)
SHORT = Person(
    "short",
    "the cup upright, and the short way",
    _short,
    {"the short way": short_way, "upright": upright},
)
PEOPLE = {person.name: person for person in (CAREFUL, SHORT)}


@dataclass(frozen=True)
class TrueReward:
    """What the person likes, handed to the learner without any question: the ceiling in the docs' table."""

    person: Person

    def step(self, obs: Array, act: Array) -> Array:
        """[..., T, O], [..., T, A] -> [..., T, 1]."""
        return self.person.liking(obs, act)[..., None]

    def reward(self, obs: Array, act: Array) -> Array:
        return self.person.liking(obs[:, None], act[:, None])[:, 0]

    def value(self, totals: Array) -> Array:
        return totals[..., 0]
