"""Who looks at what: queries are lent to people for a while, and come back as answers, or unanswered.

All that changes together is one transaction of the store: an answer and the end of its lease, a lease and its count.
Times are seconds since the epoch, of the server alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, insert, select, update

from embodied.checks import MAX_TEXT, whole
from embodied.database import ANSWER, QUERY, StoreError, answer_from
from embodied.records import Answer, Query, Rate, RecordError, Survey, Value, value_to_json
from embodied.store import Store, put_answers
from embodied.values import CLASSES, shown_as
from human_ui import statements
from human_ui.people import secret
from human_ui.returns import expire
from human_ui.study import Study, from_json
from human_ui.tables import LEASE, OFFER, VERSION

T = TypeVar("T")
Work = Callable[[Connection], T]
AT_ONCE = 8  # leases that one person may hold


class Gone(StoreError):
    """A lease that is nobody's any more; the sentence says what to do."""


class Twice(StoreError):
    """A second answer of one person to one question, which changes nothing; the sentence says what to do."""


@dataclass(frozen=True)
class Taken:
    """late: it came when its lease was over."""

    seq: int
    late: bool


@dataclass(frozen=True)
class Lent:
    """A query as one person is shown it. `shown[i]` is the number, in the query, of the segment shown in place i; clips
    and steps (the length of each segment) are in the order in which they are shown."""

    lease: str
    query: str
    kind: str
    context: str
    study: Study  # as it was when this was lent
    shown: tuple[int, ...]
    clips: tuple[str, ...]
    steps: tuple[int, ...]
    anchor: str  # a clip, or nothing
    until: float


def begin(store: Store, study: Study, now: float) -> None:
    """The study's terms, on record before anybody sees them."""
    store.write(lambda connection: _begin(connection, study, now))


def _begin(connection: Connection, study: Study, now: float) -> None:
    if not connection.execute(statements.KNOWN, {"terms": study.version}).first():
        connection.execute(insert(VERSION).values(hash=study.version, terms=study.to_json(), at=now))


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
        if new := [row for row in rows if row["query"] not in there]:
            connection.execute(insert(OFFER), in_order(connection, new))

    store.write(work)


def in_order(connection: Connection, offers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of new offers with their place in the queue, which is that of the core's queries."""
    ids = [row["query"] for row in offers]
    seq = {row.id: row.seq for row in connection.execute(select(QUERY.c.id, QUERY.c.seq).where(QUERY.c.id.in_(ids)))}
    return [{**row, "seq": seq[row["query"]]} for row in offers]


def withdraw(store: Store, queries: Sequence[str]) -> None:
    """They are given to nobody any more; what is being looked at may still be answered."""
    store.write(
        lambda connection: connection.execute(update(OFFER).where(OFFER.c.query.in_(queries)).values(withdrawn=True))
    )


def lend(store: Store, study: Study, person: str, n: int, now: float, rng: np.random.Generator) -> list[Lent]:
    """`lending`, done."""
    return store.write(lending(study, person, n, now, rng))


def lending(study: Study, person: str, n: int, now: float, rng: np.random.Generator) -> Work[list[Lent]]:
    """For `Store.write`: what this person holds, and more, until there are `n`: the same again after a reload.

    Fewer where there is no more. Sides are drawn here and kept. A lease keeps the wording that it was given under; one
    who had a query and let it go has the same lease again, for an answer to it may still be on its way.
    """
    n = min(n, AT_ONCE)

    def work(connection: Connection) -> list[Lent]:
        expire(connection, now)
        who = {"who": person, "now": now, "till": now + study.lease}
        held = connection.execute(statements.HOLD, who).rowcount
        if new := _next(connection, study, person, n - held, now, rng):
            connection.execute(statements.TAKEN, {"queries": list(new)})
            had = {**who, "queries": list(new), "terms": study.version}
            if again := connection.execute(statements.HAD, had).scalars().all():
                connection.execute(statements.AGAIN, {**who, "queries": again})
            if first := {query: k for query, k in new.items() if query not in again}:
                connection.execute(statements.FORGET, {**who, "queries": list(first)})  # under terms that are no more
                _begin(connection, study, now)
                lent = {"person": person, "version": study.version, "state": "open", "given": now, "until": who["till"]}
                rows = [
                    {"id": secret(), "query": query, "shown": json.dumps(rng.permutation(k).tolist()), **lent}
                    for query, k in first.items()
                ]
                connection.execute(statements.LEND, rows)
        return _lent(connection.execute(statements.HOLDING, who))

    return work


def _next(
    connection: Connection, study: Study, person: str, n: int, now: float, rng: np.random.Generator
) -> dict[str, int]:
    """Queries that this person may be given, and how many segments each has: gold ones at the study's rate, others by
    priority, then as they came."""
    if n < 1:
        return {}
    who = {"who": person, "now": now}
    work = connection.execute(statements.NEXT, {**who, "n": n}).all()
    share = int(rng.binomial(n, study.gold)) if study.gold else 0
    gold = connection.execute(statements.NEXT_GOLD, {**who, "n": share}).all() if share else []
    mixed = [*work[: n - len(gold)], *gold]
    return {mixed[i].query: len(json.loads(mixed[i].segments)) for i in rng.permutation(len(mixed))}


def _lent(rows: Iterable[Any]) -> list[Lent]:
    found = []
    for row in rows:
        shown, clips = tuple(json.loads(row.shown)), json.loads(row.clips)
        anchor = clips[len(shown)] if len(clips) > len(shown) else ""
        lengths = [stop - start for _, start, stop in json.loads(row.segments)]
        placed, steps = (tuple(each[i] for i in shown) for each in (clips, lengths))
        terms = from_json(row.terms)
        found.append(Lent(row.id, row.query, row.kind, row.context, terms, shown, placed, steps, anchor, row.until))
    return found


def renew(store: Store, study: Study, person: str, now: float) -> None:
    """Whoever still looks keeps what they hold."""
    who = {"who": person, "till": now + study.lease}
    store.write(lambda connection: connection.execute(statements.HOLD, who))


def take(store: Store, *given: Any) -> Taken:
    """`taking`, done: on disk when this returns."""
    return store.write(taking(store.name, *given))


def taking(
    name: str,
    person: str,
    lease: str,
    answer: str,
    value: Value,
    told: Mapping[str, Any],
    supersedes: str,
    now: float,
) -> Work[Taken]:
    """For `Store.write`: the answer that a person gave, as it was shown to them. name: the store's, for sentences.

    Sent again it has the same number. An answer to a lease that has expired is taken, and marked late. One answer of a
    person to a query stands: raises Twice where `supersedes` is not that one. Raises Gone for a lease of somebody else,
    StoreError and RecordError for what the store refuses.
    """
    noticed = _told(told)

    def work(connection: Connection) -> Taken:
        row = connection.execute(statements.OF_LEASE, {"lease": lease, "who": person, "answer": answer}).first()
        if row is None:
            raise Gone("this question was not given to you, or was given back; load the page again")
        if isinstance(value, Survey):
            _check_survey(connection, value, row.version)
        if isinstance(value, Rate):
            for rating in value.values:
                whole("a rating", int(rating) if rating.is_integer() else rating, 1, CLASSES)
        meant = shown_as(value, json.loads(row.shown))
        given = Answer(answer, row.query, person, "person", meant, supersedes=supersedes)
        if row.late is None and row.state == "answered" and supersedes != _standing(connection, row.query, person):
            raise Twice(
                "You answered this question already, perhaps in another tab; that answer stands. To change it, go back "
                "to it with Undo."
            )
        (seq,) = put_answers(connection, name, [given])
        if row.late is not None:
            return Taken(seq, row.late)
        late = row.state not in statements.HELD
        if late:
            connection.execute(statements.TAKEN, {"queries": [row.query]})
        connection.execute(statements.ANSWERED, {"lease": lease})
        connection.execute(statements.TELL, {"answer": answer, "lease": lease, "late": late, "told": noticed})
        return Taken(seq, late)

    return work


def _check_survey(connection: Connection, value: Survey, version: str) -> None:
    terms = connection.execute(select(VERSION.c.terms).where(VERSION.c.hash == version)).scalar_one()
    if unknown := sorted({name for name, _ in value.items} - {item.name for item in from_json(terms).survey}):
        raise RecordError(f"the survey asks nothing called {unknown[0]!r}; load the page again")


def _standing(connection: Connection, query: str, person: str) -> str:
    """The answer of this person to this query that no other supersedes, or nothing."""
    theirs = select(ANSWER.c.id, ANSWER.c.supersedes).where(ANSWER.c.query == query, ANSWER.c.annotator == person)
    rows = connection.execute(theirs).all()
    replaced = {row.supersedes for row in rows}
    return next((row.id for row in rows if row.id not in replaced), "")


def _told(told: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(told), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"what came with the answer cannot be kept ({error}); leave that out") from error
    if len(text) > MAX_TEXT:
        raise StoreError(f"what came with the answer has {len(text)} characters; send at most {MAX_TEXT}")
    return json.dumps(dict(told))  # in ASCII: PostgreSQL keeps no NUL, and no database half of a surrogate pair


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
            lent = _lent(connection.execute(statements.OF_QUERY, {"who": person, "query": row.query}))
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
