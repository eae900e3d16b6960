"""An arm of hinges in MuJoCo with a position servo on each: what is behind an emulated bus. Moves only when told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import mujoco
import numpy as np

from hardware.arm import Array

STEP = 0.002
"""Seconds of one step of physics."""


@dataclass(frozen=True)
class Hinge:
    """offset [3] m from the joint before, axis [3], both in the zero pose; limits rad; kg of what it carries; the
    servo's stiffness N m/rad and greatest torque N m and speed rad/s; whether a counterweight bears what it carries."""

    name: str
    offset: tuple[float, float, float]
    axis: tuple[float, float, float]
    lower: float
    upper: float
    mass: float = 0.08
    stiffness: float = 120.0
    torque: float = 2.9
    speed: float = 5.5
    balanced: bool = False


def _number(values: Sequence[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def mjcf(hinges: Sequence[Hinge], tip: tuple[float, float, float] = (0.06, 0.0, 0.0)) -> str:
    """The arm as MuJoCo's XML: rods from joint to joint that touch nothing, and an actuator for each servo."""
    bodies, ends = "", ""
    for hinge, to in zip(hinges, [*(each.offset for each in hinges[1:]), tip], strict=True):
        to = to if np.linalg.norm(to) > 1e-3 else (0.01, 0.0, 0.0)
        bodies += (
            f'<body pos="{_number(hinge.offset)}" gravcomp="{int(hinge.balanced)}">'
            f'<joint name={quoteattr(hinge.name)} axis="{_number(hinge.axis)}" '
            f'range="{_number((hinge.lower, hinge.upper))}" limited="true" damping="0.3" armature="0.02"/>'
            f'<geom type="capsule" size="0.012" fromto="0 0 0 {_number(to)}" mass="{hinge.mass}" '
            'contype="0" conaffinity="0"/>'
        )
        ends += "</body>"
    motors = "".join(
        f'<position joint={quoteattr(hinge.name)} kp="{hinge.stiffness}" kv="{0.06 * hinge.stiffness}" '
        f'forcerange="{-hinge.torque} {hinge.torque}"/>'
        for hinge in hinges
    )
    return (
        f'<mujoco><compiler angle="radian"/><option timestep="{STEP}" integrator="implicitfast"/>'
        f"<worldbody>{bodies}{ends}</worldbody><actuator>{motors}</actuator></mujoco>"
    )


class Joints:
    """Goals become motion at the speed each servo is set to. Nothing runs by itself: time passes in `advance`."""

    def __init__(self, hinges: Sequence[Hinge]) -> None:
        self.hinges = tuple(hinges)
        self._model = mujoco.MjModel.from_xml_string(mjcf(hinges))
        self._data = mujoco.MjData(self._model)
        self._gain = self._model.actuator_gainprm.copy(), self._model.actuator_biasprm.copy()
        self.reset()

    def reset(self, position: Array | None = None) -> None:
        """At rest there, without power; no joint is locked."""
        n = len(self.hinges)
        mujoco.mj_resetData(self._model, self._data)
        if position is not None:
            self._data.qpos[:] = position
        self.goal: Array = self._data.qpos.copy()
        self.speed: Array = np.array([hinge.speed for hinge in self.hinges])
        self.locked: Array = np.zeros(n, bool)
        self.powered: Array = np.zeros(n, bool)
        self._reference: Array = self.goal.copy()
        self._left = 0.0
        for joint in range(n):
            self.power(joint, False)
        mujoco.mj_forward(self._model, self._data)

    @property
    def position(self) -> Array:
        """[n] rad."""
        return self._data.qpos.copy()

    @property
    def velocity(self) -> Array:
        """[n] rad/s."""
        return self._data.qvel.copy()

    @property
    def effort(self) -> Array:
        """[n] N m, of the servos."""
        return self._data.actuator_force.copy()

    def set_goal(self, position: Array) -> None:
        """[n] rad; where the servos have power they go there."""
        self.goal = np.asarray(position, np.float64).copy()

    def power(self, joint: int, on: bool) -> None:
        if on and not self.powered[joint]:
            self._reference[joint] = self._data.qpos[joint]  # a servo's profile begins where it is
        self.powered[joint] = on
        self._model.actuator_gainprm[joint] = self._gain[0][joint] * on
        self._model.actuator_biasprm[joint] = self._gain[1][joint] * on

    def advance(self, seconds: float, most: int | None = None) -> None:
        """By whole steps; what is left of one counts next time. Beyond `most` steps time is lost, as in a stall."""
        self._left += seconds
        steps = int(self._left / STEP + 1e-9)
        self._left = max(0.0, self._left - steps * STEP)
        for _ in range(steps if most is None else min(steps, most)):
            reach = self.speed * STEP
            self._reference += np.clip(self.goal - self._reference, -reach, reach)
            self._data.ctrl[:] = self._reference
            held = self._data.qpos[self.locked]
            mujoco.mj_step(self._model, self._data)
            self._data.qpos[self.locked], self._data.qvel[self.locked] = held, 0.0
