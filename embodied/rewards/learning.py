"""What the reward networks have in common: how they are refitted, and how an agent is given their rewards."""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from embodied.feedback import Feedback, Segments
from embodied.fit import Objective, fit, ranking
from embodied.label_models import LabelModel
from embodied.losses import Loss
from embodied.records import Array
from embodied.scores import Scorer


class Network(Protocol):
    """A reward model of E members that gradients train; each has its own loss, they are summed."""

    loss: Loss
    label_model: LabelModel
    steps: int
    batch: int
    rate: float

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def score(self, segments: Segments) -> Tensor:
        """The members' utilities of segments, [E,B,K], differentiable."""
        ...

    def utilities(self, segments: Segments) -> Tensor:
        """The same without gradients, in nats of preference."""
        ...

    def prepare(self, segments: Segments) -> None:
        """Before the first fit: fix what to normalise on."""
        ...

    def normalise(self) -> None:
        """After a fit: rewards get mean 0 and deviation 1 on what was fixed."""
        ...

    def fit(self, feedback: Feedback, rng: np.random.Generator) -> dict[str, float]: ...

    def fingerprint(self) -> str: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class StepNetwork(Network, Protocol):
    """One whose reward depends on the present step alone."""

    reward_mean: Tensor
    reward_std: Tensor

    def __call__(self, obs: Tensor, act: Tensor) -> Tensor:
        """The members' own rewards of steps, not normalised, [E,...]."""
        ...

    def anchor(self, obs: Array, act: Array) -> None:
        """Fix the steps to normalise on; once, before the first fit."""
        ...

    def reward(self, obs: Array, act: Array) -> Array:
        """What an agent is trained with, [B]: mean of the normalised members."""
        ...

    def spread(self, obs: Array, act: Array) -> Array:
        """Deviation over the normalised members, [B]."""
        ...


def refit(
    model: Network, feedback: Feedback, rng: np.random.Generator, objective: Objective | None = None
) -> dict[str, float]:
    """Train on from the present weights with a fresh Adam, then normalise; reports loss and agreement, ties apart.

    The optimiser is not carried, so weights, normaliser and `rng` are the whole state. Without an objective, the
    model's loss between its scores and the answers.
    """
    model.prepare(feedback.segments)
    opt = torch.optim.Adam(model.parameters(), lr=model.rate)
    objective = objective or ranking(model.score, model.loss, model.label_model)
    report = fit(objective, feedback, opt, steps=model.steps, batch=model.batch, rng=rng)
    model.normalise()
    said = torch.diff(feedback.target).squeeze(-1)
    thought = torch.diff(model.utilities(feedback.segments).mean(0)).squeeze(-1)
    decided = said != 0
    return {
        "loss": report.losses[-1] if report.losses else math.nan,
        "agreement": float((said * thought > 0)[decided].float().mean()) if decided.any() else math.nan,
    }


@torch.no_grad()
def normalised(model: StepNetwork, obs: Array, act: Array, chunk: int = 1 << 20) -> Tensor:
    """Each member's normalised reward of each step: obs [B,*O], act [B,A] -> [B,E]; `chunk` steps at a time.

    Raises ValueError for numbers that are not finite.
    """
    tensors = [finite(name, x, model.reward_mean.device) for name, x in (("observation", obs), ("action", act))]
    parts = [model(*part) for part in zip(*(torch.split(x, chunk) for x in tensors), strict=True)]
    return (torch.cat(parts, 1).movedim(0, -1) - model.reward_mean) / model.reward_std


def in_parts(score: Scorer, segments: Segments, steps: int) -> Tensor:
    """The score of all rows, [E,B,K], by so many rows at a time that they have about this many steps."""
    rows = max(1, steps // math.prod(segments.mask.shape[1:]))
    return torch.cat([score(segments[n : n + rows]) for n in range(0, max(len(segments), 1), rows)], 1)


def finite(name: str, x: Array, device: torch.device) -> Tensor:
    """As a tensor: bytes stay bytes, all else float32. Raises ValueError that names the row."""
    tensor = torch.as_tensor(x, device=device)
    if tensor.dtype == torch.uint8:
        return tensor
    tensor = tensor.float()
    if not torch.isfinite(tensor).all():
        row = torch.nonzero(~torch.isfinite(tensor))[0].tolist()
        raise ValueError(f"{name} {row} is not finite; mend the environment, a reward for it would be a guess")
    return tensor


def deviation(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """What never varies stays as it is: 1."""
    std = x.std(dim, correction=0)
    return torch.where(std > 1e-6, std, 1.0)


def drawn(draw: torch.Generator, *shape: int, fan_in: int) -> nn.Parameter:
    """First weights, uniform within 1/sqrt(fan_in)."""
    return nn.Parameter((2 * torch.rand(shape, generator=draw) - 1) / math.sqrt(fan_in))


class Linears(nn.Module):
    """One linear map per member, as one batched product: x [E,N,A] -> [E,N,B]."""

    def __init__(self, draw: torch.Generator, members: int, size: int, out: int) -> None:
        super().__init__()
        self.weight = drawn(draw, members, size, out, fan_in=size)
        self.bias = drawn(draw, members, 1, out, fan_in=size)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)
