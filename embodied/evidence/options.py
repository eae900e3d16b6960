"""What was said as a choice among what could have been said (reward-rational choice, Jeon, Milli and Dragan, arXiv
2002.04833).

B questions of K options, each with features; an option is taken with probability proportional to
e^(weights . features). So a type of feedback is only a way to write its options down: plans that could have been driven
instead, reasons that could have been given, rewards that could have been written. Rationality is the weights' length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax


@dataclass(frozen=True, eq=False)
class Options:
    """features [B,K,D]; beside [B,K]: nats that an option has besides its utility, minus infinity where it cannot be
    taken. Raises ValueError where they do not fit, and for a question without an option."""

    features: Tensor
    beside: Tensor

    def __post_init__(self) -> None:
        if self.features.ndim != 3 or self.beside.shape != self.features.shape[:2]:
            raise ValueError(
                f"features are {list(self.features.shape)}, beside {list(self.beside.shape)}; give [B,K,D] and [B,K]"
            )
        if not torch.isfinite(self.features).all() or not (self.beside < math.inf).all():
            raise ValueError("features must be finite, and beside too, or minus infinity; mend what they come from")
        if len(none := torch.nonzero((self.beside == -math.inf).all(-1))):
            raise ValueError(f"question {int(none[0, 0])} leaves nothing that could be said; drop it")

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Tensor) -> Options:
        return Options(self.features[rows], self.beside[rows])


def options(features: Tensor, possible: Tensor | None = None) -> Options:
    """Options of which nothing is known but their features [B,K,D], and which of them are possible, bool [B,K]."""
    beside = torch.zeros(features.shape[:2], dtype=features.dtype)
    return Options(features, beside if possible is None else beside.masked_fill(~possible, -math.inf))


@dataclass(frozen=True, eq=False)
class Chosen:
    """Which option of each question was taken, int [B]. Raises ValueError for one that could not be."""

    options: Options
    index: Tensor

    def __post_init__(self) -> None:
        b, k = self.options.beside.shape
        if self.index.shape != (b,) or (b and not 0 <= int(self.index.min()) <= int(self.index.max()) < k):
            raise ValueError(f"index is {list(self.index.shape)} of {b} questions; give options below {k}")
        taken = self.options.beside.gather(1, self.index[:, None])
        if len(wrong := torch.nonzero(taken[:, 0] == -math.inf)):
            raise ValueError(f"question {int(wrong[0, 0])} was answered by what was not possible; look at its options")


def log_probability(options: Options, weights: Tensor) -> Tensor:
    """log P of each option, [B,K], under weights [D]."""
    return log_softmax(options.features @ weights + options.beside, -1)


def chosen(data: Chosen, weights: Tensor) -> Tensor:
    """-log P of what was taken, [B]."""
    return -log_probability(data.options, weights).gather(1, data.index[:, None]).squeeze(1)


def choose(options: Options, weights: Tensor, rng: np.random.Generator) -> Chosen:
    """A simulated person, who answers each question with exactly those probabilities."""
    noise = torch.from_numpy(rng.gumbel(size=options.beside.shape))
    return Chosen(options, (log_probability(options, weights) + noise).argmax(-1))
