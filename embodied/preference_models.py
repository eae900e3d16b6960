"""Ways in which a person may come to an answer, each with what it has to learn: candidates for `explain`.

A model says by how much the first of two segments is better, in logits: the gap of two sums of step features that a
learned reward pays (partial return), the gap of what each leaves to be wished for (regret), of both in some proportion,
or of log-probabilities under a learned policy (CPL). A learned scale absorbs every temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax

from embodied.records import Array

Pull = Callable[[Array], Array]  # what each gap is pulled by [B] -> the same for each parameter [P]
Gap = Callable[[Array, Array], tuple[Array, Pull]]  # (parameters [P], what is held) -> (gaps [B], their pull)
Stage = Callable[[Array], Array]  # parameters [P] -> what is held while they are fitted

NOTHING: Array = np.zeros(0)
TEMPERATURES = (10.0, 1.0, 0.1, 0.01)
"""Of the soft maximum over candidate policies. Begun colder, one fit in six ends in a worse place than it need."""


def _nothing(theta: Array) -> Array:
    return NOTHING


@dataclass(frozen=True, eq=False)
class Model:
    """name; start [P]: parameters that know nothing; at: rows -> their gaps; stages: one fits once in each, with what
    it holds: a temperature, or values as they are under the parameters so far; parts: the models that it contains, each
    with the last parameter that makes it that one."""

    name: str
    start: Array
    at: Callable[[Array], Gap]
    stages: tuple[Stage, ...] = (_nothing,)
    parts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, eq=False)
class Values:
    """How much the value gained by the first segment is above that by the second: rows -> its gaps [B] as a function of
    the reward's weights [D] and of what is held. A value gained is that of an end less that of a start."""

    at: Callable[[Array], Gap]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, eq=False)
class Pairs:
    """B pairs as a reward over D features sees them, each number that of the first segment less that of the second.

    found [B,D]: the sums of the features. beside [B,D]: what regret counts otherwise (discounts, a last step that lies
    ahead). values: under the same reward. Raises ValueError for what does not fit together or is not finite.
    """

    found: Array
    beside: Array
    values: Values

    def __post_init__(self) -> None:
        if self.found.ndim != 2 or self.found.shape != self.beside.shape:
            raise ValueError(f"found is {self.found.shape}, beside {self.beside.shape}; give [B,D] twice")
        if not (np.isfinite(self.found).all() and np.isfinite(self.beside).all()):
            raise ValueError("a sum of features is NaN or infinite; mend the episodes")


def units(found: Array) -> Array:
    """What to divide features [D] by, so that one prior fits all: their spread over the pairs [B,D], or 1 if none."""
    spread = found.std(0)
    return np.asarray(np.where(spread > 1e-9, spread, 1.0))


def best_of(ahead: Array, change: csr_array) -> Values:
    """Values as the best of N policies: ahead [N,S,D] is what each finds from each of S places, change [B,S] how often
    a pair counts the value of each, an end for it and a start against it. What is held is the temperature."""
    places, features = ahead.shape[1:]
    flat = ahead.reshape(-1, features)

    def at(rows: Array) -> Gap:
        here = change[rows]
        back = here.T.tocsr()

        def gap(weights: Array, held: Array) -> tuple[Array, Pull]:
            temperature = float(held[0])
            each = (flat @ weights).reshape(-1, places)  # [N,S]
            chosen = np.exp((each - each.max(0)) / temperature)
            chosen /= chosen.sum(0)
            value = (chosen * each).sum(0)

            def pull(by: Array) -> Array:
                counts = chosen * (1 + (each - value) / temperature) * (back @ by)
                return np.asarray(counts.ravel() @ flat)

            return here @ value, pull

        return gap

    def held(temperature: float) -> Stage:
        return lambda theta: np.array([temperature])

    return Values(at, tuple(held(temperature) for temperature in TEMPERATURES))


def linear_values(change: Array, stages: tuple[Stage, ...]) -> Values:
    """Values linear in features of a state: change [B,G], those of an end less those of a start. What is held is a map
    [G*D], from features of a state to what of the reward's features is expected from it on."""

    def at(rows: Array) -> Gap:
        here = change[rows]

        def gap(weights: Array, held: Array) -> tuple[Array, Pull]:
            along = here @ held.reshape(here.shape[1], -1)
            return along @ weights, lambda by: by @ along

        return gap

    return Values(at, stages)


def partial_return(pairs: Pairs) -> Model:
    """The reward of what was shown, and nothing else."""

    def at(rows: Array) -> Gap:
        here = pairs.found[rows]
        return lambda weights, _: (here @ weights, lambda by: by @ here)

    return Model("return", np.zeros(pairs.found.shape[1]), at)


def regret(pairs: Pairs) -> Model:
    """Minus the regret: what was found, and the value of where it led less that of where it began (eq. 3 of Knox et al.
    2022)."""
    return _valued("regret", pairs, 1.0, learned=False)


def mixture(pairs: Pairs) -> Model:
    """(1 - a) partial return + a (-regret) of one reward. The share a is learned, and so this contains both."""
    return _valued("mixture", pairs, 0.5, learned=True)


def _valued(name: str, pairs: Pairs, share: float, learned: bool) -> Model:
    """share: how much values count; if it is `learned`, it is the last parameter."""
    features = pairs.found.shape[1]

    def at(rows: Array) -> Gap:
        found, beside, gained = pairs.found[rows], pairs.beside[rows], pairs.values.at(rows)

        def gap(theta: Array, held: Array) -> tuple[Array, Pull]:
            weights, part = theta[:features], theta[-1] if learned else share
            value, back = gained(weights, held)
            valued = beside @ weights + value

            def pull(by: Array) -> Array:
                on = by @ found + part * (by @ beside + back(by))
                return np.append(on, by @ valued) if learned else np.asarray(on)

            return found @ weights + part * valued, pull

        return gap

    start = np.append(np.zeros(features), share) if learned else np.zeros(features)
    return Model(name, start, at, pairs.values.stages, {"return": 0.0, "regret": 1.0} if learned else {})


def table_policy(counts: csr_array, states: int) -> Model:
    """CPL of a softmax over A actions in each of S states: alpha times the sum over steps of log pi A, alpha learned.

    counts [B,S*A]: how often each action was taken in each state, first less second. It is held against the policy that
    takes every action alike, and begins with it; so how long a segment is says nothing by itself.
    """
    actions = counts.shape[1] // states

    def at(rows: Array) -> Gap:
        here = counts[rows]
        back = here.T.tocsr()

        def gap(theta: Array, _: Array) -> tuple[Array, Pull]:
            alpha, logits = np.exp(theta[-1]), theta[:-1].reshape(states, actions)  # of alpha log pi
            logp = log_softmax(logits / alpha, -1)
            ratio = logp + np.log(actions)

            def pull(by: Array) -> Array:
                each = (back @ by).reshape(states, actions)
                pi, steps = np.exp(logp), each.sum(-1, keepdims=True)
                return np.append(each - pi * steps, alpha * (steps[:, 0] @ (pi * ratio).sum(-1)))

            return alpha * (here @ ratio.ravel()), pull

        return gap

    return Model("cpl", np.zeros(counts.shape[1] + 1), at)


def gaussian_policy(taken: Array, crossed: Array, seen: Array, habit: Array) -> Model:
    """CPL of a Gaussian about a linear function of what is seen: minus the sum over steps of |k a - U g|^2 / 2.

    taken [B,A]: the sums of a^2 over the steps; crossed [B,A,G] those of a g; seen [B,G,G] those of g g; each first
    less second. habit [A,G]: the policy of whoever made the recordings, with which it begins; the precisions k^2 are
    learned, and begin small, where every answer is a coin's.
    """
    actions, size = habit.shape
    begin = 0.1

    def at(rows: Array) -> Gap:
        squares, cross, twice = taken[rows], crossed[rows], seen[rows]

        def gap(theta: Array, _: Array) -> tuple[Array, Pull]:
            sharp, map_ = theta[:actions], theta[actions:].reshape(actions, size)
            along = np.einsum("bag,ag->ba", cross, map_)
            across = np.einsum("bgh,ah->bag", twice, map_)
            value = -0.5 * (squares @ sharp**2 + np.einsum("bag,ag->b", across, map_)) + along @ sharp

            def pull(by: Array) -> Array:
                on_sharp = by @ along - (by @ squares) * sharp
                on_map = np.einsum("b,bag,a->ag", by, cross, sharp) - np.einsum("b,bag->ag", by, across)
                return np.concatenate([on_sharp, on_map.ravel()])

            return value, pull

        return gap

    return Model("cpl", begin * np.concatenate([np.ones(actions), habit.ravel()]), at)


def within(model: Model, rows: Array) -> Model:
    """The model of these pairs only."""
    return replace(model, at=lambda chosen: model.at(rows[chosen]))


def candidates(pairs: Pairs, cpl: Model | None) -> tuple[Model, ...]:
    """The four, return and regret and their mixture of one kind of reward; without CPL the other three."""
    return partial_return(pairs), regret(pairs), *([cpl] if cpl else []), mixture(pairs)
