"""The arm that a robot's file describes; and how it is stopped by somebody who has only that file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hardware.arm import HANG_SECONDS, Arm, ArmState, Clock, NoAnswer, Refused, StopReport
from hardware.config import Config, ConfigError

FAMILIES = ("so101", "dynamixel", "ur5e", "twin", "lerobot")
_SERVOS = {"calibration": str, "baud": int, "spare_ms": float, "budget_s": float}
_KNOWN: Mapping[str, Mapping[str, type]] = {
    "so101": {**_SERVOS, "stall": float},
    "dynamixel": {**_SERVOS, "effort": float, "watchdog_s": float},
    "ur5e": dict.fromkeys(("lookahead", "gain", "watchdog_hz", "answer", "fresh", "lost"), float),
    "twin": {"model": str, "start": tuple, "speed": float},
}
_WORDS = {str: "a text", int: "a whole number", float: "a number", tuple: "a list"}
SLACK = 1e-3
"""rad: by which a limit may be beyond what a calibration lets a servo do, for the rounding of ticks."""


def arm_of(config: Config, clock: Clock) -> Arm:
    """Not opened. Paths are relative to the robot's file. Raises ConfigError for a family, a setting or a file that is
    not as it has to be, by name."""
    try:
        return _arm_of(config, clock)
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{config.file}: [arm]: {error}") from error


def _arm_of(config: Config, clock: Clock) -> Arm:
    names: tuple[str, ...] = config.limits.names
    settings: dict[str, Any] = dict(config.arm.settings)
    family, port = config.arm.family, config.arm.port
    if family not in FAMILIES:
        raise ConfigError(f"{config.file}: family of [arm] is {family!r}; known are {', '.join(FAMILIES)}")
    if family in _KNOWN:
        _check(config, settings, _KNOWN[family])
    if family != "twin" and family != "lerobot" and not port:
        raise ConfigError(f"{config.file}: [arm] lacks 'port'; name where the arm is")
    match family:
        case "so101" | "dynamixel":
            return _servos(config, clock, settings)
        case "ur5e":
            from hardware.arms.ur import UR

            arm = UR(port, period=1 / config.limits.rate, clock=clock, **settings)
            if arm.spec.names != names:
                raise ValueError(f"the joints are {', '.join(names)}, those of a UR are {', '.join(arm.spec.names)}")
            return arm
        case "twin":
            from hardware.arms.twin import Link, Twin

            model = settings.pop("model", None)
            if (start := settings.pop("start", None)) is not None:
                settings["start"] = np.array(start)
            axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
            rods = [Link(name, axes[min(i, 1)], (0.0, 0.0, 0.1)) for i, name in enumerate(names)]
            return Twin(_beside(config, model) if model else rods, joints=names, clock=clock, **settings)
        case _:
            from hardware.arms.lerobot import LeRobot

            for key in ("python", "kind"):
                if not isinstance(settings.get(key), str):
                    raise ValueError(f"{key} is {settings.get(key)!r}; give a text")
            # A tick may wait for two answers, and a start is tried three times before the guard loses patience.
            for key, most in (("answer", (HANG_SECONDS - 1 / config.limits.rate) / 2), ("start", 60.0)):
                given = settings.get(key, most)
                if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= most:
                    raise ValueError(f"{key} is {given!r}; give seconds, more than 0 and at most {most:.3g}")
            ours = ("python", "kind", "plugin", "answer", "start")
            own: dict[str, Any] = {key: settings.pop(key) for key in ours if key in settings}
            return LeRobot(**own, config={**settings, **({"port": port} if port else {})}, joints=names, clock=clock)


TRIES = 3
"""Of opening an arm."""


def opened(arm: Arm) -> ArmState:
    """Opens it, and what it measures then. Who does not answer, or not as he should, is asked again: to a process that
    died servos may still be answering, which looks like two of one id. Raises as `Arm.open`."""
    for left in reversed(range(TRIES)):
        try:
            arm.open()
            return arm.read()
        except (NoAnswer, Refused):
            arm.close()
            if not left:
                raise
    raise AssertionError("not reached")


def stopper(config: Config, clock: Clock) -> Callable[[], StopReport | None]:
    """What stops the arm, by its own policy, when the daemon is dead: no tick of its own, and all that takes long is
    done before; servos that are dead keep none of the others from it. None where nobody but the daemon could: an arm in
    its process is gone with it, and LeRobot's servos hold where they were told last."""
    if config.arm.family in ("twin", "lerobot"):
        return lambda: None
    from hardware.arms.servo_arm import ServoArm

    arm = arm_of(config, clock)

    def stop() -> StopReport | None:
        try:
            if isinstance(arm, ServoArm):  # of a UR the dashboard is enough, and quicker
                arm.seize()
            return arm.stop(arm.spec.stop)
        finally:
            arm.close()

    return stop


def _servos(config: Config, clock: Clock, settings: dict[str, Any]) -> Arm:
    from hardware.arms import calibration

    if "calibration" not in settings:
        raise ValueError("'calibration' is missing; name the file that calibrating the arm writes")
    found = calibration.load(_beside(config, settings.pop("calibration")))
    names, ids = tuple(s.name for s in found.servos), tuple(s.id for s in found.servos)
    if names != config.limits.names or (config.arm.ids and ids != config.arm.ids):
        raise ValueError(
            f"the calibration is of {', '.join(names)} with the ids {list(ids)}, the file's joints are "
            f"{', '.join(config.limits.names)} with {list(config.arm.ids)}; give both the same"
        )
    for servo, lower, upper in zip(found.servos, config.limits.lower, config.limits.upper, strict=True):
        low, high = servo.limits
        if lower < low - SLACK or upper > high + SLACK:
            raise ValueError(
                f"joint {servo.name!r} may go from {lower:.4f} to {upper:.4f} rad, and it is calibrated for {low:.4f} "
                f"to {high:.4f}; give it tighter limits"
            )
    if config.arm.family == "so101":
        from hardware.arms.so101 import SO101

        return SO101(config.arm.port, found, clock, **settings)
    from hardware.arms.dynamixel import Dynamixel

    return Dynamixel(config.arm.port, found, clock, **settings)


def _beside(config: Config, path: str) -> Path:
    return config.file.parent / path


def _check(config: Config, settings: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(
                f"{config.file}: [arm] has the unknown key {key!r}; {config.arm.family} knows {', '.join(known)}"
            )
        kind = known[key]
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise ConfigError(f"{config.file}: {key!r} of [arm] is {value!r}; give {_WORDS[kind]}")
