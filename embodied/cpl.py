"""A policy straight from comparisons: contrastive preference learning, with no reward and no reinforcement learning.

Hejna et al. (2023, arXiv 2310.13639). In maximum-entropy control A*(s,a) = alpha log pi*(a|s), so minus the regret of a
segment is alpha times a sum of log-probabilities, and the policy itself is the scorer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from embodied.feedback import Segments
from embodied.policy import Policy
from embodied.records import Array
from embodied.scores import discounted_log_prob
from embodied.walks import steps


class Contrast(nn.Module):
    """alpha sum_t gamma^t log pi(a_t|s_t), [B,K]: minus the regret of a segment, as the policy sees it.

    The policy is not a part of this module: optimise its own parameters. Raises ValueError for segments of unequal
    length, of which the shorter would always look better.
    """

    def __init__(self, policy: Policy, alpha: float = 0.1, gamma: float = 1.0) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha}; choose it above 0")
        self.policy, self.alpha, self.score = policy, alpha, discounted_log_prob(gamma)

    def forward(self, segments: Segments) -> Tensor:
        length = segments.mask.sum(-1)
        if (length != length[:, :1]).any():
            row = int((length != length[:, :1]).any(-1).nonzero()[0])
            raise ValueError(
                f"the alternatives of row {row} have {length[row].tolist()} steps; contrastive learning needs equal "
                "lengths, cut both to the shorter"
            )
        logp = self.policy.log_prob(segments)
        return self.alpha * self.score(logp, torch.zeros_like(logp), segments.mask)


class TabularPolicy(nn.Module):
    """Logits [S,A], all alike at first; a policy over the segments of `walks`."""

    density = False

    def __init__(self, states: int, actions: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(states, actions))

    def log_prob(self, segments: Segments) -> Tensor:
        """[B,K,T]."""
        at = steps(segments)
        return log_softmax(self.logits, -1)[at.state, at.action]

    def table(self) -> Array:
        """Logits as numpy, to be greedy on."""
        found: Array = self.logits.detach().double().numpy()
        return found

    def probabilities(self) -> Array:
        """[S,A]."""
        found: Array = torch.softmax(self.logits.detach().double(), -1).numpy()
        return found
