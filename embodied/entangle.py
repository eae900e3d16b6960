"""Why chosen and rejected often become likely, or unlikely, together: what a margin loss does depends on the gradients
of both log-probabilities, and these are much alike (Yuan et al., arXiv 2410.13828).

Two cures are published: gradients of one length (`normalised`), and contrast only where the pair differs
(`dense_dpo(unchanged=0)`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embodied.direct import Direct
from embodied.feedback import Feedback
from embodied.fit import Objective

Case = Literal["better up, worse down", "both up", "both down", "better down, worse up"]


@dataclass(frozen=True, eq=False)
class Entanglement:
    """Of each pair, [B]: squared norms of the gradients of its log-probabilities, and their inner product."""

    better: Tensor
    worse: Tensor
    inner: Tensor
    change: Tensor
    """[B,2]: how fast plain descent on this pair alone moves the log-probabilities of the better and the worse, per
    unit of the learning rate. Exact to first order for every method, its likelihood term included."""

    @property
    def cosine(self) -> Tensor:
        """[B]; 1 where both gradients are one direction, and moving one moves the other."""
        return self.inner / (self.better * self.worse).sqrt()

    @property
    def separable(self) -> Tensor:
        """Bool [B]: a step on the margin raises the better and lowers the worse; if not, one follows the other."""
        return self.inner < torch.minimum(self.better, self.worse)

    @property
    def cases(self) -> tuple[Case, ...]:
        """What a step on each pair does."""
        up = [[bool(x > 0) for x in row] for row in self.change]
        names: dict[tuple[bool, bool], Case] = {
            (True, False): "better up, worse down",
            (True, True): "both up",
            (False, False): "both down",
            (False, True): "better down, worse up",
        }
        return tuple(names[better, worse] for better, worse in up)


def entanglement(objective: Direct, parameters: Iterable[nn.Parameter], feedback: Feedback) -> Entanglement:
    """Look at these pairs, one by one: three backward passes each, so give it few, now and then. Nothing is changed.

    Raises ValueError when K is not 2, and for ties, of which neither side is the better.
    """
    parameters, rows = list(parameters), []
    for first, row in zip(_first(feedback), range(len(feedback)), strict=True):
        one = feedback[row]
        logp, pull = _pulls(objective, one)
        mask = one.segments.mask.to(logp.dtype)
        better, worse = (_gradient(logp, _side(mask, k), parameters) for k in (1 - first, first))
        whole = _gradient(logp, pull, parameters)
        rows.append(torch.stack([better @ better, worse @ worse, better @ worse, -better @ whole, -worse @ whole]))
    table = torch.stack(rows)
    return Entanglement(table[:, 0], table[:, 1], table[:, 2], table[:, 3:])


def normalised(objective: Direct, parameters: Iterable[nn.Parameter]) -> Objective:
    """The objective with both sides of each pair pulling equally hard, so that the better rises and the worse falls.

    The gradient of a pair is the sum of what goes through the one log-probability and what through the other; both get
    their mean length. The value is the objective's own. Two more backward passes for each row of a batch.
    """
    parameters = list(parameters)

    def balanced(feedback: Feedback) -> Tensor:
        _first(feedback)
        values = []
        for row in range(len(feedback)):
            one = feedback[row]
            logp, pull = _pulls(objective, one)
            norms = torch.stack([_gradient(logp, _side(pull, k), parameters).norm() for k in (0, 1)])
            scale = torch.where(norms > 0, norms.mean() / norms, 0.0)[:, None]
            moved = (torch.where(pull != 0, logp, 0.0) * pull * scale).sum()
            values.append(moved - moved.detach() + objective.losses(logp.detach(), one)[0])
        return torch.stack(values)

    return balanced


def _pulls(objective: Direct, one: Feedback) -> tuple[Tensor, Tensor]:
    """Log-probabilities [1,2,T], and the derivative of the loss by each."""
    logp = objective.policy.log_prob(one.segments)
    leaf = logp.detach().requires_grad_()
    (pull,) = torch.autograd.grad(objective.losses(leaf, one).sum(), leaf)
    return logp, pull


def _side(weight: Tensor, k: int) -> Tensor:
    """[1,2,T] of alternative k alone."""
    return weight * (torch.arange(2, device=weight.device) == k)[:, None]


def _gradient(logp: Tensor, weight: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    parts = torch.autograd.grad(logp, parameters, weight, retain_graph=True, allow_unused=True)
    whole = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, parts, strict=True)]
    return torch.cat([g.flatten() for g in whole])


def _first(feedback: Feedback) -> list[bool]:
    """Whether the first of each pair is the better."""
    target = feedback.target
    if target.shape[1] != 2:
        raise ValueError(f"entanglement is of pairs, but K = {target.shape[1]}; expand with all_pairs")
    if (ties := target[:, 0] == target[:, 1]).any():
        row = int(ties.nonzero()[0])
        raise ValueError(f"row {row} is a tie, {target[row].tolist()}, and has no better side; leave ties out")
    return (target[:, 0] > target[:, 1]).tolist()
