"""Regret without planning: a reward that is an advantage, so that its sum over a segment is minus the regret.

Regret is -sum A*(s,a), and A* is 0 for the best action and below 0 for others (Knox et al. 2022, arXiv 2206.02231, eq.
4). The other way round, any function with max_a A(s,a) = 0 everywhere is the optimal advantage of some reward: of
itself, under which nothing better than 0 can be had from anywhere. So a network is fitted to be one, and no values of a
reward that still changes are needed, nor an agent's critics. The constant is settled that sums of equally long segments
leave open (2023, arXiv 2310.02456; `embodied.accident` on tables): taken for a reward, it pays no one to go in circles.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from embodied.records import Array
from embodied.rewards.ensemble import RewardEnsemble

RIVALS = 8
"""Actions that an advantage is held against, where there are too many for all; each costs as much as a reward."""


class AdvantageEnsemble(RewardEnsemble):
    """E networks g of one step; its own reward is g(s,a) less the greatest g(s,.) among `rivals` [C,A] and a itself.

    With choices as rivals the greatest is exact. Of numbers it is as good as the rivals cover the box: what no rival
    reaches and nobody did is not known to be better. It is fitted with a soft maximum, `temperature` nats wide, without
    which the runners-up learn nothing and some fits go astray. Undiscounted. The other arguments are
    RewardEnsemble's. Raises ValueError for rivals of another size, and a temperature of 0 or below.
    """

    rivals: Tensor

    def __init__(self, obs_size: int, act_size: int, rivals: Array, *, temperature: float = 0.1, **kwargs: Any) -> None:
        super().__init__(obs_size, act_size, **kwargs)
        held = torch.as_tensor(rivals, dtype=torch.float32)
        if held.ndim != 2 or not len(held) or held.shape[1] != act_size or not torch.isfinite(held).all():
            raise ValueError(f"rivals are {list(held.shape)}; give finite actions [C,{act_size}], at least one")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; give it above 0, in nats of preference")
        self.register_buffer("rivals", held)
        self.temperature = temperature
        self.chunk = max(1, self.chunk // len(held))

    def forward(self, obs: Tensor | dict[str, Tensor], act: Tensor) -> Tensor:
        """The members' own soft advantages, 0 where all actions are alike: obs [...,O], act [...,A] -> [E,...]."""
        own, every = self._scores(obs, act)
        best = self.temperature * (torch.logsumexp(every / self.temperature, -1) - math.log(every.shape[-1]))
        return own - best

    def paid(self, obs: Tensor, act: Tensor) -> Tensor:
        """The members' own advantages, at most 0: obs [...,O], act [...,A] -> [E,...]."""
        own, every = self._scores(obs, act)
        return own - every.amax(-1)

    def normalise(self) -> None:
        """Deviation 1 of each member on the anchors. Its 0 stays, which is the best action's: a mean taken away from an
        advantage would make it pay to go in circles."""
        super().normalise()
        self.reward_mean.zero_()

    def _scores(self, obs: Tensor | dict[str, Tensor], act: Tensor) -> tuple[Tensor, Tensor]:
        """g of the action [E,...], and of every action that it is held against and itself [E,...,C+1]."""
        own = super().forward(obs, act)
        assert isinstance(obs, Tensor)
        here = obs.unsqueeze(-2).expand(*obs.shape[:-1], len(self.rivals), obs.shape[-1])
        others = super().forward(here, self.rivals.expand(*act.shape[:-1], *self.rivals.shape))
        return own, torch.cat([others, own.unsqueeze(-1)], -1)

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        return f"advantages against {len(self.rivals)} actions, {super().fingerprint()}"
