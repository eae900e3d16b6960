"""From features of videos, rankings and demonstrations to a reward, and how far it agrees with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from embodied.feedback import Feedback
from embodied.records import Array
from embodied.video_methods import UNASKED, Method, fitted
from embodied.videos import padding
from policies import encoders
from policies.encoders import FrozenTrunk, TrunkError, cached_trunk
from policies.film_reward import Model
from policies.soft_argmax import RECIPE, pretrain
from rapport.compare.statistics import Interval, paired_difference
from rapport.visual.pool import Video
from rapport.visual.questions import Rankings
from rapport.visual.settings import Settings

FOLDS = 5


def trunk(settings: Settings, pool: Sequence[Video], folder: Path) -> FrozenTrunk:
    """soft-argmax, learned from the pool, and kept."""
    seen = sha256(b"".join(sha256(video.frames.tobytes()).digest() for video in pool)).hexdigest()
    key = {"recipe": RECIPE, "steps": settings.pretraining, "seed": settings.seed, "videos": seen}
    return cached_trunk(folder, key, lambda: _pretrained(settings, pool))


def named_trunk(settings: Settings) -> FrozenTrunk | None:
    """One of timm's, NAME[@SIDE][=WEIGHTS], or a file of a trunk; None where it is to be learned. Raises TrunkError."""
    if settings.trunk == "soft-argmax":
        return None
    name, given, weights = settings.trunk.partition("=")
    if Path(settings.trunk).is_file() or (not given and Path(name).suffix == ".safetensors"):
        return encoders.load(Path(settings.trunk))
    if given and not weights:
        raise TrunkError(f"the trunk {settings.trunk} names no file; give {name}=FILE, or {name} alone to download it")
    name, at, side = name.partition("@")
    if at and not (side.isascii() and side.isdigit()):
        raise TrunkError(f"the trunk {settings.trunk} is to see {side!r} pixels; give a whole number, {name}@224 say")
    from policies.timm_trunk import timm_trunk  # timm takes a second to load

    return timm_trunk(name, Path(weights) if weights else None, side=int(side) if at else None)


def _pretrained(settings: Settings, pool: Sequence[Video]) -> FrozenTrunk:
    acts = [video.act for video in pool] if all(video.act.shape[1] for video in pool) else None
    return pretrain([video.frames for video in pool], acts, steps=settings.pretraining, seed=settings.seed)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a reward is learned from beside answers: features [T,F] of the videos asked about and of the demonstrations,
    and what was done in the latter, [T,A] (A = 0: not known)."""

    pool: Sequence[Array]
    demos: Sequence[Array]
    acts: Sequence[Array] = ()


def fit(kind: Method, seen: Seen, said: Sequence[Feedback], seed: int) -> Model:
    rng = np.random.default_rng([seed, 3])
    return fitted(kind, seen.pool, seen.demos, said, rng, seed=seed, acts=seen.acts)


def scale(model: Model, pool: Sequence[Array]) -> float:
    """1 over the deviation of what the videos are worth; 1 where they are all alike."""
    worth = model.worth(*padding(pool)).double().numpy()
    return 1.0 if alike(worth) else 1 / float(np.std(worth))


def alike(worth: Array) -> bool:
    """Whether they differ by no more than float32 is wrong."""
    return bool(np.ptp(worth) <= 1e-6 * max(1.0, float(np.abs(worth).max())))


@dataclass(frozen=True)
class Agreement:
    """Of the pairs within rankings that the reward had not learned from, the share that it orders as they were, and its
    95 % interval over questions (bootstrap); NaN where there are too few. What several people say of one question is
    averaged, and held out together: who agree tell each other's answers."""

    share: Interval
    rankings: int
    questions: int


def agreement(kind: Method, seen: Seen, rankings: Rankings, seed: int) -> Agreement:
    """In folds: each question is predicted by a reward fitted to the others, so that none is spent on looking."""
    number = len(set(rankings.of.tolist()))
    order = np.random.default_rng([seed, 4]).permutation(number)
    # What looks at no answer predicts all of them at once.
    folds = [order] if kind in UNASKED else [order[fold::FOLDS] for fold in range(min(FOLDS, number))]
    shares: dict[int, list[float]] = {}
    for fold in folds:
        out = np.isin(rankings.of, fold)
        if kind not in UNASKED and out.all():
            continue
        model = fit(kind, seen, rankings[np.flatnonzero(~out)].said, seed)
        held = rankings[np.flatnonzero(out)]
        told = [share for part in held.said for share in _alike(model, part)]
        for question, share in zip(held.of.tolist(), told, strict=True):
            shares.setdefault(question, []).extend([share] if share == share else [])
    each = [float(np.mean(row)) for row in shares.values() if row]
    if not each:
        return Agreement(Interval(*[float("nan")] * 3), 0, 0)
    return Agreement(paired_difference([each]), sum(map(len, shares.values())), len(each))


def _alike(model: Model, held: Feedback) -> list[float]:
    """Of each ranking the share of pairs that the model orders as it does; NaN where it is all ties."""
    assert isinstance(held.segments.obs, torch.Tensor)
    worth = model.worth(held.segments.obs, held.segments.mask)
    first, second = torch.triu_indices(held.target.shape[1], held.target.shape[1], 1)
    wanted = torch.sign(held.target[:, first] - held.target[:, second])
    given = torch.sign(worth[:, first] - worth[:, second])
    decided = (wanted != 0).double()
    right = torch.where(given == 0, 0.5, (given == wanted).double())
    found: list[float] = ((right * decided).sum(1) / decided.sum(1)).tolist()
    return found
