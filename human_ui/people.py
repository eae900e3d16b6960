"""Who may do what: people with tokens, which are shown once and kept as hashes only, and their sessions."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from embodied.database import StoreError
from embodied.store import Store, erase_answers
from human_ui.tables import DETAIL, LEASE, OFFER, PERSON, SESSION, TOMBSTONE, TROUBLE

ROLES = ("annotator", "learner", "owner")
SESSION_LASTS = 30 * 86_400.0  # seconds


@dataclass(frozen=True)
class Person:
    """Somebody with a token. `consent`: the version of the study that was agreed to, or nothing."""

    id: str
    role: str
    consent: str
    tries: int
    passed: bool


def secret() -> str:
    """128 bits that nobody guesses."""
    return secrets.token_urlsafe(16)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def invite(store: Store, id: str, role: str = "annotator") -> str:
    """A new person, or one who was revoked; returns the token, which is nowhere kept. Raises StoreError for a name that
    is taken."""
    if role not in ROLES:
        raise StoreError(f"role is {role!r}; give one of {', '.join(ROLES)}")
    token = secret()

    def work(connection: Connection) -> None:
        known = connection.execute(select(PERSON.c.revoked).where(PERSON.c.id == id)).first()
        if known and not known.revoked:
            raise StoreError(f"there is a person {id!r} already; choose another name, or revoke that one's token")
        if known:
            again = {"token": digest(token), "role": role, "revoked": False}
            connection.execute(update(PERSON).where(PERSON.c.id == id).values(**again))
            return
        row = {"id": id, "role": role, "token": digest(token), "consent": "", "tries": 0, "passed": False}
        connection.execute(insert(PERSON).values(**row, at=time.time(), revoked=False))

    store.write(work)
    return token


def invite_again(store: Store, id: str, role: str = "annotator") -> str:
    """A new token for a person who is there, or for a new one; the old token and its sessions are dead."""
    token = secret()

    def work(connection: Connection) -> bool:
        if not connection.execute(select(PERSON.c.id).where(PERSON.c.id == id)).first():
            return False
        connection.execute(update(PERSON).where(PERSON.c.id == id).values(token=digest(token), revoked=False))
        connection.execute(delete(SESSION).where(SESSION.c.person == id))
        return True

    return token if store.write(work) else invite(store, id, role)


def enter(store: Store, token: str) -> str | None:
    """A session for whoever has this token, or None; what it returns goes into a cookie."""
    session = secret()

    def work(connection: Connection) -> str | None:
        found = connection.execute(
            select(PERSON.c.id).where(PERSON.c.token == digest(token), ~PERSON.c.revoked)
        ).first()
        if found is None:
            return None
        until = time.time() + SESSION_LASTS
        connection.execute(insert(SESSION).values(token=digest(session), person=found.id, until=until))
        return session

    return store.write(work)


# Built once, since every request asks.
_PERSON = select(PERSON.c.id, PERSON.c.role, PERSON.c.consent, PERSON.c.tries, PERSON.c.passed).where(~PERSON.c.revoked)
_OF_TOKEN = _PERSON.where(PERSON.c.token == bindparam("digest"))
_OF_SESSION = _PERSON.join(SESSION).where(SESSION.c.token == bindparam("digest"), SESSION.c.until > bindparam("now"))


def of_session(store: Store, session: str) -> Person | None:
    return _find(store, _OF_SESSION, {"digest": digest(session), "now": time.time()})


def of_token(store: Store, token: str) -> Person | None:
    return _find(store, _OF_TOKEN, {"digest": digest(token)})


def _find(store: Store, wanted: Select[Any], given: dict[str, Any]) -> Person | None:
    with store.read() as connection:
        row = connection.execute(wanted, given).first()
    return None if row is None else Person(*row)


def revoke(store: Store, id: str) -> None:
    """The token and all sessions stop at once; what was answered stays. Raises StoreError for somebody unknown."""

    def work(connection: Connection) -> None:
        if not connection.execute(select(PERSON.c.id).where(PERSON.c.id == id)).first():
            raise StoreError(f"there is no person {id!r}; look at the list of people")
        connection.execute(update(PERSON).where(PERSON.c.id == id).values(revoked=True))
        connection.execute(delete(SESSION).where(SESSION.c.person == id))

    store.write(work)


def consented(store: Store, id: str, version: str) -> None:
    store.write(lambda connection: connection.execute(update(PERSON).where(PERSON.c.id == id).values(consent=version)))


def quizzed(store: Store, id: str, passed: bool) -> None:
    values = {"passed": True} if passed else {"tries": PERSON.c.tries + 1}
    store.write(lambda connection: connection.execute(update(PERSON).where(PERSON.c.id == id).values(**values)))


def erase(store: Store, id: str) -> int:
    """Everything that this person said goes, and the person too; how many answers went.

    What stays is that somebody unnamed had so many answers erased. Queries that they answered may be asked again.
    Raises StoreError for somebody unknown.
    """

    def work(connection: Connection) -> int:
        if not connection.execute(select(PERSON.c.id).where(PERSON.c.id == id)).first():
            raise StoreError(f"there is no person {id!r}; look at the list of people")
        theirs = select(LEASE.c.id).where(LEASE.c.person == id)
        held = select(LEASE.c.query).where(LEASE.c.person == id, LEASE.c.state.in_(("open", "answered")))
        connection.execute(update(OFFER).where(OFFER.c.query.in_(held)).values(taken=OFFER.c.taken - 1))
        connection.execute(delete(DETAIL).where(DETAIL.c.lease.in_(theirs)))
        connection.execute(delete(LEASE).where(LEASE.c.person == id))
        connection.execute(delete(TROUBLE).where(TROUBLE.c.person == id))
        connection.execute(delete(SESSION).where(SESSION.c.person == id))
        connection.execute(delete(PERSON).where(PERSON.c.id == id))
        gone = erase_answers(connection, id)
        connection.execute(insert(TOMBSTONE).values(id=secret(), answers=gone, at=time.time()))
        return gone

    return store.write(work)
