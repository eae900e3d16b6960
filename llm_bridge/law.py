"""The law that answers are sampled by: a temperature, and which tokens are left in play.

What is left depends on the logits, and is held fixed where they are differentiated: log-probabilities under the law
are then those of what was really drawn, and ratios of a policy to its own samples are 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Law:
    """softmax(logits / temperature) of the `top_k` likeliest tokens (0: all), cut to the fewest that hold `top_p` of
    what is left."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf and self.top_k >= 0 and 0 < self.top_p <= 1):
            raise ValueError(
                f"temperature is {self.temperature}, top_k {self.top_k}, top_p {self.top_p}; give a temperature above "
                "0, a top_k of at least 0 (0 is all), and a top_p above 0 and at most 1"
            )

    @property
    def whole(self) -> bool:
        """Whether every token stays in play."""
        return self.top_k == 0 and self.top_p == 1

    def least(self, logits: Tensor) -> Tensor:
        """The least logit that stays in play, [...,1], of logits [...,V] that were divided by the temperature."""
        k = min(self.top_k or logits.shape[-1], logits.shape[-1])
        best = logits.detach().topk(k, -1).values if k < logits.shape[-1] else logits.detach().sort(-1, True).values
        before = best.softmax(-1).cumsum(-1).roll(1, -1)  # what is held by those likelier
        before[..., 0] = 0
        count = (before < self.top_p).sum(-1, keepdim=True)
        return best.gather(-1, count - 1)

    def cut(self, logits: Tensor, target: Tensor | None = None) -> Tensor:
        """logits [...,V] of the model, as those of the law; `target` [...], if given, stays in play whatever it is."""
        scaled = logits if self.temperature == 1 else logits / self.temperature
        if self.whole:
            return scaled
        out = scaled < self.least(scaled)
        if target is not None:
            out = out.scatter(-1, target[..., None], False)
        return scaled.masked_fill(out, -torch.inf)
