"""One reward from whatever was said: likelihoods of one set of weights, each with a rationality of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied.feedback import Feedback
from embodied.likelihoods import Likelihoods
from embodied.losses import logistic, pairwise
from embodied.records import Array
from embodied.walks import steps

Evidence = Callable[[Tensor], Tensor]
"""weights [D] float64 -> -log-likelihood of each answer, [B]. One that is a module has its parameters learned too."""


@dataclass(frozen=True, eq=False)
class Learned:
    """weights [D]; rationality [N] of each evidence, in units of the first one's; loss: the sum over all answers."""

    weights: Array
    rationality: Array
    loss: float


def learn(evidence: Sequence[Evidence], features: int, *, prior: float = 10.0, steps: int = 300) -> Learned:
    """The most probable weights [features] after all that was said, with a Gaussian prior of this deviation.

    The first evidence has rationality 1, so its answers say how long the weights are; each other sees them times a
    rationality that is learned. At most `steps` steps of L-BFGS on everything at once. Raises ValueError for no
    evidence, and for a likelihood that is not finite.
    """
    if not evidence or not 0 < prior < math.inf:
        raise ValueError(f"{len(evidence)} kinds of evidence, prior {prior}; give at least one, and a prior above 0")
    weights = torch.zeros(features, dtype=torch.float64, requires_grad=True)
    others = torch.zeros(len(evidence) - 1, dtype=torch.float64, requires_grad=True)
    own = [p for one in evidence if isinstance(one, nn.Module) for p in one.parameters()]
    opt = torch.optim.LBFGS(
        [weights, others, *own],
        max_iter=steps,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        beta = torch.cat([torch.ones(1, dtype=torch.float64), others.exp()])
        said = torch.stack([one(beta[i] * weights).sum() for i, one in enumerate(evidence)])
        return said.sum() + (weights**2).sum() / (2 * prior**2)

    def closure() -> Tensor:
        opt.zero_grad()
        value = loss()
        if not torch.isfinite(value):
            raise ValueError(f"a likelihood is {value.item()} at weights {weights.tolist()}; is an answer impossible?")
        value.backward()  # type: ignore[no-untyped-call]
        return value

    opt.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        beta = torch.cat([torch.ones(1, dtype=torch.float64), others.exp()])
        return Learned(weights.numpy().copy(), beta.numpy(), float(loss()))


class Said(nn.Module):
    """Answers of a kind that people are asked for (`embodied.values`), about walks: their thresholds are learned."""

    def __init__(self, data: Feedback) -> None:
        super().__init__()
        self.kind, self.target = data.kind, data.target.double()
        at = steps(data.segments)
        self.found = (at.found.double() * at.mask[..., None]).sum(-2)
        self.weight = data.weight.double()
        # Its own rationality is fixed: `learn` has one for each evidence.
        self.likelihoods = Likelihoods(1).double()

    def forward(self, weights: Tensor) -> Tensor:
        score = (self.found @ weights)[None]
        loss = pairwise(logistic) if self.kind == "compare" else self.likelihoods.loss(self.kind, True)
        return loss(score, self.target)[0] * self.weight
