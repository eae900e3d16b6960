"""What a question is worth. `diff [E,N]` is the utility of the first minus that of the second segment of candidate pair
n, under ensemble member or posterior sample e, in nats; a criterion gives each candidate a value, at least 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Criterion = Callable[[Array], Array]
"""diff [E,N] -> value [N], at least 0; the greatest is asked first."""


def deviation(diff: Array) -> Array:
    """The standard deviation over members of P(first better), [N] (PEBBLE, arXiv 2106.05091)."""
    check_diff(diff, members=2)
    return np.asarray(_probability(diff).std(0))


def predictive_entropy(diff: Array) -> Array:
    """The entropy of the mean over members of P(first better), [N], in nats."""
    check_diff(diff)
    return binary_entropy(_probability(diff).mean(0), _probability(-diff).mean(0))


def expected_information(diff: Array) -> Array:
    """How much an answer tells of who is right, [N], in nats: H[mean p] - mean H[p] (BALD, arXiv 1112.5745)."""
    check_diff(diff, members=2)
    p, q = _probability(diff), _probability(-diff)
    gain = binary_entropy(p.mean(0), q.mean(0)) - binary_entropy(p, q).mean(0)
    return np.asarray(np.maximum(gain, 0.0))  # of equal members it is 0 up to rounding


def removed_volume(diff: Array) -> Array:
    """The share of the posterior that goes with the answer at least, min(E[p], E[1-p]), [N] (Sadigh et al., RSS 2017).

    A pair which no member tells apart has the greatest value there is, one half, and removes nothing: here it has 0.
    """
    check_diff(diff)
    least = np.minimum(_probability(diff).mean(0), _probability(-diff).mean(0))
    return np.where((diff == 0).all(0), 0.0, least)


def per_second(criterion: Criterion, seconds: Array, skip: Array | None = None) -> Criterion:
    """The criterion for each second of somebody's time: value (1 - P(skip)) / seconds.

    seconds [N] that an answer takes, skip [N] in [0,1] (`costs.skip_probability`), both of the candidates that the
    returned criterion will be given. A skipped question takes as long and tells nothing. Raises ValueError for seconds
    that are not above 0, for probabilities that are none, and for another number of candidates.
    """
    share = np.ones(len(seconds)) if skip is None else 1 - np.asarray(skip, np.float64)
    if not (np.isfinite(seconds).all() and (np.asarray(seconds) > 0).all()):
        raise ValueError(f"seconds are from {np.min(seconds):g} to {np.max(seconds):g}; give finite ones above 0")
    if share.shape != np.shape(seconds) or not ((share >= 0) & (share <= 1)).all():
        raise ValueError(f"give one probability of a skip, in [0,1], for each of the {len(seconds)} candidates")

    def value(diff: Array) -> Array:
        check_about(len(seconds), diff, "seconds")
        return criterion(diff) * share / seconds

    return value


def binary_entropy(p: Array, q: Array) -> Array:
    """Of an answer with the probabilities p and q = 1 - p, given apart so that neither is rounded away; nats."""
    tiny = np.finfo(np.float64).tiny  # 0 log 0 = 0
    return -p * np.log(np.maximum(p, tiny)) - q * np.log(np.maximum(q, tiny))


def check_diff(diff: Array, members: int = 1) -> None:
    """Raises ValueError for another shape than [E,N] with E >= members, and for numbers that are not finite."""
    if diff.ndim != 2 or len(diff) < members:
        raise ValueError(f"diff has shape {diff.shape}, not [E,N] with E >= {members}; give one row per member")
    if not np.isfinite(diff).all():
        raise ValueError(
            f"diff of candidate {np.argwhere(~np.isfinite(diff))[0, 1]} is not finite; drop it or refit the reward"
        )


def check_about(known: int, diff: Array, what: str) -> None:
    """Raises ValueError where something was given for another number of candidates than diff is about."""
    if diff.ndim == 2 and known != diff.shape[1]:
        raise ValueError(
            f"there are {what} of {known} candidates and diff is about {diff.shape[1]}; make a new Select for each pool"
        )


def _probability(diff: Array) -> Array:
    return 0.5 * (1 + np.tanh(diff / 2))
