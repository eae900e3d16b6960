"""A policy is what says how likely stored actions were; one that does is accepted by the algorithms, on padding too."""

import torch
from torch import Tensor

from embodied.feedback import Segments
from embodied.policy import Policy
from embodied.scores import log_ratio


class Table:
    """Log-probability of each of three actions in each of two states, given as numbers."""

    density = False

    def __init__(self, logits: Tensor) -> None:
        self.logp = logits.log_softmax(-1)

    def log_prob(self, segments: Segments) -> Tensor:
        assert isinstance(segments.obs, Tensor)
        return self.logp[segments.obs[..., 0].long(), segments.act[..., 0].long()]


def implied_reward(policy: Policy, reference: Policy, segments: Segments) -> Tensor:
    return log_ratio(policy.log_prob(segments), reference.log_prob(segments), segments.mask)


def test_the_log_ratio_of_two_policies_is_that_of_their_tables():
    policy, reference = Table(torch.tensor([[0.0, 1, 2], [1.0, 0, 0]])), Table(torch.zeros(2, 3))
    obs = torch.tensor([0.0, 1, 0]).reshape(1, 1, 3, 1)
    act = torch.tensor([2.0, 0, 0]).reshape(1, 1, 3, 1)
    mask = torch.tensor([[[True, True, False]]])
    u = implied_reward(policy, reference, Segments(obs, act, mask, torch.zeros(1, 1, 3)))
    expected = policy.logp[0, 2] + policy.logp[1, 0] - reference.logp[0, 2] - reference.logp[1, 0]
    assert torch.allclose(u, expected.reshape(1, 1))
