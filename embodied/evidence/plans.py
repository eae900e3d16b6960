"""What could have been driven instead: corrections within reach, and demonstrations held against samples.

Plans are sequences of actions from a state, on worlds in which every action has one outcome.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from embodied.evidence.options import Chosen, Options, options
from embodied.planning import Tables
from embodied.records import Array

MAX_PLANS = 4096


def found(world: Tables, start: Array, actions: Array) -> Tensor:
    """What plans find, [B,K,D] float64, undiscounted: start int [B], actions int [B,K,T] or [K,T].

    After the end of an episode nothing is found. Raises ValueError where an action may have more than one outcome.
    """
    if (world.prob.max(-1) < 1).any():
        s, a = np.argwhere(world.prob.max(-1) < 1)[0]
        raise ValueError(f"action {a} of state {s} has several outcomes, so plans have no one path")
    outcome = world.prob.argmax(-1)
    actions = np.broadcast_to(actions, (len(start), *actions.shape[-2:]))
    state = np.broadcast_to(np.asarray(start)[:, None], actions.shape[:2])
    total = np.zeros((*state.shape, world.features.shape[-1]))
    for t in range(actions.shape[-1]):
        action = actions[..., t]
        goes_on, way = ~world.terminal[state], outcome[state, action]
        total += world.features[state, action, way] * goes_on[..., None]
        state = np.where(goes_on, world.next[state, action, way], state)
    return torch.from_numpy(total)


def all_plans(world: Tables, length: int) -> Array:
    """Every sequence of so many actions, int [A^T,T]. Raises ValueError for more than MAX_PLANS."""
    actions = world.next.shape[1]
    if length < 1 or actions**length > MAX_PLANS:
        raise ValueError(f"{actions} actions in {length} steps make {actions**length} plans; at most {MAX_PLANS}")
    return np.stack(np.unravel_index(np.arange(actions**length), [actions] * length), -1)


def corrections(world: Tables, start: Array, original: Array, radius: int, effort: float = 0.0) -> Options:
    """How plans [B,T] could be improved: any that differs from it in at most `radius` actions, itself among them.

    Each changed action costs `effort` nats, so how much was changed tells how much it was worth (as pushes of a robot's
    arm do, Bajcsy et al. 2017). The options are all A^T plans in the order of `all_plans`.
    """
    if radius < 1 or not 0 <= effort < math.inf:
        raise ValueError(f"radius is {radius}, effort {effort}; give at least one action, and an effort of at least 0")
    plans = all_plans(world, original.shape[-1])
    apart = torch.from_numpy((plans != original[:, None]).sum(-1))
    return Options(found(world, start, plans), torch.where(apart <= radius, -effort * apart.double(), -math.inf))


def against(demonstrated: Tensor, samples: Tensor) -> Chosen:
    """Demonstrations that found [B,D], among samples [B,K,D] of how else one might drive from there.

    It is the exact likelihood of which of them is the demonstration, if that was drawn with probability proportional to
    e^u times the samples' own, as `acting.demonstrate` does, and the samples act at random.
    """
    every = torch.cat([demonstrated[:, None], samples], 1)
    return Chosen(options(every), torch.zeros(len(every), dtype=torch.int64))
