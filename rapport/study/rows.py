"""One row per answer, with all that is known of how it came about: as records, and as JSON whose every key is a column.

What follows from the rest (`DERIVED`) is written for whoever reads the file, and not read back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embodied.checks import MAX_TEXT
from embodied.importers import DataError
from embodied.records import Answer, Compare, RecordError, Value, check_name, check_text, value_from_json, value_to_json
from human_ui import told as noticed

COLUMNS = {
    "id": "the answer's",
    "seq": "its number: answers are in the order in which they were given",
    "stands": "false where the same person revised it later",
    "query": "the question's id",
    "kind": "what was asked: compare, rank, rate, ...",
    "question": "the question's own sentence (of texts: their prompt), or else the study's; empty where not known",
    "study": "its name; empty for an answer that was not given in a study",
    "version": "the hash of the study's terms at that time",
    "annotator": "who answered: a pseudonym, unless names were asked for",
    "source": "what that is: person, teacher, judge, import",
    "value": 'what was said, in the query\'s own order, as one key and its value: {"compare": P(first is better)}, ...',
    "supersedes": "the id of the answer that this one revises; empty: none",
    "gold": "of a question whose answer is known, that answer, like value",
    "late": "whether it came after its lease had expired; null where it was not lent to anybody",
    "early": "whether it came sooner than the study calls considered",
    "ms": "milliseconds from when the question was on the page to the answer",
    "t_decide": "milliseconds from when every clip had been seen to its end to the answer",
    "shown": "the number, in the query, of the segment shown in each place, from the left; empty: not known",
    "segments": "episode, start, stop of each, in the query's own order",
    "anchor": "the same of the segment that the others are held against",
    "clips": "SHA-256 of the clip of each segment, then of the anchor's",
    "chosen": "of a comparison that stands and is no tie, the better segment",
    "rejected": "and the other",
    "context": "the query's own sentence; empty: the study's was shown",
    "note": "what the person wrote beside it; empty unless notes were asked for",
    "told": "what else the browser noticed; null where it was not lent to anybody",
}
DERIVED = ("stands", "early", "ms", "t_decide", "chosen", "rejected", "note")
MAX_SEQ = 2**53  # beyond, JSON readers round


@dataclass(frozen=True)
class Cut:
    """Steps [start, stop) of an episode."""

    episode: str
    start: int
    stop: int


@dataclass(frozen=True)
class Asked:
    """A query by reference. clips: of its segments, then of the anchor. gold: the answer, where it is known."""

    id: str
    kind: str
    context: str
    segments: tuple[Cut, ...]
    anchor: Cut | None
    clips: tuple[str, ...] = ()
    gold: Value | None = None


@dataclass(frozen=True)
class Showing:
    """How a person was shown it, and how the answer came. order[i]: the segment in place i."""

    study: str
    version: str
    question: str
    order: tuple[int, ...]
    late: bool
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    asked: Asked
    answer: Answer
    showing: Showing | None


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One object per row, with every key of COLUMNS in its order."""
    revised = {row.answer.supersedes for row in rows}
    return [_row_to_json(row, row.answer.id not in revised) for row in rows]


def _row_to_json(row: Row, stands: bool) -> dict[str, Any]:
    answer, asked, showing = row.answer, row.asked, row.showing
    told = showing.told if showing else {}
    better = _better(answer.value) if stands else None
    parts = [vars(cut) for cut in asked.segments]
    found = {
        "id": answer.id,
        "seq": answer.seq,
        "stands": stands,
        "query": asked.id,
        "kind": asked.kind,
        "question": showing.question if showing else asked.context,
        "study": showing.study if showing else "",
        "version": showing.version if showing else "",
        "annotator": answer.annotator,
        "source": answer.source,
        "value": value_to_json(answer.value),
        "supersedes": answer.supersedes,
        "gold": None if asked.gold is None else value_to_json(asked.gold),
        "late": showing.late if showing else None,
        "early": noticed.early(told),
        "ms": noticed.milliseconds(told),
        "t_decide": noticed.deciding(told),
        "shown": list(showing.order) if showing else [],
        "segments": parts,
        "anchor": vars(asked.anchor) if asked.anchor else None,
        "clips": list(asked.clips),
        "chosen": None if better is None else parts[better],
        "rejected": None if better is None else parts[1 - better],
        "context": asked.context,
        "note": noticed.note(told),
        "told": dict(told) if showing else None,
    }
    return {key: found[key] for key in COLUMNS}


def _better(value: Value) -> int | None:
    return int(value.first < 0.5) if isinstance(value, Compare) and value.first != 0.5 else None


def asked_to_json(asked: Asked) -> dict[str, Any]:
    return {
        "query": asked.id,
        "kind": asked.kind,
        "context": asked.context,
        "segments": [vars(cut) for cut in asked.segments],
        "anchor": vars(asked.anchor) if asked.anchor else None,
        "clips": list(asked.clips),
        "gold": None if asked.gold is None else value_to_json(asked.gold),
    }


def from_json(data: object, where: str) -> Row:
    """The inverse of `to_json`, of one object. Raises DataError that names `where`, the column and the mend."""
    found = columns(data, where, [key for key in COLUMNS if key not in DERIVED], DERIVED)
    try:
        asked, answer, showing = _asked(found), _answer(found), _showing(found)
        if found["question"] != (asked.context or (showing.question if showing else "")):
            raise DataError(
                f"question is {found['question']!r}, context {asked.context!r}; give the same, or no context"
            )
        return Row(asked, answer, showing)
    except RecordError as error:
        raise DataError(f"{where}: {error}") from error


def asked_from_json(found: Mapping[str, Any], where: str) -> Asked:
    try:
        return _asked(found)
    except RecordError as error:
        raise DataError(f"{where}: {error}") from error


def columns(data: object, where: str, needed: Sequence[str], besides: Sequence[str] = ()) -> Mapping[str, Any]:
    """`data` as an object of these keys. Raises DataError for missing ones, and for others, which would do nothing."""
    if not isinstance(data, dict):
        raise DataError(f"{where} is {str(data)[:60]!r}; give an object, as `rapport data export` writes it")
    if missing := [key for key in needed if key not in data]:
        raise DataError(f"{where} has no {', '.join(missing)}; give these too, as `rapport data export` writes them")
    if unknown := [key for key in data if key not in needed and key not in besides]:
        raise DataError(f"{where}: nothing is called {str(unknown[0])[:60]!r}; leave it out, or correct its name")
    return data


def _answer(found: Mapping[str, Any]) -> Answer:
    for name in ("annotator", "source", "supersedes"):
        check_text(name, found[name])
    return Answer(
        found["id"],
        found["query"],
        found["annotator"],
        found["source"],
        _value(found, "value"),
        _whole(found, "seq", 1, MAX_SEQ),
        found["supersedes"],
    )


def _asked(found: Mapping[str, Any]) -> Asked:
    for name in ("query", "kind", "context"):
        check_text(name, found[name])
    return Asked(
        found["query"],
        found["kind"],
        found["context"],
        tuple(_cut(one) for one in _list(found, "segments", dict)),
        None if found["anchor"] is None else _cut(found["anchor"]),
        tuple(_list(found, "clips", str)),
        None if found["gold"] is None else _value(found, "gold"),
    )


def _showing(found: Mapping[str, Any]) -> Showing | None:
    order = tuple(_list(found, "shown", int))
    if not order:
        return None
    for name in ("study", "version", "question"):
        check_text(name, found[name])
    check_name("version of a study", found["version"])
    if sorted(order) != list(range(len(found["segments"]))):
        raise DataError(f"shown is {list(order)}; name each of the {len(found['segments'])} segments once, or none")
    if not isinstance(found["late"], bool) or not isinstance(found["told"], dict):
        raise DataError("late or told says nothing, and it was shown to somebody; give late true or false, told {}")
    try:
        text = json.dumps(found["told"], ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"told is no JSON ({error}); give an object of what was noticed") from error
    if len(text) > MAX_TEXT:
        raise DataError(f"told has {len(text)} characters; give at most {MAX_TEXT}")
    return Showing(found["study"], found["version"], found["question"], order, found["late"], found["told"])


def _cut(data: object) -> Cut:
    match data:
        case {"episode": str(episode), "start": int(start), "stop": int(stop), **rest} if not rest:
            check_text("episode of a segment", episode)
            if not isinstance(start, bool) and not isinstance(stop, bool) and 0 <= start < stop <= MAX_SEQ:
                return Cut(episode, start, stop)
    raise DataError(f"a segment is {str(data)[:80]}; give episode, start and stop, 0 <= start < stop")


def _value(found: Mapping[str, Any], name: str) -> Value:
    if not isinstance(found[name], Mapping):
        raise DataError(f'{name} is {str(found[name])[:60]!r}; give one key and its value, such as {{"compare": 1.0}}')
    return value_from_json(found[name])


def _list(found: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    given = found[name]
    if not isinstance(given, list) or any(not isinstance(one, kind) or isinstance(one, bool) for one in given):
        raise DataError(f"{name} is {str(given)[:80]}; give a list, each part of it as `rapport data export` writes it")
    if kind is str:
        for one in given:
            check_text(f"a part of {name}", one)
    return given


def _whole(found: Mapping[str, Any], name: str, least: int, most: int) -> int:
    given = found[name]
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise DataError(f"{name} is {str(given)[:60]!r}; give a whole number from {least} to {most}")
    return given
