"""Answers about pairs of walks on a delivery board, from files: one's own, and those that were published.

One's own are JSON lines or CSV with `first`, `second`, `label` and, if wanted, `annotator`. A walk is the row and the
column of its first cell and its actions, "3 1 down right up"; the label is 1 where the first is better, 0 where the
second is, .5 where they are as good.

Published are those of Hatgis-Kessell et al. (2025, arXiv 2501.06416, github.com/Stephanehk/InfluencingHumanPrefs), for
each of nine conditions three plain arrays: NAME_segment_pairs.npy int [N,2,1+T,2], for each walk its first cell and its
T moves, (0, 0) after its end; NAME_Y.npy [N], 0 where the *first* was preferred, 1 where the second was; NAME_X.npy
[N,3], of which the first column is by how much the second walk earned more.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embodied.episodes import Episode
from embodied.importers import DataError, name_of
from embodied.records import Answer, Array, Compare, Query, RecordError
from envs.delivery import ACTIONS as MOVES
from envs.delivery import Board
from rapport.boards import ACTIONS, question, walk

PAIRS = "_segment_pairs.npy"
COLUMNS = ("first", "second", "label", "annotator")


@dataclass(frozen=True)
class Label:
    """first_better: 1, 0, .5, or a share between; annotator: who said so."""

    first: Episode
    second: Episode
    first_better: float
    annotator: str


def read(path: Path, world: Board) -> list[Label]:
    """The labels of a .jsonl, a .csv or a published ..._segment_pairs.npy. Raises DataError that names the line or row,
    the value and the mend."""
    if path.suffix == ".npy":
        return _published(path, world)
    if path.suffix not in (".jsonl", ".csv"):
        raise DataError(f"{path} holds no labels of walks; give .jsonl, .csv or a published NAME{PAIRS}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give labels of walks as text") from error
    found = []
    for line, given in _csv(path, text) if path.suffix == ".csv" else enumerate(text.split("\n"), 1):
        if isinstance(given, str) and not given.strip():
            continue
        try:
            row = json.loads(given) if isinstance(given, str) else given
            found.append(_label(row, world, name_of(path)))
        except (RecordError, ValueError) as error:
            raise DataError(f"{path}, line {line}: {error}") from error
    if not found:
        raise DataError(f"{path} holds no label; give at least one line")
    return found


def _csv(path: Path, text: str) -> list[tuple[int, object]]:
    rows = csv.DictReader(text.splitlines())
    try:
        return [(rows.line_num, {k: v for k, v in row.items() if k != "annotator" or v}) for row in rows]
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from error


def _label(row: object, world: Board, annotator: str) -> Label:
    if not isinstance(row, Mapping) or not set(COLUMNS[:3]) <= set(row) <= set(COLUMNS):
        seen = ", ".join(map(str, row)) if isinstance(row, Mapping) else repr(row)
        raise DataError(f"it has {seen}; give first, second, label and, if wanted, annotator")
    try:
        said = float(row["label"])
    except (TypeError, ValueError):
        said = math.nan
    if not 0 <= said <= 1:
        raise DataError(f"the label is {row['label']!r}; give 1 (the first is better), 0 (the second) or .5 (as good)")
    who = str(row.get("annotator", annotator))
    if not 1 <= len(who) <= 100:
        raise DataError(f"the annotator is {who[:40]!r}; give a name of 1 to 100 characters, or leave it out")
    first, second = (_walk(world, row[name], name) for name in COLUMNS[:2])
    return Label(first, second, said, who)


def _walk(world: Board, given: object, name: str) -> Episode:
    match str(given).split():
        case [row, column, *actions] if row.isdecimal() and column.isdecimal():
            if unknown := [action for action in actions if action not in ACTIONS]:
                raise DataError(f"{name}: the action {unknown[0]!r} is none of {', '.join(ACTIONS)}")
            try:
                return walk(world, (int(row), int(column)), [ACTIONS.index(action) for action in actions])
            except DataError as error:
                raise DataError(f"{name}: {error}") from None
    raise DataError(f'{name} is {given!r}; give the row, the column and the actions, such as "3 1 down right up"')


def _published(path: Path, world: Board) -> list[Label]:
    if not path.name.endswith(PAIRS):
        raise DataError(f"{path} is no file of published walks; give NAME{PAIRS}, with NAME_Y.npy beside it")
    stem = path.name.removesuffix(PAIRS)
    pairs, said = _array(path), _array(path.with_name(f"{stem}_Y.npy"))
    if pairs.ndim != 4 or pairs.shape[1] != 2 or pairs.shape[2] < 2 or pairs.shape[3] != 2 or pairs.dtype.kind != "i":
        raise DataError(f"{path} is {pairs.dtype} {list(pairs.shape)}; give whole numbers [N,2,1+T,2]")
    if said.shape != pairs.shape[:1] or not np.isin(said, (0, 0.5, 1)).all():
        raise DataError(
            f"{stem}_Y.npy is {said.dtype} {list(said.shape)}; give 0, .5 or 1 for each of {len(pairs)} pairs"
        )
    if not len(pairs):
        raise DataError(f"{path} holds no pair")
    moved = (pairs[:, :, 1:, None] == MOVES).all(-1)
    if len(strange := np.argwhere(~moved.any(-1) & pairs[:, :, 1:].any(-1))):
        row, k, t = strange[0]
        raise DataError(f"{path}, row {row}: the move {pairs[row, k, 1 + t].tolist()} is none of {MOVES.tolist()}")
    actions, lengths = moved.argmax(-1), _lengths(path, world, pairs[:, :, 0], moved)
    found = []
    for row in range(len(pairs)):
        try:
            first, second = (
                walk(world, (int(pairs[row, k, 0, 0]), int(pairs[row, k, 0, 1])), actions[row, k, : lengths[row, k]])
                for k in range(2)
            )
        except DataError as error:
            raise DataError(f"{path}, row {row}: {error}") from None
        found.append(Label(first, second, 1 - float(said[row]), stem.removesuffix("_full_filtered")))
    _check_returns(path.with_name(f"{stem}_X.npy"), world, found)
    return found


def _lengths(path: Path, world: Board, start: Array, moved: Array) -> Array:
    """After how many moves each walk is over, [N,2]. Some conditions go on with moves after the end, where nothing
    happens any more; they are left out, as the other conditions did."""
    state = np.clip(start, 0, np.array(world.codes.shape) - 1) @ [world.codes.shape[1], 1]
    length = np.zeros(state.shape, int)
    for t in range(moved.shape[2]):
        on = ~world.terminal[state]
        if (broken := on & ~moved[:, :, t].any(-1)).any():
            row = int(np.argwhere(broken)[0, 0])
            raise DataError(f"{path}, row {row}: a walk stops before the goal or a sheep; give its board with --board")
        length += on
        state = np.where(on, world.next[state, moved[:, :, t].argmax(-1), 0], state)
    return length


def _check_returns(path: Path, world: Board, labels: list[Label]) -> None:
    """Where what the walks earned was published too, it has to be what they earn on this board."""
    if not path.is_file():
        return
    told = _array(path)
    earned = np.array([[w.obs[:, 2:].sum(0) @ world.weights for w in (label.first, label.second)] for label in labels])
    gap = earned[:, 1] - earned[:, 0]
    if told.shape != (len(gap), 3):
        raise DataError(f"{path} is {list(told.shape)}; give [{len(gap)},3]")
    if (wrong := np.abs(told[:, 0] - gap) > 1e-6).any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}, row {row}: the second walk earns {told[row, 0]:g} more than the first, and on this board "
            f"{gap[row]:g}; give the board that they were on with --board"
        )


def _array(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} is no plain array ({error}); what would have to be unpickled is not opened, since it could do "
            "anything: give numbers alone"
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} holds several arrays; give one")
    return array


def records(labels: list[Label], prefix: str = "") -> tuple[list[Episode], list[Query], list[Answer]]:
    """Walks, questions and answers, each once. Who said something about the same two walks twice was asked twice.

    prefix: put before the names of those who answered.
    """
    episodes: dict[str, Episode] = {}
    queries: dict[str, Query] = {}
    answers, times = [], Counter[tuple[str, str]]()
    for label in labels:
        episodes |= {label.first.id: label.first, label.second.id: label.second}
        query = question(label.first, label.second)
        who = prefix + label.annotator
        times[query.id, who] += 1
        if (n := times[query.id, who]) > 1:
            query = Query(f"{query.id}-{n}", query.segments)
        queries[query.id] = query
        answers.append(Answer(f"{query.id}-{who}", query.id, who, "import", Compare(label.first_better)))
    return list(episodes.values()), list(queries.values()), answers
