"""The kept policy as files for a robot: what the arm of the main job is, in the terms of the policy contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from embodied.contract import Contract, Joint, Source
from embodied.records import Array
from envs import arm_control, arm_model
from envs.arm import HORIZON, OBSERVATION
from envs.arm_task import JOINT_SCALE, OFFSET_SCALE, OPENING_SCALE
from policies.cartesian import Cartesian
from policies.export import export
from policies.observer import Part

AXIS = {"y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def cartesian() -> Cartesian:
    """The arm's chain, limits and least-squares step; equal to `CupArms.command`, without MuJoCo."""
    return Cartesian(
        offsets=tuple((0.0, 0.0, offset) for offset in arm_model.OFFSETS),
        axes=tuple(AXIS[name] for name in arm_model.AXES),
        tool=(0.0, 0.0, arm_model.GRIP),
        pointing=(-1.0, 0.0, 0.0),
        rest=tuple(arm_model.REST.tolist()),
        pull=(0.0, *[arm_control.NULL_GAIN] * 6),
        speed=arm_control.SPEED,
        turn=arm_control.TURN,
        joint_speed=arm_control.JOINT_SPEED,
        damping=arm_control.DAMPING,
        z=arm_control.Z_GUARD,
        radius=arm_control.RADIUS_GUARD,
        tilt=arm_control.TILT_GUARD,
        give=arm_control.RETURN,
        rate=1 / arm_control.DT,
    )


def agreed(reward: str) -> Contract:
    """Observation in the order of `envs.arm`, already scaled there, so the normaliser leaves it as it is."""
    limit = arm_model.JOINT_LIMIT
    return Contract(
        environment="rapport/CupArm-v0",
        joints=tuple(Joint(name, -limit, limit) for name in arm_model.JOINT_NAMES),
        rate=1 / arm_control.DT,
        action="joint_position",
        observation=(
            Source("cup", 3, "m", "joint"),
            Source("1.5 x cup's opening, x and y", 2, "1", "joint"),
            Source("cup's velocity", 3, "m/s", "joint"),
            Source("2 x (goal - cup)", 3, "m", "scene"),
            Source("2 x (laptop - cup), x and y", 2, "m", "scene"),
            Source("0.5 x joint angles", 7, "rad", "joint"),
            Source("last action", 5, "1", "action"),
            Source("share of the episode, -1 to 1", 1, "1", "clock"),
        ),
        mean=(0.0,) * OBSERVATION,
        std=(1.0,) * OBSERVATION,
        cameras=(),
        reward=reward,
    )


PARTS = (
    Part("point"),
    Part("pointing", OPENING_SCALE),
    Part("moving"),
    Part("to", OFFSET_SCALE, scene="goal"),
    Part("to", OFFSET_SCALE, scene="laptop"),
    Part("joints", JOINT_SCALE),
    Part("action"),
    Part("clock", seconds=HORIZON * arm_control.DT),
)
"""How a robot makes the observation of `agreed` from its joints, the goal [3] and the laptop [2] in m, and the time."""


def hand_over(folder: Path, parameters: Mapping[str, Array], reward: str) -> Contract:
    """Writes policy.safetensors, cartesian.json, observer.json and contract.json. Raises ContractError."""
    return export(folder, parameters, cartesian(), agreed(reward), PARTS)
