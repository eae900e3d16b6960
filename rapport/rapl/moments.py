"""How the rewards of single frames go with the true reward of a step, as lines of a file that only grows.

The measure of the paper's table (Tian et al. 2023, arXiv 2310.07932): Spearman's correlation within a video, over every
fourth frame, and the mean over videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

from embodied.rapl import Rapl
from embodied.records import Array
from embodied.video_rewards import FrameNet
from rapport.rapl.ground import USUAL, WORLDS, Ground, Size, everywhere, ground
from rapport.rapl.lines import add_line
from rapport.rapl.map import Cell, Setting, cells, setting_of
from rapport.rapl.map_report import figure
from rapport.rapl.rivals import WITH, WITHOUT, labels

ANSWERS = 150
EVERY = 4
JUDGED = ("raw transport", "RAPL", "RAPL as published", "frame net, pairs", "frame net, rankings and demos")


def within(paid: Array, true: Array) -> float:
    """The mean of Spearman's correlation over the rows of two [N,T]; a row in which either is constant says 0."""
    a, b = (rankdata(x, axis=1) for x in (paid, true))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return float(np.mean((a * b).sum(1) / np.where(size > 0, size, 1)))


def frame_rewards(reward: Rapl | FrameNet, features: Array) -> Array:
    """Of each frame of videos [N,T,F], [N,T]."""
    videos = torch.from_numpy(features)
    with torch.no_grad():
        paid = reward.rewards(videos, everywhere(features)) if isinstance(reward, Rapl) else reward(videos)
    return paid.numpy()


def over(made: Ground, reward: Rapl | FrameNet, bodies: Sequence[str]) -> float:
    """The mean over bodies of the correlation within their test videos."""
    each = [
        within(frame_rewards(reward, made.tests[body][0])[:, ::EVERY], made.steps[body][:, ::EVERY]) for body in bodies
    ]
    return float(np.mean(each))


def fill_moments(
    path: Path,
    settings: Sequence[Setting],
    seeds: Iterable[int],
    cache: Path,
    *,
    size: Size = USUAL,
    device: str = "cpu",
    told: Callable[[str], object] = lambda line: None,
) -> None:
    """Makes the cells that are missing, and writes each as it is known."""
    for seed in seeds:
        for setting in settings:
            there = {c.reward for c in cells(path) if setting_of(c) == setting and c.seed == seed}
            if not (wanted := [name for name in JUDGED if name not in there]):
                continue
            told(f"frames of {setting.world}, {setting.nuisance}, {setting.eyes}, seed {seed}")
            made = ground(
                WORLDS[setting.world], setting.nuisance, seed, cache, eyes=setting.eyes, size=size, device=device
            )
            for name in wanted:
                reward = (WITH.get(name) or WITHOUT[name])(made, labels(made, ANSWERS, seed))
                assert isinstance(reward, Rapl | FrameNet)  # for the type checker: nets of whole videos are not judged
                cell = Cell(
                    **asdict(setting),
                    seed=seed,
                    answers=ANSWERS if name in WITH else 0,
                    reward=name,
                    seen=round(over(made, reward, made.world.bodies), 4),
                    unseen=round(over(made, reward, made.world.unseen), 4),
                )
                add_line(path, asdict(cell))


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
