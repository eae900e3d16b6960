"""A simulated person who gives every kind of feedback, each drawn from its likelihood under one true reward.

What `embodied.likelihoods` and `losses.logistic` say is how this person answers, so a reward can be learned back from
any kind, or from all together.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, log_softmax

from embodied.checks import Array
from embodied.records import (
    Choose,
    Compare,
    Grade,
    Marks,
    Query,
    Rank,
    Rate,
    Stop,
    Survey,
    Value,
    Written,
)
from embodied.teachers import StepReward, Teacher, draws, step_rewards

GRADES = (-1.5, -0.5, 0.5, 1.5)
RATINGS = (-2.0, -1.2, -0.4, 0.4, 1.2, 2.0)


def rational(
    reward: StepReward,
    *,
    seed: int,
    beta: float = 1.0,
    grades: tuple[float, ...] = GRADES,
    ratings: tuple[float, ...] = RATINGS,
    marks: int = 2,
    span: int = 5,
) -> Teacher:
    """reward: the true one of each step of a segment, [T]; a segment is worth its sum u, and choices have probability
    proportional to e^(beta u).

    grades, ratings: thresholds on beta u, rising. marks: stretches of `span` steps looked at, each called good with
    probability sigmoid(beta u). The noise is a function of (seed, query id). Raises ValueError for thresholds that do
    not rise and rewards that are not [T] finite numbers.
    """
    for name, cuts in (("grades", grades), ("ratings", ratings)):
        if not (np.diff(cuts) > 0).all():
            raise ValueError(f"{name} are {cuts}; give thresholds that rise")

    def teacher(query: Query) -> Value:
        rng = draws(seed, query)
        each = [beta * step_rewards(reward, query, k) for k in range(len(query.segments))]
        value = np.array([x.sum() for x in each])
        match query.kind:
            case "compare":
                return Compare(float(_among(value, rng) == 0))
            case "grade":
                return Grade(_level(value[0] - value[1], grades, rng) - len(grades) // 2)
            case "rank":
                # The order of Gumbel-perturbed utilities is Plackett-Luce.
                return Rank(tuple(int(k) for k in np.argsort(-(value + rng.gumbel(size=len(value))))))
            case "choose":
                return Choose(_among(value, rng))
            case "rate":
                return Rate(tuple(1.0 + _level(x, ratings, rng) for x in value))
            case "mark":
                starts = rng.integers(max(1, len(each[0]) - span + 1), size=marks)
                spans = ((int(t), min(int(t) + span, len(each[0]))) for t in sorted(starts))
                return Marks(tuple((a, b, bool(rng.random() < expit(each[0][a:b].sum()))) for a, b in spans))
            case "stop":
                return Stop(1 + _among(each[0].cumsum(), rng))
            case "survey":
                return Survey(float(_among(value, rng) == 0), (("good", (bool(value[0] > 0), bool(value[1] > 0))),))
            case _:
                return Written(f"Of {len(value)}, number {int(np.argmax(value)) + 1} is best.")

    return teacher


def _among(value: Array, rng: np.random.Generator) -> int:
    """An index with probability proportional to e^value."""
    return int(rng.choice(len(value), p=np.exp(log_softmax(value))))


def _level(value: float, cuts: tuple[float, ...], rng: np.random.Generator) -> int:
    """0 to the number of cuts: P(at most j) = sigmoid(cuts_j - value)."""
    noise = math.log((u := rng.random()) / (1 - u))
    return int(np.searchsorted(cuts, value + noise))
