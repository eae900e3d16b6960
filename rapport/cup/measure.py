"""What a policy does on layouts that nobody has seen: wishes, task, and what else a careful eye would ask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from embodied.records import Array
from rapport.cup import people
from rapport.cup.pools import Rollouts


@dataclass(frozen=True)
class Measured:
    """Shares of episodes in [0, 1], and means: `wishes` all of the person's wishes in one episode, `each` every wish,
    `task` done, `both` wishes and task, `whole_cup` no part of the cup over the laptop, `tilt` degrees, `path` m,
    `depth` the deepest intrusion of the cup's centre into the laptop's outline, m (negative: it stayed outside)."""

    episodes: int
    wishes: float
    each: dict[str, float]
    task: float
    both: float
    whole_cup: float
    tilt: float
    path: float
    depth: float

    def interval(self, share: float) -> tuple[float, float]:
        """Clopper-Pearson 95 % of a share of the episodes."""
        ci = binomtest(round(share * self.episodes), self.episodes).proportion_ci(0.95, method="exact")
        return float(ci.low), float(ci.high)


def wishes_met(person: people.Person, obs: Array) -> Array:
    """Every wish in the same episode, [N, T, 26] -> bool [N]."""
    return np.logical_and.reduce([wish(obs) for wish in person.wishes.values()])


def measure(person: people.Person, rollouts: Rollouts) -> Measured:
    obs = rollouts.obs.astype(float)
    met = wishes_met(person, obs)
    return Measured(
        episodes=len(obs),
        wishes=float(met.mean()),
        each={name: float(wish(obs).mean()) for name, wish in person.wishes.items()},
        task=float(rollouts.success.mean()),
        both=float((met & rollouts.success).mean()),
        whole_cup=float(people.whole_cup_clear(obs).mean()),
        tilt=float(people.tilt(obs)[:, people.SETTLE :].mean()),
        path=float(people.path(obs).sum(-1).mean()),
        depth=float(people.depth(obs).max()),
    )
