"""What can be said to a query: one frozen dataclass for each kind of feedback, and their form in JSON.

| a query of kind | about | is answered by |
| --- | --- | --- |
| compare | two | Compare: which is better, or a tie |
| grade | two | Grade: which, and by how much |
| rank | K | Rank: all, from the best on |
| choose | K | Choose: the best alone. So a correction: the original, and fresh roll-outs from where it was stopped |
| rate | K | Rate: a number each |
| mark | one | Marks: stretches that are good, or bad |
| stop | one | Stop: from which step on it should not have gone on |
| survey | two | Survey: questions about each and about both, the better, and why (as in BASALT) |
| write | K | Written: free text |

Any of them may be answered by a Skip. How each is held against a reward: `embodied.likelihoods`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied.checks import MAX_STEPS, RecordError, check_name, check_text, check_written, number, probability, whole

STRENGTH = 2
"""The greatest grade of a graded comparison: 1 is better, 2 much better."""
CLASSES = 7
"""Of a rating, as people are asked: from 1 (bad) to 7 (very good)."""
MAX_SPANS = 200
MAX_ITEMS = 50  # of a survey
SIZES: Mapping[str, tuple[int, int | None]] = {
    "compare": (2, 2),
    "grade": (2, 2),
    "rank": (2, None),
    "choose": (2, None),
    "rate": (1, None),
    "mark": (1, 1),
    "stop": (1, 1),
    "survey": (2, 2),
    "write": (1, None),
}
"""Kind of a query -> least and greatest number of segments K."""
KINDS = tuple(SIZES)


@dataclass(frozen=True)
class Compare:
    """`first` = P(first is better), in [0, 1]; a tie is .5."""

    first: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", probability("first of a comparison", self.first))


@dataclass(frozen=True)
class Grade:
    """From -STRENGTH to STRENGTH: above 0 the first is better, 0 a tie, and the farther from 0 the stronger."""

    level: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", whole("level of a graded comparison", self.level, -STRENGTH, STRENGTH))


@dataclass(frozen=True)
class Rank:
    """Indices of the segments, best first: a permutation of 0..K-1."""

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        if any(isinstance(i, bool) or not isinstance(i, (int, np.integer)) for i in self.order):
            raise RecordError(f"ranking {self.order!r} holds something that is not an index; give whole numbers")
        object.__setattr__(self, "order", tuple(int(i) for i in self.order))
        if len(self.order) < 2 or sorted(self.order) != list(range(len(self.order))):
            raise RecordError(f"ranking {self.order!r} is no permutation; name each of 0..K-1 once, best first")


@dataclass(frozen=True)
class Choose:
    """The index of the best segment; of the others nothing is said."""

    best: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "best", whole("best of a choice", self.best, 0))


@dataclass(frozen=True)
class Rate:
    """One number per segment, higher is better; the scale is the annotator's own."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(number("rating", v) for v in self.values))
        if not self.values:
            raise RecordError("a rating of nothing; give one number per segment")


@dataclass(frozen=True)
class Marks:
    """Stretches (start, stop, good) of the segment, steps [start, stop), as they were seen when marked: a person who
    marks while it plays is late by some tenths of a second, and nothing is shifted here. None: nothing stood out."""

    spans: tuple[tuple[int, int, bool], ...]

    def __post_init__(self) -> None:
        given, spans = tuple(self.spans), []
        if len(given) > MAX_SPANS:
            raise RecordError(f"{len(given)} marks on one segment; give at most {MAX_SPANS}")
        for span in given:
            if not isinstance(span, tuple | list) or len(span) != 3 or not isinstance(span[2], bool):
                raise RecordError(f"a mark is {span!r}; give (start, stop, true for good or false for bad)")
            start = whole("start of a mark", span[0], 0, MAX_STEPS)
            spans.append((start, whole("stop of a mark, after its start,", span[1], start + 1, MAX_STEPS), span[2]))
        object.__setattr__(self, "spans", tuple(spans))


@dataclass(frozen=True)
class Stop:
    """The steps that were let pass, 1..T: it should have stopped after them. T: it is fine to the end."""

    after: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", whole("steps before a stop", self.after, 1, MAX_STEPS))


Item = float | tuple[bool | None, bool | None] | None


def _item(name: str, said: object) -> Item:
    check_name("name of a survey's question", name)
    if not isinstance(said, tuple | list):
        return None if said is None else probability(f"{name!r} of a survey", said)
    if len(said) != 2 or not all(each is None or isinstance(each, bool) for each in said):
        raise RecordError(f"{name!r} of a survey is {said!r}; give yes, no or None for each of the two")
    return said[0], said[1]


@dataclass(frozen=True)
class Survey:
    """`first` = P(first is better) over all; `items`: what was said to each question by its name, and `why`.

    A question about both is answered by P(first), one about each by (yes or no, yes or no), and None is: does not
    apply. (The form of the MineRL BASALT evaluation.)
    """

    first: float
    items: tuple[tuple[str, Item], ...] = ()  # a mapping is taken too
    why: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", probability("first of a survey", self.first))
        check_written("why of a survey", self.why)
        given = dict(self.items)
        if len(given) > MAX_ITEMS or len(given) < len(self.items):
            raise RecordError(f"{len(self.items)} items of a survey; give at most {MAX_ITEMS}, of different names")
        object.__setattr__(self, "items", tuple((name, _item(name, said)) for name, said in given.items()))


@dataclass(frozen=True)
class Written:
    """Free text. It says nothing to a reward by itself; a language model that judges makes comparisons of it."""

    text: str

    def __post_init__(self) -> None:
        check_written("what was written", self.text)
        if not self.text.strip():
            raise RecordError("nothing was written; write something, or skip")


@dataclass(frozen=True)
class Skip:
    """The question was seen and not answered; it is counted apart and never trained on."""

    reason: str = ""

    def __post_init__(self) -> None:
        check_text("reason of a skip", self.reason)


Value = Compare | Grade | Rank | Choose | Rate | Marks | Stop | Survey | Written | Skip


def value_to_json(value: Value) -> dict[str, Any]:
    """A JSON object with one key that says the kind; `value_from_json` is its exact inverse."""
    match value:
        case Compare(first):
            return {"compare": first}
        case Grade(level):
            return {"grade": level}
        case Rank(order):
            return {"rank": list(order)}
        case Choose(best):
            return {"choose": best}
        case Rate(values):
            return {"rate": list(values)}
        case Marks(spans):
            return {"mark": [list(span) for span in spans]}
        case Stop(after):
            return {"stop": after}
        case Survey(first, items, why):
            told = {name: list(said) if isinstance(said, tuple) else said for name, said in items}
            return {"survey": {"first": first, "items": told, "why": why}}
        case Written(text):
            return {"write": text}
        case Skip(reason):
            return {"skip": reason}


def value_from_json(data: Mapping[str, Any]) -> Value:
    match data:
        case {"compare": first, **rest} if not rest:
            return Compare(first)
        case {"grade": level, **rest} if not rest:
            return Grade(level)
        case {"rank": [*order], **rest} if not rest:
            return Rank(tuple(order))
        case {"choose": best, **rest} if not rest:
            return Choose(best)
        case {"rate": [*values], **rest} if not rest:
            return Rate(tuple(values))
        case {"mark": [*spans], **rest} if not rest:
            return Marks(tuple(tuple(span) if isinstance(span, list) else span for span in spans))
        case {"stop": after, **rest} if not rest:
            return Stop(after)
        case {"survey": {"first": first, "items": {**items}, "why": why, **more}, **rest} if not rest and not more:
            return Survey(first, tuple((str(name), said) for name, said in items.items()), why)  # type: ignore[misc]
        case {"write": text, **rest} if not rest:
            return Written(text)
        case {"skip": reason, **rest} if not rest:
            return Skip(reason)
    raise RecordError(f"{data!r} is not the value of an answer; give one of the keys {', '.join((*KINDS, 'skip'))}")


def check_fits(what: str, query: str, value: Value, kind: str, lengths: Iterable[int]) -> None:
    """Raise RecordError unless a query of this kind, with segments of so many steps each, can be answered so; `what`
    and `query` are the names of both in the sentence."""
    steps = list(lengths)
    match value:
        case Skip():
            return
        case Compare() if kind == "compare":
            return
        case Grade() if kind == "grade":
            return
        case Survey() if kind == "survey":
            return
        case Written() if kind == "write":
            return
        case Rank(order) if kind == "rank":
            given = len(order)
        case Rate(values) if kind == "rate":
            given = len(values)
        case Choose(best) if kind == "choose":
            if best >= len(steps):
                raise RecordError(f"{what} chooses segment {best} of the {len(steps)} of {query}; count from 0")
            return
        case Marks(spans) if kind == "mark":
            if late := [span for span in spans if span[1] > steps[0]]:
                raise RecordError(
                    f"{what} marks steps {list(late[0][:2])} of the {steps[0]} of {query}; mark what was shown"
                )
            return
        case Stop(after) if kind == "stop":
            if after > steps[0]:
                raise RecordError(f"{what} stops {query} after {after} of {steps[0]} steps; give at most that")
            return
        case _:
            raise RecordError(f"{what} is {value!r}; {query} asks to {kind}: {kind} its segments or skip")
    if given != len(steps):
        raise RecordError(f"{what} covers {given} segments, {query} has {len(steps)}; {kind} all of them")


def shown_as(value: Value, shown: Sequence[int]) -> Value:
    """From places to numbers: `shown[i]` is the number, in the query, of the segment that was shown in place i.

    With the inverse permutation it goes the other way. A value of the wrong size stays as it is, for others to refuse.
    """
    shown = tuple(shown)
    match value:
        case Compare(first) if shown == (1, 0):
            return Compare(1 - first)
        case Grade(level) if shown == (1, 0):
            return Grade(-level)
        case Rank(order) if len(order) == len(shown):
            return Rank(tuple(shown[i] for i in order))
        case Choose(best) if best < len(shown):
            return Choose(shown[best])
        case Rate(values) if len(values) == len(shown):
            return Rate(tuple(values[shown.index(k)] for k in range(len(shown))))
        case Survey(first, items, why) if shown == (1, 0):
            return Survey(1 - first, tuple((name, _swapped(said)) for name, said in items), why)
        case _:
            return value


def _swapped(said: Item) -> Item:
    match said:
        case None:
            return None
        case (first, second):
            return second, first
        case _:
            return 1 - said


def first_better(value: Value) -> float | None:
    """P(first better) that a comparison of two says, graded or in a survey too; None for other kinds."""
    match value:
        case Compare(first) | Survey(first):
            return first
        case Grade(level):
            return 0.5 * (1 + float(np.sign(level)))
        case _:
            return None
