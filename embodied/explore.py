"""Exploration before there is any reward: states far from all others are worth more (PEBBLE, arXiv 2106.05091)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from embodied.records import Array

NEAREST = 1e-6  # distances are taken for at least this, so that copies of a state have a finite reward


def state_entropy(obs: Array, among: Array, k: int = 5) -> Array:
    """Log distance of each state to its k-th nearest neighbour: obs [N,D], among [M,D] -> [N].

    A state that is itself among them is not its own neighbour. The distance is Euclidean in the units given: bring the
    dimensions to one scale first. Its mean is a particle estimate of the entropy of the states, up to constants (Singh
    et al. 2003). Raises ValueError for fewer than k + 1 states, other shapes and numbers that are not finite.
    """
    if obs.ndim != 2 or among.ndim != 2 or obs.shape[1] != among.shape[1]:
        raise ValueError(f"obs has shape {obs.shape} and among {among.shape}; give [N,D] and [M,D]")
    if k < 1 or len(among) <= k:
        raise ValueError(f"there are {len(among)} states for k = {k}; give k >= 1 and at least {max(k, 1) + 1} states")
    for name, array in (("obs", obs), ("among", among)):
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} {np.argwhere(~np.isfinite(array))[0].tolist()} is not finite; mend the environment"
            )
    distance, _ = cKDTree(among).query(obs, k=np.array([1, k, k + 1]))
    apart = np.where(distance[:, 0] == 0, distance[:, 2], distance[:, 1])
    entropy: Array = np.log(np.maximum(apart, NEAREST))
    return entropy


class RunningStd:
    """Divides by the deviation of all numbers seen so far (0 of them: by 1), merged as in Chan et al. (1979)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def update(self, x: Array) -> None:
        """Take account of x [N]."""
        if not x.size:
            return
        gap, count = float(x.mean()) - self.mean, self.count + x.size
        self.squares += float(((x - x.mean()) ** 2).sum()) + gap**2 * self.count * x.size / count
        self.mean += gap * x.size / count
        self.count = count

    @property
    def std(self) -> float:
        deviation = (self.squares / self.count) ** 0.5 if self.count else 1.0
        return deviation if deviation > NEAREST else 1.0

    def __call__(self, x: Array) -> Array:
        """x [N] in deviations of what `update` has seen; the mean stays, as in PEBBLE."""
        return x / self.std

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.mean, self.squares = int(state["count"]), float(state["mean"]), float(state["squares"])
