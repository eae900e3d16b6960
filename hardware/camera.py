"""What a camera is: the latest frame, with its age. Reading never waits for the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Frame:
    """data uint8 [H,W,3]; `seq` grows with every frame that is new: age is told by it, not by when a call returned."""

    data: npt.NDArray[Any]
    seq: int
    time_ns: int


class Camera(Protocol):
    heard: Callable[[Frame], object]
    """Told every frame that is new, by the camera's own thread: it must not wait, and must not raise."""

    def open(self) -> None: ...

    def latest(self) -> Frame | None: ...

    def close(self) -> None: ...
