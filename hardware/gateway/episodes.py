"""The episodes of a robot as a list: of each journal what its first record and the file itself say."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from hardware.framed import growing, scan
from hardware.journal import MAGIC, JournalError, header_of, journals

MOST = 200


class Listed(BaseModel):
    """begun: seconds since the epoch. growing: it is still written. amiss: why it cannot be read, or nothing."""

    name: str
    task: str
    begun: float
    bytes: int
    growing: bool
    amiss: str


def listed(folder: Path) -> list[Listed]:
    """The newest first, at most MOST."""
    return [_one(path) for path in reversed(journals(folder)[-MOST:])]


def _one(path: Path) -> Listed:
    name = path.stem
    try:
        with path.open("rb") as file:
            alive, size = growing(file), path.stat().st_size
            first = next(scan(file, size, MAGIC, str(path)), None)
        if first is None:
            raise JournalError("it has no header")
        return Listed(
            name=name, task=header_of(first).task, begun=first.wall_ns * 1e-9, bytes=size, growing=alive, amiss=""
        )
    except (OSError, ValueError, TypeError) as error:
        return Listed(name=name, task="", begun=0.0, bytes=0, growing=False, amiss=str(error)[:300])
