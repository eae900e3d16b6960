"""A folder of the user's videos, as a run keeps them: as many pictures of each as it would take of an episode."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from policies.videos import SUFFIXES, read_video
from rapport.run import RunError
from rapport.visual.pool import Video

SIDE = 128  # pixels


def of_folder(folder: Path, frames: int) -> list[Video]:
    """In the order of their names, numbers as numbers. Raises RunError where there is none, and what `read_video` does
    for one that cannot be read."""
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder: give one that holds videos ({', '.join(SUFFIXES)}).")
    paths = sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES), key=_natural)
    if not paths:
        raise RunError(f"{folder} holds no video: put files {', '.join(SUFFIXES)} there, or give another folder.")
    return [_read(path, frames) for path in paths]


def _read(path: Path, frames: int) -> Video:
    read = read_video(path, frames, SIDE)
    unknown = np.full(len(read), np.nan)
    return Video(re.sub(r"[^A-Za-z0-9._-]+", "-", path.name).strip("-._"), read, np.zeros((len(read), 0), np.float32), unknown)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", path.name)]
