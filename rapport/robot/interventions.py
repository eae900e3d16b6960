"""What people did to a robot while it moved, as answers that they never had to type.

- **Took over**: a `compare` of the policy's last steps and as many of theirs, answered with a Compare: theirs is
  better. Its likelihood is that of comparisons, the loss one trains with.
- **Pressed the e-stop**: a `stop` of the policy's last steps, answered with a Stop: after the step that came `reaction`
  seconds before. Its likelihood is `embodied.likelihoods.stopped`: which of the prefixes is best.

What the policy would have gone on with is not known on a real robot, so a takeover is held against what it had just
done: another start, and Feedback's `same_context` says so. A stop without a hand (a fault, the end of a task) says
nothing about the policy, and an ordinary stop by an operator may mean anything: neither is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied.episodes import Episode, cut
from embodied.records import Answer, Compare, Query, Stop, Value
from hardware.journal import SOURCES
from hardware.to_episodes import about
from rapport.robot.queries import HUMAN, POLICY, USUAL, Rules, clean, named, runs, step_seconds, steps_of

UNNAMED = "operator"
HOLD = SOURCES.index("hold")
HELD = 1.0  # s at most between a policy and who takes over from it
LEAST = 3  # steps; of fewer there is nothing to see


@dataclass(frozen=True, eq=False)
class Done:
    """A question that was answered by doing. at: the step of the episode at which it was done."""

    query: Query
    answer: Answer
    at: int


def takeovers(episode: Episode, rules: Rules = USUAL) -> list[Done]:
    """One for every time at which a human went on where the policy had led, at once or after the arm was held."""
    ended = {stop: start for start, stop in runs(episode, rules, POLICY)}
    most, found = steps_of(episode, rules.seconds), []
    for at, end in runs(episode, rules, HUMAN):
        left = _left(episode, at)
        k = min(most, left - ended.get(left, left), end - at)  # equally long, so that neither earns more by lasting
        if k >= LEAST and clean(episode, left - k, left, rules):
            segments = cut(episode, left - k, left), cut(episode, at, at + k)
            query = Query(named("takeover", segments), segments, "compare", "Somebody took over: before, and after")
            found.append(_done(episode, query, Compare(0.0), at, at - 1))
    return found


def _left(episode: Episode, at: int) -> int:
    """Where the policy left the arm that a human led from `at` on: a moment's hold may lie between."""
    info, left = episode.info, at
    while left and info["source"][left - 1] == HOLD and not info["stopped"][left - 1]:
        left -= 1
    return left if info["time"][at] - info["time"][left] <= HELD else at


def stops(episode: Episode, rules: Rules = USUAL) -> list[Done]:
    """One for every e-stop that somebody pressed while the policy led. The segment ends with the step in which it was
    pressed; those of the last `reaction` seconds were still let happen, and are what was stopped."""
    found, step, source = [], step_seconds(episode), episode.info["source"]
    begins = {stop: start for start, stop in runs(episode, rules, POLICY)}
    for at in np.flatnonzero(episode.info["pressed"] & (source == POLICY)).tolist():
        start = max(begins.get(at, at), at + 1 - steps_of(episode, rules.seconds))
        after = at - start - round(rules.reaction / step)
        if after >= 1 and clean(episode, start, at, rules):
            segments = (cut(episode, start, at + 1),)
            found.append(_done(episode, Query(named("stop", segments), segments, "stop"), Stop(after), at, at))
    return found


def _done(episode: Episode, query: Query, value: Value, at: int, told: int) -> Done:
    """told: the step to which the journal's event belongs."""
    who = about(episode)["hands"].get(str(told), UNNAMED)
    return Done(query, Answer(f"{query.id}:done", query.id, who, "person", value), at)
