"""From a velocity of the hand in the plane to joint velocities: damped least squares at a fixed height, the hand pointing
down, within the limits of the arm."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from envs.pixels.table_arms import Arm
from envs.pixels.table_model import TIME_STEP, Area

Array = npt.NDArray[Any]

SPEED = 0.4  # m/s at action 1
TICKS, TICK = 2, 0.05  # corrections per control step, and s from one to the next
DT = TICKS * TICK  # s, one control step
DOWN = np.diag([1.0, -1.0, -1.0])  # the hand's frame: x away from the robot, z down
DAMPING, PULL = 1e-4, 0.5  # of the least squares; 1/s, to the rest posture
GAIN = 0.6  # share of a miss that is made good per tick; at 1 the servos' lag would make it swing
MARGIN = 0.01  # rad that are kept to a joint's stops


class Hand:
    """Where the hand of a model is, and how it moves; all of it is computed from the joints at ``look``."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, arm: Arm, height: float) -> None:
        self.arm, self.height = arm, height
        self._model, self._data = model, data
        self._site = model.site("tool").id
        self._joints = model.jnt_qposadr[model.joint("joint1").id] + np.arange(7)
        self._speeds = model.jnt_dofadr[model.joint("joint1").id] + np.arange(7)
        self._jacobian = np.zeros((6, model.nv))

    def look(self) -> Array:
        """Position [3] m; mj_step leaves that of its last substep's beginning."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        return np.array(self._data.site_xpos[self._site])

    @property
    def joints(self) -> Array:
        return np.array(self._data.qpos[self._joints])

    def place(self, at: Array) -> None:
        """Puts the hand at [2] m, from the rest posture, at rest. Raises ValueError out of reach."""
        q = self.arm.rest.copy()
        q[0] = np.arctan2(at[1], at[0] - self.arm.stand)
        target = np.array([*at, self.height])
        for k in range(60):
            self._data.qpos[self._joints] = q
            miss = target - self.look()
            if k >= 10 and np.linalg.norm(miss) < 1e-5:
                break
            twist = np.concatenate([miss, self._lean()])
            q = q + np.clip(self._solve(twist, q, PULL if k < 10 else 0.0), -0.3, 0.3)
            q = np.clip(q, self.arm.low + MARGIN, self.arm.high - MARGIN)
        if (far := np.linalg.norm(target - self.look())) > 1e-3:
            raise ValueError(f"the hand gets no nearer than {far:.3f} m to {at.tolist()} m; start it within reach")

    def go(self, target: Array, velocity: Array) -> None:
        """One tick towards [2] m, to be reached with velocity [2] m/s."""
        now = self.look()
        ahead = np.array([*(target + velocity * TICK), self.height])
        steady = np.array([*velocity, 0.0])
        miss = ahead - steady * TICK - now
        twist = np.concatenate([steady + GAIN * miss / TICK, GAIN * self._lean() / TICK])
        self._data.ctrl[:] = limited(self._solve(twist, self.joints, PULL), self.joints, self.arm)
        mujoco.mj_step(self._model, self._data, round(TICK / TIME_STEP))

    def _lean(self) -> Array:
        """The turn [3] that would set the hand upright and straight, to first order."""
        is_now = self._data.site_xmat[self._site].reshape(3, 3)
        return 0.5 * np.cross(is_now.T, DOWN.T).sum(0)

    def _solve(self, twist: Array, q: Array, pull: float) -> Array:
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
        return least_squares(twist, self._jacobian[:, self._speeds], pull * (self.arm.rest - q))


def least_squares(twist: Array, jacobian: Array, pull: Array) -> Array:
    """Joint velocities [7] for a velocity and turn [6] of the hand: damped least squares on the Jacobian [6,7], with the
    joint velocities ``pull`` in its null space."""
    gram = jacobian @ jacobian.T + DAMPING * np.eye(6)
    return np.asarray(pull + jacobian.T @ np.linalg.solve(gram, twist - jacobian @ pull))


def limited(speed: Array, q: Array, arm: Arm) -> Array:
    """Joint velocities [7], scaled down as a whole to what the joints can do, and cut where one would reach its stop
    within a tick."""
    speed = speed * min(1.0, float((arm.speed / np.maximum(np.abs(speed), 1e-9)).min()))
    return np.clip(speed, (arm.low + MARGIN - q) / TICK, (arm.high - MARGIN - q) / TICK)


def guarded(action: Array, at: Array, area: Area) -> Array:
    """Velocity [2] m/s of an action [2] in [-1,1] for a hand at [2] m, with what would leave the area within a control
    step cut off."""
    low, high = np.array([area.x, area.y]).T
    return np.asarray(np.clip(SPEED * action, (low - at) / DT, (high - at) / DT))
