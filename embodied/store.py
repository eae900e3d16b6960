"""The durable log of a study: queries, answers (append only) and who has read how far, in SQLite or PostgreSQL.

One thread writes, and commits together what waits together; any thread and any process may read. An answer is on disk
before `add_answers` returns. Answers get strictly increasing sequence numbers, so `answers(after, upto)` is the same
list forever: with the cursor log this makes a resumed run read exactly what the first one read.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
)
from sqlalchemy.exc import DBAPIError

from embodied import atomic, database, postgres
from embodied.database import ANSWER, CURSOR, ERASED, QUERY, StoreError, Unavailable, answer_from, answer_row, query_row
from embodied.episodes import Episode, Episodes, cut, same_array
from embodied.records import Answer, Query, RecordError, Segment, check_name, check_value

__all__ = ["Store", "StoreError"]

GROUP = 256  # most requests in one commit
CHUNK = 500  # most ids in one SELECT ... IN

_T = TypeVar("_T")
_Job = tuple[Callable[[Connection], Any], "Future[Any]"]


class Store:
    """Opens the store at `place`, or makes it: a file, or the URL of a PostgreSQL database (`postgresql://...`).

    Raises StoreError, and changes nothing, for what is not a whole store, or of a newer version, or cannot be reached.
    Close it, or use it in `with`; each process opens its own. `name` is what the place is called in sentences.
    """

    def __init__(self, place: Path | str, episodes: Episodes) -> None:
        self.place: Path | URL = postgres.address(place) if postgres.is_address(place) else Path(place).absolute()
        self.name = str(self.place)  # a URL hides its password
        self.episodes = episodes
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._engine = self._open()
        self._thread = threading.Thread(target=self._write_all, name=f"writer of {self.name}", daemon=True)
        self._thread.start()

    def _open(self) -> Engine:
        if isinstance(self.place, URL):
            return postgres.connect(self.place)
        try:
            if not self.place.exists():
                database.create(self.place)
            database.check(self.place)
            engine = database.connect(self.place)
            database.upgrade(engine, self.place)
            with engine.connect() as connection:
                _last(connection, ANSWER)  # makes the log beside the file
            atomic.sync_folder(self.place.parent)
        except OSError as error:
            raise StoreError(atomic.explain(error, self.place)) from error
        except DBAPIError as error:
            raise StoreError(database.explain(error, self.name)) from error
        return engine

    def add_queries(self, queries: Iterable[Query]) -> None:
        """Durable when it returns; all or none. A query that is there already is left as it is.

        Only references are saved: raises EpisodeError for an episode that is not saved, and StoreError for a segment
        that is not what its episode holds, or for an id that another query has.
        """
        queries = list(queries)
        loaded: dict[str, Episode] = {}
        for query in queries:
            for segment in (*query.segments, *([query.anchor] if query.anchor else [])):
                saved = self._cut(segment.episode, segment.start, segment.stop, loaded)
                if not (same_array(saved.obs, segment.obs) and same_array(saved.act, segment.act)):
                    raise StoreError(
                        f"query {query.id!r}: segment [{segment.start}, {segment.stop}) of episode {segment.episode!r} "
                        f"is not what {self.episodes.folder} holds; cut it from the saved episode"
                    )
        rows = [query_row(query) for query in queries]
        self.write(lambda connection: put_queries(connection, self.name, rows))

    def queries(self, ids: Iterable[str] | None = None, *, prefix: str = "") -> list[Query]:
        """The queries of these ids in their order, or all in the order in which they were added, of which the ids begin
        with `prefix`."""
        wanted = None if ids is None else list(ids)
        with self.read() as connection:
            if wanted is None:
                found = list(connection.execute(select(QUERY).where(_begins(QUERY.c.id, prefix)).order_by(QUERY.c.seq)))
            else:
                found = list(_rows(connection, QUERY, wanted))
        rows = {row.id: row for row in found}
        loaded: dict[str, Episode] = {}
        for id in wanted or ():
            if id not in rows:
                raise StoreError(f"{self.name} has no query {id!r}; add it first")
        return [self._query(rows[id], loaded) for id in (rows if wanted is None else wanted)]

    def add_answers(self, answers: Iterable[Answer]) -> list[int]:
        """The sequence number of each; durable when it returns; all or none. An answer that is there already keeps its
        number, so whoever is in doubt sends again. The `seq` of what is given is not looked at.

        Raises StoreError for an unknown query, an id that another answer has, or a revision (`supersedes`) of what the
        same annotator did not answer to the same query; RecordError for a value that does not fit the query.
        """
        given = [replace(answer, seq=0) for answer in answers]
        return self.write(lambda connection: put_answers(connection, self.name, given))

    def answers(self, after: int = 0, upto: int | None = None, *, prefix: str = "") -> list[Answer]:
        """The answers with after < seq <= upto, in order, to queries whose ids begin with `prefix`."""
        wanted = select(ANSWER).where(ANSWER.c.seq > after, _begins(ANSWER.c.query, prefix)).order_by(ANSWER.c.seq)
        if upto is not None:
            wanted = wanted.where(ANSWER.c.seq <= upto)
        with self.read() as connection:
            return [answer_from(row) for row in connection.execute(wanted)]

    def last_seq(self) -> int:
        """The greatest sequence number of an answer; 0 if there is none."""
        with self.read() as connection:
            return _last(connection, ANSWER)

    def cursor(self, consumer: str, step: int) -> int | None:
        """Up to which answer this consumer read at this step, or None if it has not been there."""
        with self.read() as connection:
            return _cursor(connection, consumer, step)

    def erase(self, annotator: str) -> int:
        """Deletes all that this annotator answered, for good; how many there were. Their numbers stay, and are empty.

        A run that has read them can no longer be replayed: see `erased`.
        """

        return self.write(lambda connection: erase_answers(connection, annotator))

    def erased(self, upto: int) -> int:
        """How many answers of seq <= upto were erased."""
        with self.read() as connection:
            found = select(func.count()).select_from(ERASED).where(ERASED.c.seq <= upto)
            return int(connection.execute(found).scalar_one())

    def log_cursor(self, consumer: str, step: int, upto: int) -> int:
        """Durable when it returns. Returns what was logged for this step first, now or before: read up to that."""
        check_name("consumer", consumer)
        step, upto = int(step), int(upto)
        if not 0 <= step < 2**63:
            raise StoreError(f"step of cursor {consumer!r} is {step}; give a whole number, 0 or more")

        def work(connection: Connection) -> int:
            logged = _cursor(connection, consumer, step)
            if logged is not None:
                return logged
            last = _last(connection, ANSWER)
            if not 0 <= upto <= last:
                raise StoreError(
                    f"cursor of {consumer!r} at step {step} is {upto}; the store holds answers 1 to {last}"
                )
            connection.execute(insert(CURSOR).values(consumer=consumer, step=step, upto=upto))
            return upto

        return self.write(work)

    def close(self) -> None:
        """What was asked before is written first. May be called twice."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self, episode: str, start: int, stop: int, loaded: dict[str, Episode]) -> Segment:
        if episode not in loaded:
            loaded[episode] = self.episodes.load(episode)
        return cut(loaded[episode], start, stop)

    def _query(self, row: Row[Any], loaded: dict[str, Episode]) -> Query:
        segments, anchor = (
            tuple(self._cut(episode, start, stop, loaded) for episode, start, stop in json.loads(references))
            for references in (row.segments, row.anchor)
        )
        return Query(row.id, segments, row.kind, row.context, anchor[0] if anchor else None)

    def _usable(self) -> None:
        if self._closed:
            raise StoreError(f"{self.name} is closed; open it again")
        if self._pid != os.getpid():
            raise StoreError(f"{self.name} was opened by another process; open it in this one")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._usable()
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise Unavailable(self._explain(error)) from error

    def write(self, work: Callable[[Connection], _T]) -> _T:
        """`work` runs in the writer's transaction, and is durable when this returns its result.

        What it refuses (StoreError, RecordError) it refuses before its first change: others' work is in the same
        transaction. It may run twice, if that of another fails.
        """
        return self.submit(work).result()

    def submit(self, work: Callable[[Connection], _T]) -> Future[_T]:
        """`write` for whoever does something else meanwhile: durable when the future has its result."""
        done: Future[_T] = Future()
        with self._lock:
            self._usable()
            self._jobs.put((work, done))
        return done

    def _explain(self, error: DBAPIError) -> str:
        explain = postgres.explain if isinstance(self.place, URL) else database.explain
        return explain(error, self.name)

    def _write_all(self) -> None:
        running = True
        while running:
            group = [self._jobs.get()]
            while len(group) < GROUP and not self._jobs.empty():
                group.append(self._jobs.get())
            running = None not in group
            # What nobody waits for any more before it was begun is not done.
            self._commit([job for job in group if job is not None and job[1].set_running_or_notify_cancel()])

    def _commit(self, jobs: Sequence[_Job]) -> None:
        """One transaction; if it fails each job gets its own, so that one that cannot be done stops no other."""
        results: list[Any] = []
        try:
            with self._engine.connect().execution_options(write=True) as connection, connection.begin():
                for work, _ in jobs:
                    try:
                        results.append(work(connection))
                    except (StoreError, RecordError) as refusal:
                        results.append(refusal)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            results = [Unavailable(self._explain(error)) if isinstance(error, DBAPIError) else error]
        for (_, done), result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)


# Built once: to build a statement takes longer than to run it.
_OF_IDS = {t.name: select(t).where(t.c.id.in_(bindparam("ids", expanding=True))) for t in (QUERY, ANSWER)}
_SEQS = {QUERY.name: (QUERY.c.seq,), ANSWER.name: (ANSWER.c.seq, ERASED.c.seq)}
_LAST = {name: select(*(select(func.max(seq)).scalar_subquery() for seq in seqs)) for name, seqs in _SEQS.items()}


def _rows(connection: Connection, table: Table, ids: Sequence[str]) -> Iterator[Row[Any]]:
    unique = list(dict.fromkeys(ids))
    for i in range(0, len(unique), CHUNK):
        yield from connection.execute(_OF_IDS[table.name], {"ids": unique[i : i + CHUNK]})


def _begins(column: Column[str], prefix: str) -> ColumnElement[bool]:
    # Not LIKE, to which SQLite's capitals are small letters.
    return func.substr(column, 1, len(prefix)) == prefix if prefix else true()


def _last(connection: Connection, table: Table) -> int:
    """The greatest number ever given: what was erased keeps its number."""
    return max(int(seq or 0) for seq in connection.execute(_LAST[table.name]).one())


def _cursor(connection: Connection, consumer: str, step: int) -> int | None:
    logged = select(CURSOR.c.upto).where(CURSOR.c.consumer == consumer, CURSOR.c.step == step)
    return connection.execute(logged).scalar_one_or_none()


def put_queries(connection: Connection, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """`Store.add_queries` within a transaction of `Store.write`; `name`: the store's, for sentences. rows: of
    `database.query_row`, of queries whose segments are known to be what the episodes hold."""
    known = {row.id: row._asdict() for row in _rows(connection, QUERY, [row["id"] for row in rows])}
    last = _last(connection, QUERY)
    new: list[dict[str, Any]] = []
    for row in rows:
        if row["id"] not in known:
            known[row["id"]] = {**row, "seq": last + len(new) + 1}
            new.append(known[row["id"]])
        elif {**row, "seq": known[row["id"]]["seq"]} != known[row["id"]]:
            raise StoreError(f"{name} has another query of id {row['id']!r}; give the new one its own id")
    if new:
        connection.execute(insert(QUERY), new)


def put_answers(connection: Connection, name: str, answers: Sequence[Answer]) -> list[int]:
    """`Store.add_answers` within a transaction of `Store.write`; `name`: the store's, for sentences.

    An answer that comes with a number above all that were ever given keeps it, as when a study moves."""
    asked = {row.id: row for row in _rows(connection, QUERY, [answer.query for answer in answers])}
    wanted = [id for answer in answers for id in (answer.id, answer.supersedes) if id]
    known = {row.id: answer_from(row) for row in _rows(connection, ANSWER, wanted)}
    last = _last(connection, ANSWER)
    new: list[dict[str, Any]] = []
    for answer in answers:
        if answer.id in known:
            if replace(known[answer.id], seq=0) != replace(answer, seq=0):
                raise StoreError(
                    f"{name} has another answer of id {answer.id!r}; give the new one its own id, "
                    f"and supersedes={answer.id!r} if it revises that"
                )
            continue
        if answer.query not in asked:
            raise StoreError(f"answer {answer.id!r} is to query {answer.query!r}, which {name} has not; add that first")
        row = asked[answer.query]
        check_value(answer, row.kind, [stop - start for _, start, stop in json.loads(row.segments)])
        old = known.get(answer.supersedes, answer)
        if answer.supersedes and (old.id, old.query, old.annotator) != (
            answer.supersedes,
            answer.query,
            answer.annotator,
        ):
            raise StoreError(
                f"answer {answer.id!r} supersedes {answer.supersedes!r}, which is no answer of "
                f"{answer.annotator!r} to query {answer.query!r}; name the answer that it revises"
            )
        last = max(last + 1, answer.seq)
        known[answer.id] = replace(answer, seq=last)
        new.append(answer_row(known[answer.id]))
    if new:
        connection.execute(insert(ANSWER), new)
    return [known[answer.id].seq for answer in answers]


def erase_answers(connection: Connection, annotator: str) -> int:
    """`Store.erase` within a transaction of `Store.write`."""
    gone = list(connection.execute(select(ANSWER.c.seq).where(ANSWER.c.annotator == annotator)).scalars())
    if gone:
        connection.execute(insert(ERASED), [{"seq": seq} for seq in gone])
        connection.execute(delete(ANSWER).where(ANSWER.c.annotator == annotator))
    return len(gone)
