"""Bandits with contexts and a chain of two steps, with every sample that can be drawn: expectations without chance."""

from collections.abc import Callable

import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.fit import Objective
from embodied.online import Judge
from policies.table import SoftmaxTable

REWARD = torch.tensor([[0.0, 0.5, -0.7, 1.2], [2.0, 1.0, 1.5, 1.4]], dtype=torch.float64)  # [S,A]
LAW = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.25, 0.25, 0.2, 0.3]], dtype=torch.float64)


def policy(seed: int = 0) -> SoftmaxTable:
    return SoftmaxTable(torch.randn(2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def reference() -> SoftmaxTable:
    return SoftmaxTable(LAW.log())


def reward(segments: Segments) -> Tensor:
    """The reward of an arm in its context, [B,K]."""
    assert isinstance(segments.obs, Tensor)
    return REWARD[segments.obs[:, :, 0, 0].long(), segments.act[:, :, 0, 0].long()]


def feedback(segments: Segments, target: Tensor, weight: Tensor) -> Feedback:
    rows = len(weight)
    return Feedback(segments, target, weight, torch.zeros(rows).long(), torch.ones(rows).bool(), "reward")


def every(table: SoftmaxTable, k: int, judge: Judge = reward) -> Feedback:
    """All groups of k, weighed by their chance."""
    segments, chance = table.every(k)
    return feedback(segments, judge(segments), chance)


def gradient(objective: Objective, data: Feedback, table: SoftmaxTable) -> Tensor:
    """Of the expected loss, [S,A]."""
    loss = (data.weight * objective(data)).sum() / data.weight.sum()
    (found,) = torch.autograd.grad(loss, table.logits)
    return found


def slope(value: Callable[[Tensor], Tensor], table: SoftmaxTable) -> Tensor:
    """The gradient of a closed form in the log-probabilities [S,A]."""
    (found,) = torch.autograd.grad(value(table.logits.log_softmax(-1)), table.logits)
    return found


def near(found: Tensor, wanted: Tensor, atol: float = 1e-12) -> bool:
    """As allclose, with no relative tolerance on top."""
    return found.shape == wanted.shape and bool((found - wanted).abs().max() <= atol)


# --- two steps: state 0, then state 1 or 2 by what was done


def chain(table: SoftmaxTable, k: int) -> tuple[Segments, Tensor]:
    """Every group of k of the four walks through the chain, and its chance."""
    walks = torch.cartesian_prod(torch.arange(2), torch.arange(2))  # [4,2]
    act = walks[torch.cartesian_prod(*[torch.arange(4)] * k).reshape(-1, k)]  # [4^k,k,2]
    obs = torch.stack([torch.zeros_like(act[..., 0]), 1 + act[..., 0]], -1)
    logp = table.logits.detach().log_softmax(-1)[obs, act]
    segments = Segments(obs[..., None].double(), act[..., None].double(), torch.ones_like(act).bool(), logp)
    return segments, logp.sum((1, 2)).exp()


def walk_law(logp: Tensor) -> Tensor:
    """The log-probabilities [2,2] of the walks by their two actions, from those of the table [3,2]."""
    return logp[0][:, None] + logp[1:]
