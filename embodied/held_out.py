"""What models predict of answers that they have not seen.

They are fitted on some of the questions and predict the rest, in folds over questions, so that no pair is in both. How
much is held against large parameters is chosen within the fitted part, by the same rule for every model. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from embodied.preference_models import Gap, Model, Stage
from embodied.records import Array

STRENGTHS = (100.0, 10.0, 1.0, 0.1)
"""Of the pull back to a model that knows nothing, in answers: a Gaussian prior of deviation .1 to 3."""
INNER = 3


def fit(model: Model, gap: Gap, first: Array, strength: float, elsewhere: Sequence[Array] = ()) -> tuple[Array, Array]:
    """The parameters [P] under which answers `first` [B], P(first better), are likeliest, given the prior; and what was
    held last.

    elsewhere: parameters found for some of these answers. The maximum over policies has valleys; where the best of
    those leads to a lower one, that is taken. Raises ValueError where parameters come out as no numbers.
    """

    def cost(theta: Array, held: Array) -> tuple[float, Array]:
        gaps, pull = gap(theta, held)
        away = theta - model.start
        loss = (np.logaddexp(0, gaps) - first * gaps).sum() + strength / 2 * away @ away
        return float(loss), pull(expit(gaps) - first) + strength * away

    def down(theta: Array, stages: Sequence[Stage]) -> tuple[float, Array, Array]:
        held = np.zeros(0)
        for stage in stages:
            held = stage(theta)
            # before the last stage, a good neighbourhood is all that is wanted
            most = {"maxiter": 200 if stage is stages[-1] else 100, "ftol": 1e-6}
            theta = minimize(cost, theta, (held,), jac=True, method="L-BFGS-B", options=most).x
        return cost(theta, held)[0], theta, held

    found = [down(model.start, model.stages)]
    if elsewhere and len(model.stages) > 1:
        last = model.stages[-1]
        found.append(down(min(elsewhere, key=lambda theta: cost(theta, last(theta))[0]), [last]))
    _, theta, held = min(found, key=lambda each: each[0])
    if not np.isfinite(theta).all():
        raise ValueError(f"the {model.name} model diverges: its parameters are no numbers; look for extreme values")
    return theta, held


def folds(query: Array, n: int, rng: np.random.Generator) -> Array:
    """The fold [B] of each answer, 0 to n-1, as even as can be in questions; answers to one question share theirs."""
    _, which = np.unique(query, return_inverse=True)
    of = rng.permutation(np.arange(which.max() + 1) % n)
    return np.asarray(of[which])


def log_likelihood(gaps: Array, first: Array) -> Array:
    """Per answer, in nats; a tie is half of both. log .5 for a coin, whatever was said."""
    return np.asarray(first * gaps - np.logaddexp(0, gaps))


def held_out(model: Model, first: Array, fold: Array, inner: Array) -> tuple[Array, Array]:
    """The gaps [B], in logits, that a model predicts for each answer from the other folds, and the last parameter found
    for each fold. inner [B]: the folds within which how strong the prior is gets chosen."""
    found, last = np.full(len(first), np.nan), []
    for out in np.unique(fold):
        train, test = np.flatnonzero(fold != out), np.flatnonzero(fold == out)
        strength, elsewhere = _strength(model, first, train, inner[train])
        theta, held = fit(model, model.at(train), first[train], strength, elsewhere)
        found[test] = model.at(test)(theta, held)[0]
        last.append(theta[-1])
    return found, np.array(last)


def _strength(model: Model, first: Array, rows: Array, inner: Array) -> tuple[float, list[Array]]:
    """The one that predicts best within `rows`, and all parameters that were found on the way."""
    total, found = np.zeros(len(STRENGTHS)), []
    for out in np.unique(inner):
        train, test = rows[inner != out], rows[inner == out]
        gap, judged = model.at(train), model.at(test)
        for i, strength in enumerate(STRENGTHS):
            theta, held = fit(model, gap, first[train], strength)
            total[i] += log_likelihood(judged(theta, held)[0], first[test]).sum()
            found.append(theta)
    return STRENGTHS[int(total.argmax())], found
