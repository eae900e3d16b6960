"""The Cartesian step: from an action (a velocity of the cup) to joint velocities. Pure numpy, batched over arms."""

from typing import Any

import numpy as np
import numpy.typing as npt

from envs import arm_model

Array = npt.NDArray[Any]

DT = 0.05  # s, one control step
SPEED, TURN = 0.6, 1.8  # m/s and rad/s at action 1
DAMPING, NULL_GAIN, JOINT_SPEED = 1e-3, 0.5, 3.0  # least-squares damping, 1/s, rad/s
Z_GUARD, RADIUS_GUARD, TILT_GUARD = (0.20, 0.42), (0.25, 0.75), float(np.deg2rad(70))  # m, m (horizontal), rad
RETURN = 0.2  # share of an overshoot that the guards undo per control step; at 0 sums of small misses reach 88 deg

_PULL = np.array([0.0, 1, 1, 1, 1, 1, 1])  # joint 1 is free to point where the cup is


def guarded(action: Array, cup: Array, opening: Array) -> Array:
    """Cartesian velocity [n,5] (m/s, rad/s about world x and y) of an action [n,5] in [-1,1], with the part that would
    leave the guards within one control step cut off. cup [n,3] m, opening [n,3] unit vector."""
    twist = action * np.array([SPEED, SPEED, SPEED, TURN, TURN])
    z = cup[:, 2]
    twist[:, 2] = _cut(twist[:, 2], z, *Z_GUARD)
    radius = np.hypot(cup[:, 0], cup[:, 1])
    out = cup[:, :2] / np.maximum(radius, 1e-9)[:, None]
    speed = np.einsum("ni,ni->n", out, twist[:, :2])
    twist[:, :2] += (_cut(speed, radius, *RADIUS_GUARD) - speed)[:, None] * out
    sine = np.hypot(opening[:, 0], opening[:, 1])
    tilt = np.arctan2(sine, opening[:, 2])
    # The axis about which a turn tilts the cup further.
    axis = np.stack([-opening[:, 1], opening[:, 0]], 1) / np.maximum(sine, 1e-9)[:, None]
    rate = np.einsum("ni,ni->n", axis, twist[:, 3:])
    twist[:, 3:] += (_cut(rate, tilt, -1.0, TILT_GUARD) - rate)[:, None] * axis
    return twist


def _cut(speed: Array, place: Array, low: float, high: float) -> Array:
    """Speeds that would pass a bound within a control step, cut to arrive at it; beyond it, turned gently back."""
    to_low, to_high = (low - place) / DT, (high - place) / DT
    least = np.where(to_low > 0, RETURN * to_low, to_low)
    most = np.where(to_high < 0, RETURN * to_high, to_high)
    return np.clip(speed, least, most)


def least_squares(twist: Array, jacobian: Array, joints: Array, gain: float = NULL_GAIN) -> Array:
    """Joint velocities [n,7] rad/s for Cartesian velocities [n,5]: damped least squares on the Jacobian [n,5,7], with
    a pull (``gain``, 1/s) to the rest posture in its null space, then scaled down as a whole to at most JOINT_SPEED."""
    pull = gain * _PULL * (arm_model.REST - joints)
    rows = jacobian.transpose(0, 2, 1)
    gram = jacobian @ rows + DAMPING * np.eye(5)
    # J+ v + (I - J+ J) pull = pull + J+ (v - J pull)
    error = twist[:, :, None] - jacobian @ pull[:, :, None]
    speed = pull + (rows @ np.linalg.solve(gram, error))[:, :, 0]
    scale = np.minimum(1.0, JOINT_SPEED / np.maximum(np.abs(speed).max(1), 1e-9))
    return np.asarray(speed * scale[:, None])
