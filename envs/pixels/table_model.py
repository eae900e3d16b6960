"""The table that is simulated, as MJCF: an arm, what it holds, and objects that slide. Lengths in m, masses in kg.

Objects slide and turn in the plane, never tip, and come to rest as if on felt; only the tool and the objects touch each
other. That is all a pushing task needs, and it is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np
import numpy.typing as npt

from envs.pixels.table_arms import ARMS, Arm, Name

Array = npt.NDArray[Any]
Task = Literal["group", "clutter", "wipe"]

TIME_STEP = 0.01  # s
RADIUS, HEIGHT = 0.033, 0.06  # of an object; a square one has this half side
TABLE = ((0.20, 0.86), (-0.46, 0.46))  # x and y
FENCE = ((0.28, 0.80), (-0.40, 0.40))  # no object's centre leaves this
GOAL, GOAL_HALF = 0.66, 0.08  # the goal line's x, and how near counts
CLEARANCE = 0.004  # between what the hand holds and the table


@dataclass(frozen=True)
class Area:
    """Where the hand may go, x and y, and where it begins."""

    x: tuple[float, float]
    y: tuple[float, float]
    start_x: tuple[float, float]
    start_y: tuple[float, float]


PUSHING = Area((0.36, 0.65), (-0.28, 0.28), (0.36, 0.38), (-0.10, 0.10))
STRIP = Area((0.46, 0.56), (-0.28, 0.28), (0.48, 0.54), (-0.24, 0.24))
AREAS: dict[Task, Area] = {"group": PUSHING, "clutter": PUSHING, "wipe": STRIP}
LIKED: dict[Task, int] = {"group": 2, "clutter": 2, "wipe": 0}
OTHERS: dict[Task, int] = {"group": 0, "clutter": 4, "wipe": 0}


def mjcf(task: Task, name: Name, *, assets: str = "", world: str = "") -> str:
    """MJCF text. The arguments add looks; as long as these have no mass and touch nothing the dynamics stay the same."""
    arm = ARMS[name]
    objects = "".join(_object(i, i < LIKED[task]) for i in range(LIKED[task] + OTHERS[task]))
    servos = "".join(f'<velocity joint="joint{i + 1}" kv="500"/>' for i in range(7))
    return f"""<mujoco model="{task} table, {name}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIME_STEP}" integrator="implicitfast" gravity="0 0 0"/>
  <default>
    <default class="look"><geom contype="0" conaffinity="0" mass="0"/></default>
    <default class="solid"><geom mass="0" friction=".3"/></default>
    <default class="object"><geom mass=".1" friction=".3"/><joint damping="2"/></default>
  </default>
  <asset>{"".join(f'<material name="{name}" rgba="1 1 1 1"/>' for name in MATERIALS)}{assets}</asset>
  <worldbody>{world}{objects}{_arm(arm, task)}</worldbody>
  <actuator>{servos}</actuator>
</mujoco>"""


MATERIALS = ("floor", "table", "goal", "liked", "other", "link", "joint", "tool")


def build(task: Task, arm: Name) -> mujoco.MjModel:
    """The model that is simulated."""
    return mujoco.MjModel.from_xml_string(mjcf(task, arm))


def _arm(arm: Arm, task: Task) -> str:
    text = f'<body name="base" pos="{arm.stand!r} 0 0">{arm.shapes[0]}'
    for i, (a, d, alpha) in enumerate(arm.dh):
        pos = f"{a!r} {float(-np.sin(alpha) * d)!r} {float(np.cos(alpha) * d)!r}"
        limits = f"{float(arm.low[i])!r} {float(arm.high[i])!r}"
        # Gravity is off and the servos are stiff: round figures do for mass and inertia.
        text += (
            f'<body name="link{i + 1}" pos="{pos}" euler="{alpha!r} 0 0">'
            f'<inertial pos="0 0 0" mass="2" diaginertia=".02 .02 .02"/>'
            f'<joint name="joint{i + 1}" axis="0 0 1" range="{limits}" armature=".1" damping="1"/>{arm.shapes[i + 1]}'
        )
    held = arm.wiper if task == "wipe" else arm.pusher
    text += (
        f'<body name="hand" pos="0 0 {arm.flange!r}" euler="0 0 {float(arm.turn)!r}">{held}'
        f'<site name="tool" pos="0 0 {arm.reach!r}" size=".001" rgba="0 0 0 0"/></body>'
    )
    return text + "</body>" * 8


def _object(i: int, liked: bool) -> str:
    """Round ones are liked, square ones are not: a look that changes colours leaves that to be seen."""
    shape = f'type="cylinder" size="{RADIUS} {HEIGHT / 2}"' if liked else f'type="box" size="{_SQUARE}"'
    (x0, x1), (y0, y1) = FENCE
    return (
        f'<body name="object{i}" pos="0 0 {HEIGHT / 2}">'
        f'<joint name="object{i}x" class="object" type="slide" axis="1 0 0" range="{x0} {x1}"/>'
        f'<joint name="object{i}y" class="object" type="slide" axis="0 1 0" range="{y0} {y1}"/>'
        f'<joint name="object{i}a" class="object" type="hinge" axis="0 0 1" damping=".002"/>'
        f'<geom class="object" {shape} material="{"liked" if liked else "other"}"/></body>'
    )


_SQUARE = f"{0.9 * RADIUS} {0.9 * RADIUS} {HEIGHT / 2}"
