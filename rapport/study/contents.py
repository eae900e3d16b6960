"""What a store holds of a study, read once: its rows, and the rest that it needs to go on elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Table, inspect, select

from embodied.database import ANSWER, CURSOR, ERASED, QUERY, answer_from
from embodied.records import value_from_json
from embodied.store import Store
from human_ui.tables import DETAIL, LEASE, OFFER, PROGRESS, TOMBSTONE, VERSION
from human_ui.told import wordless
from rapport.study.rows import Asked, Cut, Row, Showing

# Moved as they are: which terms had which hash, which numbers were erased, who has read how far, how many answers were
# erased at whose wish, how trainings went.
AS_THEY_ARE: Mapping[str, Table] = {
    "versions": VERSION,
    "erased": ERASED,
    "cursors": CURSOR,
    "tombstones": TOMBSTONE,
    "progress": PROGRESS,
}


@dataclass(frozen=True)
class Offered:
    """Who is to be asked. `priority`, `want`, `withdrawn` as in the offers of the GUI."""

    priority: float
    want: int
    withdrawn: bool


@dataclass(frozen=True)
class Contents:
    """questions: all that were asked or are to be, in the order in which they came; with how they are offered, or None
    where they are not. rest: rows of the tables AS_THEY_ARE."""

    rows: tuple[Row, ...]
    questions: tuple[tuple[Asked, Offered | None], ...] = ()
    rest: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


def read(store: Store, *, gold: bool = True, names: bool = False, notes: bool = False) -> Contents:
    """gold: with the questions whose answer is known. names: annotators as they are, not as p1, p2, ... in the order in
    which they first answered. notes: with what people wrote beside their answers, and all else that is words."""
    with store.read() as connection:
        # Answers first: what is said of an answer is written with it, so nothing that is read later can be older.
        answers = [answer_from(row) for row in connection.execute(select(ANSWER).order_by(ANSWER.c.seq))]
        offers = {row["query"]: row for row in _all(connection, OFFER)}
        leases = {row["id"]: row for row in _all(connection, LEASE)}
        details = {row["answer"]: row for row in _all(connection, DETAIL)}
        queries = connection.execute(select(QUERY).order_by(QUERY.c.seq)).all()
        rest = {name: [*_all(connection, table)] for name, table in AS_THEY_ARE.items()}
    asked = {row.id: _asked(row._asdict(), offers.get(row.id)) for row in queries}
    wanted = {id: one for id, one in asked.items() if gold or one.gold is None}
    terms = {row["hash"]: json.loads(row["terms"]) for row in rest["versions"]}
    rows = []
    for answer in answers:
        if answer.query in wanted:
            detail = details.get(answer.id)
            showing = None if detail is None else _showing(detail, leases[detail["lease"]], asked[answer.query], terms)
            rows.append(Row(asked[answer.query], answer, showing))
    if not notes:
        rows = [replace(row, showing=_quiet(row.showing)) for row in rows]
    if not names:
        known = {name: f"p{i}" for i, name in enumerate(dict.fromkeys(row.answer.annotator for row in rows), 1)}
        rows = [replace(row, answer=replace(row.answer, annotator=known[row.answer.annotator])) for row in rows]
    return Contents(tuple(rows), tuple((one, _offered(offers.get(id))) for id, one in wanted.items()), rest)


def wordings(rows: tuple[Row, ...]) -> Counter[str]:
    """What stood above the clips where the study's own sentence did, and how many answers were given to that."""
    return Counter(row.showing.question for row in rows if row.showing and not row.asked.context)


def _all(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """All rows; a data folder that was never a study lacks the GUI's tables."""
    if inspect(connection).has_table(table.name):
        for row in connection.execute(select(table).order_by(*table.primary_key)):
            yield row._asdict()


def _asked(query: Mapping[str, Any], offer: Mapping[str, Any] | None) -> Asked:
    anchor = [Cut(*part) for part in json.loads(query["anchor"])]
    truth = offer["truth"] if offer else ""
    return Asked(
        query["id"],
        query["kind"],
        query["context"],
        tuple(Cut(*part) for part in json.loads(query["segments"])),
        anchor[0] if anchor else None,
        tuple(json.loads(offer["clips"])) if offer else (),
        value_from_json(json.loads(truth)) if truth else None,
    )


def _offered(offer: Mapping[str, Any] | None) -> Offered | None:
    return Offered(offer["priority"], offer["want"], bool(offer["withdrawn"])) if offer else None


def _showing(
    detail: Mapping[str, Any], lease: Mapping[str, Any], asked: Asked, terms: Mapping[str, Mapping[str, Any]]
) -> Showing:
    study = terms.get(lease["version"], {})
    return Showing(
        study.get("name", ""),
        lease["version"],
        asked.context or study.get("question", ""),
        tuple(json.loads(lease["shown"])),
        bool(detail["late"]),
        json.loads(detail["told"]),
    )


def _quiet(showing: Showing | None) -> Showing | None:
    return replace(showing, told=wordless(showing.told)) if showing else None
