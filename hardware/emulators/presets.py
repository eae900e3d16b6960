"""The arms that are emulated: an SO-101, and one of six Dynamixel X servos."""

from __future__ import annotations

from hardware.arms.calibration import Calibration, Servo
from hardware.emulators.physics import Hinge

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")

# About the lengths of an SO-101 (its description by TheRobotStudio), metres, in a pose that reaches forward. What
# falls without power comes to rest within its calibrated range: ranges are found by moving an arm to its stops.
HINGES = (
    Hinge(NAMES[0], (0.0, 0.0, 0.055), (0, 0, 1), -2.2, 2.2),
    Hinge(NAMES[1], (0.03, 0.0, 0.055), (0, 1, 0), -2.05, 2.05, 0.12),
    Hinge(NAMES[2], (0.03, 0.0, 0.11), (0, 1, 0), -2.05, 2.05, 0.12),
    Hinge(NAMES[3], (0.135, 0.0, 0.0), (0, 1, 0), -2.05, 2.05),
    Hinge(NAMES[4], (0.06, 0.0, 0.0), (1, 0, 0), -2.2, 2.2),
    Hinge(NAMES[5], (0.04, 0.0, 0.0), (0, 0, 1), -2.2, 2.2, 0.03),
)
_SIGNS = (1, -1, 1, 1, -1, 1)
_MODELS = {"so101": 777, "dynamixel": 1020}


def calibration(family: str) -> Calibration:
    """Of the emulated arm of that family: what its servos come calibrated with."""
    if family not in _MODELS:
        raise ValueError(f"there is no emulated servo arm {family!r}; there are {', '.join(_MODELS)}")
    return Calibration(
        f"emulated-{family}",
        tuple(
            Servo(name, number, _MODELS[family], zero=2048, sign=sign, low=700, high=3400)
            for number, (name, sign) in enumerate(zip(NAMES, _SIGNS, strict=True), 1)
        ),
    )
