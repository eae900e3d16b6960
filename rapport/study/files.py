"""Rows as JSON lines or as Parquet, out and in. Nothing is unpickled; a bad row is named by its file and line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from embodied import atomic
from embodied.importers import DataError
from rapport.study.rows import COLUMNS, Row, from_json, to_json

if TYPE_CHECKING:
    import pyarrow

AS_TEXT = ("value", "gold", "told")  # of many shapes, so that in Parquet they are JSON in a column of text


def dumps(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def loads(text: str | bytes, where: str) -> Any:
    """Raises DataError for what is no JSON, NaN and infinity included."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({error}); mend it, or export it again") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def lines(objects: Sequence[Any]) -> bytes:
    """One JSON object per line."""
    return "".join(dumps(one) + "\n" for one in objects).encode()


def read_lines(path: Path) -> list[tuple[str, Any]]:
    """Each object with where it stands. Raises DataError."""
    parts = enumerate(read_bytes(path).split(b"\n"), 1)
    return [(where, loads(text, where)) for i, text in parts if text.strip() and (where := f"{path}, line {i}")]


def read_jsonl(path: Path) -> list[tuple[str, Row]]:
    return [(where, from_json(data, where)) for where, data in read_lines(path)]


def parquet(rows: Sequence[Row]) -> bytes:
    """The columns of COLUMNS. Raises DataError where pyarrow is not installed."""
    arrow = _arrow()
    from pyarrow.parquet import write_table

    flat = to_json(rows)
    for one in flat:
        one |= {key: dumps(one[key]) for key in AS_TEXT if one[key] is not None}
    table = arrow.Table.from_pylist(flat, schema=_schema(arrow))
    sink = arrow.BufferOutputStream()
    write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_parquet(path: Path) -> list[tuple[str, Row]]:
    """Each row with where it stands. Raises DataError."""
    arrow = _arrow()
    from pyarrow.parquet import ParquetFile

    data = read_bytes(path)
    try:
        objects = ParquetFile(arrow.BufferReader(data)).read().to_pylist()
    except Exception as error:  # arrow's own, of many kinds, on bytes from anywhere
        raise DataError(f"{path} is not a whole Parquet file ({error}); export it again") from error
    placed = []
    for i, one in enumerate(objects, 1):
        where = f"{path}, row {i}"
        for key in AS_TEXT:
            if isinstance(one.get(key), str | bytes):
                one[key] = loads(one[key], f"{where}, {key}")
        placed.append((where, from_json(one, where)))
    return placed


def write(path: Path, data: bytes) -> None:
    """Whole or not at all; another's file is left. Raises DataError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, data, replace=False)
    except FileExistsError:
        raise DataError(f"{path} is there already; give another name, or remove it") from None
    except OSError as error:
        raise DataError(atomic.explain(error, path)) from error


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a file that is there") from error


def _arrow() -> ModuleType:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise DataError("Parquet needs pyarrow: pip install 'rapport[parquet]', or export to .jsonl") from error
    return pyarrow


def _schema(arrow: ModuleType) -> pyarrow.Schema:
    text, whole, number, truth = arrow.string(), arrow.int64(), arrow.float64(), arrow.bool_()
    cut = arrow.struct([("episode", text), ("start", whole), ("stop", whole)])
    others = {
        "seq": whole,
        "stands": truth,
        "late": truth,
        "early": truth,
        "ms": number,
        "t_decide": number,
        "shown": arrow.list_(whole),
        "segments": arrow.list_(cut),
        "anchor": cut,
        "clips": arrow.list_(text),
        "chosen": cut,
        "rejected": cut,
    }
    return arrow.schema([(name, others.get(name, text)) for name in COLUMNS])
