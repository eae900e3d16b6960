"""Which pairs to ask about next. All functions are pure: `diff [E,N]` is the utility of the first minus that of the
second segment of candidate pair n, under ensemble member or posterior sample e, in nats."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

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


def information_gain(diff: Array, k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """The k candidates whose answer tells most about the member: H[mean p] - mean H[p] (BALD, arXiv 1112.5745).

    Unlike entropy, it does not ask what every member finds equally hard. Each candidate is judged alone: near-copies of
    one pair are chosen together, so offer varied candidates.
    """
    _check(diff, k, members=2)
    p, q = _probability(diff), _probability(-diff)
    return _top(binary_entropy(p.mean(0), q.mean(0)) - binary_entropy(p, q).mean(0), k, rng)


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
    if not 1 <= k <= diff.shape[1]:
        raise ValueError(
            f"cannot choose {k} of {diff.shape[1]} candidates; ask at least 1, and at most as many as there are"
        )
