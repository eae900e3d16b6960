"""What an arm is to everything above it: joints that are read, written, stopped. SI units, URDF names, float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Category = Literal[0, 1, 2]
"""Of a stop (the shape of IEC 60204-1's): 0 power off at once, 1 brake and then power off, 2 brake and hold."""
Ability = Literal["velocity", "effort", "temperature", "estop", "watchdog"]


HANG_SECONDS = 0.5
"""For which a daemon that moves the arm may say nothing; then its guard ends it."""


class ArmError(RuntimeError):
    """Whatever an arm cannot do; the sentence names the joint or port, what it said, and the mend."""


class NoAnswer(ArmError):
    """`joints` did not answer in time, or not as asked; without names nobody did. The next try may come out well."""

    def __init__(self, sentence: str, joints: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.joints = joints


class BusLost(ArmError):
    """The port or the connection is gone. It is opened again by `close` and `open` only, never by itself."""


class Refused(ArmError):
    """The arm is there and something forbids moving it: a foreign servo, two of one id, another calibration."""


@dataclass(frozen=True)
class ArmSpec:
    """names: URDF names [n] in the order of every array. stop: the category of an operator's ordinary stop."""

    family: str
    names: tuple[str, ...]
    can: frozenset[Ability]
    stop: Category


@dataclass(frozen=True, eq=False)
class ArmState:
    """What was measured: position [n] rad, velocity [n] rad/s, effort [n] N m and temperature [n] degrees Celsius (NaN
    where unknown), powered bool [n]; faults the arm reports, one word and joint each; `seq` grows with every reading
    that is new; `time_ns` is the clock's when it was taken."""

    position: Array
    velocity: Array
    effort: Array
    temperature: Array
    powered: Array
    faults: tuple[str, ...]
    seq: int
    time_ns: int


@dataclass(frozen=True)
class StopReport:
    """Which joints are known to have done it, and which were told and did not say so. `seconds` it took."""

    category: Category
    done: tuple[str, ...]
    unsure: tuple[str, ...]
    seconds: float


class Arm(Protocol):
    """One class for each family. No method blocks longer than a tenth of a second but `open` and `enable`, which may
    take five."""

    spec: ArmSpec

    def open(self) -> None:
        """Connects and checks; moves and energises nothing. Raises Refused, NoAnswer, BusLost."""

    def close(self) -> None:
        """Never raises, energises nothing, leaves the power of the joints as it is."""

    def read(self) -> ArmState:
        """Raises NoAnswer, BusLost."""

    def write(self, position: Array) -> None:
        """Goals [n] rad, for the next control period. What comes here has been through the envelope; what is not finite
        or not [n] raises ValueError and nothing is sent. Raises Refused before `enable`, NoAnswer, BusLost."""

    def enable(self) -> None:
        """Makes the measured position the goal, then energises. Raises Refused, NoAnswer, BusLost."""

    def stop(self, category: Category) -> StopReport:
        """Best effort for each joint, whichever others are dead; idempotent; never raises."""


class Clock(Protocol):
    def now_ns(self) -> int:
        """Monotonic: steps of the wall clock change nothing."""

    def sleep_until(self, time_ns: int) -> None: ...


def vector(what: str, value: object, n: int) -> Array:
    """float64 [n], finite. Raises ValueError that names what it is."""
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r}; give {n} finite numbers") from None
    if found.shape != (n,) or not np.isfinite(found).all():
        raise ValueError(f"{what} is {value!r}; give {n} finite numbers")
    return found
