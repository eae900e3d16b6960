"""Good and bad called out while something acts: +1 and -1 for steps, late as people are.

A signal at step t is about the steps before it, each with a share of the credit: `credit` [W], the share of the step
that is 0, 1, ... W-1 steps past. TAMER (Knox and Stone 2009) regresses the reward on the signals; COACH (MacGlashan et
al. 2017, arXiv 1701.06049) takes them for an advantage and moves the policy by them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False)
class Signals:
    """found [B,T,D]: what each step found; signal [B,T]: +1, -1, or 0 where nothing was said; credit [W] >= 0.

    Raises ValueError where they do not fit, and for a signal that is not finite.
    """

    found: Tensor
    signal: Tensor
    credit: Tensor

    def __post_init__(self) -> None:
        if self.found.shape[:2] != self.signal.shape or self.found.ndim != 3 or self.credit.ndim != 1:
            raise ValueError(
                f"found is {list(self.found.shape)}, signal {list(self.signal.shape)}, credit "
                f"{list(self.credit.shape)}; give [B,T,D], [B,T] and [W]"
            )
        if not torch.isfinite(self.signal).all() or (self.credit < 0).any() or not self.credit.sum() > 0:
            raise ValueError(f"signals must be finite, and credit, {self.credit.tolist()}, at least 0 and not all 0")


def credited(each: Tensor, credit: Tensor) -> Tensor:
    """What a signal at each step is about, [B,T]: the sum over j of credit_j times the step [B,T] that was j ago."""
    return pad(each, (len(credit) - 1, 0)).unfold(-1, len(credit), 1) @ credit.flip(0)


def tamer(data: Signals, weights: Tensor) -> Tensor:
    """Squared error of the signals that were given, halved and summed over steps, [B]: TAMER.

    Signals of +1 and -1 have a mean, and that is what is regressed; for those of `signals` the true weights are the
    minimum. It is -log of a Gaussian, not of theirs.
    """
    expected = credited(data.found @ weights, data.credit)
    return torch.where(data.signal != 0, (data.signal - expected) ** 2, 0.0).sum(-1) / 2


def coach(log_prob: Tensor, signal: Tensor, credit: Tensor) -> Tensor:
    """-signal times the credited log-probability [B,T] of what was done, summed over steps, [B]: COACH.

    Its gradient is that of the return if signals are, on average, the advantage of the policy as it is now.
    """
    return -(signal.detach() * credited(log_prob, credit)).sum(-1)


def signals(mean: Tensor, credit: Tensor, rng: np.random.Generator) -> Tensor:
    """+1 or -1 for each step, [B,T], with mean `credited(mean, credit)`, cut to [-1,1]: a simulated person, for whom
    mean [B,T] is what a step is worth (TAMER: a reward; COACH: an advantage)."""
    expected = credited(mean, credit).clamp(-1, 1)
    said = torch.from_numpy(rng.random(expected.shape)) < (1 + expected) / 2
    return torch.where(said, 1.0, -1.0).double()
