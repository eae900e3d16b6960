"""Preference data from a file, a folder or a list, as records: the shape is known by the columns. No torch."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied.importers import DataError
from llm_bridge import public, shapes
from llm_bridge.found import ANNOTATOR, Reader, Row
from llm_bridge.messages import is_transcript
from llm_bridge.records import Record, best

SHAPES: Mapping[str, tuple[tuple[str, ...], Reader]] = {
    "records": (("prompt", "completions", "said"), shapes.own),
    "ultrafeedback": (("instruction", "completions"), public.ultrafeedback),
    "nectar": (("prompt", "answers", "turns"), public.nectar),
    "pku": (("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"), public.pku),
    "shp": (("history", "human_ref_A", "human_ref_B", "labels"), public.shp),
    "helpsteer2_preferences": (
        ("prompt", "response_1", "response_2", "preference_strength"),
        public.helpsteer_preferences,
    ),
    "helpsteer3_preferences": (
        ("context", "response1", "response2", "overall_preference"),
        public.helpsteer_preferences,
    ),
    "helpsteer": (("prompt", "response", *public.HELPSTEER), public.helpsteer),
    "oasst_trees": (("message_tree_id", "prompt"), public.oasst_trees),
    "oasst_messages": (("message_id", "parent_id", "text", "role"), public.oasst_messages),
    "explicit": (("prompt", "chosen", "rejected"), shapes.explicit),
    "implicit": (("chosen", "rejected"), shapes.implicit),
    "unpaired": (("prompt", "completion", "label"), shapes.unpaired),
    "demonstrations": (("prompt", "completion"), shapes.demonstrations),
    "conversations": (("messages",), shapes.conversations),
    "texts": (("prompt", "answers"), shapes.texts),
    "prompts": (("prompt",), shapes.prompts),
}
"""By name, the columns by which a shape is known, and its reader; the first whose columns are all there is taken."""

HARMLESS = {"prompt", "prompt_id", "id", "source", "category", "language", "domain", "split", *ANNOTATOR}
"""What rows that hold prompts alone may have; beside any other column a prompt might be half of something else."""


def shape_of(columns: Iterable[str]) -> str:
    """Raises DataError for columns of no known shape."""
    found = set(columns)
    for name, (needed, _) in SHAPES.items():
        if found.issuperset(needed) and (name != "prompts" or found <= HARMLESS):
            return name
    known = "; ".join(f"{name}: {', '.join(needed)}" for name, (needed, _) in SHAPES.items())
    raise DataError(
        f"the columns {', '.join(sorted(found)) or '(none)'} are of no known shape ({known}); rename them, or say "
        "which with shape=, by name or as a function of your own"
    )


@dataclass(frozen=True)
class Counts:
    """What was found. Left out: rows with identical completions, and rows that their reader could not use, by reason.
    Only counted: records with an empty completion, records that repeat an earlier one's question (another look, by
    whomever), and questions to which the records name different best completions, or call one both good and bad."""

    rows: int
    records: int
    identical: int = 0
    unusable: Mapping[str, int] = field(default_factory=dict)
    empty: int = 0
    repeated: int = 0
    contradictory: int = 0

    def __str__(self) -> str:
        left = {"with identical completions": self.identical, **self.unusable}
        seen = {
            "with an empty completion": self.empty,
            "about a question asked before": self.repeated,
            "questions with contradictory answers": self.contradictory,
        }
        parts = [f"{n} {why}, left out" for why, n in left.items() if n] + [
            f"{n} {why}" for why, n in seen.items() if n
        ]
        return "; ".join([f"{self.records} records of {self.rows} rows", *parts])


@dataclass(frozen=True)
class Loaded:
    records: tuple[Record, ...]
    shape: str
    counts: Counts


Source = Path | str | Iterable[Mapping[str, Any]]


def load(source: Source, *, shape: str | Reader | None = None, split: str | None = None) -> Loaded:
    """Records of JSON lines (also .gz), a JSON array, a Parquet file, a folder of Hugging Face datasets (with `split`
    where there are several), or a list of dicts.

    shape: a name of SHAPES, or a reader of one's own; otherwise by the columns. Raises DataError for columns of no
    known shape, a bad row (named), rows that mix texts, transcripts and messages, and where nothing is left.
    """
    rows = [Row(where, data) for where, data in _read(source, split)]
    if not rows:
        raise DataError(f"{_name(source)} holds no row; give at least one")
    if shape is None:
        shape = shape_of(rows[0].data)
    if isinstance(shape, str):
        if shape not in SHAPES:
            raise DataError(f"shape is {shape!r}; use one of {', '.join(SHAPES)}, or a function of your own")
        name, (needed, reader) = shape, SHAPES[shape]
        _check_alike(rows, needed)
    else:
        name, reader = "own reader", shape
    records, unusable = [], Counter[str]()
    for found in reader(rows):
        if isinstance(found, str):
            unusable[found] += 1
        else:
            records.append(found)
    return _looked_at(records, len(rows), unusable, name)


def _looked_at(found: Sequence[Record], rows: int, unusable: Mapping[str, int], shape: str) -> Loaded:
    records = tuple(r for r in found if len(set(r.completions)) == len(r.completions))
    if not records:
        raise DataError(
            f"none of {rows} rows is of use: {len(found)} have identical completions, others are {dict(unusable)}; "
            "look at the columns"
        )
    told: dict[object, set[object]] = {}
    for record in records:
        if isinstance(record.said, bool):
            told.setdefault(record.question, set()).add(record.said)
        elif (top := best(record)) is not None:
            told.setdefault(record.question, set()).add(top)
    counts = Counts(
        rows,
        len(records),
        len(found) - len(records),
        dict(unusable),
        sum("" in r.completions for r in records),
        len(records) - len({r.question for r in records}),
        sum(len(answers) > 1 for answers in told.values()),
    )
    return Loaded(records, shape, counts)


TALK = ("prompt", "chosen", "rejected", "completion", "context", "history", "messages")  # columns of conversations


def _check_alike(rows: Sequence[Row], needed: Sequence[str]) -> None:
    """Rows of one set are written in one way; where they are not, two sets were put together, and half of it would be
    read wrongly."""
    for row in rows:
        if missing := [key for key in needed if key not in row.data]:
            raise row.fail(f"no {', '.join(missing)}, which {rows[0].where} has; give one shape at a time")
    for key in (key for key in needed if key in TALK):
        first = _form(rows[0].data[key])
        for row in rows:
            if (form := _form(row.data[key])) != first:
                raise row.fail(f"{key} is {form}, in {rows[0].where} {first}; write all rows in one way")


def _form(value: object) -> str:
    if isinstance(value, str):
        return "a transcript (Human:, Assistant:)" if is_transcript(value) else "text"
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return "messages"
    return "no text"


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "the list"


def _read(source: Source, split: str | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(source, str | Path):
        if isinstance(source, Mapping):
            raise DataError(f"the source has the splits {', '.join(map(str, source))}; give one of them")
        yield from _objects("row", source)
        return
    path = Path(source)
    if path.is_dir():
        yield from _objects(f"{path}, row", _folder(path, split))
    elif path.suffix == ".parquet":
        yield from _objects(f"{path}, row", _parquet(path))
    else:
        yield from _json(path)


def _objects(where: str, given: Iterable[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, one in enumerate(given, 1):
        if not isinstance(one, Mapping):
            raise DataError(f"{where} {number} is {str(one)[:60]!r}; give an object with columns")
        yield f"{where} {number}", one


def _json(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); give JSON lines, .parquet, or a folder of datasets"
        ) from error
    if text.lstrip().startswith("["):
        yield from _objects(f"{path}, row", _loads(text, str(path)))
        return
    for number, line in enumerate(text.split("\n"), 1):  # a text may hold other ends of lines
        if line.strip():
            where = f"{path}, line {number}"
            found = _loads(line, where)
            if not isinstance(found, dict):
                raise DataError(f"{where} is {line[:60]!r}; give an object with columns")
            yield where, found


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({error}); mend it") from error


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise DataError("Parquet needs pyarrow: pip install 'rapport[lm]', or give JSON lines") from error
    try:
        with ParquetFile(path) as file:
            rows: list[dict[str, Any]] = file.read().to_pylist()
            return rows
    except Exception as error:  # arrow's own, of many kinds, on bytes from anywhere
        raise DataError(f"{path} is not a whole Parquet file ({error}); write it again") from error


def _folder(path: Path, split: str | None) -> Iterable[Any]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise DataError("a folder of datasets needs the library: pip install 'rapport[lm]'") from error
    saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        found = datasets.load_from_disk(str(path)) if saved else datasets.load_dataset(str(path))
    except Exception as error:  # of many kinds, on files from anywhere
        raise DataError(f"{path} is no folder that datasets can load ({error}); save it again") from error
    if isinstance(found, Mapping):
        if split is None and len(found) == 1:
            (split,) = found
        if split not in found:
            raise DataError(f"{path} has the splits {', '.join(map(str, found))}; say which with split=")
        return found[split]
    return found
