"""Rows into a store, all or none: questions, offers, people, how each was shown what, and the answers themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, insert, select, update

from embodied.database import ANSWER, CURSOR, ERASED, StoreError, query_row
from embodied.episodes import Episode, Episodes, cut
from embodied.importers import DataError
from embodied.records import Query, RecordError, Segment, value_from_json, value_to_json
from embodied.store import Store, put_answers, put_queries
from human_ui.desk import in_order
from human_ui.people import digest, secret
from human_ui.statements import HELD
from human_ui.tables import DETAIL, LEASE, OFFER, PERSON, VERSION, create
from rapport.study.contents import AS_THEY_ARE, Contents, Offered
from rapport.study.rows import Asked, Cut, Row

NOBODY = Offered(0.0, 0, True)  # how a question is offered of which only answers are known: to nobody
PSEUDONYM = re.compile(r"p[1-9][0-9]*")
Placed = Sequence[tuple[str, Row]]
"""Rows, each with where it stands: file and line."""


class _Tried(StoreError):
    """It would have gone well."""


def put(
    store: Store,
    placed: Placed,
    contents: Contents,
    episodes: Episodes,
    *,
    prefix: str = "",
    bring: Callable[[], None] | None = None,
) -> int:
    """contents: the questions and the rest of a whole study; of rows alone, nothing. episodes: what segments are cut
    from. prefix: put before every annotator's name. bring: brings the files, once it is known that all fits.

    Returns how many answers are new. What is there already is left as it is; numbers are kept where they are above
    those that are there. Raises DataError that names file and line, and StoreError for what does not go with what is
    there; then nothing has changed.
    """
    placed = [(where, _renamed(row, prefix)) for where, row in placed]
    last = 0
    for where, row in placed:
        if row.answer.seq <= last:
            raise DataError(f"{where}: seq is {row.answer.seq} after {last}; sort the rows by seq")
        last = row.answer.seq
    asked = _agreed(placed, contents)
    rows = _query_rows(placed, asked, episodes)
    offers = dict((one.id, offered) for one, offered in contents.questions)

    def work(connection: Connection, only_try: bool) -> int:
        with connection.begin_nested():  # a refusal takes back what came before it
            there = _count(connection)
            fresh = not there and not connection.execute(select(ERASED).limit(1)).first()
            _check_pseudonyms(connection, placed)
            put_queries(connection, store.name, rows)
            create(connection)
            _put_table(connection, VERSION, contents.rest.get("versions", []))
            _put_offers(connection, store.name, [*asked.values()], offers, placed)
            _put_versions(connection, placed)
            leases = _put_leases(connection, placed)
            known = set(connection.execute(select(DETAIL.c.answer)).scalars())
            _put_answers(connection, store.name, placed)
            details = [
                {
                    "answer": row.answer.id,
                    "lease": leases[row.answer.query, row.answer.annotator],
                    "late": row.showing.late,
                    "told": json.dumps(row.showing.told, ensure_ascii=False),
                }
                for _, row in placed
                if row.showing and row.answer.id not in known
            ]
            if details:
                connection.execute(insert(DETAIL), details)
            for part, table in AS_THEY_ARE.items():
                # Elsewhere, erased numbers and those that somebody has read up to are other answers'.
                if fresh or table not in (ERASED, CURSOR):
                    _put_table(connection, table, contents.rest.get(part, []))
            if only_try:
                raise _Tried
            return _count(connection) - there

    try:
        store.write(lambda connection: work(connection, True))
    except _Tried:
        if bring is not None:
            bring()
    return store.write(lambda connection: work(connection, False))


def _renamed(row: Row, prefix: str) -> Row:
    return replace(row, answer=replace(row.answer, annotator=prefix + row.answer.annotator)) if prefix else row


def _count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(ANSWER)).scalar_one())


def _agreed(placed: Placed, contents: Contents) -> dict[str, Asked]:
    """Every question once. Raises DataError where two rows tell differently of one."""
    asked = {one.id: one for one, _ in contents.questions}
    for where, row in placed:
        if asked.setdefault(row.asked.id, row.asked) != row.asked:
            raise DataError(f"{where}: query {row.asked.id!r} is another one elsewhere; give the new one its own id")
    return asked


def _query_rows(placed: Placed, asked: Mapping[str, Asked], episodes: Episodes) -> list[dict[str, Any]]:
    """For the core's table. Raises DataError for segments that are not there, and values that do not fit."""
    first = {row.asked.id: where for where, row in reversed(placed)}
    loaded: dict[str, Episode] = {}

    def segment(part: Cut) -> Segment:
        if part.episode not in loaded:
            loaded[part.episode] = episodes.load(part.episode)
        return cut(loaded[part.episode], part.start, part.stop)

    rows = []
    for one in asked.values():
        try:
            parts, anchor = tuple(map(segment, one.segments)), segment(one.anchor) if one.anchor else None
            rows.append(query_row(Query(one.id, parts, one.kind, one.context, anchor)))
        except RecordError as error:
            raise DataError(f"{first.get(one.id, f'question {one.id!r}')}: {error}") from error
    return rows


def _check_pseudonyms(connection: Connection, placed: Placed) -> None:
    """p1 of one study is not p1 of another; only of the same study, exported again, are they known to be."""
    here = {row.id: row.annotator for row in connection.execute(select(ANSWER.c.id, ANSWER.c.annotator))}
    same = {row.answer.annotator for _, row in placed if here.get(row.answer.id) == row.answer.annotator}
    for where, row in placed:
        name = row.answer.annotator
        if PSEUDONYM.fullmatch(name) and name not in same and name in here.values():
            raise DataError(
                f"{where}: somebody else is called {name!r} here already, a pseudonym of another study; "
                "give --prefix, and what to put before all names"
            )


def _put_table(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Those whose key is not there."""
    key = [*table.primary_key]
    there = set(map(tuple, connection.execute(select(*key))))
    new = [row for row in rows if tuple(row[column.name] for column in key) not in there]
    if new:
        connection.execute(insert(table), new)


def _put_offers(
    connection: Connection, name: str, asked: Sequence[Asked], offers: Mapping[str, Offered | None], placed: Placed
) -> None:
    lent = {row.asked.id for _, row in placed if row.showing}
    there = {row.query: row for row in connection.execute(select(OFFER))}
    new = []
    for one in asked:
        if one.id in there:
            truth = there[one.id].truth
            known = value_from_json(json.loads(truth)) if truth else None
            if json.loads(there[one.id].clips) != list(one.clips) or known != one.gold:
                raise StoreError(f"{name} offers query {one.id!r} with other clips or another known answer; rename it")
        elif one.id in lent or one.clips or one.gold is not None or offers.get(one.id):
            new.append(
                {
                    "query": one.id,
                    **vars(offers.get(one.id) or NOBODY),
                    "taken": 0,
                    "truth": "" if one.gold is None else json.dumps(value_to_json(one.gold)),
                    "clips": json.dumps(list(one.clips)),
                }
            )
    if new:
        connection.execute(insert(OFFER), in_order(connection, new))


def _put_versions(connection: Connection, placed: Placed) -> None:
    """Of terms that are not there, what the rows tell of them: the study's name, and its sentence."""
    there = {row.hash: row for row in connection.execute(select(VERSION))}
    terms: dict[str, dict[str, Any]] = {hash: json.loads(row.terms) for hash, row in there.items()}
    changed = set[str]()
    for where, row in placed:
        if row.showing is None:
            continue
        version = row.showing.version
        known = terms.setdefault(version, {})
        said = {"name": row.showing.study} | ({} if row.asked.context else {"question": row.showing.question})
        for key, text in said.items():
            if key not in known:
                known[key] = text
                changed.add(version)
            elif known[key] != text:
                raise DataError(f"{where}: version {version} has {key} {text!r}, elsewhere {known[key]!r}; correct it")
    if changed:
        connection.execute(delete(VERSION).where(VERSION.c.hash.in_(changed)))
        at = {version: there[version].at if version in there else 0.0 for version in changed}
        rows = [{"hash": one, "terms": json.dumps(terms[one], ensure_ascii=False), "at": at[one]} for one in changed]
        connection.execute(insert(VERSION), rows)


def _put_leases(connection: Connection, placed: Placed) -> dict[tuple[str, str], str]:
    """The lease of each (query, person). People come without a token that anybody has: they are invited again."""
    there = {(row.query, row.person): row for row in connection.execute(select(LEASE))}
    people = set(connection.execute(select(PERSON.c.id)).scalars())
    made: dict[tuple[str, str], dict[str, Any]] = {}
    found: dict[tuple[str, str], str] = {}
    for where, row in placed:
        if row.showing is None:
            continue
        pair = query, person = row.answer.query, row.answer.annotator
        how = {"version": row.showing.version, "shown": json.dumps(list(row.showing.order))}
        old = made.get(pair) or (there[pair]._asdict() if pair in there else None)
        if old and old["state"] in HELD:
            if old["state"] == "open" or {key: old[key] for key in how} != how:
                raise DataError(
                    f"{where}: {person!r} has query {query!r} here in another way, or looks at it now; "
                    "let it be answered first, or give --prefix"
                )
            found[pair] = old["id"]
            continue
        if old:
            connection.execute(delete(LEASE).where(and_(LEASE.c.query == query, LEASE.c.person == person)))
        if person not in people:
            people.add(person)
            unknown = {"consent": "", "tries": 0, "passed": False, "at": 0.0}
            new = {"id": person, "role": "annotator", "token": digest(secret()), **unknown, "revoked": True}
            connection.execute(insert(PERSON).values(**new))
        found[pair] = secret()
        made[pair] = {"id": found[pair], "query": query, "person": person, **how, "state": "answered"}
        connection.execute(insert(LEASE).values(**made[pair], given=0.0, until=0.0))
        connection.execute(update(OFFER).where(OFFER.c.query == query).values(taken=OFFER.c.taken + 1))
    return found


def _put_answers(connection: Connection, name: str, placed: Placed) -> None:
    try:
        put_answers(connection, name, [row.answer for _, row in placed])
    except (StoreError, RecordError):
        for where, row in placed:  # one by one, to tell which
            try:
                put_answers(connection, name, [row.answer])
            except (StoreError, RecordError) as error:
                raise DataError(f"{where}: {error}") from error
        raise
