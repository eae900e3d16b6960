"""Records as rows that preference trainers read: JSON lines, and `datasets.Dataset.from_list(rows(...).rows)`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from embodied import atomic
from embodied.checks import RecordError
from embodied.importers import DataError
from embodied.records import Compare
from llm_bridge.messages import Message, blank_after, check_turn, transcript
from llm_bridge.records import Record, messages_to_json, to_json

Shape = Literal["records", "explicit", "implicit", "unpaired", "prompts", "texts"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """left_out: ties, for which a shape of chosen and rejected has no word."""

    rows: list[Row]
    left_out: int


def rows(records: Iterable[Record], shape: Shape, *, messages: bool = True) -> Rows:
    """One row for each record, as `llm_bridge.datasets.load` reads it again.

    records: all that is known. explicit: prompt, chosen, rejected. implicit: whole conversations. unpaired: prompt,
    completion, label; a comparison becomes two rows. prompts: each once. texts: questions for `rapport ask --texts`.
    messages: lists of messages, or else texts, of which a conversation is a transcript. Raises DataError for a record
    that the shape has no word for.
    """
    if shape == "prompts":
        told = dict.fromkeys(r.prompt for r in records)
        return Rows([{"prompt": messages_to_json(p) if messages else transcript(p)} for p in told], 0)
    if shape == "records":
        return Rows([to_json(record) for record in records], 0)
    if shape == "texts":
        return Rows([_text(record) for record in records], 0)
    found: list[Row] = []
    ties = 0
    for i, record in enumerate(records):
        try:
            parts = _decided(record, shape, messages)
        except RecordError as error:
            raise DataError(f"record {i}: {error}") from error
        ties += not parts
        found += parts
    return Rows(found, ties)


def write(path: Path | str, records: Iterable[Record], shape: Shape, *, messages: bool = True) -> Rows:
    """The rows as JSON lines, the file whole or not at all. Raises DataError, for a file that is there already too."""
    path, told = Path(path), rows(records, shape, messages=messages)
    data = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in told.rows)
    if path.exists():
        raise DataError(f"{path} is there already; give another name, or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, data.encode(), replace=False)
    except OSError as error:
        raise DataError(atomic.explain(error, path)) from error
    return told


def _text(record: Record) -> Row:
    """`kind` where it is not compare."""
    count = len(record.completions)
    kind = {"": "compare" if count == 2 else "rank" if count > 2 else "rate", "mark": "rate"}.get(
        record.kind, record.kind
    )
    row: Row = {"prompt": transcript(record.prompt), "answers": list(record.completions)}
    return row if kind == "compare" else row | {"kind": kind}


def _decided(record: Record, shape: Shape, messages: bool) -> list[Row]:
    """One row or two; none for a tie."""
    said = record.said
    if isinstance(said, bool) and shape == "unpaired":
        return [_unpaired(record, 0, said, messages)]
    if not isinstance(said, Compare):
        raise RecordError(
            f"it says {'nothing' if said is None else said}, for which {shape} has no word; make comparisons of it "
            "with `pairs`, or write it as records"
        )
    if said.first == 0.5:
        return []
    better = int(said.first < 0.5)
    if shape == "unpaired":
        return [_unpaired(record, k, k == better, messages) for k in (better, 1 - better)]
    return [_pair(record, better, shape, messages) | _certainty(said)]


def _certainty(said: Compare) -> Row:
    certainty = max(said.first, 1 - said.first)
    return {"p_chosen": certainty} if certainty < 1 else {}


def _besides(record: Record) -> Row:
    found: Row = {"annotator": record.annotator} if record.annotator else {}
    return found if record.weight == 1 else found | {"weight": record.weight}


def _turn(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _pair(record: Record, better: int, shape: Shape, messages: bool) -> Row:
    chosen, rejected = record.completions[better], record.completions[1 - better]
    row: Row
    if messages:
        prompt = messages_to_json(record.prompt)
        row = {"chosen": _turn(chosen), "rejected": _turn(rejected)}
        row = {"prompt": prompt, **row} if shape == "explicit" else {name: prompt + row[name] for name in row}
    elif shape == "explicit":
        text = transcript(record.prompt)
        row = {
            "prompt": text,
            "chosen": blank_after(text) + chosen,
            "rejected": blank_after(text) + rejected,
        }
    else:
        text = transcript(record.prompt, turns=True)  # a whole conversation has to say where the assistant begins
        for said in (chosen, rejected):
            check_turn(Message("assistant", said))
        row = {"chosen": f"{text} {chosen}", "rejected": f"{text} {rejected}"}
    return row | _besides(record)


def _unpaired(record: Record, k: int, good: bool, messages: bool) -> Row:
    said = record.completions[k]
    prompt = transcript(record.prompt)
    row: Row = {"prompt": messages_to_json(record.prompt) if messages else prompt}
    return (
        row | {"completion": _turn(said) if messages else blank_after(prompt) + said, "label": good} | _besides(record)
    )
