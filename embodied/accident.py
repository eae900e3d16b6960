"""What the partial-return loss learns when people answer by regret: the advantage, by accident.

Knox et al. (2023, arXiv 2310.02456). A score g(s,a) of its own for every state and action, summed over a segment, is
fitted to comparisons. If these follow regret, the optimum is g = A* up to one constant, which equal lengths leave free.
Greedy on g is then right. Taken for a reward, the constant decides: above 0, to go round in circles for ever pays.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from embodied.planning import Tables, endless, optimal
from embodied.records import Array
from embodied.walks import STATE


class StepScores(nn.Module):
    """g [S,A], 0 at first: `Return(StepScores(S, A))` is the scorer."""

    def __init__(self, states: int, actions: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(states, actions))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        """obs [...,2+D], act [...,1] -> [...]."""
        return self.scores[obs[..., STATE].long(), act[..., 0].long()]

    def table(self) -> Array:
        """g as numpy, [S,A]."""
        found: Array = self.scores.detach().double().numpy()
        return found


def as_reward(world: Tables, scores: Array, ends: bool = True) -> Array:
    """The best policy [S,A] when g [S,A] is taken for a reward. ends: nothing is earned in terminal states; else what
    g says there is earned for ever."""
    return optimal(world if ends else endless(world), scores).policy()


def shifted(world: Tables, scores: Array) -> Array:
    """g less the mean over states of max_a g, as an advantage has to be: the cure. States are those to start from."""
    return np.asarray(scores - scores[world.starts].max(-1).mean())
