"""Rewards of videos that networks learn from the same answers as RAPL, on the same features: what it is held against.

`FrameNet` pays each frame, as RLHF on pixels does, and a video its mean; no sum over frames can say that a video goes
everywhere. `VideoNet` sees a whole video at once, and knows no reward of a single frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from embodied.feedback import Feedback, Segments
from embodied.fit import FitReport, fit_all, ranking
from embodied.likelihoods import choice
from embodied.losses import plackett_luce
from embodied.records import Array
from embodied.scores import Scorer
from embodied.videos import Standard, observed, ranked


class FrameNet(nn.Module):
    """F features of a frame, standardised on `frames` [N,F], through a ReLU network (hidden none: linear) to a number.

    total: a video is worth the sum over its frames, not the mean.
    """

    def __init__(self, frames: Array, hidden: Sequence[int] = (64,), *, total: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.standard = Standard(frames.shape[-1])
        self.standard.fit(frames)
        self.hidden, self.total = tuple(hidden), total
        self.net = _net(frames.shape[-1], hidden, seed)

    def forward(self, features: Tensor) -> Tensor:
        """[...,F] -> [...]."""
        paid: Tensor = self.net(self.standard(features)).squeeze(-1)
        return paid

    def score(self, segments: Segments) -> Tensor:
        """[B,K]; differentiable."""
        return self._whole(observed(segments), segments.mask)

    def _whole(self, features: Tensor, mask: Tensor) -> Tensor:
        paid = torch.where(mask, self(features), 0.0).sum(-1)
        return paid if self.total else paid / mask.sum(-1)

    @torch.no_grad()
    def worth(self, features: Tensor, mask: Tensor) -> Tensor:
        """[...] of videos [...,T,F], mask [...,T]."""
        return self._whole(features, mask)

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        return f"frame net {self.standard.size}-{self.hidden}, {'sum' if self.total else 'mean'}"


class VideoNet(nn.Module):
    """Mean and deviation over a video of each feature, standardised on `frames` [N,F], through such a network."""

    def __init__(self, frames: Array, hidden: Sequence[int] = (64,), *, seed: int = 0) -> None:
        super().__init__()
        self.standard = Standard(frames.shape[-1])
        self.standard.fit(frames)
        self.hidden = tuple(hidden)
        self.net = _net(2 * frames.shape[-1], hidden, seed)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[...,T,F], mask [...,T] -> [...]."""
        x, there = self.standard(features), mask[..., None]
        count = there.sum(-2)
        mean = torch.where(there, x, 0.0).sum(-2) / count
        square = torch.where(there, (x - mean[..., None, :]) ** 2, 0.0).sum(-2) / count
        std = square.clamp(min=1e-12).sqrt()  # the root has no gradient at 0, where nothing moves
        paid: Tensor = self.net(torch.cat([mean, std], -1)).squeeze(-1)
        return paid

    def score(self, segments: Segments) -> Tensor:
        """[B,K]; differentiable."""
        paid: Tensor = self(observed(segments), segments.mask)
        return paid

    @torch.no_grad()
    def worth(self, features: Tensor, mask: Tensor) -> Tensor:
        """[...] of videos [...,T,F], mask [...,T]."""
        paid: Tensor = self(features, mask)
        return paid

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        return f"video net {self.standard.size}-{self.hidden}"


def learn(
    net: FrameNet | VideoNet,
    data: Feedback | Sequence[Feedback],
    rng: np.random.Generator,
    *,
    steps: int = 200,
    batch: int = 32,
    rate: float = 1e-2,
    decay: float = 1e-3,
) -> FitReport:
    """Fits the net to rankings, comparisons and choices of videos by their likelihood; decay: of the weights (L2).

    The defaults are a fair tuning. As released with arXiv 2310.07932: linear, summed, rate 1e-4, batch 10, 50 passes,
    no decay. Raises ValueError for other kinds of answers.
    """
    parts = [data] if isinstance(data, Feedback) else list(data)
    if wrong := {part.kind for part in parts} - {"compare", "rank", "choose"}:
        raise ValueError(f"videos are ranked, compared or chosen among, not answered by {', '.join(sorted(wrong))}")
    score: Scorer = net.score
    held = [(ranking(score, choice if part.kind == "choose" else plackett_luce), part) for part in parts]
    opt = torch.optim.Adam(net.parameters(), lr=rate, weight_decay=decay)
    return fit_all(held, opt, steps=steps, batch=batch, rng=rng)


def demos_first(
    demos: Sequence[Array], pool: Sequence[Array], rng: np.random.Generator, *, pairs: int = 60, weight: float = 0.3
) -> Feedback:
    """Pairs of a demonstration and any video of the pool, the first being better: how a net can use the former."""
    first, second = rng.integers(len(demos), size=pairs), rng.integers(len(pool), size=pairs)
    groups = np.stack([first, len(demos) + second], 1)
    return ranked([*demos, *pool], groups, np.tile([1.0, 0.0], (pairs, 1)), weight)


def _net(size: int, hidden: Sequence[int], seed: int) -> nn.Sequential:
    draw = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in pairwise([size, *hidden, 1]):
        linear = nn.Linear(a, b)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(a**-0.5), a**-0.5, generator=draw)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
