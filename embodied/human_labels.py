"""What people said about pairs of D4RL and Robosuite segments (Preference Transformer, arXiv 2303.00957): the label
files, the join with trajectories that the user has, and what the labels alone tell about people.

The trajectories have terms of their own and are not part of this project, so nothing here was ever fitted to these
labels: without the arrays a likelihood of them means nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from embodied.episodes import Episode, cut
from embodied.importers import DataError, Ends, check_arrays, d4rl, episode_starts
from embodied.records import Answer, Array, Compare, Query

TIE_RATE = 2746 / 7400
"""How often people saw no difference: ties among all 7,400 labels of the 18 files (`rapport data inspect` counts
again). The sets range from 19 to 64 %."""

COLUMNS = ("query", "start_1", "start_2", "label")
_FIRST = {0: 1.0, 1: 0.0, -1: 0.5}


@dataclass(frozen=True)
class Label:
    """Row `start_k` of the flattened arrays is the first of segment k; label 0: the first is better, 1: the second, -1:
    neither."""

    query: int
    start_1: int
    start_2: int
    label: int


def steps(path: Path) -> int:
    """How long the segments of a label file are: 100 steps, in the proficient-human sets (`*_ph`) 50."""
    return 50 if Path(path).stem.endswith("_ph") else 100


def read(path: Path) -> list[Label]:
    """Raises DataError for missing columns, a line that is not four whole numbers, a label other than 0, 1 and -1."""
    path = Path(path)
    try:
        lines = list(csv.reader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a label file, {','.join(COLUMNS)}") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(f"{path} begins with {lines[0] if lines else 'nothing'}; give a file {','.join(COLUMNS)}")
    labels = []
    for number, line in enumerate(lines[1:], 2):
        try:
            label = Label(*map(int, line))
        except (ValueError, TypeError):
            raise DataError(f"{path}, line {number} is {line}; give four whole numbers, {','.join(COLUMNS)}") from None
        if label.label not in _FIRST or min(label.start_1, label.start_2) < 0:
            raise DataError(f"{path}, line {number} is {line}; a label is 0, 1 or -1, and a row is 0 or more")
        labels.append(label)
    if not labels:
        raise DataError(f"{path} holds no label; give at least one line under the columns")
    return labels


@dataclass(frozen=True, eq=False)
class Joined:
    """All episodes of the arrays, one query and one answer per label; `left_out` labels have a segment over an end."""

    episodes: list[Episode]
    queries: list[Query]
    answers: list[Answer]
    left_out: int


def join(
    labels: Sequence[Label],
    arrays: Mapping[str, Any],
    *,
    steps: int,
    name: str,
    rows: Literal["qlearning", "all"] = "qlearning",
    ends: Ends = "both",
    crossing: Literal["refuse", "drop"] = "refuse",
) -> Joined:
    """Labels and the arrays they are about, as records. The labels count rows as d4rl's `qlearning_dataset` keeps them:
    without those at which a time limit struck and without the last of all; "all" counts every row, for arrays that were
    flattened so already.

    The authors drew every segment inside one trajectory, so a segment that runs over the end of an episode means that
    the arrays are not the ones, or not flattened as, the labels are about, and then the others are shifted too: that is
    refused (DataError, with the count) unless `crossing` says to leave those pairs out.
    """
    checked = check_arrays(arrays)
    episodes = list(d4rl(checked, name=name, ends=ends))
    starts = episode_starts(checked, ends)
    kept = np.arange(len(checked["rewards"]))
    if rows == "qlearning":
        kept = np.flatnonzero(~np.asarray(checked["timeouts"][:-1], bool))
    queries, answers, over = [], [], []
    for label in labels:
        ranges = []
        for start in (label.start_1, label.start_2):
            if start + steps > len(kept):
                raise DataError(
                    f"label {label.query} is about rows {start} to {start + steps}, the arrays have {len(kept)} "
                    f"({len(checked['rewards'])} before time-outs are dropped); give the whole data set of the labels"
                )
            first, last = int(kept[start]), int(kept[start + steps - 1])
            episode = int(np.searchsorted(starts, first, "right")) - 1
            inside = last < (starts[episode + 1] if episode + 1 < len(starts) else len(checked["rewards"]))
            ranges.append((episode, first - int(starts[episode])) if inside else None)
        if None in ranges:
            over.append(label.query)
            continue
        id = f"{name}-{label.query:05d}"
        pair = tuple(cut(episodes[episode], at, at + steps) for episode, at in filter(None, ranges))
        queries.append(Query(id, pair))
        answers.append(Answer(f"{id}-people", id, "people", "import", Compare(_FIRST[label.label])))
    if over and crossing == "refuse":
        raise DataError(
            f"{len(over)} of {len(labels)} labels (the first is {over[0]}) have a segment that runs over the end of an "
            "episode, so these arrays are not flattened as the labels were; try the other way to count rows (and in "
            "antmaze the other ends), or leave those pairs out, knowing that the rest may be off by some steps"
        )
    return Joined(episodes, queries, answers, len(over))


@dataclass(frozen=True)
class Rates:
    """Counts, the share of ties, and the share of the first among decided answers; each with a 95 % interval (Wilson),
    which takes answers for independent. Without a decided answer the latter are NaN."""

    name: str
    first: int
    second: int
    tie: int
    tie_rate: float
    tie_interval: tuple[float, float]
    first_rate: float
    first_interval: tuple[float, float]


def rates(name: str, labels: Sequence[Label]) -> Rates:
    first, second, tie = (sum(label.label == value for label in labels) for value in (0, 1, -1))
    tie_rate, tie_interval = share(tie, first + second + tie)
    first_rate, first_interval = share(first, first + second)
    return Rates(name, first, second, tie, tie_rate, tie_interval, first_rate, first_interval)


def share(part: int, whole: int) -> tuple[float, tuple[float, float]]:
    """part/whole and its 95 % interval (Wilson 1927); NaN of nothing."""
    if not whole:
        return np.nan, (np.nan, np.nan)
    from scipy.stats import binomtest  # loaded late: the records need no statistics

    interval = binomtest(part, whole).proportion_ci(method="wilson")
    return part / whole, (float(interval.low), float(interval.high))


def tie_threshold(gaps: npt.ArrayLike, rate: float = TIE_RATE) -> float:
    """The utility gap below which the share `rate` of pairs with these gaps [N] (any sign) would be called a tie: what
    `noisy(tie=...)` takes. Equal gaps go one way together. Raises ValueError for a rate outside [0, 1] or bad gaps."""
    sizes: Array = np.sort(np.abs(np.asarray(gaps, np.float64)).ravel())
    if not 0 <= rate <= 1 or not len(sizes) or not np.isfinite(sizes).all():
        raise ValueError(f"rate {rate} of {len(sizes)} gaps; give a rate in [0, 1] and at least one gap, all finite")
    below = round(rate * len(sizes))
    return float(sizes[below] if below < len(sizes) else np.nextafter(sizes[-1], np.inf))
