"""What long work says to whoever looks on: on stderr, since stdout is for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rapport.run import read_json, write_json


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says what takes more than a moment, and how long it took."""
    start = time.monotonic()
    print(f"{what} ...", end="", file=sys.stderr, flush=True)
    yield
    print(f" {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


class Clock:
    """Seconds of work on a run, also over interruptions; what a kill cut off since the last save is lost."""

    def __init__(self, path: Path) -> None:
        self.path, self.start = path, time.monotonic()
        self.before = float(read_json(path)) if path.exists() else 0.0

    def save(self) -> float:
        seconds = self.before + time.monotonic() - self.start
        write_json(self.path, seconds)
        return seconds
