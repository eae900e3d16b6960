"""What is asked and what is answered: Segment -> Query -> Answer, the durable half of the data chain (numpy only).

Shapes follow one alphabet: K alternatives of one query, T time, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_STEPS = 100_000
MAX_NAME = 200
KINDS = ("compare", "rank", "rate")
SOURCES = ("person", "teacher", "judge", "import")


class RecordError(ValueError):
    """A record that makes no sense; the sentence names the value and the mend."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Steps [start, stop) of one episode: obs [T,*O], act [T,*A], T = stop - start; without actions act is [T,0].

    Raises RecordError for T outside 1..MAX_STEPS, arrays of another length, non-numbers, NaN or infinity.
    """

    episode: str
    start: int
    stop: int
    obs: Array
    act: Array

    def __post_init__(self) -> None:
        check_name("episode of a segment", self.episode)
        where = f"segment [{self.start}, {self.stop}) of episode {self.episode!r}"
        for name in ("start", "stop"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise RecordError(f"{where}: {name} is {value!r}; give a whole number of steps")
            object.__setattr__(self, name, int(value))
        if self.start < 0:
            raise RecordError(f"{where} starts at {self.start}, before the episode; start at 0 or later")
        check_steps(where, self.stop - self.start)
        check_array(where, "obs", self.obs, self.stop - self.start)
        check_array(where, "act", self.act, self.stop - self.start)

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Query:
    """K segments shown together, and what is asked of them: `compare` two, `rank` several, or `rate` each.

    `context` is the sentence shown above them; `anchor` a segment that the others are held against (it is not scored).
    """

    id: str
    segments: tuple[Segment, ...]
    kind: str = "compare"
    context: str = ""
    anchor: Segment | None = None

    def __post_init__(self) -> None:
        check_name("id of a query", self.id)
        check_text(f"context of query {self.id!r}", self.context)
        object.__setattr__(self, "segments", tuple(self.segments))
        if self.kind not in KINDS:
            raise RecordError(f"query {self.id!r} has kind {self.kind!r}; use one of {', '.join(KINDS)}")
        count = len(self.segments)
        if self.kind == "compare" and count != 2:
            raise RecordError(f"query {self.id!r} compares {count} segments; give exactly 2, or use kind 'rank'")
        if count < (1 if self.kind == "rate" else 2):
            raise RecordError(f"query {self.id!r} of kind {self.kind!r} has {count} segments; give more")
        for name in ("obs", "act"):
            shapes = {
                getattr(segment, name).shape[1:]
                for segment in (*self.segments, *([self.anchor] if self.anchor else []))
            }
            if len(shapes) > 1:
                mixed = sorted(shapes)
                raise RecordError(
                    f"query {self.id!r} mixes {name} of shapes {mixed} per step; take segments of one environment"
                )


@dataclass(frozen=True)
class Compare:
    """`first` = P(first is better), in [0, 1]; a tie is .5."""

    first: float

    def __post_init__(self) -> None:
        _number("first of a comparison", self.first)
        object.__setattr__(self, "first", float(self.first))
        if not 0.0 <= self.first <= 1.0:
            raise RecordError(f"first of a comparison is {self.first!r}; give a probability in [0, 1]")


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
class Rate:
    """One number per segment, higher is better; the scale is the annotator's own."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        for value in self.values:
            _number("rating", value)
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if not self.values:
            raise RecordError("a rating of nothing; give one number per segment")


@dataclass(frozen=True)
class Skip:
    """The question was seen and not answered; it is counted apart and never trained on."""

    reason: str = ""

    def __post_init__(self) -> None:
        check_text("reason of a skip", self.reason)


Value = Compare | Rank | Rate | Skip


@dataclass(frozen=True)
class Answer:
    """What one annotator said to one query. The store gives `seq`; `supersedes` is the id of the answer it revises."""

    id: str
    query: str
    annotator: str
    source: str
    value: Value
    seq: int = 0
    supersedes: str = ""

    def __post_init__(self) -> None:
        check_name("id of an answer", self.id)
        check_name(f"query of answer {self.id!r}", self.query)
        check_name(f"annotator of answer {self.id!r}", self.annotator)
        if self.source not in SOURCES:
            raise RecordError(f"answer {self.id!r} has source {self.source!r}; use one of {', '.join(SOURCES)}")
        if not isinstance(self.value, Value):
            raise RecordError(f"answer {self.id!r} has value {self.value!r}; use Compare, Rank, Rate or Skip")
        if self.supersedes:
            check_name(f"supersedes of answer {self.id!r}", self.supersedes)
        if self.supersedes == self.id:
            raise RecordError(f"answer {self.id!r} supersedes itself; a revision needs an id of its own")


def value_to_json(value: Value) -> dict[str, Any]:
    """A JSON object with one key that says the kind; `value_from_json` is its exact inverse."""
    match value:
        case Compare(first):
            return {"compare": first}
        case Rank(order):
            return {"rank": list(order)}
        case Rate(values):
            return {"rate": list(values)}
        case Skip(reason):
            return {"skip": reason}


def value_from_json(data: Mapping[str, Any]) -> Value:
    match data:
        case {"compare": first, **rest} if not rest:
            return Compare(first)
        case {"rank": [*order], **rest} if not rest:
            return Rank(tuple(order))
        case {"rate": [*values], **rest} if not rest:
            return Rate(tuple(values))
        case {"skip": reason, **rest} if not rest:
            return Skip(reason)
    raise RecordError(f"{data!r} is not the value of an answer; give one of the keys compare, rank, rate, skip")


def check_answer(answer: Answer, query: Query) -> None:
    """Raise RecordError unless the answer's value is one that this query can have."""
    if answer.query != query.id:
        raise RecordError(f"answer {answer.id!r} is to query {answer.query!r}, not to {query.id!r}; take its own query")
    check_value(answer, query.kind, len(query.segments))


def check_value(answer: Answer, kind: str, count: int) -> None:
    """The same, knowing only the query's kind and its number of segments K (the store loads no arrays for it)."""
    match answer.value:
        case Skip():
            return
        case Compare() if kind == "compare":
            return
        case Rank(order) if kind == "rank":
            given = len(order)
        case Rate(values) if kind == "rate":
            given = len(values)
        case value:
            raise RecordError(
                f"answer {answer.id!r} is {value!r}; query {answer.query!r} asks to {kind}: {kind} its segments or skip"
            )
    if given != count:
        raise RecordError(
            f"answer {answer.id!r} covers {given} segments, query {answer.query!r} has {count}; {kind} all of them"
        )


def check_name(what: str, value: object) -> None:
    """A name or id: any text of 1..MAX_NAME characters."""
    check_text(what, value)
    if not 1 <= len(str(value)) <= MAX_NAME:
        raise RecordError(f"{what} has {len(str(value))} characters: {str(value)[:40]!r}; give 1 to {MAX_NAME}")


def check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise RecordError(f"{what} is {value!r}; give text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{what} is {value!r}, which is no valid Unicode; remove the lone surrogate") from None


def check_steps(what: str, steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise RecordError(f"{what} has {steps} steps; give 1 to {MAX_STEPS:,}")


def check_array(what: str, name: str, value: object, steps: int) -> None:
    """A numeric, finite array whose first axis is time."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise RecordError(f"{what}: {name} is {found}; give a numpy array of numbers")
    if value.ndim < 1 or len(value) != steps:
        raise RecordError(f"{what}: {name} has shape {value.shape}, not [{steps}, ...]; give one row per step")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        bad = np.argwhere(~np.isfinite(value))[0]
        raise RecordError(
            f"{what}: {name}{[int(i) for i in bad]} is {value[tuple(bad)]}; mend the environment or drop the episode"
        )


def _number(what: str, value: object) -> None:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        raise RecordError(f"{what} is {value!r}; give a finite number")
