"""What an agent in training really did: the latest whole episodes, and those under way. Questions are cut from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One episode: obs [T,*O], act [T,*A] as the environment got them, its own reward [T], and how it ended.

    `number` counts the episodes of a run in the order in which they ended. `seed`: that with which the environment was
    reset, so that the episode can be played again; -1: not known.
    """

    number: int
    obs: Array
    act: Array
    own: Array
    terminated: bool
    seed: int = -1

    def __len__(self) -> int:
        return len(self.own)


class Recorder:
    """Records `copies` environments side by side and keeps the last `keep` whole episodes. `seed(i)`: that with which
    the present episode of copy i began, or -1."""

    def __init__(self, copies: int, keep: int, seed: Callable[[int], int] = lambda copy: -1) -> None:
        if copies < 1 or keep < 1:
            raise ValueError(f"{copies} copies, {keep} episodes kept; give at least one of each")
        self.copies, self.keep, self.count = copies, keep, 0
        self.whole: list[Trajectory] = []
        self._under_way: list[list[tuple[Array, Array, float]]] = [[] for _ in range(copies)]
        self._seed, self._seeds = seed, [-1] * copies

    def begin(self) -> None:
        """All copies were reset."""
        self._under_way = [[] for _ in range(self.copies)]
        self._seeds = [self._seed(i) for i in range(self.copies)]

    def step(self, obs: Array, act: Array, own: Array) -> None:
        """One step of every copy: obs [n,*O], act [n,*A], own reward [n]. The arrays must not change afterwards."""
        for i, steps in enumerate(self._under_way):
            steps.append((obs[i], act[i], float(own[i])))

    def end(self, copy: int, terminated: bool) -> None:
        """The episode of this copy has ended, and the next has begun."""
        obs, act, own = _stacked(self._under_way[copy])
        self._under_way[copy] = []
        ended = Trajectory(self.count, obs, act, own, terminated, self._seeds[copy])
        self._seeds[copy] = self._seed(copy)
        self.whole = [*self.whole, ended][-self.keep :]
        self.count += 1

    def last(self, steps: int) -> tuple[Array, Array, Array]:
        """The last `steps` of every copy's present episode, the latest last: obs [n,H,*O], act [n,H,*A], mask [n,H]."""
        tails = [under_way[-steps:] for under_way in self._under_way]
        first = next(tail[0] for tail in tails if tail)
        obs = np.zeros((self.copies, steps, *np.shape(first[0])), np.asarray(first[0]).dtype)
        act = np.zeros((self.copies, steps, *np.shape(first[1])), np.asarray(first[1]).dtype)
        mask = np.zeros((self.copies, steps), bool)
        for i, tail in enumerate(tails):
            if tail:
                obs[i, -len(tail) :], act[i, -len(tail) :], _ = _stacked(tail)
                mask[i, -len(tail) :] = True
        return obs, act, mask

    def state_dict(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "whole": [[t.number, t.obs, t.act, t.own, t.terminated, t.seed] for t in self.whole],
            "seeds": self._seeds,
            "under_way": [list(_stacked(steps)) if steps else None for steps in self._under_way],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = int(state["count"])
        self.whole = [
            Trajectory(int(n), obs, act, own, bool(end), int(seed)) for n, obs, act, own, end, seed in state["whole"]
        ]
        self._seeds = list(state["seeds"])
        self._under_way = [
            [] if part is None else list(zip(part[0], part[1], (float(r) for r in part[2]), strict=True))
            for part in state["under_way"]
        ]


def _stacked(steps: Sequence[tuple[Array, Array, float]]) -> tuple[Array, Array, Array]:
    obs, act, own = zip(*steps, strict=True)
    return np.stack(obs), np.stack(act), np.array(own)
