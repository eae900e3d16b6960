"""What the GUI keeps beside the core's log, in the same database: people, what they were given to look at, and how."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
)

from embodied.records import MAX_NAME

OURS = MetaData()


def _name(name: str, **kwargs: object) -> Column[str]:
    return Column(name, String(MAX_NAME), nullable=False, **kwargs)  # type: ignore[arg-type]


VERSION = Table(
    "study_version",
    OURS,
    _name("hash", primary_key=True),
    Column("terms", Text, nullable=False),
    Column("at", Float, nullable=False),
)
PERSON = Table(
    "person",
    OURS,
    _name("id", primary_key=True),
    _name("role"),  # annotator, learner or owner
    _name("token", unique=True),  # the SHA-256 of it
    _name("consent"),  # the study version that was agreed to; empty: not yet
    Column("tries", Integer, nullable=False),  # quizzes failed
    Column("passed", Boolean, nullable=False),
    Column("at", Float, nullable=False),
    Column("revoked", Boolean, nullable=False),
)
SESSION = Table(
    "session",
    OURS,
    _name("token", primary_key=True),
    Column("person", String(MAX_NAME), ForeignKey(PERSON.c.id), nullable=False),
    Column("until", Float, nullable=False),
)
# What is asked: a query of the core that people may be given, in the core's order. `taken` counts leases that are open
# or answered.
OFFER = Table(
    "offer",
    OURS,
    _name("query", primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("priority", Float, nullable=False),
    Column("want", Integer, nullable=False),
    Column("taken", Integer, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Column("truth", Text, nullable=False),  # of a gold query: JSON, of records.value_to_json; empty: nobody knows
    Column("clips", Text, nullable=False),  # JSON: the clips' hashes, one per segment, then the anchor's
)
# Whoever looks for the next ones does not read what is over.
OPEN = and_(~OFFER.c.withdrawn, OFFER.c.truth == literal_column("''"), OFFER.c.taken < OFFER.c.want)
GOLD = and_(~OFFER.c.withdrawn, OFFER.c.truth != literal_column("''"))
Index("offer_open", OFFER.c.priority.desc(), OFFER.c.seq, sqlite_where=OPEN, postgresql_where=OPEN)
Index("offer_gold", OFFER.c.seq, sqlite_where=GOLD, postgresql_where=GOLD)
# One person, one query, one time: how it was shown and what became of it.
LEASE = Table(
    "lease",
    OURS,
    _name("id", primary_key=True),
    Column("query", String(MAX_NAME), ForeignKey(OFFER.c.query), nullable=False, index=True),
    Column("person", String(MAX_NAME), ForeignKey(PERSON.c.id), nullable=False),
    _name("version"),  # of the study
    Column("shown", Text, nullable=False),  # JSON: which segment was shown first, second, ...
    _name("state"),  # open, answered, returned or expired
    Column("given", Float, nullable=False),
    Column("until", Float, nullable=False),
    UniqueConstraint("query", "person"),
    Index("lease_person", "person", "state"),
    Index("lease_until", "state", "until"),
)
# How an answer came about: what was pressed when, and what else was said. The answer itself is the core's.
DETAIL = Table(
    "detail",
    OURS,
    _name("answer", primary_key=True),
    Column("lease", String(MAX_NAME), ForeignKey(LEASE.c.id), nullable=False),
    Column("late", Boolean, nullable=False),
    Column("told", Text, nullable=False),
)
# A person who had everything erased: that somebody was here, and how many answers went. No name, no token.
TOMBSTONE = Table(
    "tombstone",
    OURS,
    _name("id", primary_key=True),
    Column("answers", Integer, nullable=False),
    Column("at", Float, nullable=False),
)


def create(connection: Connection) -> None:
    """Within a transaction of the store; tables that are there stay as they are."""
    OURS.create_all(connection)
