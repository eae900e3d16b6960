"""What recorded behaviour, and somewhat better behaviour, finds from here on: values under rewards yet to be learned.

Least squares on temporal differences (Bradtke and Barto 1996) of all features of the reward at once, so that a value is
linear in the reward's weights. Better than recorded: for a direction of reward, steps count the more the better they
were than expected (as in advantage-weighted regression, arXiv 1910.00177), and are then evaluated anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied.records import Array

RIDGE = 1e-3  # of the mean square of a feature
MOST, LEAST = np.e, 1 / np.e
"""How much a step may count against an average one; further apart, values of some rewards come apart too."""
ROUNDS = 2
TOO_FAR = 3.0  # times what the largest feature is worth for ever


@dataclass(frozen=True, eq=False)
class Recorded:
    """N steps: features [N,D] of the reward; state, following [N,G], features of the state before and after; over [N],
    1 where the task ended, else 0."""

    features: Array
    state: Array
    following: Array
    over: Array


def recorded(steps: Recorded, gamma: float) -> Array:
    """The map [G,D] from features of a state to the discounted sums of features that followed in the recordings.

    Raises ValueError where it diverges.
    """
    found = _evaluated(steps, gamma, np.ones(len(steps.over)))
    if not _holds(steps, gamma, found):
        raise ValueError(
            f"the values of the recorded episodes diverge with gamma {gamma}: {len(steps.over)} steps are too few for "
            f"{steps.state.shape[1]} features of a state, or numbers are of very different sizes; record more, or scale"
        )
    return found


def better(steps: Recorded, gamma: float, weights: Array, before: Array) -> Array:
    """The same for behaviour that is somewhat better than the recorded under a reward [D]; `before`, which was of what
    was recorded, where this cannot be told."""
    reward, found = steps.features @ weights, before
    for _ in range(ROUNDS):
        value = found @ weights
        gain = reward + gamma * (1 - steps.over) * (steps.following @ value) - steps.state @ value
        if not (spread := float(gain.std())) > 0:
            return before
        weight = np.clip(np.exp(np.clip(gain / spread, -9, 9)), LEAST, MOST)
        found = _evaluated(steps, gamma, weight / weight.mean())
    return found if _holds(steps, gamma, found) else before


def _evaluated(steps: Recorded, gamma: float, weight: Array) -> Array:
    weighted = steps.state * weight[:, None]
    left = weighted.T @ (steps.state - gamma * (1 - steps.over)[:, None] * steps.following)
    scale = float((steps.state**2).sum(0).mean())
    return np.asarray(np.linalg.solve(left + RIDGE * scale * np.eye(len(left)), weighted.T @ steps.features))


def _holds(steps: Recorded, gamma: float, found: Array) -> bool:
    worth = np.abs(steps.features).max(0) / (1 - gamma)
    return bool(np.isfinite(found).all() and (np.abs(steps.state @ found).max(0) <= TOO_FAR * worth + 1e-9).all())
