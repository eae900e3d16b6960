"""The plain reward model: an ensemble of networks of one step."""

from itertools import pairwise as neighbours

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from embodied.label_models import LabelModel, as_given
from embodied.losses import Loss, PairLoss
from embodied.records import Array
from embodied.rewards.learning import StepReward, deviation, drawn

ANCHORS = 4096  # steps kept to normalise on; more would only make checkpoints larger
CHUNK = 1 << 20


class RewardEnsemble(StepReward):
    """E networks from (observation, action) of one step to its reward, that differ in their first weights.

    Perceptrons as PEBBLE's reward model (arXiv 2106.05091): leaky rectifiers, losses summed over members, Adam. All run
    as one batched product. `bounded` puts a tanh on the reward, as PEBBLE does; few and certain answers ask for larger
    gaps than it allows, and then it ranks unseen segments worse. What an agent is given is normalised on a fixed anchor
    set of steps: each member to mean 0 and deviation 1, then the mean of the members. Anchor set and normaliser are
    part of the state. Raises LossError for a loss that fails `check_loss`, ValueError for impossible sizes.
    """

    obs_mean: Tensor
    obs_std: Tensor

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
        sizes = (obs_size + act_size, *hidden, 1)
        if obs_size < 1 or act_size < 0 or members < 1 or min(sizes) < 1:
            raise ValueError(
                f"sizes obs {obs_size}, act {act_size}, members {members}, hidden {hidden}; give at least 1 of each"
            )
        super().__init__(members, loss, label_model, steps, batch, rate, CHUNK)
        self.sizes, self.obs_size, self.bounded = sizes, obs_size, bounded
        draw = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterList(drawn(draw, members, a, b, fan_in=a) for a, b in neighbours(sizes))
        self.biases = nn.ParameterList(drawn(draw, members, 1, b, fan_in=a) for a, b in neighbours(sizes))
        self.register_buffer("obs_mean", torch.zeros(sizes[0]))
        self.register_buffer("obs_std", torch.ones(sizes[0]))

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
        x = ((step - self.obs_mean) / self.obs_std).reshape(1, -1, self.sizes[0]).expand(self.members, -1, -1)
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
        self.anchors = step[:, : self.obs_size], step[:, self.obs_size :]
        self.obs_mean.copy_(step.mean(0))
        self.obs_std.copy_(deviation(step, 0))
        self.normalise()

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        sizes = "-".join(map(str, self.sizes))
        return f"RewardEnsemble of {self.members} x {sizes}, {'tanh' if self.bounded else 'linear'}"
