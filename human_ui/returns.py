"""How a lease ends without an answer: given back, run out, or impossible to show. The query is then free for others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from embodied.store import Store
from human_ui import statements
from human_ui.tables import LEASE, OFFER, TROUBLE

AGAIN = 3600.0  # seconds for which nobody is given again what could not be shown to them; it may be mended meanwhile


def give_back(store: Store, person: str) -> None:
    """All that this person holds."""
    store.write(
        lambda connection: _end(connection, and_(LEASE.c.person == person, LEASE.c.state == "open"), "returned")
    )


def expire(connection: Connection, now: float) -> None:
    """Leases whose time is over are free again."""
    if connection.execute(statements.OVER, {"now": now}).first():
        _end(connection, and_(LEASE.c.state == "open", LEASE.c.until < now), "expired")


def unshown(store: Store, person: str, lease: str, reason: str, now: float) -> None:
    """`unshowing`, done."""
    store.write(unshowing(person, lease, reason, now))


def unshowing(person: str, lease: str, reason: str, now: float) -> Callable[[Connection], None]:
    """For `Store.write`: this lease could not be shown, and why, which the owner reads; what is not open, or not
    theirs, stays."""

    def work(connection: Connection) -> None:
        mine = and_(LEASE.c.id == lease, LEASE.c.person == person, LEASE.c.state == "open")
        row = connection.execute(select(LEASE.c.query).where(mine)).first()
        if row is None:
            return
        _end(connection, mine, "unshown")
        connection.execute(update(LEASE).where(LEASE.c.id == lease).values(until=now + AGAIN))
        connection.execute(delete(TROUBLE).where(TROUBLE.c.query == row.query, TROUBLE.c.person == person))
        connection.execute(insert(TROUBLE).values(query=row.query, person=person, reason=reason, at=now))

    return work


def _end(connection: Connection, which: Any, state: str) -> None:
    # Several people may let the same query go at once.
    count = select(func.count()).where(which, LEASE.c.query == OFFER.c.query).scalar_subquery()
    over = select(LEASE.c.query).where(which)
    connection.execute(update(OFFER).where(OFFER.c.query.in_(over)).values(taken=OFFER.c.taken - count))
    connection.execute(update(LEASE).where(which).values(state=state))
