"""`rapport robot emulate`: an arm to try everything with, and a robot.toml that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rapport.console import say

ADDRESS = "127.0.0.2"
_HEAD = """\
# Of an emulated arm. What each line means, docs/robot.md says.
rate = 100.0
journal = "episodes"

[arm]
family = "{family}"
"""
_JOINT = """
[[joint]]
name = "{name}"
{id}lower = {lower:.4f}
upper = {upper:.4f}
velocity = {velocity}
acceleration = 10.0
tracking = 0.3
start = 0.1
home = {home:.4f}
"""


def emulate(family: str, folder: Path, port: int) -> int:
    """Until it is ended; of the main job's arm only the file is written. Raises OSError where the folder cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "robot.toml"
    if file.exists():
        say(f"{file} is there, and is left as it is")
    else:
        file.write_text(_file(family, folder, port))
        say(f"{file} is written; in another terminal: rapport robot run {file}")
    match family:
        case "cup":
            print(file)
            return 0
        case "ur5e":
            from hardware.emulators.ur import main as controller

            controller(["--address", ADDRESS, "--control", str(folder / "control")])
        case _:
            from hardware.emulators.__main__ import main as servos

            servos([family, "--link", str(folder / "port"), "--calibration", str(folder / "calibration.json")])
    return 0


def _file(family: str, folder: Path, port: int) -> str:
    match family:
        case "cup":
            parts = _cup()
        case "ur5e":
            from hardware.arms.ur import NAMES

            joints = _joints(NAMES, [-6.2] * 6, [6.2] * 6, [0.0, -1.57, 1.57, -1.57, -1.57, 0.0], velocity=1.5)
            parts = [_HEAD.format(family="ur5e"), f'port = "{ADDRESS}"\n', *joints]
        case _:
            from hardware.emulators.presets import calibration

            servos = calibration(family).servos
            lower, upper = (np.round([servo.limits[k] for servo in servos], 4) for k in (0, 1))
            joints = _joints(
                [servo.name for servo in servos], lower, upper, [0.0] * 6, [servo.id for servo in servos], velocity=2.0
            )
            parts = [_HEAD.format(family=family), 'port = "port"\ncalibration = "calibration.json"\n', *joints]
            parts[1] = parts[1].replace('"port"', f'"{(folder / "port").resolve()}"')
    return "".join([*parts, f'\n[gateway]\nhost = "127.0.0.1"\nport = {port}\n'])


def _cup() -> list[str]:
    """The main job's arm, at home where an episode of its usual scene begins."""
    from envs import arm_model
    from envs.arm import CupArms, Layouts

    scene = {"start": [0.5, -0.42, 0.27], "goal": [0.5, 0.42, 0.22], "laptop": [0.54, 0.0]}
    envs = CupArms(1, seed=0)
    envs.reset(options={"layouts": Layouts(**{name: np.array([at]) for name, at in scene.items()})})
    home, limit = np.round(envs.qpos[0], 4).tolist(), arm_model.JOINT_LIMIT
    envs.close()
    # Not rounded: the policy's contract says the same to the last bit.
    joints = [
        _JOINT.format(name=name, id="", lower=-limit, upper=limit, velocity=2.5, home=at)
        .replace(f"lower = {-limit:.4f}", f"lower = {-limit!r}")
        .replace(f"upper = {limit:.4f}", f"upper = {limit!r}")
        for name, at in zip(arm_model.JOINT_NAMES, home, strict=True)
    ]
    things = [f'\n[scene.{name}]\nsize = {len(at)}\nunit = "m"\n' for name, at in scene.items()]
    return [_HEAD.format(family="twin"), f"start = {home}\n", *joints, *things]


def _joints(
    names: Sequence[str],
    lower: Sequence[float] | np.ndarray,
    upper: Sequence[float] | np.ndarray,
    home: Sequence[float],
    ids: Sequence[int] | None = None,
    *,
    velocity: float,
) -> list[str]:
    return [
        _JOINT.format(
            name=name,
            id=f"id = {ids[i]}\n" if ids else "",
            lower=lower[i],
            upper=upper[i],
            velocity=velocity,
            home=home[i],
        )
        for i, name in enumerate(names)
    ]
