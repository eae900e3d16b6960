"""A reward for people who compare regret: what is learned from them is an advantage, and it is paid as one.

Minus the regret of a segment is the sum of its advantages, sum A*(s,a) (Knox et al. 2022, arXiv 2206.02231, eq. 4). So
a network whose sums are fitted to such answers comes to A* and a constant that segments of equal length leave open
(2023, arXiv 2310.02456; `embodied.accident` on tables). Taken for a reward, the constant decides: above 0, it pays to
go round in circles. An advantage is 0 for the best action and below 0 for others, so the greatest among the actions is
taken away, state by state. No values of a reward that still changes are needed, and no agent's critics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied.records import Array
from embodied.rewards.ensemble import RewardEnsemble


class AdvantageEnsemble(RewardEnsemble):
    """Learns as RewardEnsemble does; an agent is given g(s,a) less the greatest g(s,.) among `rivals` [C,A] and a.

    With choices as rivals the greatest is exact. Of numbers it is as good as the rivals cover the box. The other
    arguments are RewardEnsemble's. Raises ValueError for rivals of another size.
    """

    rivals: Tensor

    def __init__(self, obs_size: int, act_size: int, rivals: Array, **kwargs: Any) -> None:
        super().__init__(obs_size, act_size, **kwargs)
        held = torch.as_tensor(rivals, dtype=torch.float32)
        if held.ndim != 2 or not len(held) or held.shape[1] != act_size or not torch.isfinite(held).all():
            raise ValueError(f"rivals are {list(held.shape)}; give finite actions [C,{act_size}], at least one")
        self.register_buffer("rivals", held)
        self.chunk = max(1, self.chunk // len(held))

    def paid(self, obs: Tensor, act: Tensor) -> Tensor:
        """The members' own advantages, at most 0: obs [...,O], act [...,A] -> [E,...]."""
        own: Tensor = self(obs, act)
        here = obs.unsqueeze(-2).expand(*obs.shape[:-1], len(self.rivals), obs.shape[-1])
        others = self(here, self.rivals.expand(*act.shape[:-1], *self.rivals.shape))
        return own - torch.maximum(others.amax(-1), own)

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        return f"advantages against {len(self.rivals)} actions, {super().fingerprint()}"
