"""Learning a policy straight from answers: contrastive preference learning (arXiv 2310.13639) in the loop of a run.

There is no reward and no reinforcement learning. The agent rolls its policy out, people compare stretches of it, and
the policy is fitted to all that they said.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from torch import Tensor

from embodied.direct import direct
from embodied.feedback import Feedback, Segments
from embodied.fit import fit
from embodied.methods import cpl
from policies.sb3 import Sb3Policy
from rapport.train.spaces import World

ALPHA, RATE, STEPS, BATCH = 0.1, 3e-4, 100, 64


class RollsOut(PPO):
    """Acts, and leaves the learning to others."""

    def train(self) -> None:
        pass


class Contrast:
    """What the loop refits: the agent's policy itself, whose state is the agent's. Its noise stays as it is, since a
    density without a floor of noise has no upper bound. rate: of its learning; 0: RATE."""

    def __init__(self, policy: Sb3Policy, world: World, rate: float = 0.0) -> None:
        if not isinstance(world.actions, spaces.Box | spaces.Discrete):
            raise ValueError(
                f"the actions of {world.name} are {world.actions}, and cpl learns numbers or one choice; take another "
                "preference"
            )
        self.rate = rate or RATE
        self.policy, self.density = policy, isinstance(world.actions, spaces.Box)
        self.method = replace(cpl(ALPHA), likelihood=1.0)  # without it the policy leaves what it was seen to do

    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T] of actions as rewards see them: choices are ones and zeros."""
        if self.density:
            return self.policy.log_prob(segments)
        assert isinstance(segments.obs, Tensor)
        logits: Tensor = self.policy.module.get_distribution(segments.obs.flatten(0, 2)).distribution.logits
        return (logits.view(segments.act.shape) * segments.act).sum(-1)

    def fit(self, feedback: Feedback, rng: np.random.Generator) -> dict[str, float]:
        """From the present weights on, with a fresh Adam; the share of decided answers that the policy agrees with."""
        opt = torch.optim.Adam(list(self.policy.mean_parameters()), lr=self.rate)
        report = fit(direct(self, self.method), feedback, opt, steps=STEPS, batch=BATCH, rng=rng)
        said = torch.diff(feedback.target).squeeze(-1)
        thought = torch.diff(self.utilities(feedback.segments)[0]).squeeze(-1)
        decided = (said * thought > 0)[said != 0]
        agreement = float(decided.float().mean()) if len(decided) else math.nan
        return {"loss": report.losses[-1], "agreement": agreement}

    @torch.no_grad()
    def utilities(self, segments: Segments) -> Tensor:
        """The log-probability of each segment times alpha, [1,B,K]: in nats of preference."""
        return ALPHA * direct(self, self.method).score(segments).unsqueeze(0)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def fingerprint(self) -> str:
        return "contrastive preference learning"
