"""Somebody watches and stops it when the last steps were bad: evidence against these, and for all that was let pass.

After every step the utility x of the last `window` steps decides: it is stopped with probability
sigmoid(-x - patience). (The kind `stop` of a study is another thing: the whole is known, and the best
moment is chosen; `likelihoods.stopped`.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from embodied.evidence.signals import credited


@dataclass(frozen=True, eq=False)
class Watched:
    """found [B,T,D]; steps int [B]: how many were watched; stopped bool [B]: after the last of them it was stopped.

    Raises ValueError where they do not fit.
    """

    found: Tensor
    steps: Tensor
    stopped: Tensor
    window: int
    patience: float

    def __post_init__(self) -> None:
        b, t = self.found.shape[:2]
        if self.steps.shape != (b,) or self.stopped.shape != (b,) or self.window < 1:
            raise ValueError(
                f"steps are {list(self.steps.shape)}, stopped {list(self.stopped.shape)} of {b} walks, the window "
                f"{self.window}; give [B], [B] and at least 1"
            )
        if b and not 1 <= int(self.steps.min()) <= int(self.steps.max()) <= t:
            raise ValueError(f"watched {self.steps.min()} to {self.steps.max()} of {t} steps; give 1 to {t}")


def watched(data: Watched, weights: Tensor) -> Tensor:
    """-log P of when it was stopped, or that it was not, [B]."""
    x = _composure(data.found, weights, data.window, data.patience)
    step, last = torch.arange(x.shape[1]), data.steps[:, None] - 1
    cut = (step == last) & data.stopped[:, None]
    return torch.where(step <= last, softplus(torch.where(cut, x, -x)), 0.0).sum(-1)


def watch(
    found: Tensor, steps: Tensor, weights: Tensor, rng: np.random.Generator, window: int = 3, patience: float = 2.0
) -> Watched:
    """A simulated person who watches walks of so many real steps, int [B], and stops them with those probabilities."""
    x = _composure(found, weights, window, patience)
    stop = torch.from_numpy(rng.random(x.shape)) < torch.sigmoid(-x)
    stop &= torch.arange(x.shape[1]) < steps[:, None]
    first = stop.int().argmax(1) + 1
    return Watched(found, torch.where(stop.any(1), first, steps), stop.any(1), window, patience)


def _composure(found: Tensor, weights: Tensor, window: int, patience: float) -> Tensor:
    return credited(found @ weights, torch.ones(window, dtype=found.dtype)) + patience
