"""What the reward networks have in common: how they are refitted, and how an agent is given their rewards."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embodied.feedback import Feedback, Segments
from embodied.fit import Objective, fit_all, ranking
from embodied.label_models import EM, LabelModel
from embodied.likelihoods import Likelihoods
from embodied.losses import Loss, PairLoss, as_loss, check_loss, logistic
from embodied.records import Array
from embodied.scores import Return, Scorer

FAST = 0.03  # the rate of thresholds and rationalities: a handful of numbers that have farther to go than weights


class RewardNetwork(nn.Module):
    """What every reward network is: E members with a loss each, and the anchors that its rewards are normalised on.

    A network adds what raises NotImplementedError here. Raises LossError for a loss that fails
    `check_loss`.
    """

    loss: Loss
    label_model: LabelModel
    reward_mean: Tensor
    reward_std: Tensor

    def __init__(
        self,
        members: int,
        loss: Loss | PairLoss | None,
        label_model: LabelModel,
        steps: int,
        batch: int,
        rate: float,
        chunk: int,
    ) -> None:
        """chunk: steps judged at a time without gradients, to bound memory."""
        super().__init__()
        self.members, self.label_model = members, label_model
        self.loss = as_loss(logistic if loss is None else loss)
        check_loss(self.loss)
        self.steps, self.batch, self.rate, self.chunk = steps, batch, rate, chunk
        self.likelihoods = Likelihoods(members)
        self.register_buffer("reward_mean", torch.zeros(members))
        self.register_buffer("reward_std", torch.ones(members))
        self.anchors: tuple[Tensor, ...] | None = None

    def score(self, segments: Segments) -> Tensor:
        """What each member thinks of each segment, [E,B,K], in nats of preference; differentiable."""
        raise NotImplementedError

    def prepare(self, segments: Segments) -> None:
        """Take these segments for the anchors, unless there are any."""
        raise NotImplementedError

    def anchored(self, anchors: Sequence[Tensor]) -> Tensor:
        """The members' own rewards of the anchors, [E,N]."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        raise NotImplementedError

    @torch.no_grad()
    def utilities(self, segments: Segments) -> Tensor:
        """`score` without gradients."""
        return in_parts(self.score, segments, self.chunk)

    @torch.no_grad()
    def normalise(self) -> None:
        """Mean 0 and deviation 1 of each member on the anchors, whatever its weights have become."""
        assert self.anchors is not None
        reward = self.anchored([x.to(self.reward_mean.device) for x in self.anchors])
        self.reward_mean.copy_(reward.mean(1))
        self.reward_std.copy_(deviation(reward, 1))

    def fit(self, feedback: Feedback | Sequence[Feedback], rng: np.random.Generator) -> dict[str, float]:
        """Learn from all feedback, of one kind or several (`refit`). Without anchors, the segments of the first become
        them."""
        return refit(self, feedback, rng)

    def get_extra_state(self) -> dict[str, list[Tensor] | None]:
        return {"anchors": None if self.anchors is None else list(self.anchors)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        anchors = state["anchors"]
        self.anchors = None if anchors is None else tuple(x.clone() for x in anchors)


class StepReward(RewardNetwork):
    """A reward network whose reward depends on the present step alone: `forward(obs, act)` is the members' own.

    A segment is worth the sum of its rewards. What an agent is given is the mean of the normalised members.
    """

    def anchor(self, obs: Array, act: Array) -> None:
        """Fix the steps obs [N,*O], act [N,A] to normalise on; once, before the first fit."""
        raise NotImplementedError

    def prepare(self, segments: Segments) -> None:
        if self.anchors is None and isinstance(segments.obs, Tensor):
            self.anchor(segments.obs[segments.mask].cpu().numpy(), segments.act[segments.mask].cpu().numpy())

    def paid(self, obs: Tensor, act: Tensor) -> Tensor:
        """What of it an agent is given, before it is normalised: obs [...,*O], act [...,A] -> [E,...]."""
        reward: Tensor = self(obs, act)
        return reward

    def anchored(self, anchors: Sequence[Tensor]) -> Tensor:
        return self.paid(*anchors)

    def score(self, segments: Segments) -> Tensor:
        """What each member thinks of each segment, [E,B,K]: the sum of its own rewards, in nats of preference."""
        score: Tensor = Return(self)(segments)
        return score

    def reward(self, obs: Array, act: Array) -> Array:
        """What an agent is trained with, obs [B,*O], act [B,A] -> [B]: mean of the normalised members.

        Raises ValueError for numbers that are not finite.
        """
        mean: Array = self._normalised(obs, act).mean(0).cpu().numpy()
        return mean

    def spread(self, obs: Array, act: Array) -> Array:
        """How far the members are apart about each step, [B]: deviation over members of their normalised rewards.

        RUNE (arXiv 2205.12401) adds beta_t times it to the reward; beta_t = .05 (1 - 1e-5)^t is the agent's. One member
        alone is never apart.
        """
        spread: Array = self._normalised(obs, act).std(0, correction=0).cpu().numpy()
        return spread

    @torch.no_grad()
    def _normalised(self, obs: Array, act: Array) -> Tensor:
        """[E,B]."""
        tensors = [finite(name, x, self.reward_mean.device) for name, x in (("observation", obs), ("action", act))]
        parts = [self.paid(*part) for part in zip(*(torch.split(x, self.chunk) for x in tensors), strict=True)]
        return (torch.cat(parts, 1) - self.reward_mean[:, None]) / self.reward_std[:, None]


def refit(
    model: RewardNetwork,
    feedback: Feedback | Sequence[Feedback],
    rng: np.random.Generator,
    pairs: Objective | None = None,
) -> dict[str, float]:
    """Train on from the present weights with a fresh Adam, then normalise; reports loss and agreement, ties apart.

    The optimiser is not carried, so weights, normaliser, likelihoods, the reliabilities of an `EM` label model and
    `rng` are the whole state. Comparisons are held against the scores by `pairs`, by default the model's loss and label
    model; other kinds of feedback by `likelihoods`, in units of the comparisons, or else of the first kind.
    """
    parts = [feedback] if isinstance(feedback, Feedback) else list(feedback)
    model.prepare(parts[0].segments)
    few = list(model.likelihoods.parameters())
    many = [parameter for parameter in model.parameters() if all(parameter is not one for one in few)]
    groups: list[dict[str, Any]] = [{"params": many}, {"params": few, "lr": FAST}]
    opt = torch.optim.Adam(groups, lr=model.rate)
    compare = pairs or ranking(model.score, model.loss, model.label_model)
    objectives = [
        compare
        if part.kind == "compare"
        else ranking(model.score, model.likelihoods.loss(part.kind, part.kind == parts[0].kind))
        for part in parts
    ]
    labels, loss = model.label_model, math.nan
    piece = labels.every if isinstance(labels, EM) else max(model.steps, 1)
    for start in range(0, max(model.steps, 1), piece):
        steps = min(piece, model.steps - start)
        report = fit_all(list(zip(objectives, parts, strict=True)), opt, steps=steps, batch=model.batch, rng=rng)
        loss = report.losses[-1] if report.losses else loss
        if isinstance(labels, EM) and parts[0].kind == "compare":
            labels.update(model.loss, model.utilities(parts[0].segments), parts[0])
    model.normalise()
    return {"loss": loss, "agreement": agreement(model, parts)}


def agreement(model: RewardNetwork, parts: Sequence[Feedback]) -> float:
    """The share of decided comparisons, graded ones among them, of which the members' mean thinks as was said."""
    right: list[Tensor] = []
    for part in parts:
        if part.kind in ("compare", "grade") and len(part):
            said = torch.diff(part.target).squeeze(-1)
            thought = torch.diff(model.utilities(part.segments).mean(0)).squeeze(-1)
            right.append((said * thought > 0)[said != 0])
    decided = torch.cat(right) if right else torch.zeros(0)
    return float(decided.float().mean()) if len(decided) else math.nan


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
