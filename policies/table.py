"""A table of logits: the policy of numbered states and actions, for which everything can be worked out exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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

    @torch.no_grad()
    def sample(self, states: Tensor, k: int, rng: np.random.Generator) -> Segments:
        """k actions in each of B states [B], with their log-probabilities: a bandit with contexts, [B,k,1]."""
        law = self.logits.double().softmax(-1)[states]
        # A number that rounding puts above the whole law is the last action's.
        below = law.cumsum(-1)[:, None, :-1] < torch.from_numpy(rng.random((len(states), k, 1)))
        return self._segments(states, below.sum(-1))

    @torch.no_grad()
    def every(self, k: int) -> tuple[Segments, Tensor]:
        """Every group of k actions that `sample` can draw in each state, and the chance of each: what an expectation
        over samples is, exactly. [S*A^k,k,1] and [S*A^k]."""
        states, actions = self.logits.shape
        groups = torch.cartesian_prod(*[torch.arange(actions)] * k).reshape(-1, k)
        segments = self._segments(torch.arange(states).repeat_interleave(len(groups)), groups.repeat(states, 1))
        return segments, segments.log_prob.sum((1, 2)).exp()

    def _segments(self, states: Tensor, act: Tensor) -> Segments:
        """From states [B] and actions [B,K]."""
        logp = self.logits.log_softmax(-1)[states[:, None], act]
        obs, act, logp = (x[..., None] for x in (states[:, None].expand(act.shape), act, logp))
        return Segments(obs[..., None].float(), act[..., None].float(), torch.ones_like(act, dtype=torch.bool), logp)

    def probabilities(self) -> Array:
        """[S,A], float64."""
        found: Array = self.logits.detach().double().softmax(-1).numpy()
        return found

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        return f"SoftmaxTable {list(self.logits.shape)}"
