"""From features of videos, rankings and demonstrations to a reward, and how far it agrees with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from embodied.feedback import Feedback
from embodied.rapl import Head, Rapl, align
from embodied.records import Array
from embodied.video_rewards import FrameNet, VideoNet, demos_first, learn
from embodied.videos import padding
from policies import encoders
from policies.encoders import FrozenTrunk, cached_trunk
from policies.film_reward import Model
from policies.soft_argmax import RECIPE, pretrain
from rapport.compare.statistics import Interval, paired_difference
from rapport.visual.pool import Video
from rapport.visual.settings import Settings

FOLDS = 5


def trunk(settings: Settings, pool: Sequence[Video], folder: Path) -> FrozenTrunk:
    """soft-argmax, learned from the pool; one of timm's, NAME or NAME=WEIGHTS; or a file of a trunk."""
    if settings.trunk == "soft-argmax":
        seen = sha256(b"".join(sha256(video.frames.tobytes()).digest() for video in pool)).hexdigest()
        key = {"recipe": RECIPE, "steps": settings.pretraining, "seed": settings.seed, "videos": seen}
        return cached_trunk(folder, key, lambda: _pretrained(settings, pool))
    name, _, weights = settings.trunk.partition("=")
    if not weights and Path(name).suffix == ".safetensors":
        return encoders.load(Path(name))
    from policies.timm_trunk import timm_trunk  # timm takes a second to load

    return timm_trunk(name, Path(weights) if weights else None)


def _pretrained(settings: Settings, pool: Sequence[Video]) -> FrozenTrunk:
    acts = [video.act for video in pool] if all(video.act.shape[1] for video in pool) else None
    return pretrain([video.frames for video in pool], acts, steps=settings.pretraining, seed=settings.seed)


def fit(kind: str, pool: Sequence[Array], demos: Sequence[Array], said: Sequence[Feedback], seed: int) -> Model:
    """kind: rapl, raw, frames or video. pool, demos: features [T,F] each; the latter are used by all kinds."""
    rng = np.random.default_rng([seed, 3])
    frames = np.concatenate(pool)
    if kind in ("rapl", "raw"):
        head = Head(frames.shape[1], 0 if kind == "raw" else 32, seed=seed)
        head.standard.fit(frames)
        rapl = Rapl(head, demos)
        if kind == "rapl":
            align(rapl, said, rng)
        return rapl
    net = (FrameNet if kind == "frames" else VideoNet)(frames, seed=seed)
    learn(net, [*said, demos_first(demos, pool, rng)], rng)
    return net


def scale(model: Model, pool: Sequence[Array]) -> float:
    """1 over the deviation of what the videos are worth; 1 where they are all alike."""
    spread = float(np.std(model.worth(*padding(pool)).double().numpy()))
    return 1 / spread if spread > 1e-9 else 1.0


@dataclass(frozen=True)
class Agreement:
    """Of the pairs within rankings that the reward had not learned from, the share that it orders as they were, and its
    95 % interval over rankings (bootstrap); NaN where there are too few."""

    share: Interval
    rankings: int


def agreement(
    kind: str, pool: Sequence[Array], demos: Sequence[Array], said: Sequence[Feedback], seed: int
) -> Agreement:
    """In folds: each ranking is predicted by a reward fitted to the others, so that none is spent on looking."""
    shares: list[float] = []
    for n, part in enumerate(said):
        order = np.random.default_rng([seed, 4]).permutation(len(part))
        for fold in range(min(FOLDS, len(part))):
            out, within = order[fold::FOLDS], np.setdiff1d(order, order[fold::FOLDS])
            rest = [other if i != n else part[within] for i, other in enumerate(said) if i != n or len(within)]
            if not rest:
                continue
            model, held = fit(kind, pool, demos, rest, seed), part[out]
            assert isinstance(held.segments.obs, torch.Tensor)
            worth = model.worth(held.segments.obs, held.segments.mask)
            first, second = torch.triu_indices(held.target.shape[1], held.target.shape[1], 1)
            wanted = torch.sign(held.target[:, first] - held.target[:, second])
            given = torch.sign(worth[:, first] - worth[:, second])
            right = torch.where(given == 0, 0.5, (given == wanted).double())
            decided = (wanted != 0).double()
            each = (right * decided).sum(1) / decided.sum(1)
            shares += each[decided.sum(1) > 0].tolist()
    if not shares:
        return Agreement(Interval(*[float("nan")] * 3), 0)
    return Agreement(paired_difference([shares]), len(shares))
