"""Which pairs to ask about next: each candidate judged alone, or the best share of a pool and what covers it.

All functions are pure. What a candidate is worth is in `criteria.py`, what a whole batch is worth in `batches.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from embodied.criteria import (
    Array,
    Criterion,
    check_about,
    check_diff,
    deviation,
    expected_information,
    predictive_entropy,
    removed_volume,
)

Indices = npt.NDArray[np.intp]
Select = Callable[[Array, int, np.random.Generator], Indices]
"""(diff [E,N], k, rng) -> indices [k] of different candidates. Raises ValueError for an impossible k or bad numbers."""


def uniform(diff: Array, k: int, rng: np.random.Generator) -> Indices:
    """k candidates, each as likely as any other."""
    check_diff(diff)
    check_k(k, diff.shape[1])
    return rng.choice(diff.shape[1], k, replace=False)


def best(criterion: Criterion) -> Select:
    """The k candidates of greatest value; of equal ones, chance decides. Near-copies of one pair come together, so
    offer varied candidates, or take one of `batches.py`."""

    def select(diff: Array, k: int, rng: np.random.Generator) -> Indices:
        value = criterion(diff)
        check_k(k, len(value))
        return _top(value, k, rng)

    return select


def disagreement(diff: Array, k: int, rng: np.random.Generator) -> Indices:
    """The k candidates with the largest deviation over members of P(first better) (PEBBLE, arXiv 2106.05091)."""
    return best(deviation)(diff, k, rng)


def entropy(diff: Array, k: int, rng: np.random.Generator) -> Indices:
    """The k candidates whose answer is hardest to foretell: entropy of the mean of P(first better) over members.

    B-Pref (arXiv 2111.03026) names this; its code takes the mean of the members' entropies, which misses a quarrel of
    members that are each certain.
    """
    return best(predictive_entropy)(diff, k, rng)


def information_gain(diff: Array, k: int, rng: np.random.Generator) -> Indices:
    """The k candidates whose answer tells most about the member: H[mean p] - mean H[p] (BALD, arXiv 1112.5745).

    Unlike entropy, it does not ask what every member finds equally hard.
    """
    return best(expected_information)(diff, k, rng)


def volume_removal(diff: Array, k: int, rng: np.random.Generator) -> Indices:
    """The k candidates whose answer, whichever it is, removes most of the posterior (Sadigh et al., RSS 2017).

    With two answers that is `entropy`'s order, but pairs which no member tells apart, the trivial optimum, are never
    asked about. Raises ValueError where fewer than k others are left.
    """
    value = removed_volume(diff)
    told_apart = int((value > 0).sum())
    if told_apart < k <= len(value):
        raise ValueError(
            f"cannot choose {k} of {told_apart} candidates that some member tells apart; the other "
            f"{len(value) - told_apart} pairs teach nothing, offer different ones"
        )
    check_k(k, len(value))
    return _top(value, k, rng)


def k_centre(features: Array, k: int, rng: np.random.Generator, taken: Array | None = None) -> Indices:
    """k of N candidates that cover them: each is the farthest from what is chosen and from `taken`, [k], first to last.

    features [N,D], taken [M,D] (pairs that were asked already), Euclidean distance in the units given. The greedy
    2-approximation (Gonzalez 1985); with nothing taken, chance picks the first. Raises ValueError for an impossible k,
    other shapes and numbers that are not finite.
    """
    if taken is None:
        taken = features[:0]
    check_features(features)
    check_features(taken, features.shape[1], "taken")
    check_k(k, len(features))
    order = rng.permutation(len(features))  # of equally far ones, chance decides
    points = features[order].astype(np.float64)
    distance = cdist(points, taken).min(1) if len(taken) else np.full(len(points), np.inf)
    chosen = np.empty(k, np.intp)
    for n in range(k):
        chosen[n] = pick = int(np.argmax(distance))
        distance = np.minimum(distance, np.linalg.norm(points - points[pick], axis=1))
        distance[pick] = -1.0  # below a copy of what is chosen, so that indices differ
    return order[chosen]


def narrowed(select: Select, features: Array, taken: Array | None = None, keep: float = 0.5) -> Select:
    """`select` keeps the best share `keep` of the pool, `k_centre` takes k of these (B-Pref's schemes 4 and 5).

    features [N,D] of the candidates that the returned Select will be given, taken [M,D] of the pairs asked so far. At
    least k are kept. Raises ValueError unless 0 < keep <= 1, and for features of another number of candidates.
    """
    check_share("keep", keep)

    def both(diff: Array, k: int, rng: np.random.Generator) -> Indices:
        check_diff(diff)
        check_k(k, diff.shape[1])
        check_about(len(features), diff, "features")
        kept = select(diff, max(k, math.ceil(keep * len(features))), rng)
        return kept[k_centre(features[kept], k, rng, taken)]

    return both


def focused(select: Select, worth: Array, keep: float = 0.25, share: float = 1.0) -> Select:
    """`select` looks only at the share `keep` of the pool that has most `worth [N]`; of equal ones, chance decides.

    With minus the age of each candidate as worth: what the newest policy did (QPA, arXiv 2305.17400). With the mean
    utility of its better segment: the region of good behaviour. share: of the k, so many from there, the others from
    the rest of the pool ("hybrid"). At least as many as are needed are kept. Raises ValueError unless both are in
    (0,1], and for worth of another number of candidates.
    """
    check_share("keep", keep)
    check_share("share", share)
    if not np.isfinite(worth).all():
        raise ValueError(f"the worth of candidate {np.argwhere(~np.isfinite(worth))[0, 0]} is not finite; mend it")

    def within(diff: Array, k: int, rng: np.random.Generator) -> Indices:
        check_diff(diff)
        check_k(k, diff.shape[1])
        check_about(len(worth), diff, "worth")
        inside = math.ceil(share * k)
        order = _top(worth, len(worth), rng)
        # Enough is left outside too.
        first, rest = np.split(order, [min(max(inside, math.ceil(keep * len(worth))), len(worth) - (k - inside))])
        chosen = first[select(diff[:, first], inside, rng)]
        return np.concatenate([chosen, rest[select(diff[:, rest], k - inside, rng)]]) if k > inside else chosen

    return within


def _top(value: Array, k: int, rng: np.random.Generator) -> Indices:
    order = rng.permutation(len(value))  # equal values: chance decides, not the order of the candidates
    return order[np.argsort(-value[order], kind="stable")[:k]]


def check_k(k: int, candidates: int) -> None:
    """Raises ValueError unless k different ones can be chosen."""
    if not 1 <= k <= candidates:
        raise ValueError(
            f"cannot choose {k} of {candidates} candidates; ask at least 1, and at most as many as there are"
        )


def check_share(name: str, share: float) -> None:
    """Raises ValueError unless it is in (0,1]."""
    if not 0 < share <= 1:
        raise ValueError(f"{name} is {share}; give a share, above 0 and at most 1")


def check_features(features: Array, columns: int | None = None, name: str = "features") -> None:
    """Raises ValueError for another shape than [N,D], D = columns if given, and for numbers that are not finite."""
    if features.ndim != 2 or (columns is not None and features.shape[1] != columns):
        wanted = "[N,D]" if columns is None else f"[M,{columns}], as features are [N,{columns}]"
        raise ValueError(f"{name} has shape {features.shape}; give {wanted}")
    if not np.isfinite(features).all():
        raise ValueError(
            f"{name} of row {np.argwhere(~np.isfinite(features))[0, 0]} is not finite; drop it or mend its source"
        )
