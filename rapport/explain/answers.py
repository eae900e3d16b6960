"""The comparisons of a study or data folder, by person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embodied.feedback import Segments, stack
from embodied.importers import DataError
from embodied.preference_models import Model
from embodied.records import Answer, Array, Query, Skip
from embodied.store import Store
from embodied.values import first_better
from rapport.boards import BOARD, board_of
from rapport.explain import boards, recordings


@dataclass(frozen=True, eq=False)
class Comparisons:
    """B answers about two clips each. first [B]: P(first better). question int [B]: the same for the same clips, in
    whichever order. left_out: how many answers say nothing of that kind (skips aside)."""

    annotator: Array
    first: Array
    question: Array
    segments: Segments
    left_out: int


def comparisons(store: Store) -> Comparisons:
    """What stands of a store's answers. Raises DataError where nothing was compared, or clips have unlike steps."""
    queries = {query.id: query for query in store.queries()}
    answers = store.answers()
    revised = {answer.supersedes for answer in answers}
    standing = [a for a in answers if a.id not in revised and not isinstance(a.value, Skip)]
    kept = [a for a in standing if _compares(a, queries[a.query])]
    if not kept:
        raise DataError(
            f"{store.name} holds {len(standing)} answers and no comparison of two clips among them; ask some"
        )
    asked = [queries[answer.query] for answer in kept]
    try:
        segments = stack(asked)
    except ValueError as error:
        raise DataError(str(error)) from error
    shown = [tuple(sorted((s.episode, s.start, s.stop) for s in query.segments)) for query in asked]
    number = {clips: i for i, clips in enumerate(dict.fromkeys(shown))}
    return Comparisons(
        np.array([answer.annotator for answer in kept]),
        np.array([first_better(answer.value) for answer in kept], np.float64),
        np.array([number[clips] for clips in shown]),
        segments,
        len(standing) - len(kept),
    )


def _compares(answer: Answer, query: Query) -> bool:
    return first_better(answer.value) is not None and len(query.segments) == 2 and query.anchor is None


def models(store: Store, segments: Segments) -> Sequence[Model]:
    """The candidates: on a board where the episodes are walks on one, else with values fitted to all of them."""
    ids = store.episodes.ids()
    episodes = [store.episodes.load(id) for id in ids]
    if any(BOARD in episode.info for episode in episodes):
        return boards.models(board_of(store), segments)
    return recordings.models(episodes, segments)
