"""Which stretches of a robot's episodes may be compared, and which with which. Pure: from episodes that
`hardware.to_episodes` made to Queries of the core.

People are to judge the policy, so they are never shown a stretch in which something else had a hand: where the source
changes, a stop or a fault begins, things are told to be elsewhere, a reading was missed or time was lost, a stretch
ends; and one of whose ticks the envelope changed more than a twentieth is not shown at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied.episodes import Episode, cut
from embodied.records import Query, Segment
from hardware.journal import SOURCES
from hardware.to_episodes import LATE_LOOK, about, scene

PREFIX = "robot:"
POLICY, HUMAN = SOURCES.index("policy"), SOURCES.index("human")


@dataclass(frozen=True)
class Rules:
    """seconds: of a stretch. clipped: the greatest share of its ticks that the envelope may have changed. age: s, the
    oldest look of the policy that still counts as its present one. joint: rad, and thing: m, the width of a bin of
    starts, of joint angles and of the numbers of the scene. reaction: s from seeing something to stopping it."""

    seconds: float = 2.0
    clipped: float = 0.05
    age: float = 1.0
    joint: float = 0.35
    thing: float = 0.1
    reaction: float = 0.3

    def __post_init__(self) -> None:
        for name in ("seconds", "age", "joint", "thing"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a positive number")
        if not (0 <= self.clipped <= 1 and 0 <= self.reaction < np.inf):
            raise ValueError(f"clipped is {self.clipped} and reaction {self.reaction}; give a share, and seconds")


USUAL = Rules()


@dataclass(frozen=True)
class Stretch:
    """Steps [start, stop) of an episode, all of one source; `like`: what they have in common with stretches that they
    may be held against: robot, task, how it began."""

    episode: str
    start: int
    stop: int
    like: tuple[Any, ...]


@dataclass(frozen=True)
class Origin:
    """Where a segment lies in its journal: the bytes of its first and last step, and s since the first tick."""

    journal: str
    first: int
    last: int
    begins: float
    ends: float


def origin(episode: Episode, segment: Segment) -> Origin:
    """Raises EpisodeError for an episode that comes from no journal."""
    told, last = about(episode), segment.stop - 1
    offset, time = episode.info["offset"], episode.info["time"]
    where = int(offset[segment.start]), int(offset[last])
    return Origin(told["journal"], *where, float(time[segment.start]), float(time[last]) + step_seconds(episode))


def step_seconds(episode: Episode) -> float:
    """How long a step lasts: the median, so that a pause counts for nothing."""
    time = episode.info["time"]
    return float(np.median(np.diff(time))) if len(time) > 1 else 1.0


def runs(episode: Episode, rules: Rules, source: int) -> list[tuple[int, int]]:
    """[start, stop) of every stretch, as long as it goes, in which this source led and nothing was amiss."""
    info, step = episode.info, step_seconds(episode)
    good = (info["source"] == source) & ~info["stopped"] & (info["missed"] == 0) & (info["age"] <= rules.age)
    most = LATE_LOOK + 0.5 if about(episode).get("own") else 1.75  # of those in own terms `own_terms` has judged
    late = np.concatenate([[False], np.diff(info["time"]) > most * step])
    late[[int(t) for t in about(episode).get("moved", {})]] = True  # things are elsewhere from there on
    found, begin = [], -1
    for t in range(len(good) + 1):
        ends = t == len(good) or not good[t] or late[t]
        if begin >= 0 and ends:
            found.append((begin, t))
            begin = -1
        if t < len(good) and good[t] and begin < 0:
            begin = t
    return found


def stretches(episode: Episode, rules: Rules = USUAL) -> list[Stretch]:
    """Those of the policy, one after another, each `seconds` long by the loop's own clock, or down to three quarters of
    that where a run is shared out evenly; what is shorter is not shown.

    Raises EpisodeError for an episode that comes from no journal.
    """
    steps = steps_of(episode, rules.seconds)
    found = []
    for begin, end in runs(episode, rules, POLICY):
        pieces = round((end - begin) / steps) if end - begin >= 0.75 * steps else 0
        for k in range(pieces):
            size = min(steps, (end - begin) // pieces)
            start = begin + k * size
            if clean(episode, start, start + size, rules):
                found.append(Stretch(episode.id, start, start + size, _like(episode, start, rules)))
    return found


def steps_of(episode: Episode, seconds: float) -> int:
    return max(1, round(seconds / step_seconds(episode)))


def clean(episode: Episode, start: int, stop: int, rules: Rules) -> bool:
    """Whether the envelope left it nearly alone."""
    return bool(np.mean(episode.info["clipped"][start:stop]) <= rules.clipped)


def _like(episode: Episode, start: int, rules: Rules) -> tuple[Any, ...]:
    told = about(episode)
    joints = tuple(np.round(episode.info["position"][start] / rules.joint).astype(int).tolist())
    there = scene(episode, start)
    things = tuple((name, *np.round(np.array(given) / rules.thing).astype(int)) for name, given in there.items())
    shapes = episode.obs.shape[1:], episode.act.shape[1:]
    return told["robot"], tuple(told["joints"]), told["task"], shapes, joints, tuple(sorted(things))


def pairs(found: Sequence[Stretch], n: int, rng: np.random.Generator) -> list[tuple[Stretch, Stretch]]:
    """At most n, each stretch in one of them, drawn evenly from all that began alike; of one episode only where others
    are used up."""
    groups: dict[tuple[Any, ...], list[Stretch]] = {}
    for one in found:
        groups.setdefault(one.like, []).append(one)
    made = []
    for like in sorted(groups, key=repr):
        left = [groups[like][i] for i in rng.permutation(len(groups[like]))]
        while len(left) > 1:
            first = left.pop()
            other = next((k for k, each in enumerate(left) if each.episode != first.episode), 0)
            made.append((first, left.pop(other)))
    return [made[i] for i in rng.permutation(len(made))[: max(0, n)]]


def question(first: Stretch, second: Stretch, episodes: Mapping[str, Episode]) -> Query:
    """Which of two is better; both as many steps long as the shorter, so that none earns more by lasting longer."""
    steps = min(first.stop - first.start, second.stop - second.start)
    segments = tuple(cut(episodes[s.episode], s.start, s.start + steps) for s in (first, second))
    task = about(episodes[first.episode])["task"]
    return Query(named("pair", segments), segments, "compare", f"Which is better? The task: {task}" if task else "")


def named(kind: str, segments: Sequence[Segment]) -> str:
    """An id that depends on what is shown alone."""
    shown = repr([(s.episode, s.start, s.stop) for s in segments])
    return f"{PREFIX}{kind}-{hashlib.sha256(shown.encode()).hexdigest()[:24]}"
