"""The arms that are emulated: an SO-101, one of six Dynamixel X servos, and the main job's with seven of them."""

from __future__ import annotations

from typing import Literal

from envs import arm_model
from hardware.arms.calibration import Calibration, Servo
from hardware.emulators.physics import Hinge
from policies.chain import Chain

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
FINGERS = (0.1, 0.0, 0.0)
"""Where a closed gripper grips, from the hinge before it, metres."""
_SIGNS = (1, -1, 1, 1, -1, 1)
_MODELS = {"so101": 777, "dynamixel": 1020}
Shape = Literal["six", "cup"]


def hinges(shape: Shape) -> tuple[Hinge, ...]:
    """The main job's arm weighs what its model weighs and is counterbalanced like it. Its servos are stronger than any
    of their kind, and turn once round: half as far as the model's joints."""
    if shape == "six":
        return HINGES
    masses = (4.0, 2.9, 2.2, 1.7, 1.2, 0.6, 0.4)  # kg: the model's capsules, and the cup in the last
    axis = {"y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
    return tuple(
        Hinge(name, (0.0, 0.0, offset), axis[turn], -3.0, 3.0, mass, 2000.0, 100.0, balanced=True)
        for name, offset, turn, mass in zip(
            arm_model.JOINT_NAMES, arm_model.OFFSETS, arm_model.AXES, masses, strict=True
        )
    )


def chain() -> Chain:
    """The six-jointed arm as hinges that carry its closed fingers, for a robot's file."""
    carrying = HINGES[:-1]
    return Chain(tuple(hinge.offset for hinge in carrying), tuple(hinge.axis for hinge in carrying), FINGERS)


def calibration(family: str, shape: Shape = "six") -> Calibration:
    """Of the emulated arm of that family: what its servos come calibrated with."""
    if family not in _MODELS:
        raise ValueError(f"there is no emulated servo arm {family!r}; there are {', '.join(_MODELS)}")
    if shape == "cup":
        names = [hinge.name for hinge in hinges(shape)]
        servos = [Servo(name, number, _MODELS[family], low=64, high=4032) for number, name in enumerate(names, 1)]
        return Calibration(f"emulated-{family}-{shape}", tuple(servos))
    return Calibration(
        f"emulated-{family}",
        tuple(
            Servo(name, number, _MODELS[family], zero=2048, sign=sign, low=700, high=3400)
            for number, (name, sign) in enumerate(zip(NAMES, _SIGNS, strict=True), 1)
        ),
    )
