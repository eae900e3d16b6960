"""The sweeping world's physics: a body that pushes objects about a walled square, seen from above (pymunk).

The state is a table of numbers, one row per rigid body, and every decision is worked out in a space made anew from it.
So no memory of the solver outlives a decision: the same state and action give the same next state, bit for bit, and a
saved state is the whole one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pymunk

Array = npt.NDArray[Any]
Body = Literal["gripper", "short", "medium", "long"]
Shape = Literal["round", "square"]

BODIES: tuple[Body, ...] = ("gripper", "short", "medium", "long")
SHAPES: tuple[Shape, ...] = ("round", "square")
X, Y, ANGLE, VX, VY, SPIN = range(6)  # columns of the state; lengths in half widths of the arena, s, rad

ARENA = 1.0  # the walls stand at +-1
RADIUS = 0.09  # of a round object, half the side of a square one
SUBSTEPS, DT = 10, 0.04  # s
STRIDE = 0.2  # the way a body goes in one decision at action 1
SPEED = STRIDE / (SUBSTEPS * DT)
HALF_LENGTH = {"short": 0.15, "medium": 0.25, "long": 0.35, "gripper": 0.24}  # to the side, prongs wide open
HALF_THICK = 0.04  # of sticks and palm
# A prong stands on the palm, its middle PRONG_UP above the palm's; its offset to the side lies within PRONG_REACH.
PRONG_HALF = (0.03, 0.11)
PRONG_UP = HALF_THICK + PRONG_HALF[1]
PRONG_REACH = (0.08, HALF_LENGTH["gripper"] - PRONG_HALF[0])
GRIP_SPEED = (PRONG_REACH[1] - PRONG_REACH[0]) / (2 * SUBSTEPS * DT)  # from open to closed in two decisions

_MASS, _DRIVE, _GRIP = 1.0, 12.0, 2.0  # kg, N, N
_OBJECT_MASS, _FLOOR = 0.3, 1.5  # kg, N: an object let go stops within 2 cm
_FRICTION = 0.5


@dataclass(frozen=True)
class Setup:
    """Who pushes what: a body, and `objects` equal objects of a shape."""

    body: Body
    objects: int
    shape: Shape = "round"

    def __post_init__(self) -> None:
        if self.body not in BODIES:
            raise ValueError(f"body is {self.body!r}; take one of {', '.join(BODIES)}")
        if self.shape not in SHAPES:
            raise ValueError(f"shape is {self.shape!r}; take one of {', '.join(SHAPES)}")

    @property
    def parts(self) -> int:
        """Rows of the state that are the body: itself, and a gripper's two prongs."""
        return 3 if self.body == "gripper" else 1

    @property
    def actions(self) -> int:
        return 3 if self.body == "gripper" else 2

    @property
    def half(self) -> tuple[float, float]:
        """Half extents of the bar, which is a gripper's palm."""
        return HALF_LENGTH[self.body], HALF_THICK


def placed(setup: Setup, at: Array, objects: Array) -> Array:
    """The state [B,6] at rest: the body at [2], its prongs open, the objects at [n,2]."""
    state = np.zeros((setup.parts + setup.objects, 6))
    state[: setup.parts, :2] = at
    if setup.parts == 3:
        state[1:3, :2] += [[-PRONG_REACH[1], PRONG_UP], [PRONG_REACH[1], PRONG_UP]]
    state[setup.parts :, :2] = objects
    return state


def advance(setup: Setup, state: Array, action: Array) -> Array:
    """The state [B,6] after one decision. action [2], in [-1,1]: velocity to the right and up; a gripper's third number
    closes its prongs (positive) or opens them."""
    space = pymunk.Space()
    space.iterations = 20
    space.collision_slop = 0.002
    _add_walls(space)
    bodies = _add_body(space, setup, state, action) + _add_objects(space, setup, state)
    for body, row in zip(bodies, state.tolist(), strict=True):
        body.velocity, body.angular_velocity = (row[VX], row[VY]), row[SPIN]
    for _ in range(SUBSTEPS):
        space.step(DT)
    return np.array([(*b.position, b.angle, *b.velocity, b.angular_velocity) for b in bodies])


def _add_walls(space: pymunk.Space) -> None:
    thick = 0.5  # nothing goes through in one substep
    out = ARENA + thick
    corners = [(-out, -out), (out, -out), (out, out), (-out, out)]
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        wall = pymunk.Segment(space.static_body, a, b, thick)
        wall.friction = _FRICTION
        space.add(wall)


def _driven(space: pymunk.Space, at: tuple[float, float], mass: float, goal: tuple[float, float], force: float) -> Any:
    """A body that never turns, drawn to the velocity `goal` by a joint of limited force, so that walls can stop it."""
    body = pymunk.Body(mass, float("inf"))
    body.position = at
    motor = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
    motor.position, motor.velocity = at, goal
    joint = pymunk.PivotJoint(motor, body, (0, 0), (0, 0))
    joint.max_bias, joint.max_force = 0.0, force
    space.add(body, motor, joint)
    return body


def _add_body(space: pymunk.Space, setup: Setup, state: Array, action: Array) -> list[pymunk.Body]:
    vx, vy = (SPEED * float(a) for a in action[:2])
    own = pymunk.ShapeFilter(group=1)
    bar = _driven(space, tuple(state[0, :2].tolist()), _MASS, (vx, vy), _DRIVE)
    parts, halves = [bar], [setup.half]
    if setup.parts == 3:
        rate = GRIP_SPEED * float(action[2])
        for side, row in ((-1, state[1]), (1, state[2])):
            prong = _driven(space, tuple(row[:2].tolist()), _MASS / 8, (vx - side * rate, vy), _GRIP)
            ends = [(side * reach, PRONG_UP) for reach in PRONG_REACH]
            space.add(pymunk.GrooveJoint(bar, prong, ends[0], ends[1], (0, 0)))
            parts.append(prong)
            halves.append(PRONG_HALF)
    for part, half in zip(parts, halves, strict=True):
        box = pymunk.Poly.create_box(part, (2 * half[0], 2 * half[1]))
        box.friction, box.filter = _FRICTION, own
        space.add(box)
    return parts


def _add_objects(space: pymunk.Space, setup: Setup, state: Array) -> list[pymunk.Body]:
    objects = []
    for x, y, angle in state[setup.parts :, :3].tolist():
        if setup.shape == "round":
            body = pymunk.Body(_OBJECT_MASS, pymunk.moment_for_circle(_OBJECT_MASS, 0, RADIUS))
            shape: pymunk.Shape = pymunk.Circle(body, RADIUS)
        else:
            side = 2 * RADIUS
            body = pymunk.Body(_OBJECT_MASS, pymunk.moment_for_box(_OBJECT_MASS, (side, side)))
            shape = pymunk.Poly.create_box(body, (side, side))
        body.position, body.angle = (x, y), angle
        shape.friction = _FRICTION
        # Friction with the floor, which no view from above has by itself: joints of limited force that want rest.
        slide = pymunk.PivotJoint(space.static_body, body, (0, 0), (0, 0))
        turn = pymunk.GearJoint(space.static_body, body, 0.0, 1.0)
        slide.max_bias = turn.max_bias = 0.0
        slide.max_force, turn.max_force = _FLOOR, _FLOOR * RADIUS / 2
        space.add(body, shape, slide, turn)
        objects.append(body)
    return objects
