"""Simulated people of whom it is known how they come to their answers, to find out whether `explain` finds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from embodied.episodes import Episode, cut
from embodied.feedback import Feedback, Segments
from embodied.planning import expected_features, uniform_policy
from embodied.records import Answer, Array, Compare, Query
from embodied.regret import regret
from embodied.store import Store
from embodied.walks import answered, labels, partial_return, steps, walks
from envs.delivery import Board
from policies.gaussian import vectors
from rapport.boards import BOARD

Person = Literal["return", "regret", "cpl", "mixture", "random"]
PEOPLE: tuple[Person, ...] = ("return", "regret", "cpl", "mixture", "random")
LENGTH = 3


def person(board: Board, kind: Person, n: int, seed: int, errors: bool = True) -> Feedback:
    """n answers about pairs of random walks, as a logistic of what the kind of person goes by; without `errors` the
    better one every time.

    cpl: a policy of their own, drawn at random: in every cell logits of deviation 1.5, which no reward is behind.
    mixture: half return, half regret. random: a coin.
    """
    rng = np.random.default_rng([seed, n])
    pairs = walks(board, uniform_policy(board), (n, 2), LENGTH, rng)
    return answered(pairs, labels(utility(board, kind, pairs, rng), rng if errors else None))


def utility(board: Board, kind: Person, pairs: Segments, rng: np.random.Generator) -> Array:
    """[B,2], in logits."""
    if kind == "random":
        return np.zeros((len(pairs), 2))
    if kind == "cpl":
        logits = rng.normal(0, 1.5, board.next.shape[:2])
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        at = steps(pairs)
        return np.asarray((logp[at.state.numpy(), at.action.numpy()] * at.mask.numpy()).sum(-1))
    shown = partial_return(board.weights, pairs)
    missed = regret(board, expected_features(board) @ board.weights, pairs)
    return {"return": shown, "regret": -missed, "mixture": (shown - missed) / 2}[kind]


def save(store: Store, board: Board, people: Mapping[str, Feedback]) -> None:
    """Every walk as an episode, and every answer as a person's of that name."""
    for name, data in people.items():
        obs, act, mask = vectors(data.segments).numpy(), data.segments.act.numpy(), data.segments.mask.numpy()
        episodes = [
            Episode(f"{name}-{b}-{k}", obs[b, k, mask[b, k]], act[b, k, mask[b, k]], {BOARD: board.codes})
            for b, k in np.ndindex(mask.shape[:2])
        ]
        store.episodes.save(episodes)
        cuts = [cut(episode, 0, len(episode)) for episode in episodes]
        asked = [Query(f"{name}-{b}", (cuts[2 * b], cuts[2 * b + 1])) for b in range(len(mask))]
        said = [
            Answer(f"{query.id}-said", query.id, name, "person", Compare(float(data.target[b, 0])))
            for b, query in enumerate(asked)
        ]
        store.add_queries(asked)
        store.add_answers(said)
