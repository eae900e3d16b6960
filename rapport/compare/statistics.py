"""What a comparison reports: interquartile means with bootstrap intervals, performance profiles, paired differences.

As Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (2021), with scipy's trimmed
mean and bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from embodied.records import Array

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; NaN bounds where one run alone says nothing about others."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}" if np.isnan(self.low) else f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def iqm(scores: Sequence[float] | Array) -> float:
    """The mean of the middle half of the scores; of fewer than four, of all."""
    return float(stats.trim_mean(np.ravel(scores), 0.25))


def iqm_interval(by_task: Sequence[Sequence[float] | Array], seed: int = 0) -> Interval:
    """Of runs [tasks][seeds], resampled within each task (stratified)."""
    rows = [np.asarray(row, float) for row in by_task]
    value = iqm(np.concatenate(rows))
    if min(len(row) for row in rows) < 2:
        return Interval(value, np.nan, np.nan)

    def statistic(*samples: Array, axis: int = -1) -> Any:
        return stats.trim_mean(np.concatenate(samples, axis), 0.25, axis)

    return _bootstrapped(value, rows, statistic, seed)


def paired_difference(by_task: Sequence[Sequence[float] | Array], seed: int = 0) -> Interval:
    """Mean of differences between runs of the same task and seed, [tasks][seeds], resampled within each task."""
    rows = [np.asarray(row, float) for row in by_task]
    value = float(np.concatenate(rows).mean())
    if min(len(row) for row in rows) < 2 or all(np.ptp(row) == 0 for row in rows):
        return Interval(value, np.nan, np.nan)

    def statistic(*samples: Array, axis: int = -1) -> Any:
        return np.concatenate(samples, axis).mean(axis)

    return _bootstrapped(value, rows, statistic, seed)


def _bootstrapped(value: float, rows: Sequence[Array], statistic: Callable[..., Any], seed: int) -> Interval:
    rng = np.random.default_rng(seed)
    found = stats.bootstrap(rows, statistic, n_resamples=RESAMPLES, method="percentile", vectorized=True, rng=rng)
    return Interval(value, *(float(bound) for bound in found.confidence_interval))


def profile(scores: Sequence[float] | Array, levels: Array) -> Array:
    """Share of the runs that score above each level, [L]."""
    return (np.ravel(scores)[None] > levels[:, None]).mean(1)


def scaled(value: float, floor: float, ceiling: float) -> float:
    """0 for acting at random, 1 for training on the true reward; NaN where that has not learned anything."""
    return (value - floor) / (ceiling - floor) if ceiling > floor else np.nan
