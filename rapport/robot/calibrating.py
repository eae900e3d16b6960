"""`rapport robot calibrate`: an arm of servos is moved by hand, without power, and what it counts is kept."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardware.arm import Array, NoAnswer
from hardware.arms import calibration
from hardware.arms.calibration import Calibration, Servo
from hardware.arms.servo_arm import ServoArm
from hardware.clock import RealClock
from hardware.config import Config, ConfigError, read
from rapport.console import say

FAMILIES = ("so101", "dynamixel")
EVERY, GIVE_UP = 0.02, 2.0  # s between two readings; without any
LEAST = 150
"""Ticks that each joint has to be moved by."""


def calibrate(robot: Path, serial: str, model: int) -> int:
    """Raises ConfigError for a family without servos, or without a person to move it; ArmError."""
    config = read(robot)
    path, before = _before(config, serial, model)
    arm = _arm(config, before)
    arm.connect()
    try:
        say("Hold the arm: its power goes off. Bring it to the pose that is to be zero, in the middle of its ranges.")
        _entered("Enter takes it for zero. ")
        arm.centre()
        middle = np.array(arm.ticks())
        say("Now move every joint through its whole range, gently to both ends; Enter ends it.")
        done = _swept(arm, middle, serial)
    finally:
        arm.close()
    calibration.save(path, done)
    new = _arm(config, done)
    new.connect()
    try:
        new.install()
    finally:
        new.close()
    for servo in done.servos:
        low, high = servo.limits
        print(f"{servo.name:16} {low:7.3f} to {high:6.3f} rad")
    print(f"{path}: {serial}; the servos have these limits too. Give each [[joint]] of {robot} limits within.")
    return 0


def _swept(arm: ServoArm, middle: Array, serial: str) -> Calibration:
    """Once every joint was moved: who presses Enter too early is told what is left. Raises ValueError for a joint that
    went over the seam of its count, NoAnswer once nobody answers any more."""
    readings, said, missed = [middle], 0.0, 0
    while True:
        try:
            readings.append(np.array(arm.ticks()))
            missed = 0
        except NoAnswer:  # an arm that is moved by hand shakes its plugs
            missed += 1
            if missed * EVERY > GIVE_UP:
                raise
        ranges = np.ptp(readings, axis=0)
        if sys.stderr.isatty() and time.monotonic() - said > 0.1:
            said = time.monotonic()
            print("\r" + _degrees(arm.servos, ranges), end="", file=sys.stderr, flush=True)
        if select.select([sys.stdin], [], [], EVERY)[0]:
            _entered()
            if not (left := [s.name for s, ticks in zip(arm.servos, ranges, strict=True) if ticks < LEAST]):
                return calibration.recorded(np.stack(readings), middle, arm.servos, serial)
            say(f"\nHardly moved: {', '.join(left)}. Go on, and press Enter again.")


def _degrees(servos: Sequence[Servo], ticks: Array) -> str:
    """How far each has moved."""
    return "  ".join(f"{s.name} {360 * t / s.turn:.0f}" for s, t in zip(servos, ticks, strict=True)) + " degrees "


def _entered(prompt: str = "") -> None:
    print(prompt, end="", file=sys.stderr, flush=True)
    if not sys.stdin.readline():
        raise ConfigError("nobody is at this end to press Enter; calibrate from a terminal")


def _before(config: Config, serial: str, model: int) -> tuple[Path, Calibration]:
    """Where the calibration goes, and what is known of the servos before it."""
    name = config.arm.settings.get("calibration")
    if config.arm.family not in FAMILIES or not isinstance(name, str):
        raise ConfigError(f"{config.file}: only {' and '.join(FAMILIES)} are calibrated, into [arm]'s calibration file")
    path = config.file.parent / name
    if path.exists():
        return path, calibration.load(path)
    if not config.arm.ids:
        raise ConfigError(f"{config.file}: the joints have no ids; give each that of its servo")
    named = zip(config.limits.names, config.arm.ids, strict=True)
    return path, Calibration(serial, tuple(Servo(name, number, model) for name, number in named))


def _arm(config: Config, found: Calibration) -> ServoArm:
    own = config.arm.settings
    settings: dict[str, Any] = {name: own[name] for name in ("baud", "spare_ms", "budget_s") if name in own}
    if config.arm.family == "so101":
        from hardware.arms.so101 import SO101

        return SO101(config.arm.port, found, RealClock(), **settings)
    from hardware.arms.dynamixel import Dynamixel

    return Dynamixel(config.arm.port, found, RealClock(), **settings)
