"""A data folder, DIR/episodes/*.npz and DIR/answers.sqlite: what it holds, and whether all of that is sound."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from sqlalchemy import select

from embodied import database
from embodied.episodes import Episodes
from embodied.feedback import Budget, spent
from embodied.importers import DataError
from embodied.records import Answer, Compare, Query, RecordError, Skip, check_value, value_to_json
from embodied.store import Store, StoreError

ANSWERS, EPISODES = "answers.sqlite", "episodes"


@contextmanager
def open_folder(folder: Path, *, make: bool = False, place: str | None = None) -> Iterator[Store]:
    """The store of a data folder. Raises DataError where there is none (unless it is to be made).

    place: a PostgreSQL address, where the answers are there and not in the folder."""
    folder = Path(folder)
    if not make and place is None and not (folder / ANSWERS).exists():
        raise DataError(f"{folder} is no data folder: it holds no {ANSWERS}; give one, or make it by an import")
    with Store(place or folder / ANSWERS, Episodes(folder / EPISODES)) as store:
        yield store


@dataclass(frozen=True)
class Look:
    """What a data folder holds. `repeated` counts pairs of answers to the same two segments (shown in either order) of
    which both are decided, `agreeing` those that say the same; `contradictory` names pairs answered both ways."""

    episodes: int
    steps: int
    lengths: tuple[int, int]
    terminated: int
    budget: Budget
    annotators: dict[str, int]
    repeated: int
    agreeing: int
    contradictory: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())

    def lines(self) -> list[str]:
        b, decided = self.budget, self.budget.answered - self.budget.ties
        shortest, longest = self.lengths
        lines = [
            f"episodes  {self.episodes}, {self.steps} steps; lengths {shortest} to {longest}; "
            f"{self.terminated} ended by the task",
            f"questions {b.asked}; answered {b.answered} (ties {b.ties}, decided {decided}), skipped {b.skipped}, "
            f"duplicates {b.duplicates}, revised {b.revised}",
        ]
        if self.annotators:
            lines.append("answers   " + ", ".join(f"{name} {count}" for name, count in self.annotators.items()))
        if self.repeated:
            share = self.agreeing / self.repeated
            lines.append(f"repeated  {self.repeated} times the same pair decided again; {share:.0%} agree")
        return lines + [f"warning   {text}" for text in self.warnings]


def look(folder: Path) -> Look:
    """Reads everything once. Raises what a damaged file raises; `problems` lists all that is wrong instead."""
    with open_folder(folder) as store:
        lengths, terminated = [], 0
        for id in store.episodes.ids():
            episode = store.episodes.load(id)
            lengths.append(len(episode))
            terminated += episode.terminated
        answers, queries = store.answers(), store.queries()
    standing = _standing(answers)
    repeated, agreeing, contradictory = _repeats(standing, queries)
    names = dict.fromkeys(answer.annotator for answer in standing)
    return Look(
        len(lengths),
        sum(lengths),
        (min(lengths, default=0), max(lengths, default=0)),
        terminated,
        spent(answers, queries),
        {name: sum(answer.annotator == name for answer in standing) for name in names},
        repeated,
        agreeing,
        contradictory,
        tuple(doubts(answers, queries)),
    )


def _standing(answers: Sequence[Answer]) -> list[Answer]:
    superseded = {answer.supersedes for answer in answers}
    return [answer for answer in answers if answer.id not in superseded]


def _repeats(standing: Sequence[Answer], queries: Sequence[Query]) -> tuple[int, int, tuple[str, ...]]:
    asked = {query.id: query for query in queries}
    said: dict[tuple[object, ...], list[tuple[str, bool]]] = {}
    for answer in standing:
        if isinstance(answer.value, Compare) and answer.value.first != 0.5:
            cuts = [(s.episode, s.start, s.stop) for s in asked[answer.query].segments]
            first = (answer.value.first > 0.5) == (cuts[0] <= cuts[1])
            said.setdefault(tuple(sorted(cuts)), []).append((answer.query, first))
    twice = [pair for several in said.values() for pair in combinations(several, 2)]
    both = [several for several in said.values() if len({first for _, first in several}) == 2]
    named = tuple(" and ".join(dict.fromkeys(query for query, _ in several)) for several in both)
    return len(twice), sum(a[1] == b[1] for a, b in twice), named


def doubts(answers: Sequence[Answer], queries: Sequence[Query]) -> Iterator[str]:
    """Why little, or the wrong thing, may be learned from these answers, a sentence each."""
    standing = _standing(answers)
    _, _, contradictory = _repeats(standing, queries)
    uneven = sum(len({len(segment) for segment in query.segments}) > 1 for query in queries)
    if uneven:
        yield f"{uneven} of {len(queries)} questions compare segments of unequal length: length can pass for preference"
    usable = [answer.value for answer in standing if not isinstance(answer.value, Skip)]
    if len(usable) > 1 and all(value == usable[0] for value in usable):
        [(kind, said)] = value_to_json(usable[0]).items()
        yield f"all {len(usable)} answers are the same ({kind} {said}): nothing can be learned from them but a habit"
    if contradictory:
        few = "; ".join(contradictory[:3]) + ("; ..." if len(contradictory) > 3 else "")
        yield f"{len(contradictory)} pairs were answered both ways ({few}): no reward can agree with both"


def problems(folder: Path) -> list[str]:
    """Everything that is wrong: each episode opened (which finds NaN), each segment of each question looked up, each
    answer held against its question. Nothing is changed. Raises DataError for what is no data folder at all."""
    found: list[str] = []
    lengths: dict[str, int] = {}
    episodes = Episodes(Path(folder) / EPISODES)
    for id in episodes.ids():
        try:
            lengths[id] = len(episodes.load(id))
        except RecordError as error:
            lengths[id] = 0  # named once, here
            found.append(str(error))
    try:
        with open_folder(folder) as store:
            answers = store.answers()
            with store.read() as connection:
                rows = connection.execute(select(database.QUERY).order_by(database.QUERY.c.seq)).all()
    except StoreError as error:
        return [*found, str(error)]
    kinds = {}
    for row in rows:
        references = [*json.loads(row.segments), *json.loads(row.anchor)]
        kinds[row.id] = row.kind, [stop - start for _, start, stop in json.loads(row.segments)]
        for episode, start, stop in references:
            if episode not in lengths:
                found.append(f"question {row.id!r}: its episode {episode!r} is not there; put the file back")
            elif lengths[episode] and not 0 <= start < stop <= lengths[episode]:
                found.append(
                    f"question {row.id!r}: [{start}, {stop}) is no stretch of episode {episode!r} of "
                    f"{lengths[episode]} steps; put the right file back"
                )
    for answer in answers:
        if answer.query not in kinds:
            found.append(f"answer {answer.id!r}: its question {answer.query!r} is not there; restore {ANSWERS}")
            continue
        try:
            check_value(answer, *kinds[answer.query])
        except RecordError as error:
            found.append(str(error))
    return found
