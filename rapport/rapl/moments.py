"""How the rewards of single frames go with the true reward of a step: another measure for the map.

The measure of the paper's table (Tian et al. 2023, arXiv 2310.07932): Spearman's correlation within a video, over every
fourth frame, and the mean over videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.stats import rankdata

from embodied.rapl import Rapl
from embodied.records import Array
from embodied.video_rewards import FrameNet
from embodied.videos import VideoReward
from rapport.rapl.ground import Ground, everywhere
from rapport.rapl.map import Cell, setting_of
from rapport.rapl.map_report import figure

ANSWERS = 150
EVERY = 4
JUDGED = ("raw transport", "RAPL", "RAPL as published", "frame net, pairs", "frame net, rankings and demos")


def within(paid: Array, true: Array) -> float:
    """The mean of Spearman's correlation over the rows of two [N,T]; a row in which either is constant says 0."""
    a, b = (rankdata(x, axis=1) for x in (paid, true))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return float(np.mean((a * b).sum(1) / np.where(size > 0, size, 1)))


def frame_rewards(reward: VideoReward, features: Array) -> Array:
    """Of each frame of videos [N,T,F], [N,T]. Raises ValueError for a reward that pays no single frame."""
    videos = torch.from_numpy(features)
    with torch.no_grad():
        if isinstance(reward, Rapl):
            return reward.rewards(videos, everywhere(features)).numpy()
        if isinstance(reward, FrameNet):
            return reward(videos).numpy()
    raise ValueError(f"{reward.fingerprint()} pays no single frame; judge it by whole videos")


def over(made: Ground, reward: VideoReward, bodies: Sequence[str]) -> float:
    """The mean over bodies of the correlation within their test videos."""
    each = [
        within(frame_rewards(reward, made.tests[body][0])[:, ::EVERY], made.steps[body][:, ::EVERY]) for body in bodies
    ]
    return float(np.mean(each))


def moment_table(found: Sequence[Cell]) -> Iterator[str]:
    """Rows of a Markdown table: settings across, each on bodies learned from and on those never seen."""
    settings = list(dict.fromkeys(setting_of(c) for c in found))
    heads = [f"{s.world}, {s.nuisance}: {which}" for s in settings for which in ("seen", "unseen")]
    yield f"| within a video, {ANSWERS} rankings | " + " | ".join(heads) + " |"
    yield "|" + " --- |" * (len(heads) + 1)
    for name in JUDGED:
        rows = [[c for c in found if c.reward == name and setting_of(c) == s] for s in settings]
        told = [str(figure([getattr(c, w) for c in row])) if row else "" for row in rows for w in ("seen", "unseen")]
        yield f"| {name} | " + " | ".join(told) + " |"
