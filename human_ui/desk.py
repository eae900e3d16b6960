"""Who looks at what: queries are lent to people for a while, and come back as answers, or unanswered.

All that changes together is one transaction of the store: an answer and the end of its lease, a lease and its count.
Times are seconds since the epoch, of the server alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, delete, insert, select, update

from embodied.checks import MAX_TEXT
from embodied.database import ANSWER, QUERY, StoreError, answer_from
from embodied.records import Answer, Query, Value, value_to_json
from embodied.store import Store, put_answers
from embodied.values import shown_as
from human_ui.people import secret
from human_ui.study import Study
from human_ui.tables import DETAIL, GOLD, LEASE, OFFER, OPEN, VERSION

AT_ONCE = 8  # leases that one person may hold
HELD = ("open", "answered")


class Gone(StoreError):
    """A lease that is nobody's any more; the sentence says what to do."""


@dataclass(frozen=True)
class Lent:
    """A query as one person is shown it. `shown[i]` is the number, in the query, of the segment shown in place i; clips
    and steps (the length of each segment) are in the order in which they are shown."""

    lease: str
    query: str
    kind: str
    context: str
    shown: tuple[int, ...]
    clips: tuple[str, ...]
    steps: tuple[int, ...]
    anchor: str  # a clip, or nothing
    until: float


def begin(store: Store, study: Study, now: float) -> None:
    """The study's terms, on record before anybody sees them."""

    def work(connection: Connection) -> None:
        if not connection.execute(select(VERSION.c.hash).where(VERSION.c.hash == study.version)).first():
            connection.execute(insert(VERSION).values(hash=study.version, terms=study.to_json(), at=now))

    store.write(work)


def offer(
    store: Store,
    queries: Sequence[Query],
    clips: Mapping[str, Sequence[str]],
    *,
    want: int,
    priority: float = 0.0,
    truth: Mapping[str, Value] | None = None,
) -> None:
    """Queries that people may be given from now on, with the clips of their segments (and then of the anchor's).

    Higher priorities come first. truth: of gold queries, what is known. What is offered already is left as it is.
    """
    store.add_queries(queries)
    known = truth or {}
    rows = [
        {
            "query": query.id,
            "priority": priority,
            "want": want,
            "taken": 0,
            "withdrawn": False,
            "truth": json.dumps(value_to_json(known[query.id])) if query.id in known else "",
            "clips": json.dumps(list(clips[query.id])),
        }
        for query in queries
    ]

    def work(connection: Connection) -> None:
        ids = [row["query"] for row in rows]
        there = set(connection.execute(select(OFFER.c.query).where(OFFER.c.query.in_(ids))).scalars())
        seq = {
            row.id: row.seq for row in connection.execute(select(QUERY.c.id, QUERY.c.seq).where(QUERY.c.id.in_(ids)))
        }
        if new := [{**row, "seq": seq[row["query"]]} for row in rows if row["query"] not in there]:
            connection.execute(insert(OFFER), new)

    store.write(work)


def withdraw(store: Store, queries: Sequence[str]) -> None:
    """They are given to nobody any more; what is being looked at may still be answered."""
    store.write(
        lambda connection: connection.execute(update(OFFER).where(OFFER.c.query.in_(queries)).values(withdrawn=True))
    )


def lend(store: Store, study: Study, person: str, n: int, now: float, rng: np.random.Generator) -> list[Lent]:
    """What this person holds, and more, until there are `n`: the same again after a reload.

    Fewer where there is no more. Sides are drawn here and kept.
    """
    n = min(n, AT_ONCE)

    def work(connection: Connection) -> list[Lent]:
        _expire(connection, now)
        mine = LEASE.c.person == person
        until = now + study.lease
        connection.execute(update(LEASE).where(mine, LEASE.c.state == "open").values(until=until))
        held = connection.execute(select(LEASE.c.id).where(mine, LEASE.c.state == "open")).scalars().all()
        for query in _next(connection, study, person, n - len(held), rng):
            row = connection.execute(select(QUERY.c.segments).where(QUERY.c.id == query)).one()
            shown = [int(i) for i in rng.permutation(len(json.loads(row.segments)))]
            # One who had it and let it go may have it again: the row is theirs, so it is used again.
            connection.execute(delete(LEASE).where(mine, LEASE.c.query == query, LEASE.c.state.not_in(HELD)))
            new = {
                "id": secret(),
                "query": query,
                "person": person,
                "version": study.version,
                "shown": json.dumps(shown),
            }
            connection.execute(insert(LEASE).values(**new, state="open", given=now, until=until))
            connection.execute(update(OFFER).where(OFFER.c.query == query).values(taken=OFFER.c.taken + 1))
        return _lent(connection, and_(mine, LEASE.c.state == "open"))

    return store.write(work)


def _next(connection: Connection, study: Study, person: str, n: int, rng: np.random.Generator) -> list[str]:
    """Queries that this person may be given: gold ones at the study's rate, others by priority, then as they came."""
    if n < 1:
        return []
    theirs = select(LEASE.c.query).where(LEASE.c.person == person, LEASE.c.state.in_(HELD))
    new = select(OFFER.c.query).where(OFFER.c.query.not_in(theirs))
    order = OFFER.c.priority.desc(), OFFER.c.seq
    work = list(connection.execute(new.where(OPEN).order_by(*order).limit(n)).scalars())
    share = int(rng.binomial(n, study.gold)) if study.gold else 0
    gold = list(connection.execute(new.where(GOLD).order_by(OFFER.c.seq).limit(share)).scalars()) if share else []
    mixed = [*work[: n - len(gold)], *gold]
    return [mixed[i] for i in rng.permutation(len(mixed))]


def _lent(connection: Connection, where: Any) -> list[Lent]:
    lease = LEASE.c.id, LEASE.c.query, LEASE.c.shown, LEASE.c.until
    joined = (
        select(*lease, QUERY.c.kind, QUERY.c.context, QUERY.c.segments, OFFER.c.clips)
        .join(QUERY, QUERY.c.id == LEASE.c.query)
        .join(OFFER, OFFER.c.query == LEASE.c.query)
    )
    found = []
    for row in connection.execute(joined.where(where).order_by(LEASE.c.given, QUERY.c.seq)):
        shown, clips = tuple(json.loads(row.shown)), json.loads(row.clips)
        anchor = clips[len(shown)] if len(clips) > len(shown) else ""
        lengths = [stop - start for _, start, stop in json.loads(row.segments)]
        placed, steps = (tuple(each[i] for i in shown) for each in (clips, lengths))
        found.append(Lent(row.id, row.query, row.kind, row.context, shown, placed, steps, anchor, row.until))
    return found


def renew(store: Store, study: Study, person: str, now: float) -> None:
    """Whoever still looks keeps what they hold."""
    mine = and_(LEASE.c.person == person, LEASE.c.state == "open")
    store.write(lambda connection: connection.execute(update(LEASE).where(mine).values(until=now + study.lease)))


def give_back(store: Store, person: str, lease: str | None = None) -> None:
    """One lease, or all that this person holds, unanswered."""

    def work(connection: Connection) -> None:
        mine = and_(LEASE.c.person == person, LEASE.c.state == "open")
        _end(connection, mine if lease is None else and_(mine, LEASE.c.id == lease), "returned")

    store.write(work)


def _expire(connection: Connection, now: float) -> None:
    """Leases whose time is over are free again."""
    _end(connection, and_(LEASE.c.state == "open", LEASE.c.until < now), "expired")


def _end(connection: Connection, which: Any, state: str) -> None:
    over = select(LEASE.c.query).where(which)
    connection.execute(update(OFFER).where(OFFER.c.query.in_(over)).values(taken=OFFER.c.taken - 1))
    connection.execute(update(LEASE).where(which).values(state=state))


def take(
    store: Store,
    person: str,
    lease: str,
    answer: str,
    value: Value,
    told: Mapping[str, Any],
    supersedes: str,
    now: float,
) -> int:
    """The answer that a person gave, as it was shown to them; its number. It is on disk when this returns.

    Sent again it has the same number. An answer to a lease that has expired is taken, and marked late. Raises Gone for
    a lease of somebody else, StoreError and RecordError for what the store refuses.
    """
    noticed = _told(told)

    def work(connection: Connection) -> int:
        row = connection.execute(select(LEASE).where(LEASE.c.id == lease, LEASE.c.person == person)).first()
        if row is None:
            raise Gone("this question was not given to you, or was given back; load the page again")
        meant = shown_as(value, json.loads(row.shown))
        given = Answer(answer, row.query, person, "person", meant, supersedes=supersedes)
        (seq,) = put_answers(connection, store.name, [given])
        if row.state in ("expired", "returned"):
            connection.execute(update(OFFER).where(OFFER.c.query == row.query).values(taken=OFFER.c.taken + 1))
        connection.execute(update(LEASE).where(LEASE.c.id == lease).values(state="answered"))
        if not connection.execute(select(DETAIL.c.answer).where(DETAIL.c.answer == answer)).first():
            late = row.state in ("expired", "returned")
            connection.execute(insert(DETAIL).values(answer=answer, lease=lease, late=late, told=noticed))
        return seq

    return store.write(work)


def _told(told: Mapping[str, Any]) -> str:
    text = json.dumps(dict(told), ensure_ascii=False, allow_nan=False)
    if len(text) > MAX_TEXT:
        raise StoreError(f"what came with the answer has {len(text)} characters; send at most {MAX_TEXT}")
    return text


def last(store: Store, person: str, n: int) -> list[tuple[Lent, str, Value]]:
    """The latest answers of this person that stand, newest first: what was lent, the answer's id, and what was said as
    it was shown. For undoing: a new answer supersedes it."""
    with store.read() as connection:
        rows = [
            answer_from(r)
            for r in connection.execute(
                select(ANSWER).where(ANSWER.c.annotator == person).order_by(ANSWER.c.seq.desc()).limit(4 * n)
            )
        ]
        replaced = {a.supersedes for a in rows}
        found: list[tuple[Lent, str, Value]] = []
        for row in rows:
            if row.id in replaced or len(found) == n:
                continue
            lent = _lent(connection, and_(LEASE.c.query == row.query, LEASE.c.person == person))
            if lent:
                found.append((lent[0], row.id, as_shown(row.value, lent[0].shown)))
    return found


def may_see(store: Store, person: str, clip: str) -> bool:
    """Whether this person was given a query that shows this clip."""
    theirs = select(LEASE.c.id).join(OFFER, OFFER.c.query == LEASE.c.query).where(LEASE.c.person == person)
    with store.read() as connection:
        return connection.execute(theirs.where(OFFER.c.clips.contains(clip)).limit(1)).first() is not None


def as_shown(value: Value, shown: Sequence[int]) -> Value:
    """What was said, as it was shown: the inverse of what `take` keeps."""
    return shown_as(value, [list(shown).index(k) for k in range(len(shown))])
