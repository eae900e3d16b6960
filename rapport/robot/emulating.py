"""`rapport robot emulate`: an arm to try everything with, and a robot.toml that fits it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from policies.chain import Chain
from rapport.console import say

ADDRESS = "127.0.0.2"
_HEAD = """\
# Of an emulated arm. What each line means, docs/robot.md says.
rate = 100.0
journal = "episodes"

[arm]
family = "{family}"
"""
_SERVOS = """\
port = "{port}"
calibration = "calibration.json"
# A port that is emulated is later than a cable where other processes want the machine. Leave both out for real servos.
spare_ms = 10.0
budget_s = 0.02
"""
_LEROBOT = """\
port = {port}
python = {python}
kind = "so101_follower"
id = "so"
calibration_dir = {folder}
answer = 0.2
"""
_USUAL, _SLOW = "rate = 100.0", "rate = 40.0\ntracking_seconds = 1.0"
_QUICK, _PATIENT = "spare_ms = 10.0\nbudget_s = 0.02\n", "spare_ms = 100.0\nbudget_s = 0.1\n"
"""With the slow loop, the second makes a stall of the machine no fault of the arm's."""
_JOINT = """
[[joint]]
name = "{name}"
{id}lower = {lower}
upper = {upper}
velocity = {velocity}
acceleration = {acceleration}
tracking = 0.3
start = 0.1
home = {home:.4f}
"""

_CHAIN = """
# How fast and where its tool may be: at most 0.25 m/s, unless there is a speed.
[chain]
offsets = {offsets}
axes = {axes}
tool = {tool}

[scene.goal]
size = 3
unit = "m"
"""


def emulate(family: str, folder: Path, port: int, patient: bool = False, lerobot: Path | None = None) -> int:
    """Until it is ended; of the main job's arm only the file is written. lerobot: the Python of its environment. Raises
    OSError where the folder cannot be, ValueError for a family that LeRobot does not lead here."""
    if lerobot is not None and (family != "so101" or patient):
        raise ValueError(f"--lerobot with {'--patient' if patient else family}: give it with so101 alone.")
    if lerobot is not None and not lerobot.is_file():
        raise ValueError(f"--lerobot {lerobot}: there is no such file; name the Python of LeRobot's environment.")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "robot.toml"
    if file.exists():
        say(f"{file} is there, and is left as it is")
    else:
        file.write_text(_file(family, folder, port, patient, lerobot))
        say(f"{file} is written; in another terminal: rapport robot run {file}")
    if family == "cup":
        print(file)
        return 0
    match family:
        case "ur5e":
            from hardware.emulators.ur import main as controller

            controller(["--address", ADDRESS, "--control", str(folder / "control"), "--first"])
        case "cup-servos":
            from hardware.emulators.__main__ import main as servos

            servos(["dynamixel", "--shape", "cup", *_beside(folder)])
        case _:
            from hardware.emulators.__main__ import main as servos

            servos([family, *_beside(folder)])
    return 0


def _beside(folder: Path) -> list[str]:
    return ["--link", str(folder / "port"), "--calibration", str(folder / "calibration.json"), "--first"]


def _file(family: str, folder: Path, port: int, patient: bool, lerobot: Path | None) -> str:
    match family:
        case "so101" if lerobot is not None:
            parts = _led_by_lerobot(folder, lerobot)
        case "cup":
            parts = _cup()
        case "cup-servos":
            parts = _cup(folder)
        case "ur5e":
            from hardware.arms.ur import NAMES
            from hardware.emulators import ur_body

            joints = _joints(NAMES, [-6.2] * 6, [6.2] * 6, [0.0, -1.57, 1.57, -1.57, -1.57, 0.0], velocity=1.5)
            parts = [_HEAD.format(family="ur5e"), f'port = "{ADDRESS}"\n', *joints, _tool(ur_body.chain())]
        case _:
            from hardware.emulators import presets

            servos = presets.calibration(family).servos
            lower, upper = (np.round([servo.limits[k] for servo in servos], 4) for k in (0, 1))
            joints = _joints(
                [servo.name for servo in servos], lower, upper, [0.0] * 6, [servo.id for servo in servos], velocity=2.0
            )
            where = _SERVOS.format(port=(folder / "port").resolve())
            parts = [_HEAD.format(family=family), where, *joints, _tool(presets.chain())]
    if patient:
        parts[0] = parts[0].replace(_USUAL, _SLOW)
        if _QUICK in parts[1]:  # servos on a bus
            parts[1] = parts[1].replace(_QUICK, _PATIENT + ("" if family == "so101" else "watchdog_s = 0.5\n"))
    return "".join([*parts, f'\n[gateway]\nhost = "127.0.0.1"\nport = {port}\n'])


def _led_by_lerobot(folder: Path, python: Path) -> list[str]:
    """LeRobot's own calibration is written too. To LeRobot a joint's positive sense is its servo's, and zero the middle
    of its range, of a gripper the closed end."""
    from hardware.emulators import presets

    servos, chain = presets.calibration("so101").servos, presets.chain()
    names = [servo.name for servo in servos]
    span = np.array([(servo.high - servo.low) * 2 * np.pi / servo.turn for servo in servos])
    lower = np.where([name == "gripper" for name in names], 0.0, -span / 2)
    turned = zip(servos, chain.axes, strict=False)  # the gripper turns nothing
    axes = tuple((servo.sign * x, servo.sign * y, servo.sign * z) for servo, (x, y, z) in turned)
    kept = {
        servo.name: {
            "id": servo.id,
            "drive_mode": 0,
            "homing_offset": servo.offset,
            "range_min": servo.low,
            "range_max": servo.high,
        }
        for servo in servos
    }
    (folder / "so.json").write_text(json.dumps(kept, indent=1))
    paths = {"port": (folder / "port").resolve(), "python": python.absolute(), "folder": folder.resolve()}
    here = {name: json.dumps(str(path)) for name, path in paths.items()}  # quoted as TOML has it too
    head = _HEAD.format(family="lerobot").replace("rate = 100.0", "rate = 20.0\ntracking_seconds = 1.0")
    # Within what LeRobot takes, whatever is rounded.
    joints = _joints(names, lower + 1e-3, lower + span - 1e-3, (lower + span / 2).tolist(), velocity=2.0)
    return [head, _LEROBOT.format(**here), *joints, _tool(replace(chain, axes=axes))]


def _cup(servos: Path | None = None) -> list[str]:
    """The main job's arm, at home where an episode of its usual scene begins. servos: where their port is."""
    from envs import arm_model
    from envs.arm import CupArms, Layouts
    from hardware.emulators.presets import calibration

    scene = {"start": [0.5, -0.42, 0.27], "goal": [0.5, 0.42, 0.22], "laptop": [0.54, 0.0]}
    envs = CupArms(1, seed=0)
    envs.reset(options={"layouts": Layouts(**{name: np.array([at]) for name, at in scene.items()})})
    home = np.round(envs.qpos[0], 4).tolist()
    envs.close()
    limits = [(-arm_model.JOINT_LIMIT, arm_model.JOINT_LIMIT)] * len(home)
    if servos:
        limits = [servo.limits for servo in calibration("dynamixel", "cup").servos]
    # Not rounded: the policy's contract says the same to the last bit.
    joints = [
        _JOINT.format(
            name=name,
            id=f"id = {number}\n" if servos else "",
            lower=repr(lower),
            upper=repr(upper),
            velocity=3.5,
            acceleration=40.0,
            home=at,
        )
        for number, (name, at, (lower, upper)) in enumerate(zip(arm_model.JOINT_NAMES, home, limits, strict=True), 1)
    ]
    things = [f'\n[scene.{name}]\nsize = {len(at)}\nunit = "m"\n' for name, at in scene.items()]
    if servos:
        where = _SERVOS.format(port=(servos / "port").resolve())
        return [_HEAD.format(family="dynamixel"), where, *joints, *things]
    return [_HEAD.format(family="twin"), f"start = {home}\n", *joints, *things]


def _tool(chain: Chain) -> str:
    lists = {name: [list(vector) for vector in getattr(chain, name)] for name in ("offsets", "axes")}
    return _CHAIN.format(**lists, tool=list(chain.tool))


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
            lower=f"{lower[i]:.4f}",
            upper=f"{upper[i]:.4f}",
            velocity=velocity,
            acceleration=10.0,
            home=home[i],
        )
        for i, name in enumerate(names)
    ]
