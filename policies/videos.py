"""A folder of somebody's videos as frames: every video cut down to the same few, evenly spread, as they were drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from policies.filmed import smaller

Frames = npt.NDArray[np.uint8]
SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".npz")
_MEND = "save it again, or take it away"
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND  # the same colours on every machine


class VideoError(ValueError):
    """A file or folder of which no frames can be had; the sentence names it and the mend."""


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder as people order them: a2 before a10. Raises VideoError where there are none."""
    if not folder.is_dir():
        raise VideoError(f"{folder} is no folder; give one with videos ({', '.join(SUFFIXES)})")
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != "."]
    if not found:
        raise VideoError(f"{folder} has no videos; give a folder with some ({', '.join(SUFFIXES)})")
    return sorted(found, key=lambda path: (_natural(path.name), path.name))


def read_video(path: Path, frames: int = 20, size: int | None = None) -> Frames:
    """uint8 [frames,H,W,3]: frames evenly spread from the first to the last, by number, not by time.

    As drawn, made smaller as a film is (`filmed.smaller`), so that a trunk sees both alike. size: squares of so many
    pixels instead, nothing cut off, with black beside what is not square. A video with fewer frames shows some of them
    several times. A .npz holds uint8 [T,H,W,3] under "frames", or as its only array. How a phone was held is not
    looked at. Raises VideoError for what cannot be read or has no frame, ValueError for impossible numbers.
    """
    if frames < 1 or (size is not None and size < 1):
        raise ValueError(f"frames is {frames}, size {size}; give 1 or more of each")
    path = Path(path)
    if path.suffix.lower() == ".npz":
        every = _array(path)
        return np.stack([_sized(every[i], size) for i in _spread(len(every), frames)])
    # Twice through the file, so that the memory does not grow with its length.
    count = sum(1 for _ in _decoded(path))
    if not count:
        raise VideoError(f"{path} has no frame; {_MEND}")
    wanted = _spread(count, frames)
    kept = {i: _sized(_rgb(frame), size) for i, frame in enumerate(_decoded(path)) if i in wanted}
    if len(shapes := {frame.shape for frame in kept.values()}) > 1:
        raise VideoError(f"the frames in {path} are of several sizes, {sorted(shapes)}; save it again in one")
    return np.stack([kept[i] for i in wanted])


def _spread(count: int, frames: int) -> list[int]:
    return [int(i) for i in np.linspace(0, count - 1, frames).round()]


def _natural(name: str) -> list[Any]:
    # Text and numbers alternate, so that two names never compare one with the other.
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(re.split(r"(\d+)", name))]


def _decoded(path: Path) -> Iterator[av.VideoFrame]:
    try:
        # Some of FFmpeg's formats are lists of other files, which it would go and read.
        with (
            path.open("rb") as raw,
            av.open(raw, "r", options={"format_whitelist": "mp4,webm,avi,gif"}) as file,
        ):
            if not file.streams.video:
                raise VideoError(f"{path} has no pictures; take it away")
            yield from file.decode(video=0)
    except (OSError, av.FFmpegError) as error:
        raise VideoError(f"{path} cannot be read ({error.strerror or error}); {_MEND}") from error


def _rgb(frame: av.VideoFrame) -> Frames:
    found = VideoReformatter().reformat(frame, format="rgb24", interpolation=_EXACT, threads=1).to_ndarray()
    return found.astype(np.uint8, copy=False)


def _array(path: Path) -> Frames:
    try:
        with np.load(path, allow_pickle=False) as file:
            if "frames" not in file.files and len(file.files) != 1:
                raise VideoError(
                    f"{path} holds {', '.join(file.files) or 'nothing'}; save numpy.savez(path, frames=frames)"
                )
            found: Frames = file["frames" if "frames" in file.files else file.files[0]]
    except VideoError:
        raise
    except Exception as error:  # zip, zlib and numpy each raise their own
        raise VideoError(f"{path} cannot be read ({type(error).__name__}: {error}); {_MEND}") from error
    if found.dtype != np.uint8 or found.ndim != 4 or found.shape[-1] != 3 or not found.size:
        raise VideoError(
            f"the frames in {path} are {found.dtype} {list(found.shape)}; save uint8 [T,H,W,3], at least one"
        )
    return found


def _sized(frame: Frames, size: int | None) -> Frames:
    return smaller(frame) if size is None else _fitted(frame, size)


def _fitted(frame: Frames, size: int) -> Frames:
    """uint8 [H,W,3] -> [size,size,3], in the middle, black beside it."""
    height, width = frame.shape[:2]
    scale = size / max(height, width)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(frame).resize(inner, Image.Resampling.BILINEAR))
    found = np.zeros((size, size, 3), np.uint8)
    top, left = (size - inner[1]) // 2, (size - inner[0]) // 2
    found[top : top + inner[1], left : left + inner[0]] = small
    return found
