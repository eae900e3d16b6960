"""Ways to choose questions, as values, and how many answers each needs on the delivery board.

A linear reward of six weights, learned under the regret model from somebody who answers by regret; the posterior is
sampled, so that every strategy sees the same thing: members that fit the answers so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch

from embodied.batches import coverage, dpp, medoids
from embodied.criteria import expected_information
from embodied.feedback import Segments
from embodied.generated import maximum_regret, telling
from embodied.planning import expected_features, optimal, scaled_return, uniform_policy
from embodied.queries import (
    Select,
    disagreement,
    entropy,
    focused,
    information_gain,
    k_centre,
    narrowed,
    uniform,
    volume_removal,
)
from embodied.records import Array
from embodied.regret import candidates, regret, successor_features
from embodied.walks import every_way, labels, steps, walks
from envs.delivery import Board, board
from rapport.survey.posterior import SPREAD, Summary, posterior, summary, together, utility

LENGTH, CANDIDATES, MEMBERS, MOVES = 3, 40, 100, 60
NEAR, BUDGET, POOL = 0.9, 60, 200
SESSIONS = (5,) * 12
EXPLORES = 0.3  # of the newest policy's actions are random


@dataclass(frozen=True, eq=False)
class Place:
    """A board, its true reward [S,A], what the regret model's candidate policies find, psi [N,S,D], and all ways of
    three steps from every start."""

    board: Board
    reward: Array
    psi: Array
    ways: Segments
    seen: Summary


def place(rng: np.random.Generator) -> Place:
    made = board()
    reward = expected_features(made) @ made.weights
    bank = successor_features(made, candidates(made, CANDIDATES, rng, made.weights, without=reward))
    ways = every_way(made, made.starts, LENGTH)
    return Place(made, reward, bank.state.numpy(), ways, summary(ways, made.gamma))


@dataclass(frozen=True, eq=False)
class Pool:
    """Candidate pairs: segments [N,2,T], what the regret model sees of them, utility [E,N,2] under every member, and
    which are the newest policy's own, bool [N]."""

    segments: Segments
    seen: Summary
    utility: Array
    newest: Array

    @property
    def features(self) -> Array:
        """What both clips show, [N,F]: what was found, and where they start and end; each in its own deviations."""
        where = [np.stack(np.divmod(cell, 10), -1) for cell in (self.seen.start, self.seen.end)]
        shown = np.concatenate([self.seen.found, *where], -1).reshape(len(self.seen), -1)
        return np.asarray(shown / np.maximum(shown.std(0), 1e-9))

    @property
    def cells(self) -> Array:
        """Which cells a pair enters, [N,100]."""
        entered = steps(self.segments).next.flatten(1).numpy()
        shows = np.zeros((len(entered), 100))
        np.put_along_axis(shows, entered, 1.0, 1)
        return shows


Ask = Callable[[Place, Array, Array, int, int, np.random.Generator], Segments]
"""(place, weights [E,D], newest policy [S,A], size of the pool, k, rng) -> the pairs to ask about [k,2,T]."""


def pooled(
    choose: Callable[[Pool], Select],
    own: float,
    where: Place,
    weights: Array,
    policy: Array,
    size: int,
    k: int,
    rng: np.random.Generator,
) -> Segments:
    """From pairs of random walks, of which the share `own` is of the newest policy with some random actions."""
    made, new = where.board, round(own * size)
    still = uniform_policy(made)
    parts = [(size - new, still), (new, (1 - EXPLORES) * policy + EXPLORES * still)]
    segments = joined([walks(made, acts, (n, 2), LENGTH, rng) for n, acts in parts if n])
    seen = summary(segments, made.gamma)
    pool = Pool(segments, seen, utility(weights, where.psi, seen), np.arange(size) >= size - new)
    return segments[choose(pool)(pool.utility[..., 0] - pool.utility[..., 1], k, rng)]


def generated(where: Place, weights: Array, policy: Array, size: int, k: int, rng: np.random.Generator) -> Segments:
    """The pairs of ways on from one state that tell most, of all there are."""
    start, *ways = telling(utility(weights, where.psi, where.seen), k, rng).T
    return joined([picked(where.ways, start, way) for way in ways], 1)


def duels(
    length: int, where: Place, weights: Array, policy: Array, size: int, k: int, rng: np.random.Generator
) -> Segments:
    """The best policies of two members each, from where they lose most by each other."""
    return maximum_regret(where.board, weights[:20], k, rng).segments(where.board, length, rng)


def joined(parts: Sequence[Segments], dim: int = 0) -> Segments:
    return Segments(*(torch.cat([getattr(p, f.name) for p in parts], dim) for f in fields(Segments)))


def picked(segments: Segments, row: Array, column: Array) -> Segments:
    """One of each row, as [k,1,T]."""
    return Segments(*(getattr(segments, f.name)[row, column][:, None] for f in fields(Segments)))


def _of_pool(select: Select) -> Callable[[Pool], Select]:
    return lambda pool: select


def _information_then_k_centre(pool: Pool) -> Select:
    return narrowed(information_gain, pool.features, keep=0.1)


def _newest(select: Select, share: float) -> Callable[[Pool], Select]:
    return lambda pool: focused(select, pool.newest.astype(float), 0.25, share)


def _good(select: Select) -> Callable[[Pool], Select]:
    return lambda pool: focused(select, pool.utility.mean(0).max(-1))


STRATEGIES: Mapping[str, Ask] = {
    "uniform": partial(pooled, _of_pool(uniform), 0.0),
    "disagreement": partial(pooled, _of_pool(disagreement), 0.0),
    "entropy": partial(pooled, _of_pool(entropy), 0.0),
    "volume removal": partial(pooled, _of_pool(volume_removal), 0.0),
    "information": partial(pooled, _of_pool(information_gain), 0.0),
    "k-centre": partial(pooled, lambda pool: lambda diff, k, rng: k_centre(pool.features, k, rng), 0.0),
    "information+k-centre": partial(pooled, _information_then_k_centre, 0.0),
    "information+dpp": partial(pooled, lambda pool: dpp(expected_information, pool.features), 0.0),
    "information+medoids": partial(pooled, lambda pool: medoids(expected_information, pool.features), 0.0),
    "coverage": partial(pooled, lambda pool: lambda diff, k, rng: coverage(pool.cells, k, rng), 0.0),
    "newest": partial(pooled, _newest(uniform, 1.0), 0.25),
    "hybrid": partial(pooled, _newest(uniform, 0.5), 0.25),
    "hybrid, information": partial(pooled, _newest(information_gain, 0.5), 0.25),
    "near-optimal": partial(pooled, _good(uniform), 0.0),
    "near-optimal, information": partial(pooled, _good(information_gain), 0.0),
    "generated": generated,
    "maximum regret": partial(duels, LENGTH),
    "maximum regret, 20 steps": partial(duels, 20),
}


def labels_needed(
    where: Place,
    ask: Ask,
    rng: np.random.Generator,
    *,
    sessions: Sequence[int] = SESSIONS,
    pool: int = POOL,
    mistakes: float = 0.0,
) -> int:
    """Answers after which the policy is near-optimal for the first time; one session more than all where it never is.

    The policy is the best for the posterior's mean. The answers are by regret and stochastic; this share of them is
    turned round.
    """
    made, phi = where.board, expected_features(where.board)
    weights = rng.normal(0, SPREAD, (MEMBERS, phi.shape[-1]))
    policy, asked, first = uniform_policy(made), list[Summary](), list[Array]()
    for k in sessions:
        if k:
            pairs = ask(where, weights, policy, pool, k, rng)
            said = labels(-regret(made, where.reward, pairs), rng)[:, 0].double().numpy()
            asked.append(summary(pairs, made.gamma))
            first.append(np.where(rng.random(k) < mistakes, 1 - said, said))
            weights = posterior(weights, where.psi, together(asked), np.concatenate(first), MOVES, rng)
            policy = optimal(made, phi @ weights.mean(0)).policy()
            if scaled_return(made, policy, where.reward) > NEAR:
                return sum(map(len, first))
    return sum(sessions) + sessions[-1]
