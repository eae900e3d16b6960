"""What people are shown of a robot's episode: what a camera saw, the main job's arm drawn from its joint angles, or
whatever a function of one's own draws. Each is the frames of a stretch, evenly in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from embodied.episodes import Episode
from embodied.records import Array
from hardware import frames
from hardware.framed import JournalError
from hardware.to_episodes import about
from rapport.robot.queries import step_seconds

Film = Callable[[Episode, int, int], Array]
"""(episode, start, stop) -> uint8 [F,H,W,3] of steps [start, stop), in any number, evenly in time."""
FPS = 20.0


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

    The film raises JournalError for an episode without such frames.
    """

    def film(episode: Episode, start: int, stop: int) -> Array:
        told = about(episode)
        path = frames.beside(journals / told["journal"])
        names = frames.cameras(path)
        if not names or camera not in (*names, "") or (not camera and len(names) > 1):
            there = ", ".join(names) or "none"
            raise JournalError(f"camera {camera!r} of {path}: there are {there}; name one of them, or draw the episode")
        at = told["first_ns"] + np.round(moments(episode, start, stop, fps) * 1e9).astype(np.int64)
        stored = [f for f in frames.frames(path, camera) if f.time_ns <= at[-1]]
        if not stored:
            raise JournalError(f"camera {camera!r} had shown nothing by step {stop} of {told['journal']}")
        latest = np.searchsorted([f.time_ns for f in stored], at, "right") - 1
        drawn = {int(i): stored[i].picture() for i in np.unique(np.maximum(latest, 0))}
        return np.stack([drawn[max(int(i), 0)] for i in latest])

    return film


def of_cup_arm(episode: Episode, start: int, stop: int) -> Array:
    """The main job's arm, drawn by MuJoCo from the joint angles that were measured, in the scene of the journal:
    `start` [3], `goal` [3] and `laptop` [2], m. Raises ValueError where these are not there, RenderError where there
    is no OpenGL."""
    from envs.arm_render import Clip, render_frames
    from envs.arm_task import Layouts

    scene, position = about(episode)["scene"], episode.info["position"]
    if missing := [name for name in ("start", "goal", "laptop") if name not in scene]:
        raise ValueError(f"the scene of episode {episode.id!r} lacks {', '.join(missing)}, and cannot be drawn")
    layout = Layouts(*(np.array([scene[name]]) for name in ("start", "goal", "laptop")))
    time, at = episode.info["time"], moments(episode, start, stop)
    qpos = np.stack([np.interp(at, time, joint) for joint in position.T], 1)
    return render_frames([Clip(qpos, layout)])
