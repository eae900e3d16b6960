"""The store in a PostgreSQL database, which several servers may share; the tables are those of `embodied.database`."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from embodied.database import META, TABLES, VERSION, StoreError

LOCK = 0x7261_7070  # of whoever writes; numbers are then given in the order of the commits
WAIT = "30s"  # for another process that writes


def is_address(place: Path | str) -> bool:
    return isinstance(place, str) and place.startswith(("postgresql:", "postgresql+", "postgres:"))


def address(place: Path | str) -> URL:
    """Raises StoreError for what is no URL."""
    try:
        return make_url(str(place)).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"{place} is no address of a database; give postgresql://user:password@host/name") from error


def connect(url: URL) -> Engine:
    """Makes the tables where there are none. Raises StoreError for a newer store, and what cannot be reached."""
    try:
        settings = {"connect_timeout": 10, "options": f"-c lock_timeout={WAIT}"}
        engine = create_engine(url, pool_pre_ping=True, pool_size=20, connect_args=settings)
    except ModuleNotFoundError as error:
        raise StoreError(f"{url} needs psycopg: pip install 'rapport[postgres]'") from error

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("write"):
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))

    try:
        with engine.connect().execution_options(write=True) as connection, connection.begin():
            names = set(inspect(connection).get_table_names())
            found = (
                connection.execute(select(META.c.value).where(META.c.name == "version")) if "meta" in names else None
            )
            version = VERSION if found is None else int(found.scalar_one())
            if version > VERSION:
                raise StoreError(f"{url} has schema version {version}, this program reads up to {VERSION}; update it")
            TABLES.create_all(connection)
            if found is None:
                connection.execute(insert(META).values(name="version", value=str(VERSION)))
    except DBAPIError as error:
        raise StoreError(explain(error, str(url))) from error
    return engine


def explain(error: DBAPIError, name: str) -> str:
    """The sentence for what the database could not do."""
    state = getattr(error.orig, "sqlstate", None) or ""
    said = str(error.orig).strip().partition("\n")[0]
    if state.startswith("53"):  # insufficient resources: disk full, out of memory, too many connections
        return f"{name} cannot take it ({said}); free what is full, then send the same again: all acknowledged is there"
    if state == "55P03":
        return f"{name} was held by another writer for {WAIT} ({said}); look for one that hangs, then send again"
    if error.connection_invalidated or not state or state.startswith(("08", "57P")):
        return f"{name} cannot be reached ({said}); start the server or mend the address, then send the same again"
    return f"{name}: {said}; nothing was written"
