"""A folder of the user's videos, as a run keeps them: as many pictures of each as it would take of an episode."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from policies.videos import read_video, videos_in
from rapport.visual.pool import Video


def of_folder(folder: Path, frames: int) -> list[Video]:
    """In the order of their names; what was done in them is not known. Raises VideoError."""
    found = [read_video(path, frames) for path in videos_in(folder)]
    # Numbered, since a name may hold what no id may.
    names = [f"{n:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', path.name)}" for n, path in enumerate(videos_in(folder))]
    nothing = np.zeros((frames, 0), np.float32)
    return [Video(name, film, nothing, np.full(frames, np.nan)) for name, film in zip(names, found, strict=True)]
