"""The Cartesian step in numpy: from a tool velocity to joint velocities, for a serial chain of hinges.

It belongs to a policy whose actions are Cartesian, and travels with it: the environment that trained the policy used
MuJoCo's Jacobian, a robot has only this. World frame at the robot's foot, z up; m, rad, s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from policies.chain import Array, Chain, Vector, unit_vectors


@dataclass(frozen=True)
class Cartesian:
    """A chain of n hinges that carries a tool, the limits of the tool, and the least-squares step. ValueError if unfit.

    The action (5, in [-1,1]) is the velocity of the tool's point along world x, y, z and its angular velocity about
    world x and y. Guards cut what would leave them within one control period and turn back what is beyond them.
    """

    offsets: tuple[Vector, ...]  # of each hinge in the frame of the link before, m
    axes: tuple[Vector, ...]  # unit vectors of the hinges in that frame
    tool: Vector  # the tool's point in the last link's frame, m
    pointing: Vector  # unit vector in the last link's frame that is vertical when the tool is upright
    rest: tuple[float, ...]  # posture to which spare freedom is used, rad
    pull: tuple[float, ...]  # how fast, for each hinge, 1/s
    speed: float  # m/s at action 1
    turn: float  # rad/s at action 1
    joint_speed: float  # no joint is faster, rad/s
    damping: float
    z: tuple[float, float]  # guard of the point's height, m
    radius: tuple[float, float]  # guard of its distance from the z axis, m
    tilt: float  # guard of the angle between pointing and vertical, rad
    give: float  # share of an overshoot that is undone per control period
    rate: float  # control rate, Hz

    def __post_init__(self) -> None:
        n = len(self.axes)
        for name, shape in _shapes(n).items():
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if n == 0 or value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"{name} is {getattr(self, name)}; a chain of {n} hinges needs finite numbers {shape}")
        for name in ("axes", "pointing"):
            unit_vectors(name, getattr(self, name))
        for name in ("speed", "turn", "joint_speed", "damping", "rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")

    @cached_property
    def _chain(self) -> Chain:
        return Chain(self.offsets, self.axes, self.tool)

    def kinematics(self, joints: Array) -> tuple[Array, Array, Array]:
        """Tool point [...,3] m, pointing [...,3] and Jacobian [...,6,n] (linear, angular) for joint angles [...,n]."""
        point, turned, jacobian = self._chain.frames(joints)
        return point, turned @ np.asarray(self.pointing), jacobian

    def velocity(self, joints: Array, action: Array) -> Array:
        """Joint velocities [...,n] rad/s for joint angles [...,n] rad and actions [...,5].

        Of all velocities v the one with the least |J v - w|^2 + damping |v - p|^2, w the guarded tool velocity and p
        the pull to rest (damped least squares, Wampler 1986), scaled down as a whole to the joint speed.
        """
        joints = np.asarray(joints, dtype=np.float64)
        if joints.shape[-1:] != (len(self.axes),) or not np.isfinite(joints).all():
            raise ValueError(f"joint angles are {joints}; give {len(self.axes)} finite numbers for each arm, in rad")
        point, pointing, jacobian = self.kinematics(joints)
        wanted = self.guarded(point, pointing, action)
        jacobian = jacobian[..., :5, :]
        pull = np.asarray(self.pull) * (np.asarray(self.rest) - joints)
        missing = wanted[..., None] - jacobian @ pull[..., None]
        gram = jacobian @ jacobian.swapaxes(-1, -2) + self.damping * np.eye(5)
        found = pull + (jacobian.swapaxes(-1, -2) @ np.linalg.solve(gram, missing))[..., 0]
        fastest = np.abs(found).max(axis=-1, keepdims=True)
        return found * np.minimum(1.0, self.joint_speed / np.maximum(fastest, 1e-9))

    def guarded(self, point: Array, pointing: Array, action: Array) -> Array:
        """Tool velocity [...,5] (m/s, rad/s) of an action [...,5], clipped to [-1,1] and to the guards."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape[-1:] != (5,) or not np.isfinite(action).all():
            raise ValueError(f"the action is {action}; give 5 finite numbers for each arm, in [-1,1]")
        wanted = np.clip(action, -1.0, 1.0) * np.array([self.speed] * 3 + [self.turn] * 2)
        flat, up, tip = wanted[..., :2], wanted[..., 2:3], wanted[..., 3:]
        reach = np.linalg.norm(point[..., :2], axis=-1, keepdims=True)
        outward = point[..., :2] / np.maximum(reach, 1e-9)
        lean = np.linalg.norm(pointing[..., :2], axis=-1, keepdims=True)
        over = pointing[..., 1::-1] * np.array([-1.0, 1.0]) / np.maximum(lean, 1e-9)  # turning about it leans further
        tilt = np.arctan2(lean, pointing[..., 2:3])
        return np.concatenate(
            [
                flat + self._excess(flat, outward, reach, self.radius),
                up + self._excess(up, np.ones(1), point[..., 2:3], self.z),
                tip + self._excess(tip, over, tilt, (-np.inf, self.tilt)),
            ],
            axis=-1,
        )

    def _excess(self, velocity: Array, direction: Array, value: Array, bounds: tuple[float, float]) -> Array:
        """What to add to a velocity so that `value`, which moves along `direction`, keeps its bounds."""
        along = (velocity * direction).sum(axis=-1, keepdims=True)
        down, up = (self.rate * (bound - value) for bound in bounds)
        down, up = np.where(down > 0, self.give * down, down), np.where(up < 0, self.give * up, up)
        return (np.clip(along, down, up) - along) * direction

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; `from_json` gives the same step again, to the last bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cartesian:
        """The step that `to_json` wrote; ValueError for a missing or unknown key and for values that do not fit."""
        names = {f.name for f in fields(cls)}
        if set(data) != names:
            missing, unknown = sorted(names - set(data)), sorted(set(data) - names)
            raise ValueError(f"a Cartesian step lacks {missing} and has the unknown {unknown}; export it again")
        return cls(**{name: _tuples(value) for name, value in data.items()})


def _shapes(n: int) -> dict[str, tuple[int, ...]]:
    scalars: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("speed", "turn", "joint_speed", "damping", "tilt", "give", "rate"), ()
    )
    vectors = {"offsets": (n, 3), "axes": (n, 3), "tool": (3,), "pointing": (3,), "rest": (n,), "pull": (n,)}
    return {**vectors, "z": (2,), "radius": (2,), **scalars}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
