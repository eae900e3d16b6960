"""Where a family of servos keeps what, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hardware.arms.line import Answer

Place = tuple[int, int]
"""Address and length of a register."""


@dataclass(frozen=True)
class Measured:
    """Of one servo: ticks, ticks a second, effort in its own unit, degrees Celsius where it is among them, errors."""

    ticks: int
    speed: float
    effort: float
    celsius: float | None
    errors: tuple[str, ...]
    alert: bool = False


@dataclass(frozen=True)
class Checked:
    powered: bool
    celsius: float | None
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Registers:
    """`offset_sign`: what a count grows by with an offset of 1; `offset_most`: the greatest. `fixed`: what has to have
    that value, by name. `unlock`: what makes the EEPROM writable (0) and safe again (1). `watchdog`: units of 20 ms; 0
    ends it."""

    model: Place
    low: Place
    high: Place
    offset: Place
    offset_raw: Callable[[int], int]
    offset_sign: int
    offset_most: int
    fixed: tuple[tuple[str, Place, int], ...]
    torque: int
    goal: Place
    measured: Place
    measure: Callable[[Answer], Measured]
    checked: tuple[Place, ...]
    check: Callable[[Sequence[Answer]], Checked]
    unlock: int | None = None
    watchdog: int | None = None
