"""Videos as rewards of them see them: features of each frame [T,F], and rankings of several as Feedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from embodied.feedback import Feedback, Segments
from embodied.records import Array
from embodied.rewards.learning import deviation


class VideoReward(Protocol):
    """What every reward of videos offers: features [N,T,F], mask [N,T] -> what each whole video is worth, [N]."""

    def worth(self, features: Tensor, mask: Tensor) -> Tensor: ...

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        ...


def gains(reward: VideoReward, features: Tensor, mask: Tensor) -> Tensor:
    """What each frame adds to the worth of its video so far, [N,T]; in sum the worth of the whole."""
    steps = features.shape[1]
    prefix = mask[:, None, :] & torch.ones(steps, steps, dtype=torch.bool).tril()  # [N,T,T]
    each = reward.worth(features[:, None].expand(-1, steps, -1, -1).flatten(0, 1), prefix.flatten(0, 1))
    so_far = each.view(-1, steps)
    before = torch.cat([torch.zeros_like(so_far[:, :1]), so_far[:, :-1]], 1)
    return torch.where(mask, so_far - before, 0.0)


class Standard(nn.Module):
    """Features [...,F] with mean 0 and deviation 1 over some frames; until `fit`, as they are."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    @torch.no_grad()
    def fit(self, frames: Array) -> None:
        """Standardise on these frames [N,F], from now on. Raises ValueError for ones that do not fit."""
        x = video(frames, self.size)
        self.mean.copy_(x.mean(0))
        self.std.copy_(deviation(x, 0))

    def forward(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean) / self.std


def video(features: Array | Tensor, size: int) -> Tensor:
    """One video as a tensor [T,F]. Raises ValueError for another width than `size`, no frame, or numbers not finite."""
    x = (features if isinstance(features, Tensor) else torch.as_tensor(np.ascontiguousarray(features))).float()
    if x.ndim != 2 or x.shape[1] != size or not len(x):
        raise ValueError(f"features {list(x.shape)}, not [T,{size}] with at least one frame: take those of one trunk")
    if not torch.isfinite(x).all():
        frame = int(torch.nonzero(~torch.isfinite(x))[0, 0])
        raise ValueError(f"the features of frame {frame} are not finite; look for NaN in the video")
    return x


def padding(videos: Sequence[Array | Tensor]) -> tuple[Tensor, Tensor]:
    """Videos [T,F] of any length as one tensor [N,T,F] and its mask [N,T]. Raises ValueError for none, or mixed F."""
    if len({np.shape(one)[-1] for one in videos}) != 1:
        widths = sorted({np.shape(one)[-1] for one in videos})
        raise ValueError(f"{len(videos)} videos of features {widths}; give at least one, all of one trunk")
    tensors = [video(one, np.shape(one)[-1]) for one in videos]
    steps = max(len(one) for one in tensors)
    padded = torch.zeros(len(tensors), steps, tensors[0].shape[-1])
    there = torch.zeros(len(tensors), steps, dtype=torch.bool)
    for n, one in enumerate(tensors):
        padded[n, : len(one)], there[n, : len(one)] = one, True
    return padded, there


def ranked(videos: Sequence[Array | Tensor], groups: Array, target: Array, weight: float = 1.0) -> Feedback:
    """Rankings of K videos each: groups int [B,K] of their indices, target [B,K], larger is better, equal is a tie.

    K = 2: comparisons, whose target becomes 1, 0 or .5 each. Raises ValueError for what is not such.
    """
    if np.shape(groups) != np.shape(target) or np.ndim(groups) != 2 or np.shape(groups)[1] < 2:
        raise ValueError(f"groups {np.shape(groups)} and target {np.shape(target)}; give both as [B,K], K at least 2")
    groups = np.asarray(groups)
    if not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(f"groups are {groups.dtype}; give the indices of videos, whole numbers")
    try:
        exact = np.asarray(target, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the target is no array of numbers ({error}); give what each video is worth") from None
    if (odd := ~(np.abs(exact) <= np.finfo(np.float32).max).all(1)).any():
        row = int(np.flatnonzero(odd)[0])
        raise ValueError(f"the target of group {row} is {exact[row]}; give numbers of float32, or leave it out")
    single = exact.astype(np.float32)
    if (_distinct(exact) != _distinct(single)).any():
        raise ValueError("targets differ that float32 takes for equal; give ranks, or values less their mean")
    if np.size(groups) and (np.min(groups) < 0 or np.max(groups) >= len(videos)):
        raise ValueError(f"groups name videos {np.min(groups)} to {np.max(groups)}, and there are {len(videos)}")
    if (np.diff(np.sort(groups, 1), axis=1) == 0).any():
        raise ValueError("a group names a video twice; rank different ones")
    padded, there = padding(videos)
    which, said = torch.as_tensor(groups.astype(np.int64)), torch.as_tensor(single)
    if pair := which.shape[1] == 2:
        said = compared(said)
    mask, rows = there[which], len(which)
    return Feedback(
        Segments(padded[which], torch.zeros(*mask.shape, 0), mask, torch.full(mask.shape, torch.nan)),
        said,
        torch.full((rows,), weight),
        torch.zeros(rows, dtype=torch.int64),
        torch.zeros(rows, dtype=torch.bool),
        "compare" if pair else "rank",
    )


def _distinct(target: Array) -> Array:
    """How many values there are in each row of [B,K], [B]."""
    found: Array = (np.diff(np.sort(target, 1), axis=1) > 0).sum(1)
    return found


def compared(target: Tensor) -> Tensor:
    """Which of two is larger, [B,2] -> [P(first better), P(second better)], .5 each where they are equal."""
    first = (1 + torch.sign(target[:, :1] - target[:, 1:])) / 2
    return torch.cat([first, 1 - first], 1)


def observed(segments: Segments) -> Tensor:
    """Features [B,K,T,F]. Raises ValueError for observations in a dict."""
    if not isinstance(segments.obs, Tensor):
        raise ValueError(f"observations are a dict of {sorted(segments.obs)}; give features of the frames [B,K,T,F]")
    return segments.obs
