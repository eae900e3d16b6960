"""`rapport robot calibrate`: an arm of servos is moved by hand, without power, and what it counts is kept."""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path

import numpy as np

from hardware.arms import calibration
from hardware.arms.calibration import Calibration, Servo
from hardware.arms.servo_arm import ServoArm
from hardware.clock import RealClock
from hardware.config import Config, ConfigError, read
from rapport.console import say

FAMILIES = ("so101", "dynamixel")
EVERY = 0.02  # s between two readings


def calibrate(robot: Path, serial: str, model: int) -> int:
    """Raises ConfigError for a family without servos, ValueError for a joint that was not moved, ArmError."""
    config = read(robot)
    path, before = _before(config, serial, model)
    arm = _arm(config, before)
    arm.connect()
    try:
        input("Hold the arm, and bring it to the pose that is to be zero; Enter takes the power off, and reads it. ")
        if unsure := arm.stop(0).unsure:
            raise ConfigError(f"{', '.join(unsure)} may have power; switch the arm off and on, and begin again")
        middle = np.array(arm.ticks())
        say("Now move every joint through its whole range, gently to both ends; Enter ends it.")
        readings = [middle]
        while not select.select([sys.stdin], [], [], 0)[0]:
            readings.append(np.array(arm.ticks()))
            time.sleep(EVERY)
        sys.stdin.readline()
        done = calibration.recorded(np.stack(readings), middle, before.servos, serial)
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
    if config.arm.family == "so101":
        from hardware.arms.so101 import SO101

        return SO101(config.arm.port, found, RealClock())
    from hardware.arms.dynamixel import Dynamixel

    return Dynamixel(config.arm.port, found, RealClock())
