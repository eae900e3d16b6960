"""Simulated teachers: they answer from a true utility, with the flaws that people have.

The definitions are those of B-Pref (arXiv 2111.03026): skip, then tie, then a stochastic label with mistakes; a tie is
never mistaken. Two notes for those who compare. B-Pref flips a label with probability e, here a lapse is a coin flip,
so e = lapse / 2. And thresholds are in units of the utility, as given: nothing rescales them behind your back.
"""

import hashlib
import math
from collections.abc import Callable

import numpy as np

from embodied.records import Answer, Compare, Query, Rank, Rate, Segment, Skip, Value

Utility = Callable[[Segment], float]
Teacher = Callable[[Query], Value]


def oracle(utility: Utility) -> Teacher:
    """Always right. It compares (equal utilities tie), ranks (equal ones as shown) and rates (the utility itself)."""

    def teacher(query: Query) -> Value:
        values = _utilities(utility, query)
        match query.kind:
            case "compare":
                return Compare(0.5 * (1 + float(np.sign(values[0] - values[1]))))
            case "rank":
                return Rank(tuple(sorted(range(len(values)), key=lambda k: -values[k])))
            case _:
                return Rate(values)

    return teacher


def noisy(
    utility: Utility,
    *,
    seed: int,
    temperature: float = 1.0,
    lapse: float = 0.0,
    tie: float = 0.0,
    skip: float = -math.inf,
) -> Teacher:
    """A teacher of pairs with the flaws of B-Pref, dU = U(first) - U(second).

    It skips when both utilities are below `skip`, answers .5 when |dU| < `tie`, and else prefers the first with
    probability (1 - lapse) sigmoid(dU / temperature) + lapse / 2; temperature 0 always takes the better. The noise is a
    function of (seed, query id), so an answer does not depend on what was asked before it. Raises ValueError for
    settings out of range and for queries that are not comparisons.
    """
    if not (0 <= temperature < math.inf and 0 <= lapse <= 1 and tie >= 0 and not math.isnan(skip)):
        raise ValueError(
            f"temperature {temperature}, lapse {lapse}, tie {tie}, skip {skip}; give temperature and tie >= 0, "
            "lapse in [0,1], and a utility to skip below"
        )

    def teacher(query: Query) -> Value:
        if query.kind != "compare":
            raise ValueError(f"query {query.id} is of kind {query.kind}; a noisy teacher compares, ask oracle")
        first, second = _utilities(utility, query)
        if max(first, second) < skip:
            return Skip("both are poor")
        if abs(first - second) < tie:
            return Compare(0.5)
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}/{query.id}".encode()).digest()))
        coin, lapsed, guess = rng.random(3)
        if lapsed < lapse:
            return Compare(float(guess < 0.5))
        return Compare(float(coin < _prefers_first(first - second, temperature)))

    return teacher


def answer(teacher: Teacher, query: Query, annotator: str) -> Answer:
    """The teacher's answer as a record; the id follows from query and annotator, so asking again changes nothing."""
    name = hashlib.sha256(f"{query.id}\0{annotator}".encode()).hexdigest()[:32]
    return Answer(name, query.id, annotator, "teacher", teacher(query))


def _prefers_first(gap: float, temperature: float) -> float:
    if temperature == 0:
        return 0.5 * (1 + float(np.sign(gap)))
    return 0.5 * (1 + math.tanh(gap / temperature / 2))


def _utilities(utility: Utility, query: Query) -> tuple[float, ...]:
    values = tuple(float(utility(segment)) for segment in query.segments)
    for k, value in enumerate(values):
        if not math.isfinite(value):
            raise ValueError(
                f"the utility of segment {k} of query {query.id} is {value}; give a utility that is finite"
            )
    return values
