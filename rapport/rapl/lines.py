"""A file of results that only grows, a JSON object a line: killed at any instant, what it held is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole ones; the last may be half written."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1] if line]


def add_line(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one and syncs it. A half line that an earlier run left becomes one of its own, which is taken away first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if size and file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(dict(row)).encode() + b"\n")  # at the end, wherever that is now
        file.flush()
        os.fsync(file.fileno())
