"""Two seven-joint arms in primitive shapes, with the lengths and limits of a Franka Panda and a KUKA LBR iiwa 7 R800.

Lengths in m, angles in rad. Sources: the Denavit-Hartenberg table and limits of Franka's FCI documentation ("Robot and
interface specifications"); KUKA's data sheet of the LBR iiwa 7 R800, with the axes as in Faria et al., "Position-based
kinematics for 7-DoF serial manipulators", 2018. Shapes, colours and masses are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Name = Literal["franka", "kuka"]
Point = tuple[float, float, float]

QUARTER = float(np.pi / 2)
PUSHER_HEIGHT = 0.06


@dataclass(frozen=True, eq=False)
class Arm:
    """dh: (a, d, alpha) of every joint in Craig's convention: a and alpha lie before the joint's own turn. low, high
    (rad), speed (rad/s) and rest posture (rad) [7]. shapes: MJCF of the base and the seven links, each in its frame.
    stand: x of the base, from where the hand of either arm reaches the same area. flange: from frame 7 to where the hand is screwed on, along z; turn: the hand's angle there. pusher, wiper: the hand
    with what it holds, z away from the flange; reach: from the flange to the lower edge of that. colours: link, joint,
    tool, 0 to 255."""

    dh: tuple[Point, ...]
    low: Array
    high: Array
    speed: Array
    rest: Array
    shapes: tuple[str, ...]
    stand: float
    flange: float
    turn: float
    pusher: str
    wiper: str
    reach: float
    colours: tuple[Point, Point, Point]


def rod(start: Point, end: Point, radius: float, material: str) -> str:
    ends = " ".join(f"{v:.4f}" for v in (*start, *end))
    return f'<geom class="look" type="capsule" fromto="{ends}" size="{radius}" material="{material}"/>'


def drum(at: Point, axis: Point, radius: float, half: float, material: str) -> str:
    place, along = (" ".join(f"{v:.4f}" for v in point) for point in (at, axis))
    size = f"{radius} {half}"
    return f'<geom class="look" type="cylinder" pos="{place}" zaxis="{along}" size="{size}" material="{material}"/>'


def box(at: Point, half: Point, material: str, *, kind: str = "look", yaw: float = 0.0) -> str:
    place, size = (" ".join(f"{v:.4f}" for v in point) for point in (at, half))
    turn = f"0 0 {yaw:.4f}"
    return f'<geom class="{kind}" type="box" pos="{place}" size="{size}" euler="{turn}" material="{material}"/>'


_X, _Y, _Z, _O = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)


def _franka() -> Arm:
    """White links with dark joints, a wide two-fingered hand; a flat bar, or a block of sponge, between the fingers."""
    tip = 0.1034  # of the fingers, from the flange
    fingers = "".join(box((0, side * 0.034, 0.084), (0.011, 0.009, 0.024), "joint") for side in (-1, 1))
    hand = box((0, 0, 0.034), (0.032, 0.100, 0.030), "link") + box((0, 0, 0.062), (0.026, 0.075, 0.006), "joint")
    low = tip + 0.03
    bar = box((0, 0, low - PUSHER_HEIGHT / 2), (0.011, 0.085, PUSHER_HEIGHT / 2), "tool", kind="solid")
    sponge = box((0, 0, low - 0.026), (0.040, 0.060, 0.026), "tool")
    return Arm(
        dh=(
            (0.0, 0.333, 0.0),
            (0.0, 0.0, -QUARTER),
            (0.0, 0.316, QUARTER),
            (0.0825, 0.0, QUARTER),
            (-0.0825, 0.384, -QUARTER),
            (0.0, 0.0, QUARTER),
            (0.088, 0.0, QUARTER),
        ),
        low=np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
        high=np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
        speed=np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61]),
        rest=np.array([0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, QUARTER, np.pi / 4]),
        shapes=(
            box((-0.04, 0, 0.04), (0.11, 0.075, 0.04), "link") + drum((0, 0, 0.10), _Z, 0.070, 0.06, "link"),
            rod((0, 0, -0.17), (0, 0, -0.02), 0.060, "link") + drum(_O, _Y, 0.062, 0.075, "joint"),
            rod(_O, (0, -0.15, 0), 0.060, "link"),
            drum((0, 0, -0.12), _Z, 0.062, 0.02, "joint")
            + rod((0, 0, -0.10), (0.03, 0, -0.03), 0.056, "link")
            + drum((0.0825, 0, 0), _Y, 0.056, 0.062, "joint"),
            rod(_O, (-0.0825, 0.09, 0), 0.054, "link") + rod((-0.0825, 0.09, 0), (-0.0825, 0.15, 0), 0.054, "link"),
            drum((0, 0, -0.215), _Z, 0.057, 0.02, "joint")
            + rod((0, 0, -0.19), (0, 0.045, -0.06), 0.048, "link")
            + rod((0, 0.045, -0.06), _O, 0.045, "link"),
            drum(_O, _Z, 0.050, 0.058, "joint") + rod(_O, (0.088, 0, 0), 0.044, "link"),
            drum((0, 0, 0.05), _Z, 0.046, 0.05, "link") + drum((0, 0, 0.100), _Z, 0.042, 0.007, "joint"),
        ),
        stand=0.0,
        flange=0.107,
        turn=-np.pi / 4,
        pusher=hand + fingers + bar,
        wiper=hand + fingers + sponge,
        reach=low,
        colours=((240, 241, 244), (44, 46, 54), (228, 96, 48)),
    )


def _kuka() -> Arm:
    """Orange links with silver joints, rounder and thicker; a blade bent in two, or a round mop, on a stem."""
    low = 0.19
    stem = drum((0, 0, 0.02), _Z, 0.044, 0.02, "joint") + drum((0, 0, 0.09), _Z, 0.018, 0.06, "joint")
    bend, half = 0.42, 0.054  # the wings lean forward, so that what is pushed does not slip off sideways
    blade = "".join(
        box(
            (half * np.sin(bend) - 0.02, side * half * np.cos(bend), low - PUSHER_HEIGHT / 2),
            (0.010, half + 0.006, PUSHER_HEIGHT / 2),
            "tool",
            kind="solid",
            yaw=-side * bend,
        )
        for side in (-1, 1)
    )
    mop = drum((0, 0, low - 0.02), _Z, 0.058, 0.02, "tool")
    degrees = np.pi / 180
    limit = np.array([170, 120, 170, 120, 170, 120, 175]) * degrees

    def shoulder(after: float, before: float, radius: float) -> str:
        """A link that turns along its z, coming from ``before`` below, and ends in the next joint's drum."""
        return (
            drum((0, 0, -before), _Z, radius + 0.004, 0.012, "joint")
            + rod((0, 0, -before), (0, 0, -after), radius, "link")
            + drum(_O, _Y, radius + 0.002, radius + 0.012, "joint")
        )

    return Arm(
        dh=(
            (0.0, 0.34, 0.0),
            (0.0, 0.0, -QUARTER),
            (0.0, 0.40, QUARTER),
            (0.0, 0.0, QUARTER),
            (0.0, 0.40, -QUARTER),
            (0.0, 0.0, -QUARTER),
            (0.0, 0.126, QUARTER),
        ),
        low=-limit,
        high=limit,
        speed=np.array([98, 98, 100, 130, 140, 180, 180]) * degrees,
        rest=np.array([0.0, np.pi / 4, 0.0, -QUARTER, 0.0, np.pi / 4, 0.0]),
        shapes=(
            drum((0, 0, 0.02), _Z, 0.13, 0.02, "joint") + drum((0, 0, 0.09), _Z, 0.085, 0.06, "link"),
            shoulder(0.02, 0.18, 0.074),
            rod(_O, (0, -0.18, 0), 0.072, "link"),
            shoulder(0.02, 0.19, 0.070),
            rod(_O, (0, 0.17, 0), 0.066, "link"),
            shoulder(0.02, 0.19, 0.060),
            rod(_O, (0, 0, 0.02), 0.060, "link"),
            drum((0, 0, -0.04), _Z, 0.05, 0.035, "link"),
        ),
        stand=-0.06,
        flange=0.0,  # the table's last length already ends there
        turn=2 * QUARTER,
        pusher=stem + blade,
        wiper=stem + mop,
        reach=low,
        colours=((244, 124, 24), (150, 154, 162), (40, 44, 56)),
    )


ARMS: dict[Name, Arm] = {"franka": _franka(), "kuka": _kuka()}
