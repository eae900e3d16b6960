"""Clips of any recorded episodes as the models of preference see them.

A reward is linear in what is seen and done, their squares, and one for each step. Its values are fitted to the recorded
episodes; of a clip, all but the last step are earned, and the last one shows where they led.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embodied.episodes import Episode
from embodied.feedback import Segments
from embodied.preference_models import Model, Pairs, Stage, candidates, gaussian_policy, linear_values, units
from embodied.recorded_values import Recorded, better, recorded
from embodied.records import Array
from policies.gaussian import vectors
from policies.iql import transitions
from rapport.console import say

GAMMAS = (0.99, 0.95, 0.9)  # of the values: the first with which they hold
STAGES = 3  # rewards given values and values given rewards, in turn
MOST_STEPS = 50_000  # from which values are fitted
MOST_CROSSED = 10  # numbers of an observation of which all products are features of a state
SIGN: Array = np.array([1.0, -1.0])


class Scale:
    """Observations and actions in units of their own spread over the episodes, constants left out."""

    def __init__(self, obs: Array, act: Array) -> None:
        self.obs, self.act = ((x.mean(0), x.std(0), x.std(0) > 1e-6) for x in (obs, act))

    def __call__(self, obs: Array, act: Array) -> tuple[Array, Array]:
        (a, b), keep = (self.obs[:2], self.act[:2]), (self.obs[2], self.act[2])
        return ((obs - a[0])[..., keep[0]] / a[1][keep[0]], (act - b[0])[..., keep[1]] / b[1][keep[1]])


def models(episodes: Sequence[Episode], segments: Segments) -> tuple[Model, ...]:
    """The candidates for pairs of clips. Raises ValueError for observations that are no vectors, and for values that
    diverge."""
    steps = transitions(episodes, lambda obs, act: np.zeros(len(obs)))
    few = np.random.default_rng(0).permutation(len(steps))[:MOST_STEPS]
    before, done, after, over = (x.double().numpy()[few] for x in (steps.obs, steps.act, steps.next_obs, steps.over))
    scale = Scale(before, done)
    obs, act = scale(before, done)
    known = Recorded(paid(obs, act), seen(obs), seen(scale(after, done)[0]), over)
    gamma, first = _first(known)
    shown = scale(vectors(segments).double().numpy(), segments.act.double().numpy())
    mask = segments.mask.numpy()
    equal = bool((mask.sum(-1) == mask.sum(-1)[:, :1]).all())
    if not equal:
        say("some clips are longer than the one beside them: CPL is left out, since every step counts against a clip")
    return candidates(_pairs(*shown, mask, known, gamma, first), _policy(*shown, mask, obs, act) if equal else None)


def paid(obs: Array, act: Array) -> Array:
    """The features of a step that a reward pays, [...,D]."""
    return np.concatenate([np.ones_like(obs[..., :1]), obs, act, obs**2, act**2], -1)


def seen(obs: Array) -> Array:
    """The features of a state that values are linear in, [...,G]."""
    size = obs.shape[-1]
    i, j = np.triu_indices(size) if size <= MOST_CROSSED else (np.arange(size), np.arange(size))
    return np.concatenate([np.ones_like(obs[..., :1]), obs, obs[..., i] * obs[..., j]], -1)


def _first(known: Recorded) -> tuple[float, Array]:
    """The discount, and the values of what was recorded."""
    for gamma in GAMMAS[:-1]:
        try:
            return gamma, recorded(known, gamma)
        except ValueError:
            say(f"discounted by {gamma}, the values of the recorded episodes diverge; a smaller number is tried")
    return GAMMAS[-1], recorded(known, GAMMAS[-1])


def _pairs(obs: Array, act: Array, mask: Array, known: Recorded, gamma: float, first: Array) -> Pairs:
    each = paid(obs, act) * mask[..., None]  # [B,2,T,D]
    last = mask.sum(-1) - 1
    time = np.arange(mask.shape[-1])
    earned = (time < last[..., None]) * gamma**time
    found = SIGN @ each.sum(2)
    got = SIGN @ np.einsum("bktd,bkt->bkd", each, earned)
    end = np.take_along_axis(obs, last[..., None, None], 2)[:, :, 0]
    change = SIGN @ (gamma ** last[..., None] * seen(end) - seen(obs[:, :, 0]))
    unit = units(found)
    known = replace(known, features=known.features / unit)
    return Pairs(found / unit, (got - found) / unit, linear_values(change, _stages(known, gamma, first / unit)))


def _stages(known: Recorded, gamma: float, first: Array) -> tuple[Stage, ...]:
    def anew(theta: Array) -> Array:
        return better(known, gamma, theta[: known.features.shape[1]], first).ravel()

    return lambda theta: first.ravel(), *(anew for _ in range(STAGES - 1))


def _policy(obs: Array, act: Array, mask: Array, all_obs: Array, all_act: Array) -> Model:
    def with_one(x: Array) -> Array:
        return np.concatenate([np.ones_like(x[..., :1]), x], -1)

    g, done = with_one(obs) * mask[..., None], act * mask[..., None]
    before = with_one(all_obs)
    habit = np.linalg.solve(before.T @ before + np.eye(before.shape[1]), before.T @ all_act).T
    missed = ((done - g @ habit.T) ** 2).sum((2, 3)) @ SIGN
    unit = max(float(missed.std()), 1e-9)
    taken = np.einsum("k,bkta->ba", SIGN, done**2) / unit
    crossed = np.einsum("k,bkta,bktg->bag", SIGN, done, g, optimize=True) / unit
    twice = np.einsum("k,bktg,bkth->bgh", SIGN, g, g, optimize=True) / unit
    return gaussian_policy(taken, crossed, twice, habit)
