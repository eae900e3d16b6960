"""What people are shown of a robot's episode: what a camera saw, the main job's arm drawn from its joint angles, or
whatever a function of one's own draws. Each is the frames of a stretch, evenly in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from embodied.episodes import Episode
from embodied.records import Array
from hardware import frames
from hardware.framed import JournalError
from hardware.to_episodes import about, scene
from rapport.robot.queries import step_seconds

Film = Callable[[Episode, int, int], Array]
"""(episode, start, stop) -> uint8 [F,H,W,3] of steps [start, stop), in any number, evenly in time."""
FPS = 20.0
OLDEST = 0.5  # s: an older picture is not shown for what was seen at that moment


def seconds(episode: Episode, start: int, stop: int) -> float:
    """How long steps [start, stop) took, by the loop's own clock."""
    time = episode.info["time"]
    return float(time[stop - 1] - time[start]) + step_seconds(episode)


def moments(episode: Episode, start: int, stop: int, fps: float = FPS) -> Array:
    """s since the first tick, evenly."""
    lasts = seconds(episode, start, stop)
    return episode.info["time"][start] + np.arange(max(1, round(lasts * fps))) / fps


def from_camera(journals: Path, camera: str = "", fps: float = FPS) -> Film:
    """What was seen, from the log of frames beside the journal. camera: its name, where there are several.

    The film raises JournalError for an episode without such frames, and for a stretch in which they are missing.
    """

    @cache
    def stored(path: Path) -> dict[str, list[frames.Stored]]:
        found: dict[str, list[frames.Stored]] = {}
        for one in frames.frames(path) if path.exists() else ():
            found.setdefault(one.camera, []).append(one)
        return found

    def film(episode: Episode, start: int, stop: int) -> Array:
        told = about(episode)
        path = frames.beside(journals / told["journal"])
        seen = stored(path)
        if camera not in (*seen, "") or (len(seen) != 1 and not camera):
            there = ", ".join(sorted(seen)) or "none"
            raise JournalError(f"camera {camera!r} of {path}: there are {there}; name one of them, or draw the episode")
        of = seen[camera or next(iter(seen))]
        at = told["first_ns"] + np.round(moments(episode, start, stop, fps) * 1e9).astype(np.int64)
        times = np.array([one.time_ns for one in of])
        latest = np.maximum(np.searchsorted(times, at, "right") - 1, 0)
        if (age := float(np.abs(at - times[latest]).max()) * 1e-9) > OLDEST:
            raise JournalError(f"camera {of[0].camera!r} showed nothing new for {age:.1f} s of {told['journal']}")
        drawn = {int(i): of[i].picture() for i in np.unique(latest)}
        return np.stack([drawn[int(i)] for i in latest])

    return film


def of_cup_arm(episode: Episode, start: int, stop: int) -> Array:
    """The main job's arm, drawn by MuJoCo from the joint angles that were measured, in the scene of the journal:
    `start` [3], `goal` [3] and `laptop` [2], m. Raises ValueError where these are not there, RenderError where there
    is no OpenGL."""
    from envs.arm_render import Clip, render_frames
    from envs.arm_task import Layouts

    there, position = scene(episode, start), episode.info["position"]
    if missing := [name for name in ("start", "goal", "laptop") if name not in there]:
        raise ValueError(f"the scene of episode {episode.id!r} lacks {', '.join(missing)}, and cannot be drawn")
    layout = Layouts(*(np.array([there[name]]) for name in ("start", "goal", "laptop")))
    time, at = episode.info["time"], moments(episode, start, stop)
    qpos = np.stack([np.interp(at, time, joint) for joint in position.T], 1)
    return render_frames([Clip(qpos, layout)])
