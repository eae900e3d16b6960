"""What a server replied, kept in an SQLite file under the hash of what it was asked: a second run costs nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, model TEXT, heard REAL, reply TEXT) WITHOUT ROWID"
_CHUNK = 500  # most keys in one question


class RepliesError(ValueError):
    """A file that holds no replies, or cannot be written; the sentence names the file and the mend."""


def key(body: Mapping[str, Any]) -> str:
    """Of a request: model, messages and sampling, but not which server was asked."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class Replies:
    """The replies in a file, or, without one, in memory for as long as this lives. Each is there for good once `put`
    returns, a kill notwithstanding. Open it by `opened`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """Those that there are."""
        wanted, found = list(keys), dict[str, str]()
        for first in range(0, len(wanted), _CHUNK):
            part = wanted[first : first + _CHUNK]
            marks = ",".join("?" * len(part))
            found |= dict(self._connection.execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", part))
        return found

    def put(self, key: str, model: str, reply: str) -> None:
        row = (key, model, time.time(), reply)
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", row)


@contextmanager
def opened(path: Path | None) -> Iterator[Replies]:
    """Raises RepliesError for a file that is something else, or cannot be written."""
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _wrong(path, error) from error
    try:
        # A notebook's loop runs in a thread of its own; the two never come at once.
        with closing(sqlite3.connect(path or ":memory:", timeout=30, check_same_thread=False)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_TABLE)
            connection.execute("SELECT key, model, heard, reply FROM replies LIMIT 1")
            yield Replies(connection)
    except sqlite3.Error as error:
        raise _wrong(path, error) from error


def _wrong(path: Path | None, error: Exception) -> RepliesError:
    return RepliesError(f"{path} cannot hold replies ({error}); name another file, or None to keep none")
