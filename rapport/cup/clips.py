"""Clips of the main job: before and after on the same layouts, and what a person is asked about. Nothing where there is
no OpenGL: no number depends on a picture."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from embodied.records import Query, Segment
from envs.arm import Layouts, decode
from envs.arm_render import Clip, gl, render_clips
from rapport.cup.agent import held_out
from rapport.cup.finished import open_finished
from rapport.cup.pools import Rollouts

SHOWN = 4


def render_before_after(folder: Path, into: str = "clips", shown: int = SHOWN) -> None:
    """The run's first held-out layouts, before and after side by side, as `folder/into/before-after-N.mp4`, and a still
    of the first, before-after.png. The folder appears whole or not at all."""
    if gl() is None:
        return
    run = open_finished(folder)
    layouts = held_out(run.settings.seed, shown)
    before, after = run.roll_out(run.before, layouts), run.roll_out(run.after, layouts)
    answers = run.result["answers"]
    title = f"after {answers} answers" if answers else "after"
    jobs = {
        f"before-after-{i + 1}": [Clip(r.qpos[i], layouts[i], t) for r, t in ((before, "before"), (after, title))]
        for i in range(shown)
    }
    with tempfile.TemporaryDirectory(dir=folder, prefix=".clips-") as scratch:
        made = Path(scratch) / "made"
        clips = _drawn(jobs, made)
        _still(clips["before-after-1"], before[:1], after[:1], made / "before-after.png")
        target = folder / into
        if target.exists():
            target.rename(Path(scratch) / "old")
        made.rename(target)


def _drawn(jobs: Mapping[str, Sequence[Clip]], folder: Path) -> dict[str, Path]:
    """`render_clips` with a progress bar: the files that are there are counted."""
    if not jobs:
        return {}
    bar = tqdm(total=len(jobs), desc="drawing clips", unit=" clips", file=sys.stderr, dynamic_ncols=True)
    with bar, ThreadPoolExecutor(1) as hand:
        made = hand.submit(render_clips, jobs, folder)
        while not made.done():
            wait([made], timeout=1)
            bar.update(len([*folder.glob("*.mp4")]) - bar.n)
        bar.update(len(jobs) - bar.n)
        return made.result()


def _still(clip: Path, before: Rollouts, after: Rollouts, target: Path) -> None:
    """Each half at the moment at which the cup passes the laptop's middle."""
    with av.open(str(clip)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    half = frames[0].shape[1] // 2
    left, right = (frames[_passes(r)] for r in (before, after))
    Image.fromarray(np.concatenate([left[:, :half], right[:, half:]], 1)).save(target)


def _passes(rollouts: Rollouts) -> int:
    return int(np.abs(decode(rollouts.obs)["laptop_offset"][0, :, 1]).argmin())


def render_questions(queries: Sequence[Query], folder: Path) -> dict[str, Path]:
    """One clip per question, its two behaviours side by side, as `folder/ID.mp4`; query id -> file. One that is there
    already is left alone. Empty where there is no OpenGL."""
    if gl() is None:
        return {}
    files = {query.id: folder / f"{query.id}.mp4" for query in queries}
    jobs = {
        query.id: [_clip(segment, str(k + 1)) for k, segment in enumerate(query.segments)]
        for query in queries
        if not files[query.id].exists()
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".drawing-") as scratch:
        for name, clip in _drawn(jobs, Path(scratch)).items():
            clip.rename(files[name])
    return files


def render_segments(queries: Sequence[Query], folder: Path) -> dict[str, list[Path]]:
    """One clip per segment, as `folder/ID-K.mp4`; query id -> files. One that is there already is left alone."""
    files = {q.id: [folder / f"{q.id}-{k}.mp4" for k in range(len(q.segments))] for q in queries}
    jobs = {
        file.stem: [_clip(segment, "")]
        for query in queries
        for file, segment in zip(files[query.id], query.segments, strict=True)
        if not file.exists()
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".drawing-") as scratch:
        for name, clip in _drawn(jobs, Path(scratch)).items():
            clip.rename(folder / f"{name}.mp4")
    return files


def _clip(segment: Segment, title: str) -> Clip:
    """All that a picture needs is in the observation."""
    now = decode(segment.obs)
    cup = now["cup"][:1]
    layout = Layouts(cup, cup + now["goal_offset"][:1], cup[:, :2] + now["laptop_offset"][:1])
    return Clip(now["joints"], layout, title)
