"""Two more ways in which comparisons come out: Thurstone's, and with ties.

`losses.pairwise(thurstone)` and `losses.bt_ties(theta)` are the losses; here are the people.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.special import log_ndtr


def thurstone(better: Tensor, worse: Tensor, sigma: float = 1.0) -> Tensor:
    """-log Phi((better - worse) / (sqrt(2) sigma)): what each is worth is felt with Gaussian noise of deviation sigma
    (Thurstone 1927, case V)."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma is {sigma}; choose it above 0")
    loss: Tensor = -log_ndtr((better - worse) / (math.sqrt(2) * sigma))
    return loss


def felt(utility: Tensor, rng: np.random.Generator, sigma: float = 1.0) -> Tensor:
    """A target [B,2] of a simulated person who compares two utilities [B,2], each felt with noise."""
    seen = utility + sigma * torch.from_numpy(rng.normal(size=utility.shape))
    first = (seen[:, 0] > seen[:, 1]).double()
    return torch.stack([first, 1 - first], -1)


def undecided(utility: Tensor, rng: np.random.Generator, theta: float = 2.0) -> Tensor:
    """The same of one who ties (Rao and Kupper 1967): .5/.5 unless the gap with logistic noise is above log theta."""
    seen = utility[:, 0] - utility[:, 1] + torch.from_numpy(rng.logistic(size=len(utility)))
    first = 0.5 * ((seen > math.log(theta)).double() + (seen > -math.log(theta)).double())
    return torch.stack([first, 1 - first], -1)
