"""What the owner of a study sees: how far it is, who answers how, how far people agree, and what to look at."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import krippendorff
import numpy as np
from sqlalchemy import func, select

from embodied.annotators import Reliability, reliabilities
from embodied.records import Answer, Skip, Value, value_from_json
from embodied.store import Store
from embodied.values import first_better
from human_ui.tables import DETAIL, LEASE, OFFER, PERSON, TOMBSTONE, TROUBLE
from human_ui.told import early, milliseconds


@dataclass(frozen=True)
class Row:
    """One person: answers that stand, median seconds, and shares of them; None where there is nothing to go by."""

    name: str
    answers: int
    seconds: float | None
    left: float | None
    ties: float | None
    skips: float | None
    early: float | None
    late: int
    gold: str
    reliability: str


@dataclass(frozen=True)
class Overview:
    """queries: offered. done: those that as many people answered as were wanted. alpha: Krippendorff's, of comparisons
    with a tie as a value of its own; None where no query was answered by two people. covered: queries that were."""

    queries: int
    done: int
    looked_at: int
    answers: int
    last_hour: int
    erased: int
    alpha: float | None
    covered: int
    people: tuple[Row, ...]
    disputed: tuple[tuple[str, str], ...]
    trouble: tuple[tuple[str, int, str], ...]  # queries that could not be shown: to how many, and the last reason


def standing(answers: Sequence[Answer]) -> list[Answer]:
    superseded = {answer.supersedes for answer in answers}
    return [answer for answer in answers if answer.id not in superseded]


@dataclass(frozen=True)
class _Said:
    """An answer that stands. first: P(first better), None where it was no comparison. left: whether the one on the left
    was preferred, None where neither was."""

    answer: Answer
    first: float | None
    left: bool | None
    told: Mapping[str, Any]
    late: bool


def overview(store: Store) -> Overview:
    """Reads everything; for a page that is opened now and then."""
    now = time.time()
    with store.read() as connection:
        offers = connection.execute(select(OFFER)).all()
        leases = {row.id: row for row in connection.execute(select(LEASE))}
        details = {row.answer: row for row in connection.execute(select(DETAIL))}
        names = list(connection.execute(select(PERSON.c.id).where(PERSON.c.role == "annotator")).scalars())
        trouble = connection.execute(select(TROUBLE).order_by(TROUBLE.c.at)).all()
        gone = connection.execute(select(func.coalesce(func.sum(TOMBSTONE.c.answers), 0))).scalar_one()
    said = [_said(a, details.get(a.id), leases) for a in standing(store.answers())]
    truth = {row.query: value_from_json(json.loads(row.truth)) for row in offers if row.truth}
    by_query: dict[str, dict[str, float]] = defaultdict(dict)
    for one in said:
        if one.first is not None:
            by_query[one.answer.query][one.answer.annotator] = one.first
    several = {query: each for query, each in by_query.items() if len(each) > 1}
    known = {q: first for q, v in truth.items() if q in by_query and (first := first_better(v)) in (0, 1)}
    triples = [(query, name, first) for query, each in by_query.items() for name, first in each.items()]
    crowd = {r.annotator: r for r in (reliabilities(triples, known).annotators if triples else ())}
    people = dict.fromkeys([*names, *(one.answer.annotator for one in said)])
    return Overview(
        queries=sum(not row.truth for row in offers),
        done=sum(not row.truth and row.taken >= row.want for row in offers),
        looked_at=sum(row.state == "open" and row.until >= now for row in leases.values()),
        answers=len(said),
        last_hour=sum(row.state == "answered" and row.given > now - 3600 for row in leases.values()),
        erased=int(gone),
        alpha=_alpha(several),
        covered=len(several),
        people=tuple(
            _row(name, [one for one in said if one.answer.annotator == name], truth, crowd.get(name)) for name in people
        ),
        disputed=tuple(_disputed(several)[:10]),
        trouble=tuple(_trouble(trouble)[:50]),
    )


def _trouble(rows: Sequence[Any]) -> list[tuple[str, int, str]]:
    """The latest first."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found[row.query] = [*found.pop(row.query, []), row.reason]
    return [(query, len(reasons), reasons[-1]) for query, reasons in reversed(found.items())]


def _said(answer: Answer, detail: Any, leases: Mapping[str, Any]) -> _Said:
    first = first_better(answer.value)
    lease = leases.get(detail.lease) if detail is not None else None
    left = None
    if lease is not None and first not in (None, 0.5):
        left = bool((first > 0.5) == (json.loads(lease.shown)[0] == 0))
    return _Said(answer, first, left, json.loads(detail.told) if detail else {}, bool(detail and detail.late))


def _alpha(several: Mapping[str, Mapping[str, float]]) -> float | None:
    """1: all agree. 0: as by chance."""
    names = sorted({name for each in several.values() for name in each})
    table = np.full((len(names), len(several)), np.nan)
    for column, each in enumerate(several.values()):
        for name, first in each.items():
            table[names.index(name), column] = np.sign(first - 0.5)
    if len(set(table[~np.isnan(table)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))


def _row(name: str, theirs: Sequence[_Said], truth: Mapping[str, Value], reliable: Reliability | None) -> Row:
    seconds = [ms / 1000 for one in theirs if (ms := milliseconds(one.told)) is not None]
    gold = [one.answer.value == truth[one.answer.query] for one in theirs if one.answer.query in truth]
    return Row(
        name,
        len(theirs),
        median(seconds) if seconds else None,
        left=_share([one.left for one in theirs if one.left is not None]),
        ties=_share([one.first == 0.5 for one in theirs if one.first is not None]),
        skips=_share([isinstance(one.answer.value, Skip) for one in theirs]),
        early=_share([bool(early(one.told)) for one in theirs]),
        late=sum(one.late for one in theirs),
        gold=f"{sum(gold)} of {len(gold)}" if gold else "",
        reliability=_interval(reliable),
    )


def _interval(found: Reliability | None) -> str:
    return f"{found.mean:.2f} [{found.interval[0]:.2f}, {found.interval[1]:.2f}]" if found and found.evidence else ""


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _disputed(several: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """Queries on which people are most at odds, with what they said."""
    split = {query: float(np.std(list(each.values()))) for query, each in several.items()}
    return [
        (query, ", ".join(f"{name}: {first:g}" for name, first in several[query].items()))
        for query in sorted(split, key=lambda q: -split[q])
        if split[query] > 0
    ]
