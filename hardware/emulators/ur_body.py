"""A UR5e as numbers: how it is jointed, how fast it may go, and a servo that keeps to that. No masses, no gravity.

Denavit-Hartenberg table and limits: Universal Robots, "DH Parameters for calculations of kinematics and dynamics" and
the UR5e's technical details (each joint ±360 degrees, 180 degrees a second). The acceleration is the greatest that
ur_rtde lets a caller ask for.
"""

from __future__ import annotations

import math

import numpy as np

from hardware.arm import Array
from policies.chain import Chain

A = (0.0, -0.425, -0.3922, 0.0, 0.0, 0.0)
D = (0.1625, 0.0, 0.0, 0.1333, 0.0997, 0.0996)
ALPHA = (math.pi / 2, 0.0, 0.0, math.pi / 2, -math.pi / 2, 0.0)
RANGE = 2 * math.pi
FASTEST = math.pi
ACCELERATION = 40.0
READY = (0.0, -math.pi / 2, math.pi / 2, -math.pi / 2, -math.pi / 2, 0.0)


def flange(q: Array) -> Array:
    """Position in metres and rotation vector [6] of the tool flange in the base, for joints [6] rad."""
    pose = _poses(q)[-1]
    return np.concatenate([pose[:3, 3], rotation_vector(pose[:3, :3])])


def chain() -> Chain:
    """The same arm as hinges that carry its flange, for a robot's file."""
    poses = np.round(_poses(np.zeros(6)), 9) + 0.0  # no -0.0
    places = np.vstack([np.zeros(3), poses[:, :3, 3]])
    offsets = [(float(x), float(y), float(z)) for x, y, z in np.round(np.diff(places, axis=0), 9) + 0.0]
    axes = [(float(x), float(y), float(z)) for x, y, z in poses[:-1, :3, 2]]
    return Chain(tuple(offsets[:-1]), tuple(axes), offsets[-1])


def _poses(q: Array) -> Array:
    """Of the base and of what each joint carries, [7,4,4]: joint i turns about z of pose i."""
    poses = [np.eye(4)]
    for angle, a, d, alpha in zip(q, A, D, ALPHA, strict=True):
        c, s, ca, sa = math.cos(angle), math.sin(angle), math.cos(alpha), math.sin(alpha)
        turn = [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
        poses.append(poses[-1] @ np.array(turn))
    return np.array(poses)


def rotation_vector(rotation: Array) -> Array:
    angle = math.acos(min(1.0, max(-1.0, (np.trace(rotation) - 1) / 2)))
    if angle < 1e-9:
        return np.zeros(3)
    if math.pi - angle < 1e-6:  # the antisymmetric part is gone; the axis is the longest column of (R + 1) / 2
        columns = (rotation + np.eye(3)) / 2
        axis = columns[:, int(np.argmax(np.diag(columns)))]
        return axis / np.linalg.norm(axis) * angle
    skew = [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    return np.array(skew) * angle / (2 * math.sin(angle))


def towards(
    q: Array,
    qd: Array,
    target: Array,
    dt: float,
    lag: float,
    fastest: float = FASTEST,
    acceleration: float = ACCELERATION,
) -> tuple[Array, Array]:
    """Joints and speeds `dt` seconds on. The way left is closed in about `lag` seconds, no faster than a joint may
    go and never so fast that it could not brake before its target."""
    left = np.clip(target, -RANGE, RANGE) - q
    wanted = np.clip(left / max(lag, dt), -fastest, fastest)
    brake = np.sqrt(2 * acceleration * np.abs(left))
    wanted = np.clip(wanted, -brake, brake)
    speed = qd + np.clip(wanted - qd, -acceleration * dt, acceleration * dt)
    return q + speed * dt, speed


def braked(q: Array, qd: Array, dt: float, deceleration: float) -> tuple[Array, Array]:
    speed = np.sign(qd) * np.maximum(0.0, np.abs(qd) - deceleration * dt)
    return q + speed * dt, speed
