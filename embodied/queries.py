"""Which pairs to ask about next. All functions are pure: `diff [E,N]` is the utility of the first minus that of the
second segment of candidate pair n, under ensemble member or posterior sample e, in nats."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

Array = npt.NDArray[np.floating]
Select = Callable[[Array, int, np.random.Generator], npt.NDArray[np.intp]]
"""(diff [E,N], k, rng) -> indices [k] of different candidates. Raises ValueError for an impossible k or bad numbers."""


def uniform(diff: Array, k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """k candidates, each as likely as any other."""
    _check(diff, k)
    return rng.choice(diff.shape[1], k, replace=False)


def disagreement(diff: Array, k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """The k candidates with the largest deviation over members of P(first better) (PEBBLE, arXiv 2106.05091)."""
    _check(diff, k, members=2)
    return _top(_probability(diff).std(0), k, rng)


def entropy(diff: Array, k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """The k candidates whose answer is hardest to foretell: entropy of the mean of P(first better) over members.

    B-Pref (arXiv 2111.03026) names this; its code takes the mean of the members' entropies, which misses a quarrel of
    members that are each certain.
    """
    _check(diff, k)
    return _top(binary_entropy(_probability(diff).mean(0), _probability(-diff).mean(0)), k, rng)


def information_gain(diff: Array, k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """The k candidates whose answer tells most about the member: H[mean p] - mean H[p] (BALD, arXiv 1112.5745).

    Unlike entropy, it does not ask what every member finds equally hard. Each candidate is judged alone: near-copies of
    one pair are chosen together, so offer varied candidates.
    """
    _check(diff, k, members=2)
    p, q = _probability(diff), _probability(-diff)
    return _top(binary_entropy(p.mean(0), q.mean(0)) - binary_entropy(p, q).mean(0), k, rng)


def k_centre(features: Array, k: int, rng: np.random.Generator, taken: Array | None = None) -> npt.NDArray[np.intp]:
    """k of N candidates that cover them: each is the farthest from what is chosen and from `taken`, [k], first to last.

    features [N,D], taken [M,D] (pairs that were asked already), Euclidean distance in the units given. The greedy
    2-approximation (Gonzalez 1985); with nothing taken, chance picks the first. Raises ValueError for an impossible k,
    other shapes and numbers that are not finite.
    """
    if taken is None:
        taken = features[:0]
    for name, array in (("features", features), ("taken", taken)):
        if array.ndim != 2 or array.shape[1] != features.shape[-1]:
            raise ValueError(f"{name} has shape {array.shape}, features {features.shape}; give [N,D] and [M,D]")
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} of row {np.argwhere(~np.isfinite(array))[0, 0]} is not finite; drop it or mend its source"
            )
    _check_k(k, len(features))
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
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}; give the share of the pool to keep, above 0 and at most 1")

    def both(diff: Array, k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        _check(diff, k)
        if len(features) != diff.shape[1]:
            raise ValueError(
                f"there are features of {len(features)} candidates and diff is about {diff.shape[1]}; "
                "make a new Select for each pool"
            )
        kept = select(diff, max(k, math.ceil(keep * len(features))), rng)
        return kept[k_centre(features[kept], k, rng, taken)]

    return both


def _probability(diff: Array) -> Array:
    return 0.5 * (1 + np.tanh(diff / 2))


def binary_entropy(p: Array, q: Array) -> Array:
    """Of an answer with the probabilities p and q = 1 - p, given apart so that neither is rounded away; nats."""
    tiny = np.finfo(np.float64).tiny  # 0 log 0 = 0
    return -p * np.log(np.maximum(p, tiny)) - q * np.log(np.maximum(q, tiny))


def _top(value: Array, k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    order = rng.permutation(len(value))  # equal values: chance decides, not the order of the candidates
    return order[np.argsort(-value[order], kind="stable")[:k]]


def _check(diff: Array, k: int, members: int = 1) -> None:
    if diff.ndim != 2 or len(diff) < members:
        raise ValueError(f"diff has shape {diff.shape}, not [E,N] with E >= {members}; give one row per member")
    if not np.isfinite(diff).all():
        raise ValueError(
            f"diff of candidate {np.argwhere(~np.isfinite(diff))[0, 1]} is not finite; drop it or refit the reward"
        )
    _check_k(k, diff.shape[1])


def _check_k(k: int, candidates: int) -> None:
    if not 1 <= k <= candidates:
        raise ValueError(
            f"cannot choose {k} of {candidates} candidates; ask at least 1, and at most as many as there are"
        )
