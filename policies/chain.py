"""A serial chain of hinges that carries a tool: where the tool is, and how each hinge moves it. numpy only.

All frames have one orientation when every angle is zero (a URDF without rotations of its origins). m, rad.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Chain:
    """n hinges. ValueError if unfit."""

    offsets: tuple[Vector, ...]  # of each hinge in the frame of the link before, m
    axes: tuple[Vector, ...]  # unit vectors of the hinges in that frame
    tool: Vector  # the tool's point in the last link's frame, m

    def __post_init__(self) -> None:
        n = len(self.axes)
        for name, shape in (("offsets", (n, 3)), ("axes", (n, 3)), ("tool", (3,))):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if n == 0 or value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"{name} is {getattr(self, name)}; a chain of {n} hinges needs finite numbers {shape}")
        unit_vectors("axes", self.axes)

    @cached_property
    def _crosses(self) -> tuple[Array, Array]:
        """The matrices of the axes' cross products [n,3,3], and their squares."""
        cross = np.zeros((len(self.axes), 3, 3))
        for matrix, (x, y, z) in zip(cross, self.axes, strict=True):
            matrix[:] = [[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]
        return cross, cross @ cross

    @cached_property
    def _vectors(self) -> tuple[Array, Array, Array]:
        return np.array(self.offsets), np.array(self.axes), np.array(self.tool)

    def frames(self, joints: Array) -> tuple[Array, Array, Array]:
        """Tool point [...,3] m, the last link's rotation [...,3,3] and the Jacobian [...,6,n] (linear, angular) for
        joint angles [...,n] rad."""
        joints = np.asarray(joints, dtype=np.float64)
        n, (offsets, axes, tool), (cross, square) = len(self.axes), self._vectors, self._crosses
        # Rodrigues, all hinges at once: about a unit vector by an angle.
        sine, cosine = np.sin(joints)[..., None, None], np.cos(joints)[..., None, None]
        turns = np.eye(3) + sine * cross + (1 - cosine) * square
        turned = np.empty((*joints.shape[:-1], n + 1, 3, 3))  # of the links, the foot first
        turned[..., 0, :, :] = np.eye(3)
        for i in range(n):
            np.matmul(turned[..., i, :, :], turns[..., i, :, :], out=turned[..., i + 1, :, :])
        anchors = np.cumsum((turned[..., :n, :, :] @ offsets[..., None])[..., 0], axis=-2)
        x, y, z = np.moveaxis((turned[..., :n, :, :] @ axes[..., None])[..., 0], -1, 0)
        point = anchors[..., n - 1, :] + turned[..., n, :, :] @ tool
        a, b, c = np.moveaxis(point[..., None, :] - anchors, -1, 0)
        jacobian = np.stack([y * c - z * b, z * a - x * c, x * b - y * a, x, y, z], axis=-1).swapaxes(-1, -2)
        return point, turned[..., n, :, :], jacobian

    def point(self, joints: Array) -> Array:
        """Tool point [...,3] m for joint angles [...,n] rad."""
        return self.frames(joints)[0]

    @cached_property
    def reaches(self) -> Array:
        """How far the tool can be from each hinge's axis at most [n] m: no radian of it moves the tool further."""
        lengths = np.linalg.norm([*self.offsets[1:], self.tool], axis=1)
        return np.cumsum(lengths[::-1])[::-1]

    @cached_property
    def bends(self) -> Array:
        """Bound of the second derivative of the tool's point by any two angles [n,n] m: |d2 x / dq_i dq_j| <= bends_ij,
        the reach of the later of both hinges."""
        return np.minimum.outer(self.reaches, self.reaches)


def unit_vectors(name: str, value: object) -> None:
    with np.errstate(over="ignore"):
        length = np.linalg.norm(np.asarray(value), axis=-1)
    if np.abs(length - 1).max() > 1e-9:
        raise ValueError(f"{name} has a vector of length {length.flat[np.abs(length - 1).argmax()]}; make it 1")
