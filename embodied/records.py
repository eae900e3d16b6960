"""What is asked and what is answered: Segment -> Query -> Answer, the durable half of the data chain (numpy only).

Shapes follow one alphabet: K alternatives of one query, T time, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from embodied.checks import (
    MAX_NAME,
    MAX_STEPS,
    Array,
    RecordError,
    check_array,
    check_name,
    check_steps,
    check_text,
)
from embodied.values import (
    KINDS,
    SIZES,
    Choose,
    Compare,
    Grade,
    Marks,
    Rank,
    Rate,
    Skip,
    Stop,
    Survey,
    Value,
    Written,
    check_fits,
    value_from_json,
    value_to_json,
)

__all__ = [
    "KINDS",
    "MAX_NAME",
    "MAX_STEPS",
    "SOURCES",
    "Answer",
    "Array",
    "Choose",
    "Compare",
    "Grade",
    "Marks",
    "Query",
    "Rank",
    "Rate",
    "RecordError",
    "Segment",
    "Skip",
    "Stop",
    "Survey",
    "Value",
    "Written",
    "check_answer",
    "check_array",
    "check_name",
    "check_steps",
    "check_text",
    "check_value",
    "value_from_json",
    "value_to_json",
]

SOURCES = ("person", "teacher", "judge", "import")


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
    """K segments shown together, and what is asked of them: the kinds are those of `embodied.values`.

    `context` is the sentence shown above them, or the prompt that texts answer; `anchor` a segment that the others are
    held against (it is not scored).
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
        least, most = SIZES[self.kind]
        if not least <= count <= (count if most is None else most):
            wanted = f"exactly {least}" if most == least else f"at least {least}"
            raise RecordError(f"query {self.id!r} of kind {self.kind!r} has {count} segments; give {wanted}")
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
            raise RecordError(f"answer {self.id!r} has value {self.value!r}; use one of embodied.values")
        if self.supersedes:
            check_name(f"supersedes of answer {self.id!r}", self.supersedes)
        if self.supersedes == self.id:
            raise RecordError(f"answer {self.id!r} supersedes itself; a revision needs an id of its own")


def check_answer(answer: Answer, query: Query) -> None:
    """Raise RecordError unless the answer's value is one that this query can have."""
    if answer.query != query.id:
        raise RecordError(f"answer {answer.id!r} is to query {answer.query!r}, not to {query.id!r}; take its own query")
    check_value(answer, query.kind, [len(segment) for segment in query.segments])


def check_value(answer: Answer, kind: str, lengths: Iterable[int]) -> None:
    """The same, knowing only the query's kind and its segments' steps (the store loads no arrays for it)."""
    check_fits(f"answer {answer.id!r}", f"query {answer.query!r}", answer.value, kind, lengths)
