"""The store's tables, and the SQLite file with them: how it comes to be, and how a damaged or newer one is refused."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    MetaData,
    Row,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from embodied import atomic
from embodied.records import MAX_NAME, Answer, Query, value_from_json, value_to_json

VERSION = 2
WAIT = 30.0  # seconds to wait for another process that writes
_MEND = "choose another path, or put back a copy"


def _name(name: str, *, unique: bool = False, key: bool = False) -> Column[str]:
    return Column(name, String(MAX_NAME), nullable=False, unique=unique, primary_key=key)


def _number(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=False, primary_key=key, autoincrement=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


TABLES = MetaData()
META = Table("meta", TABLES, _name("name", key=True), _text("value"))
QUERY = Table(
    "query",
    TABLES,
    _number("seq", key=True),
    _name("id", unique=True),
    _name("kind"),
    _text("context"),
    _text("segments"),  # JSON: [[episode, start, stop], ...]
    _text("anchor"),  # the same, of none or one
)
ANSWER = Table(
    "answer",
    TABLES,
    _number("seq", key=True),
    _name("id", unique=True),
    Column("query", String(MAX_NAME), ForeignKey(QUERY.c.id), nullable=False),
    _name("annotator"),
    _name("source"),
    _text("value"),  # JSON, of records.value_to_json
    _name("supersedes"),
    Index("answer_query", "query"),
    Index("answer_annotator", "annotator", "seq"),
)
ERASED = Table("erased", TABLES, _number("seq", key=True))  # numbers of answers that a person had erased
CURSOR = Table("cursor", TABLES, _name("consumer", key=True), _number("step", key=True), _number("upto"))


class StoreError(ValueError):
    """What the store refuses, or cannot do; the sentence names the file or the id, and the mend."""


class Unavailable(StoreError):
    """The store could not be read or written just now, for no fault of what was sent: send the same again later."""


def query_row(query: Query) -> dict[str, Any]:
    parts = (query.segments, () if query.anchor is None else (query.anchor,))
    segments, anchor = (json.dumps([[part.episode, part.start, part.stop] for part in some]) for some in parts)
    return {"id": query.id, "kind": query.kind, "context": query.context, "segments": segments, "anchor": anchor}


def answer_row(answer: Answer) -> dict[str, Any]:
    return {**vars(answer), "value": json.dumps(value_to_json(answer.value))}


def answer_from(row: Row[Any]) -> Answer:
    return Answer(**{**row._asdict(), "value": value_from_json(json.loads(row.value))})


def create(path: Path) -> None:
    """A new store appears whole, so that whatever lacks a part was damaged, not interrupted. Raises OSError."""
    memory = create_engine("sqlite://", poolclass=StaticPool)
    with memory.begin() as connection:
        TABLES.create_all(connection)
        connection.execute(insert(META).values(name="version", value=str(VERSION)))
    with memory.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        data = bytearray(raw.serialize())
    memory.dispose()
    data[18:20] = b"\x02\x02"  # the header's way to say WAL, so that two who open it first do not both switch it
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        atomic.write(path, bytes(data), replace=False)
    except FileExistsError:
        return  # another process was as quick


def check(path: Path) -> None:
    """Raise StoreError for what is not a whole store of a known version, without changing a byte of it."""
    if not path.is_file():
        raise StoreError(f"{path} is not a file; {_MEND}")
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(b"SQLite format 3\0"):
        found = f"it begins with {head[:16]!r}" if head else "it is empty"
        raise StoreError(f"{path} is not a store: {found}; {_MEND}")
    log = path.with_name(path.name + "-wal")
    alone = not (log.exists() and log.stat().st_size)
    unit = int.from_bytes(head[16:18])
    expected = max(100, int.from_bytes(head[28:32]) * (65536 if unit == 1 else unit))
    if alone and path.stat().st_size < expected:
        raise StoreError(f"{path} is half-written: {path.stat().st_size} of {expected} bytes; {_MEND}")
    # Read-only, so that it is not changed; immutable, so that nothing appears beside it, unless there is a log to read.
    uri = f"file:{quote(str(path))}?mode=ro" + ("&immutable=1" if alone else "")
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=WAIT)
        try:
            problem = _problem(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        problem = f"is half-written or damaged ({error}); {_MEND}"
    if problem:
        raise StoreError(f"{path} {problem}")


def _problem(connection: sqlite3.Connection) -> str:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        return f"is damaged ({found.splitlines()[-1]}); {_MEND}"
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    # The version first: a newer one may have other tables.
    row = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone() if "meta" in names else None
    if row is None or not str(row[0]).isdecimal():
        return f"is a database, but not a store: no version in a table 'meta'; {_MEND}"
    if int(row[0]) > VERSION:
        return f"has schema version {row[0]}, this program reads up to {VERSION}; update the program"
    missing = sorted(set(TABLES.tables) - names - (set() if int(row[0]) == VERSION else {ERASED.name}))
    return f"is a store without the table {missing[0]!r}; {_MEND}" if missing else ""


def connect(path: Path) -> Engine:
    """Connections of which those with the execution option `write` take the write lock as they begin."""
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": WAIT})

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions by itself, and too late
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Another process may write too: the last number is read under the lock that the next one is written under.
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def upgrade(engine: Engine, path: Path) -> None:
    """From an older version: it gets the tables that it lacks, and this version."""
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        found = select(META.c.value).where(META.c.name == "version")
        if int(connection.execute(found).scalar_one()) < VERSION:
            TABLES.create_all(connection)
            connection.execute(update(META).where(META.c.name == "version").values(value=str(VERSION)))


def explain(error: DBAPIError, name: str) -> str:
    """The sentence for what the database could not do."""
    code = getattr(error.orig, "sqlite_errorname", "")
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return (
            f"{name} cannot be written: the disk is full or a limit on its size is reached ({error.orig}); "
            "free some space or raise the limit, then send the same again: all that was acknowledged is there"
        )
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return (
            f"{name} was held by another program for {WAIT:.0f} s ({error.orig}); close that, then send the same again"
        )
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"{name} cannot be written ({error.orig}); make the file and its folder writable"
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"{name} is damaged ({error.orig}); put back a copy"
    return f"{name}: {error.orig}; nothing was written"
