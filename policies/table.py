"""A table of logits: the policy of numbered states and actions, for which everything can be worked out exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from embodied.feedback import Segments
from embodied.records import Array
from policies.gaussian import vectors


class SoftmaxTable(nn.Module):
    """One of A actions in each of S numbered states, from a table of logits [S,A]; obs and act [...,1] are numbers."""

    density = False

    def __init__(self, logits: Tensor | Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits).clone())

    def log_prob(self, segments: Segments) -> Tensor:
        """Log-probability [B,K,T] of the stored actions; differentiable."""
        state, act = vectors(segments)[..., 0].long(), segments.act[..., 0].long()
        return self.logits.log_softmax(-1)[state, act]

    def kl(self, reference: SoftmaxTable, segments: Segments) -> Tensor:
        """KL of this policy from another one at each stored state, [B,K,T], exact; in nats."""
        ours, theirs = self.logits.log_softmax(-1), reference.logits.log_softmax(-1)
        return (ours.exp() * (ours - theirs)).sum(-1)[vectors(segments)[..., 0].long()]

    def probabilities(self) -> Array:
        """[S,A], float64."""
        found: Array = self.logits.detach().double().softmax(-1).numpy()
        return found

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        return f"SoftmaxTable {list(self.logits.shape)}"
