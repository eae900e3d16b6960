"""Simulated people of whom it is known how they come to their answers, to find out whether `explain` finds it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from embodied.feedback import Feedback, Segments
from embodied.planning import expected_features, uniform_policy
from embodied.records import Array
from embodied.regret import regret
from embodied.walks import answered, labels, partial_return, steps, walks
from envs.delivery import Board

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
