"""What turns a servo's ticks into a joint's angle, and the file that keeps it, with a digest of itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from embodied import atomic
from hardware.arm import Array


@dataclass(frozen=True)
class Servo:
    """One joint: angle = sign (ticks - zero) 2 pi / turn. `low` and `high` are the ticks it may be sent to, and the
    servo's own limits have to be as tight; `offset` is the one it keeps in its EEPROM; `model` its model number."""

    name: str
    id: int
    model: int
    zero: int = 2048
    sign: int = 1
    low: int = 0
    high: int = 4095
    offset: int = 0
    turn: int = 4096

    def __post_init__(self) -> None:
        for what, value in asdict(self).items():
            if what != "name" and (isinstance(value, bool) or not isinstance(value, int)):
                raise ValueError(f"{what} of servo {self.name!r} is {value!r}; give a whole number")
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"a servo's name is {self.name!r}; give the joint's")
        if not 0 <= self.id <= 252:
            raise ValueError(f"id of servo {self.name!r} is {self.id}; a bus has 0 to 252")
        if self.sign not in (-1, 1):
            raise ValueError(f"sign of servo {self.name!r} is {self.sign}; give 1 or -1")
        if self.turn < 2:
            raise ValueError(f"turn of servo {self.name!r} is {self.turn}; give its ticks per turn")
        if not self.low < self.high or self.high - self.low > self.turn:
            raise ValueError(
                f"range of servo {self.name!r} is {self.low} to {self.high}; give it up to one turn, rising"
            )

    def angle(self, ticks: float) -> float:
        """Radians."""
        return self.sign * (ticks - self.zero) * 2 * math.pi / self.turn

    def ticks(self, angle: float) -> int:
        """The nearest; the range is not looked at."""
        return round(self.zero + self.sign * angle * self.turn / (2 * math.pi))

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper, radians."""
        lower, upper = sorted((self.angle(self.low), self.angle(self.high)))
        return lower, upper

    def astray(self, ticks: int) -> bool:
        """Whether the count is half a turn or more from the middle of the range: it counts another turn, or jumped."""
        return abs(2 * ticks - self.low - self.high) >= self.turn


@dataclass(frozen=True)
class Calibration:
    """One arm's servos in the order of its joints. `serial` names the arm: its adapter's serial number, or a label."""

    serial: str
    servos: tuple[Servo, ...]

    def __post_init__(self) -> None:
        for what in ("id", "name"):
            found = [getattr(servo, what) for servo in self.servos]
            if not found or len(set(found)) != len(found):
                raise ValueError(f"servos have the {what}s {found}; each needs one of its own")

    @property
    def sha256(self) -> str:
        """Of the contents: what a journal and a policy's contract name."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def save(path: Path, calibration: Calibration) -> None:
    written = json.dumps({**asdict(calibration), "sha256": calibration.sha256}, indent=1)
    atomic.write(Path(path), written.encode())


def load(path: Path) -> Calibration:
    """Raises ValueError naming the file when it is not a calibration, or not what was saved."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        said = found.pop("sha256")
        calibration = Calibration(found.pop("serial"), tuple(Servo(**servo) for servo in found.pop("servos")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a calibration ({error}); calibrate the arm") from None
    if found or said != calibration.sha256:
        raise ValueError(f"{path} is not what was saved: its digest is another; calibrate the arm again")
    return calibration


def recorded(
    readings: Array, middle: Array, servos: Sequence[Servo], serial: str, *, margin: int = 20, least: int = 100
) -> Calibration:
    """The calibration of an arm that was moved by hand. readings [T,n] ticks while every joint went through its whole
    range; middle [n] ticks in the pose that is to be zero. The range is what was seen less `margin` ticks at both ends.
    Raises ValueError for a joint moved by fewer than `least` ticks, or over the seam of its count."""
    ticks, zero = np.asarray(readings), np.asarray(middle)
    if ticks.ndim != 2 or len(ticks) < 2 or ticks.shape[1] != len(servos) or zero.shape != (len(servos),):
        raise ValueError(f"readings {ticks.shape} and middle {zero.shape} are not of {len(servos)} servos")
    if not np.issubdtype(ticks.dtype, np.integer) or not np.issubdtype(zero.dtype, np.integer):
        raise ValueError(f"readings are {ticks.dtype}, middle {zero.dtype}; give ticks, whole numbers")
    done = []
    for servo, seen, here in zip(servos, ticks.T, zero, strict=True):
        if (leap := int(np.abs(np.diff(seen)).max())) >= servo.turn // 2:
            raise ValueError(f"{servo.name} leapt by {leap} ticks: its range crosses the seam of the count; "
                             "set its offset so that the middle counts half a turn, and record again")  # fmt: skip
        low, high = int(seen.min()), int(seen.max())
        if high - low < least + 2 * margin:
            raise ValueError(f"{servo.name} moved by {high - low} ticks only; move it through its whole range")
        if not low <= here <= high:
            raise ValueError(f"{servo.name} counts {here} in the middle pose, outside its range {low} to {high}")
        done.append(
            Servo(
                servo.name,
                servo.id,
                servo.model,
                int(here),
                servo.sign,
                low + margin,
                high - margin,
                servo.offset,
                servo.turn,
            )
        )
    return Calibration(serial, tuple(done))
