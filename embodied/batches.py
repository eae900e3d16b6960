"""Which pairs to ask about together: a batch is worth less than its questions when they ask the same.

`features [N,D]` say how alike candidates are, by Euclidean distance in the units given; `value [N]` from a criterion
says what each is worth alone.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from embodied.criteria import Array, Criterion, check_about, check_diff
from embodied.queries import Indices, Select, check_features, check_k


def dpp(criterion: Criterion, features: Array, width: float | None = None) -> Select:
    """k candidates that are worth much and unlike each other: a determinantal point process's best set, greedily.

    Maximises det L of the chosen, L_ij = value_i exp(-|f_i - f_j|^2 / 2 width^2) value_j (Biyik et al., arXiv
    1906.07975), adding the best one each time (Chen et al. 2018, arXiv 1709.05135). width: by default the median
    distance of the pool. Raises ValueError as `k_centre` does, unless width is above 0, and for features of another
    number of candidates.
    """
    check_features(features)
    if width is not None and not width > 0:
        raise ValueError(f"width is {width}; give a distance above 0, or none for the median")

    def select(diff: Array, k: int, rng: np.random.Generator) -> Indices:
        order, points, value = _shuffled(criterion, features, diff, k, rng)
        squared = cdist(points, points, "sqeuclidean")
        scale = width or np.sqrt(np.median(squared[np.triu_indices(len(points), 1)])) if len(points) > 1 else 1.0
        alike = np.exp(-squared / (2 * (scale or 1.0) ** 2))
        kernel = value[:, None] * alike * value
        left, rows = np.diag(kernel).copy(), np.zeros((k, len(points)))
        chosen = np.empty(k, np.intp)
        for n in range(k):
            # `left`: what each would multiply the determinant by. `rows`: those of the Cholesky factor.
            chosen[n] = pick = int(np.argmax(left))
            if left[pick] > 0:
                rows[n] = (kernel[pick] - rows[:n, pick] @ rows[:n]) / np.sqrt(left[pick])
                left = np.where(np.isneginf(left), left, np.maximum(left - rows[n] ** 2, 0.0))
            left[pick] = -np.inf
        return order[chosen]

    return select


def medoids(criterion: Criterion, features: Array) -> Select:
    """k candidates that stand for the others: the weighted k-medoids of the pool, each weighed by its value.

    Lowers sum_n value_n min_m |f_n - f_m| (batches by medoids: Biyik and Sadigh, arXiv 1810.04303): first greedily,
    then each medoid moves to where its cluster costs least, until none moves. Raises ValueError as `k_centre` does.
    """
    check_features(features)

    def select(diff: Array, k: int, rng: np.random.Generator) -> Indices:
        order, points, value = _shuffled(criterion, features, diff, k, rng)
        distance = cdist(points, points)
        nearest = np.full(len(points), 2 * distance.max() + 1)
        chosen = np.empty(k, np.intp)
        for n in range(k):
            cost = np.minimum(nearest[:, None], distance).T @ value
            cost[chosen[:n]] = np.inf
            chosen[n] = pick = int(np.argmin(cost))
            nearest = np.minimum(nearest, distance[:, pick])
        for _ in range(100):  # each round costs less than the one before, or is the last
            cluster = distance[:, chosen].argmin(1)
            cluster[chosen] = np.arange(k)  # of two copies that are both chosen each keeps itself
            inside = cluster[:, None] == np.arange(k)  # [N,k]
            cost = np.where(inside, distance @ (value[:, None] * inside), np.inf)
            moved = np.where(cost.min(0) < cost[chosen, np.arange(k)] - 1e-12 * cost.min(0), cost.argmin(0), chosen)
            if (moved == chosen).all():
                break
            chosen = moved
        return order[chosen]

    return select


def coverage(shows: Array, k: int, rng: np.random.Generator, taken: Array | None = None) -> Indices:
    """k candidates that together show as much as they can: each adds most of what no other showed, [k], first to last.

    shows [N,C] at least 0: how much of each of C things (trajectories, cells of a board) a candidate shows; what a set
    shows of a thing is the most that one of it does. taken [M,C]: what was asked already. Greedy, at least 1 - 1/e of
    the best (Nemhauser et al. 1978). Raises ValueError as `k_centre` does, and for numbers below 0.
    """
    check_features(shows, name="shows")
    if (shows < 0).any():
        raise ValueError(f"shows is {shows.min():g} somewhere; give how much is shown, at least 0")
    seen = np.zeros(shows.shape[1])
    if taken is not None and len(taken):
        check_features(taken, shows.shape[1], "taken")
        seen = taken.max(0)
    check_k(k, len(shows))
    order = rng.permutation(len(shows))
    points = shows[order].astype(np.float64)
    chosen = np.empty(k, np.intp)
    for n in range(k):
        gain = np.maximum(points - seen, 0).sum(1)
        gain[chosen[:n]] = -1.0
        chosen[n] = pick = int(np.argmax(gain))
        seen = np.maximum(seen, points[pick])
    return order[chosen]


def _shuffled(
    criterion: Criterion, features: Array, diff: Array, k: int, rng: np.random.Generator
) -> tuple[Indices, Array, Array]:
    # In an order by chance, so that of equal ones chance decides.
    check_diff(diff)
    check_k(k, diff.shape[1])
    check_about(len(features), diff, "features")
    order = rng.permutation(len(features))
    return order, features[order].astype(np.float64), criterion(diff)[order]
