"""The statements that every answer takes, built once: to build one takes longer than to run it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, Integer, Select, String, and_, bindparam, delete, insert, or_, select, update

from embodied.database import QUERY
from human_ui.tables import DETAIL, GOLD, LEASE, OFFER, OPEN, VERSION

HELD = ("open", "answered")
_who = bindparam("who", type_=String)
_now, _till = bindparam("now", type_=Float), bindparam("till", type_=Float)
_n = bindparam("n", type_=Integer)
_queries = bindparam("queries", type_=String, expanding=True)
_theirs = LEASE.c.person == _who

OVER = select(LEASE.c.id).where(LEASE.c.state == "open", LEASE.c.until < _now).limit(1)
HOLD = update(LEASE).where(_theirs, LEASE.c.state == "open").values(until=_till)
_resting = and_(LEASE.c.state == "unshown", LEASE.c.until > _now)
_not_new = select(LEASE.c.query).where(_theirs, or_(LEASE.c.state.in_(HELD), _resting))
_new = select(OFFER.c.query, OFFER.c.priority, OFFER.c.seq).where(OFFER.c.query.not_in(_not_new))


def _with_segments(offers: Select[Any]) -> Select[Any]:
    """Those few alone are joined, or PostgreSQL joins all of them first."""
    few = offers.limit(_n).subquery()
    found = select(few.c.query, QUERY.c.segments).join(QUERY, QUERY.c.id == few.c.query)
    return found.order_by(few.c.priority.desc(), few.c.seq)


NEXT = _with_segments(_new.where(OPEN).order_by(OFFER.c.priority.desc(), OFFER.c.seq))
NEXT_GOLD = _with_segments(_new.where(GOLD).order_by(OFFER.c.seq))
TAKEN = update(OFFER).where(OFFER.c.query.in_(_queries)).values(taken=OFFER.c.taken + 1)
_same = _theirs, LEASE.c.query.in_(_queries)
HAD = select(LEASE.c.query).where(*_same, LEASE.c.version == bindparam("terms"))
AGAIN = update(LEASE).where(*_same).values(state="open", given=_now, until=_till)
FORGET = delete(LEASE).where(*_same)
LEND = insert(LEASE)
KNOWN = select(VERSION.c.hash).where(VERSION.c.hash == bindparam("terms"))
_columns = QUERY.c.kind, QUERY.c.context, QUERY.c.segments, OFFER.c.clips, VERSION.c.terms
LENT = (
    select(LEASE.c.id, LEASE.c.query, LEASE.c.shown, LEASE.c.until, *_columns)
    .join(QUERY, QUERY.c.id == LEASE.c.query)
    .join(OFFER, OFFER.c.query == LEASE.c.query)
    .join(VERSION, VERSION.c.hash == LEASE.c.version)
    .where(_theirs)
    .order_by(LEASE.c.given, QUERY.c.seq)
)
HOLDING = LENT.where(LEASE.c.state == "open")
OF_QUERY = LENT.where(LEASE.c.query == bindparam("query"))

OF_LEASE = (
    select(LEASE.c.query, LEASE.c.shown, LEASE.c.state, LEASE.c.version, DETAIL.c.late)
    .outerjoin(DETAIL, DETAIL.c.answer == bindparam("answer"))
    .where(LEASE.c.id == bindparam("lease"), _theirs)
)
"""And, if this answer is known already, whether it was late."""
ANSWERED = update(LEASE).where(LEASE.c.id == bindparam("lease")).values(state="answered")
TELL = insert(DETAIL)
