"""What the user brings to a run: videos, demonstrations, a trunk, a reward. It is read before anything long begins, and
kept, so that the run does not depend on it any more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policies import encoders, film_reward
from policies.encoders import FrozenTrunk
from policies.film_reward import FilmReward
from policies.videos import read_video, videos_in
from rapport.run import read_json, write_json
from rapport.visual import pool, rewards
from rapport.visual.pool import Video
from rapport.visual.settings import USUAL, Settings

POOL, DEMOS, TRUNK, REWARD = "pool", "demos", "trunk.safetensors", "reward"


@dataclass(frozen=True, eq=False)
class Brought:
    """trunk: None where it is yet to be learned. reward: one that was learned before."""

    videos: Sequence[Video] = ()
    demos: Sequence[Video] = ()
    trunk: FrozenTrunk | None = None
    reward: FilmReward | None = None


def brought(settings: Settings, run: Path) -> Brought:
    """From the run's copies where it has them. Raises VideoError, TrunkError, RewardFileError."""
    if settings.reward_from:
        kept = run / REWARD
        there = (kept / film_reward.ABOUT).exists()
        return Brought(reward=film_reward.load(kept if there else _reward_in(Path(settings.reward_from))))
    if not settings.asks:
        return Brought()
    trunk = encoders.load(run / TRUNK) if (run / TRUNK).exists() else rewards.named_trunk(settings)
    frames = settings.frames or USUAL
    videos, demos = _films(settings.videos, run / POOL, frames), _films(settings.demos, run / DEMOS, frames)
    return Brought(videos, demos, trunk)


def keep(it: Brought, run: Path) -> None:
    """Each list of names after what it names: where it is, all are. Raises RunError, TrunkError, RewardFileError."""
    for folder, videos in ((run / POOL, it.videos), (run / DEMOS, it.demos)):
        if videos and not _names(folder).exists():
            for video in videos:
                pool.keep(folder, video)
            write_json(_names(folder), [video.name for video in videos])
    if it.trunk is not None and not (run / TRUNK).exists():
        it.trunk.save(run / TRUNK)
    if it.reward is not None and not (run / REWARD / film_reward.ABOUT).exists():
        it.reward.save(run / REWARD)


def of_folder(folder: Path, frames: int) -> list[Video]:
    """In the order of their names; what was done in them is not known. Raises VideoError."""
    found = [read_video(path, frames) for path in videos_in(folder)]
    # Numbered, since a name may hold what no id may.
    names = [f"{n:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', path.name)}" for n, path in enumerate(videos_in(folder))]
    nothing = np.zeros((frames, 0), np.float32)
    return [Video(name, film, nothing, np.full(frames, np.nan)) for name, film in zip(names, found, strict=True)]


def _films(source: str, copy: Path, frames: int) -> list[Video]:
    if source and _names(copy).exists():
        return [pool.read(copy, name) for name in read_json(_names(copy))]
    return of_folder(Path(source), frames) if source else []


def _names(copy: Path) -> Path:
    return copy.with_name("videos.json" if copy.name == POOL else f"{copy.name}.json")


def _reward_in(run: Path) -> Path:
    """Of a run, or what is such a folder itself."""
    return run if (run / film_reward.ABOUT).exists() else run / REWARD
