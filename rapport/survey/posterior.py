"""What the answers leave open: samples of a linear reward's weights, given comparisons under the regret model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from embodied.feedback import Segments
from embodied.records import Array
from embodied.walks import steps

SPREAD = 20.0  # the prior's standard deviation of each weight, in nats


@dataclass(frozen=True, eq=False)
class Summary:
    """All that the regret model sees of segments: found [...,D] (discounted sums), start and end int [...], ahead
    [...]: what the value of the end counts."""

    found: Array
    start: Array
    end: Array
    ahead: Array

    def __getitem__(self, index: Array | slice) -> Summary:
        return Summary(self.found[index], self.start[index], self.end[index], self.ahead[index])

    def __len__(self) -> int:
        return len(self.start)


def summary(segments: Segments, gamma: float) -> Summary:
    at = steps(segments)
    mask = at.mask.numpy()
    discount = gamma ** np.arange(mask.shape[-1]) * mask
    found = (at.found.double().numpy() * discount[..., None]).sum(-2)
    return Summary(found, at.state[..., 0].numpy(), at.end.numpy(), gamma ** mask.sum(-1))


def together(parts: list[Summary]) -> Summary:
    return Summary(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("found", "start", "end", "ahead")))


def utility(weights: Array, psi: Array, seen: Summary) -> Array:
    """Minus the regret of segments [...] under weights [E,D], [E,...]: `Regret`'s deterministic form, the maximum hard.

    psi [N,S,D]: what candidate policies find from each state.
    """
    value = (weights @ psi.reshape(-1, psi.shape[-1]).T).reshape(len(weights), *psi.shape[:2]).max(1)  # [E,S]
    got = np.tensordot(weights, seen.found, (-1, -1))
    return got + seen.ahead * value[:, seen.end] - value[:, seen.start]


def posterior(weights: Array, psi: Array, asked: Summary, first: Array, moves: int, rng: np.random.Generator) -> Array:
    """Samples [E,D] after the walkers `weights` [E,D] moved: a Gaussian prior, and the answers to pairs `asked [N,2]`.

    first [N]: 1 where the first was preferred, .5 for a tie.
    """

    # Only the states that somebody was asked about matter.
    where, inverse = np.unique(np.stack([asked.start, asked.end]), return_inverse=True)
    start, end = inverse.reshape(2, *asked.start.shape)
    psi, asked = psi[:, where], replace(asked, start=start, end=end)

    def log_density(w: Array) -> Array:
        u = utility(w, psi, asked)
        diff = u[..., 0] - u[..., 1]
        likely = -first * np.logaddexp(0, -diff) - (1 - first) * np.logaddexp(0, diff)
        return np.asarray(likely.sum(-1) - 0.5 * (w**2).sum(-1) / SPREAD**2)

    return stretch(log_density, weights, moves, rng)


def stretch(log_density: Callable[[Array], Array], walkers: Array, moves: int, rng: np.random.Generator) -> Array:
    """Affine-invariant sampling (Goodman and Weare 2010): each half of the walkers [E,D] moves along lines through the
    other half, so no step size has to suit weights of very different sizes. log_density: [n,D] -> [n]."""
    half, size = len(walkers) // 2, walkers.shape[1]
    walkers, now = walkers.copy(), log_density(walkers)
    sides = np.arange(half), np.arange(half, len(walkers))
    for _ in range(moves):
        for mine, others in (sides, sides[::-1]):
            z = (rng.random(len(mine)) + 1) ** 2 / 2  # density 1/sqrt(z) on [1/2, 2]
            through = walkers[rng.choice(others, len(mine))]
            moved = through + z[:, None] * (walkers[mine] - through)
            then = log_density(moved)
            better = np.log(rng.random(len(mine))) < (size - 1) * np.log(z) + then - now[mine]
            walkers[mine[better]], now[mine[better]] = moved[better], then[better]
    return walkers
