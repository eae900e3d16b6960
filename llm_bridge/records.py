"""One record for what anybody said about completions of a prompt, whatever file it came from. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from embodied.checks import RecordError, check_text, number
from embodied.records import Answer, Choose, Compare, Grade, Marks, Query, Rank, Rate, Segment, value_from_json
from embodied.rows import rows
from embodied.values import check_fits, value_to_json
from llm_bridge.messages import Message, Prompt, messages_from

Said = Compare | Grade | Rank | Choose | Rate | bool | None
_STEP = Segment("e", 0, 1, np.zeros((1, 0)), np.zeros((1, 1)))  # stands for a text; targets do not look at it
_KINDS = {Compare: "compare", Grade: "grade", Rank: "rank", Choose: "choose", Rate: "rate", bool: "mark"}


@dataclass(frozen=True)
class Record:
    """K completions of one prompt, and what `annotator` said of them: one of the core's values, whether the one
    completion is good (a bool), or nothing. scores: what else was measured, by name, one number per completion.

    Raises RecordError for a prompt that ends with the assistant, and where what was said does not fit the completions.
    """

    prompt: Prompt
    completions: tuple[str, ...] = ()
    said: Said = None
    annotator: str = ""
    weight: float = 1.0
    scores: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def __post_init__(self) -> None:
        for name in ("prompt", "completions", "scores"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.prompt and self.prompt[-1].role == "assistant":
            raise RecordError(
                "the prompt ends with the assistant's words; give them as the completion, or a user's turn"
            )
        for completion in self.completions:
            check_text("a completion", completion)
        check_text("annotator", self.annotator)
        object.__setattr__(self, "weight", number("weight", self.weight))
        if self.weight < 0:
            raise RecordError(f"weight is {self.weight}; give at least 0, and swap the completions to negate")
        count = len(self.completions)
        if isinstance(self.said, bool):
            if count != 1:
                raise RecordError(f"good or bad is said of {count} completions; give exactly one, or rate them")
        elif self.said is not None:
            kind = self.kind
            if kind in ("compare", "grade") and count != 2:
                raise RecordError(f"{self.said} is said of {count} completions; give two")
            check_fits("what is said", "the prompt", self.said, kind, [1] * count)
        for name, values in self.scores:
            if len(values) != count:
                raise RecordError(f"score {name!r} has {len(values)} numbers, there are {count} completions")

    @property
    def kind(self) -> str:
        """That of the core's query which is answered so; nothing said: empty."""
        return _KINDS.get(type(self.said), "")

    @property
    def question(self) -> str:
        """A name for the prompt with these completions, in whatever order."""
        told = [[[m.role, m.content] for m in self.prompt], sorted(self.completions)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def target(record: Record) -> tuple[float, ...]:
    """One number per completion, as `embodied.rows` has it for this kind. Raises ValueError where nothing is said."""
    said, count = record.said, len(record.completions)
    if said is None:
        raise ValueError("nothing is said of these completions; leave the record out")
    value = Marks(((0, 1, said),)) if isinstance(said, bool) else said
    query = Query("q", (_STEP,) * count, record.kind)
    (row,) = rows(Answer("a", "q", "n", "import", value), query)
    return row.target


def about(records: Iterable[Record], score: str) -> list[Record]:
    """The records as if `score` were what was said, as a rating; those without it are left out. For a cost, say."""
    return [replace(r, said=Rate(values)) for r in records for name, values in r.scores if name == score]


def pairs(records: Iterable[Record]) -> list[Record]:
    """Rankings, ratings, choices and grades as comparisons, the better first; equal ones become ties, but for those
    that a choice left unranked. Each has the weight of its record. Comparisons, and what has no rival, stay."""
    found: list[Record] = []
    for record in records:
        if record.said is None or isinstance(record.said, bool | Compare) or len(record.completions) < 2:
            found.append(record)
            continue
        worth = target(record)
        for i, j in combinations(range(len(worth)), 2):
            if worth[i] == worth[j] and isinstance(record.said, Choose):
                continue
            first, second = (i, j) if worth[i] >= worth[j] else (j, i)
            found.append(_taken(record, (first, second), Compare(0.5 if worth[i] == worth[j] else 1.0)))
    return found


def _taken(record: Record, which: Sequence[int], said: Said) -> Record:
    scores = tuple((name, tuple(values[k] for k in which)) for name, values in record.scores)
    return replace(record, completions=tuple(record.completions[k] for k in which), said=said, scores=scores)


def best(record: Record) -> str | None:
    """The completion that was said to be better than all others; None where there is no such one."""
    if record.said is None or isinstance(record.said, bool):
        return None
    worth = target(record)
    top = [completion for completion, value in zip(record.completions, worth, strict=True) if value == max(worth)]
    return top[0] if len(top) == 1 and len(worth) > 1 else None


@dataclass(frozen=True)
class Split:
    """Records by split, no question of one in an earlier one. removed: by split; shared: prompts that are in more than
    one split nevertheless, with other completions."""

    records: Mapping[str, tuple[Record, ...]]
    removed: Mapping[str, int]
    shared: int


def disjoint(splits: Mapping[str, Iterable[Record]]) -> Split:
    """Takes out of every split what an earlier one asks already: name the test split first to keep it whole."""
    seen: set[str] = set()
    kept: dict[str, tuple[Record, ...]] = {}
    removed: dict[str, int] = {}
    prompts: dict[Prompt, set[str]] = {}
    for name, records in splits.items():
        given = list(records)
        kept[name] = tuple(r for r in given if r.question not in seen)
        removed[name] = len(given) - len(kept[name])
        seen |= {r.question for r in given}
        for record in kept[name]:
            prompts.setdefault(record.prompt, set()).add(name)
    return Split(kept, removed, sum(len(names) > 1 for names in prompts.values()))


def to_json(record: Record) -> dict[str, Any]:
    """The project's own shape, of which nothing is lost."""
    said: Any = record.said
    return {
        "prompt": messages_to_json(record.prompt),
        "completions": list(record.completions),
        "said": said if said is None or isinstance(said, bool) else value_to_json(said),
        "annotator": record.annotator,
        "weight": record.weight,
        "scores": {name: list(values) for name, values in record.scores},
    }


def from_json(data: Mapping[str, Any]) -> Record:
    """The inverse of `to_json`. Raises RecordError."""
    said, scores = data.get("said"), data.get("scores") or {}
    if not isinstance(scores, Mapping) or not isinstance(data.get("completions"), list):
        raise RecordError("completions are no list, or scores no object; write them as `to_json` does")
    if isinstance(said, Mapping):  # in a table every row has the keys of all
        said = {key: value for key, value in said.items() if value is not None}
    value = said if said is None or isinstance(said, bool) else value_from_json(said)
    if not (value is None or type(value) in _KINDS):
        raise RecordError(
            f"{said!r} cannot be said of completions; use compare, grade, rank, choose, rate, true or false"
        )
    return Record(
        messages_from(data["prompt"]),
        tuple(data["completions"]),
        value,  # type: ignore[arg-type]
        data.get("annotator") or "",
        data.get("weight", 1.0),
        tuple((name, tuple(number(f"score {name!r}", v) for v in values)) for name, values in scores.items() if values),
    )


def messages_to_json(prompt: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]
