"""Feature traces: a person leads the way along which one feature falls, so that the feature itself is learned.

After Bobu et al. (2021, arXiv 2006.13208), who compare all states of a trace in pairs. Here a trace is a walk, and each
of its steps a choice: the successor of least feature, with probability proportional to e^-feature.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from embodied.evidence.acting import Demonstrations, follow
from embodied.planning import Tables
from embodied.records import Array


def traced(world: Tables, data: Demonstrations, feature: Tensor) -> Tensor:
    """-log P of the walks under a feature [S] of states, up to a constant of which nothing can be said, [B]."""
    each = _steps(world, feature)[data.state, data.action]
    return -torch.where(torch.from_numpy(world.terminal)[data.state], 0.0, each).sum(-1)


def trace(world: Tables, feature: Tensor, start: Array, length: int, rng: np.random.Generator) -> Demonstrations:
    """A simulated person who leads so, from each of the states `start` [B]; a trace ends where an episode does."""
    policy = _steps(world, feature).exp().numpy()
    return follow(world, np.broadcast_to(policy, (length, *policy.shape)), start, rng)


def _steps(world: Tables, feature: Tensor) -> Tensor:
    """log P(a|s), [S,A]."""
    prob = torch.from_numpy(np.asarray(world.prob, np.float64))
    return log_softmax(-(prob * feature[torch.from_numpy(world.next)]).sum(-1), -1)
