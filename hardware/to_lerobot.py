"""Journals as a LeRobotDataset, offline: whole in its folder or not there at all.

Every stretch in which the policy or a human led without a break is an episode of the data set: nothing is cut out of
the middle of one, and homing, holding, braking and whatever came after a stop are none.

Times are those of the journal. LeRobot wants row k at k / fps; so row k is what was last known at that moment of the
loop's own clock: the last tick at or before it, and the last picture of each camera. A loop that was slower than fps
repeats a tick (`tick_age` says how old it was, in s) and is not told faster than it was; where pictures are lost, the
last one stands, and `picture_age.CAMERA` says how old it is. Where no tick came for `GAP` seconds
a stretch ends.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embodied import atomic
from hardware import frames, lerobot_v3
from hardware.frames import Stored
from hardware.journal import SOURCES, Event, JournalError, Recovered, Tick, recover
from hardware.lerobot_v3 import Part, Pictures
from hardware.to_episodes import STOPS

GAP = 0.25  # s
LED = ("policy", "human")
UNTOLD = "no task was told"


@dataclass(frozen=True)
class Written:
    """folder: of the data set; left: journal -> why it is not in it."""

    folder: Path
    episodes: int
    rows: int
    left: Mapping[str, str]


def export(paths: Iterable[Path], folder: Path, *, fps: int, replace: bool = False) -> Written:
    """Writes the data set, or leaves it as it is where the same is there. fps: rows a second.

    Raises JournalError where nothing can be written: no stretch, journals of different joints, cameras or sizes of
    pictures, another data set in the folder (unless it is to be replaced), a full disk.
    """
    folder, parts, left = Path(folder), list[Part](), dict[str, str]()
    if isinstance(fps, bool) or not isinstance(fps, int) or fps < 1:
        raise JournalError(f"fps is {fps!r}; give a whole number of rows a second: LeRobot knows no other")
    first: Recovered | None = None
    for path in map(Path, paths):
        try:
            found = recover(path)
            if found.growing:
                raise JournalError(f"{path} is still being written; export it when the episode is over")
            made = _parts(found, fps)
        except JournalError as error:
            left[path.name] = str(error)
            continue
        first = first or found
        if (mine := found.header.joints) != (theirs := first.header.joints):
            raise JournalError(
                f"{path} has joints {', '.join(mine)}, {first.path} has {', '.join(theirs)}; export each"
            )
        if not made:
            left[path.name] = f"{path} has no stretch of {2 / fps:g} s in which the policy or a human led"
        parts += made
    if first is None or not parts:
        raise JournalError(f"there is nothing to export: {'; '.join(left.values()) or 'give at least one journal'}")
    if len(seen := {tuple(sorted(part.pictures)) for part in parts}) > 1:
        shown = " and ".join(sorted(", ".join(names) or "none" for names in seen))
        raise JournalError(f"the journals have different cameras: {shown}; export those of one kind at a time")
    names = [f"{joint}.pos" for joint in first.header.joints]
    called = {"observation.state": names, "observation.velocity": first.header.joints, "action": names}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            made_in = Path(scratch) / "made"
            made_in.mkdir()
            lerobot_v3.write(made_in, parts, called, fps, first.header.family)
            _settle(made_in, folder, Path(scratch) / "old", replace)
    except OSError as error:
        raise JournalError(atomic.explain(error, folder)) from error
    except ValueError as error:
        raise error if isinstance(error, JournalError) else JournalError(f"{folder}: {error}") from error
    return Written(folder, len(parts), sum(map(len, parts)), left)


def _parts(found: Recovered, fps: int) -> list[Part]:
    pictured = frames.beside(found.path)
    shown: dict[str, list[Stored]] = {}
    frames.kept(pictured)  # raises while somebody still writes them
    for stored in frames.frames(pictured) if pictured.exists() else ():
        shown.setdefault(stored.camera, []).append(stored)
    made = (_part(found, ticks, shown, fps) for ticks in _stretches(found))
    return [part for part in made if part is not None]


def _stretches(found: Recovered) -> list[list[tuple[int, Tick, int]]]:
    """(mono_ns, tick, offset) of every unbroken stretch."""
    stretches: list[list[tuple[int, Tick, int]]] = [[]]
    for each in found.records:
        match each.record:
            case Event(kind) if kind in STOPS:
                stretches.append([])
            case Tick() as tick:
                last = stretches[-1]
                if tick.source not in LED or (last and each.mono_ns - last[-1][0] > GAP * 1e9):
                    stretches.append([])
                if tick.source in LED:
                    stretches[-1].append((each.mono_ns, tick, each.offset))
    return [stretch for stretch in stretches if stretch]


def _part(
    found: Recovered, ticks: Sequence[tuple[int, Tick, int]], shown: Mapping[str, Sequence[Stored]], fps: int
) -> Part | None:
    """None where less than two rows would be left, as before a camera has shown anything."""
    at = np.array([each[0] for each in ticks])
    begin = max([int(at[0]), *(pictures[0].time_ns for pictures in shown.values())])
    grid = begin + np.round(np.arange(max(0, int((at[-1] - begin) * fps / 1e9)) + 1) * 1e9 / fps).astype(np.int64)
    if len(grid) < 2:
        return None
    took = [ticks[i] for i in np.searchsorted(at, grid, "right") - 1]
    tick = [each[1] for each in took]
    rows = {
        "observation.state": np.array([t.position for t in tick], np.float32),
        "observation.velocity": np.array([t.velocity for t in tick], np.float32),
        "action": np.array([t.command for t in tick], np.float32),
        "source": np.array([SOURCES.index(t.source) for t in tick]),
        "intervention": np.array([t.source == "human" for t in tick]),
        "clipped": np.array([t.verdict != "ok" for t in tick]),
        "tick_age": ((grid - np.array([each[0] for each in took])) / 1e9).astype(np.float32),
        "journal_seq": np.array([t.seq for t in tick]),
        "journal_offset": np.array([each[2] for each in took]),
    }
    pictures = {}
    for camera, stored in shown.items():
        latest = np.searchsorted([s.time_ns for s in stored], grid, "right") - 1
        pictures[camera] = Pictures([stored[i] for i in latest])
        taken = np.array([stored[i].time_ns for i in latest])
        rows[f"picture_age.{camera}"] = ((grid - taken) / 1e9).astype(np.float32)
    return Part(found.header.task or UNTOLD, rows, pictures)


def _settle(made: Path, folder: Path, aside: Path, replace: bool) -> None:
    """On the disk, and then in its place."""
    for path in [*made.rglob("*"), made]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if folder.exists():
        if _same(made, folder):
            return
        if not (replace and (folder / "meta/info.json").exists()):
            raise JournalError(f"{folder} holds something else; give a new folder, or say --replace for a data set")
        folder.rename(aside)
    made.rename(folder)
    atomic.sync_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _same(a: Path, b: Path) -> bool:
    names = [sorted(p.relative_to(x).as_posix() for p in x.rglob("*") if p.is_file()) for x in (a, b)]
    return names[0] == names[1] and filecmp.cmpfiles(a, b, names[0], shallow=False)[0] == names[0]
