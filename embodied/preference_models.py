"""Ways in which a person may come to an answer, each with what it has to learn: candidates for `explain`.

A model says by how much the first of two segments is better, in logits: the gap of two sums of step features that a
learned reward pays (partial return), the gap of what each leaves to be wished for (regret), of both in some proportion,
or of log-probabilities under a learned policy (CPL). A learned scale absorbs every temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax, softmax

from embodied.records import Array

Pull = Callable[[Array], Array]  # what each gap is pulled by [B] -> the same for each parameter [P]
Gap = Callable[[Array, float], tuple[Array, Pull]]  # (parameters [P], temperature) -> (gaps [B], their pull)

STAGES = (10.0, 1.0, 0.1, 0.01)
"""Of the soft maximum over candidate policies. Begun colder, one fit in six ends in a worse place than it need."""

@dataclass(frozen=True, eq=False)
class Model:
    """name; start [P]: parameters that know nothing; at: rows -> their gaps; stages: temperatures at which one fits,
    one after the other; parts: the models that it contains."""

    name: str
    start: Array
    at: Callable[[Array], Gap]
    stages: tuple[float, ...] = (1.0,)
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Pairs:
    """B pairs as a reward over D features sees them, each number that of the first segment less that of the second.

    found [B,D]: the sums of the features. beside [B,D]: what regret counts otherwise (discounts, a last step that lies
    ahead). change [B,S]: how often it counts the value of each of S places, an end for it and a start against it.
    ahead [N,S,D]: what each of N candidate policies is expected to find from there. Raises ValueError for what does not
    fit together or is not finite.
    """

    found: Array
    beside: Array
    change: csr_array
    ahead: Array

    def __post_init__(self) -> None:
        rows, features = self.found.shape
        places = self.change.shape[1]
        shapes = self.beside.shape, self.change.shape[0], self.ahead.shape[1:]
        if shapes != ((rows, features), rows, (places, features)):
            raise ValueError(
                f"found is {self.found.shape}, beside {self.beside.shape}, change {self.change.shape}, ahead "
                f"{self.ahead.shape}; give [B,D], [B,D], [B,S] and [N,S,D]"
            )
        for name, array in (("found", self.found), ("beside", self.beside), ("ahead", self.ahead)):
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinity; mend the episodes, or take a smaller gamma")

    def standardised(self) -> Pairs:
        """Each feature in units of its own spread over the pairs, so that one prior fits all of them."""
        spread = self.found.std(0)
        by = np.where(spread > 1e-9, spread, 1.0)
        return replace(self, found=self.found / by, beside=self.beside / by, ahead=self.ahead / by)


def partial_return(pairs: Pairs) -> Model:
    """The reward of what was shown, and nothing else."""
    return linear("return", pairs.found)


def linear(name: str, of: Array) -> Model:
    """Weights [P] of numbers [B,P]."""

    def at(rows: Array) -> Gap:
        here = of[rows]
        return lambda weights, _: (here @ weights, lambda pull: pull @ here)

    return Model(name, np.zeros(of.shape[1]), at)


def regret(pairs: Pairs) -> Model:
    """Minus the regret: what was found, and the value of where it led less that of where it began (eq. 3 of Knox et al.
    2022), under the best of the candidate policies for the reward that is learned."""
    return _valued("regret", pairs, 1.0, learned=False)


def mixture(pairs: Pairs) -> Model:
    """(1 - a) partial return + a (-regret) of one reward. The share a is learned, and so this contains both."""
    return _valued("mixture", pairs, 0.5, learned=True)


def _valued(name: str, pairs: Pairs, share: float, learned: bool) -> Model:
    """share: how much values count; if it is `learned`, it is the last parameter."""
    features = pairs.found.shape[1]
    flat = pairs.ahead.reshape(-1, features)

    def at(rows: Array) -> Gap:
        found, beside, change = pairs.found[rows], pairs.beside[rows], pairs.change[rows]
        back = change.T.tocsr()

        def gap(theta: Array, temperature: float) -> tuple[Array, Pull]:
            weights, part = theta[:features], theta[-1] if learned else share
            each = (flat @ weights).reshape(pairs.ahead.shape[:2])  # [N,S]
            chosen = softmax(each / temperature, 0)
            value = (chosen * each).sum(0)
            valued = beside @ weights + change @ value

            def pull(by: Array) -> Array:
                counts = chosen * (1 + (each - value) / temperature) * (back @ by)
                on = by @ found + part * (by @ beside + counts.ravel() @ flat)
                return np.append(on, by @ valued) if learned else np.asarray(on)

            return found @ weights + part * valued, pull

        return gap

    start = np.append(np.zeros(features), share) if learned else np.zeros(features)
    return Model(name, start, at, STAGES, ("return", "regret") if learned else ())


def table_policy(counts: csr_array, states: int) -> Model:
    """CPL of a softmax over A actions in each of S states: alpha times the sum over steps of log pi A, alpha learned.

    counts [B,S*A]: how often each action was taken in each state, first less second. It is held against the policy that
    takes every action alike, and begins with it; so how long a segment is says nothing by itself.
    """
    actions = counts.shape[1] // states

    def at(rows: Array) -> Gap:
        here = counts[rows]
        back = here.T.tocsr()

        def gap(theta: Array, _: float) -> tuple[Array, Pull]:
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

        def gap(theta: Array, _: float) -> tuple[Array, Pull]:
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


def candidates(pairs: Pairs, cpl: Model) -> Sequence[Model]:
    """The four, over the same standardised features."""
    pairs = pairs.standardised()
    return partial_return(pairs), regret(pairs), cpl, mixture(pairs)
