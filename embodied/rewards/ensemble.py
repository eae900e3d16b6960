"""Reward models that are neural networks."""

import math
from collections.abc import Mapping
from itertools import pairwise as neighbours
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from embodied.feedback import Feedback, Segments
from embodied.fit import fit, ranking
from embodied.label_models import LabelModel, as_given
from embodied.losses import Loss, PairLoss, as_loss, check_loss, logistic
from embodied.records import Array
from embodied.scores import Return

ANCHORS = 4096  # steps kept to normalise on; more would only make checkpoints larger


class RewardEnsemble(nn.Module):
    """E networks from (observation, action) of one step to its reward, that differ in their first weights.

    Perceptrons as PEBBLE's reward model (arXiv 2106.05091): leaky rectifiers, losses summed over members, Adam. All run
    as one batched product. `bounded` puts a tanh on the reward, as PEBBLE does; few and certain answers ask for larger
    gaps than it allows, and then it ranks unseen segments worse. What an agent is given is normalised on a fixed anchor
    set of steps: each member to mean 0 and deviation 1, then the mean of the members. Anchor set and normaliser are
    part of the state. Raises LossError for a loss that fails `check_loss`, ValueError for impossible sizes.
    """

    obs_mean: Tensor
    obs_std: Tensor
    reward_mean: Tensor
    reward_std: Tensor

    def __init__(
        self,
        obs_size: int,
        act_size: int,
        *,
        members: int = 3,
        hidden: tuple[int, ...] = (64, 64),
        bounded: bool = False,
        seed: int = 0,
        loss: Loss | PairLoss | None = None,
        label_model: LabelModel = as_given,
        steps: int = 80,
        batch: int = 64,
        rate: float = 1e-3,
    ) -> None:
        super().__init__()
        sizes = (obs_size + act_size, *hidden, 1)
        if obs_size < 1 or act_size < 0 or members < 1 or min(sizes) < 1:
            raise ValueError(
                f"sizes obs {obs_size}, act {act_size}, members {members}, hidden {hidden}; give at least 1 of each"
            )
        self.sizes, self.obs_size, self.members, self.bounded = sizes, obs_size, members, bounded
        self.loss = as_loss(logistic if loss is None else loss)
        check_loss(self.loss)
        self.label_model, self.steps, self.batch, self.rate = label_model, steps, batch, rate
        draw = torch.Generator().manual_seed(seed)

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(shape, generator=draw) - 1) / math.sqrt(fan_in))

        self.weights = nn.ParameterList(uniform(members, a, b, fan_in=a) for a, b in neighbours(sizes))
        self.biases = nn.ParameterList(uniform(members, 1, b, fan_in=a) for a, b in neighbours(sizes))
        self.register_buffer("obs_mean", torch.zeros(sizes[0]))
        self.register_buffer("obs_std", torch.ones(sizes[0]))
        self.register_buffer("reward_mean", torch.zeros(members))
        self.register_buffer("reward_std", torch.ones(members))
        self.anchors: Tensor | None = None

    def forward(self, obs: Tensor | dict[str, Tensor], act: Tensor) -> Tensor:
        """The members' own rewards, not normalised: obs [...,O], act [...,A] -> [E,...]."""
        if isinstance(obs, dict):
            raise ValueError(
                f"observations are a dict of {', '.join(obs)}; encode them to one tensor [...,{self.obs_size}]"
            )
        step = torch.cat([obs, act], -1)
        if obs.shape[-1] != self.obs_size or step.shape[-1] != self.sizes[0]:
            raise ValueError(
                f"observation and action have sizes {obs.shape[-1]} and {act.shape[-1]}, this reward was made for "
                f"{self.obs_size} and {self.sizes[0] - self.obs_size}; take one environment at a time"
            )
        return self._members((step - self.obs_mean) / self.obs_std)

    def _members(self, step: Tensor) -> Tensor:
        x = step.reshape(1, -1, self.sizes[0]).expand(self.members, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, leaky_relu(x) if layer else x, weight)
        x = torch.tanh(x) if self.bounded else x
        return x.reshape(self.members, *step.shape[:-1])

    @torch.no_grad()
    def anchor(self, obs: Array, act: Array) -> None:
        """Fix the steps obs [N,O], act [N,A] to normalise on; do it once, before the first fit."""
        step = torch.cat([torch.as_tensor(x, dtype=torch.float32) for x in (obs, act)], -1)
        if step.ndim != 2 or step.shape[-1] != self.sizes[0] or len(step) < 2:
            raise ValueError(
                f"the anchor set has shape {list(step.shape)}, not [N,{self.sizes[0]}]; give at least 2 steps"
            )
        if not torch.isfinite(step).all():
            raise ValueError("the anchor set holds NaN or infinity; drop those steps")
        step = step[torch.linspace(0, len(step) - 1, min(len(step), ANCHORS)).round().long()]
        self.anchors = step
        self.obs_mean.copy_(step.mean(0))
        self.obs_std.copy_(_spread(step, 0))
        self._normalise()

    @torch.no_grad()
    def _normalise(self) -> None:
        assert self.anchors is not None
        reward = self._members((self.anchors.to(self.obs_mean.device) - self.obs_mean) / self.obs_std)
        self.reward_mean.copy_(reward.mean(1))
        self.reward_std.copy_(_spread(reward, 1))

    @torch.no_grad()
    def utilities(self, segments: Segments) -> Tensor:
        """What each member thinks of each segment, [E,B,K]: the sum of its own rewards, in nats of preference."""
        utilities: Tensor = Return(self)(segments)
        return utilities

    @torch.no_grad()
    def reward(self, obs: Array, act: Array) -> Array:
        """The reward that an agent is trained with, obs [B,O], act [B,A] -> [B]: mean of the normalised members."""
        tensors = [torch.as_tensor(x, dtype=torch.float32, device=self.obs_mean.device) for x in (obs, act)]
        for name, tensor in zip(("observation", "action"), tensors, strict=True):
            if not torch.isfinite(tensor).all():
                row = torch.nonzero(~torch.isfinite(tensor))[0].tolist()
                raise ValueError(f"{name} {row} is not finite; mend the environment, a reward for it would be a guess")
        members = self(*tensors).movedim(0, -1)
        normalised: Array = ((members - self.reward_mean) / self.reward_std).mean(-1).cpu().numpy()
        return normalised

    def fit(self, feedback: Feedback, rng: np.random.Generator) -> dict[str, float]:
        """Train on from the present weights with a fresh Adam, then normalise; reports loss and agreement, ties apart.

        The optimiser is not carried, so weights, normaliser and `rng` are the whole state. Without an anchor set, the
        steps of this feedback become it.
        """
        segments = feedback.segments
        if self.anchors is None and isinstance(segments.obs, Tensor):
            self.anchor(segments.obs[segments.mask].cpu().numpy(), segments.act[segments.mask].cpu().numpy())
        opt = torch.optim.Adam(self.parameters(), lr=self.rate)
        objective = ranking(Return(self), self.loss, self.label_model)
        report = fit(objective, feedback, opt, steps=self.steps, batch=self.batch, rng=rng)
        self._normalise()
        said = torch.diff(feedback.target).squeeze(-1)
        thought = torch.diff(self.utilities(segments).mean(0)).squeeze(-1)
        decided = said != 0
        return {
            "loss": report.losses[-1] if report.losses else math.nan,
            "agreement": float((said * thought > 0)[decided].float().mean()) if decided.any() else math.nan,
        }

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        sizes = "-".join(map(str, self.sizes))
        return f"RewardEnsemble of {self.members} x {sizes}, {'tanh' if self.bounded else 'linear'}"

    def get_extra_state(self) -> dict[str, Tensor | None]:
        return {"anchors": self.anchors}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.anchors = None if state["anchors"] is None else state["anchors"].clone()


def _spread(x: Tensor, dim: int) -> Tensor:
    std = x.std(dim, correction=0)
    return torch.where(std > 1e-6, std, 1.0)  # what never varies stays as it is
