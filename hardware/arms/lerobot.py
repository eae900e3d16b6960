"""Any robot of LeRobot's whose joints are positions, as an arm. LeRobot stays in its own environment and process.

It hides the registers, so that little can be known or promised: no speeds, no faults, and no way to cut the power, so
every stop is of category 2, a hold. Its bus is not trusted. Where an arm has a file of its own here, that is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardware.arm import (
    ArmError,
    ArmSpec,
    ArmState,
    Array,
    BusLost,
    Category,
    Clock,
    NoAnswer,
    Refused,
    StopReport,
    vector,
)
from hardware.arms.child import Child
from hardware.clock import RealClock

SO101 = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


@dataclass(frozen=True)
class Scale:
    """Between LeRobot's number for a joint and radians: `slope` rad of each unit, and the least and greatest number."""

    slope: float
    low: float
    high: float


def scale(unit: str, range_min: int, range_max: int, resolution: int) -> Scale:
    """Of a joint whose calibration goes from one count to the other, with `resolution` counts a turn. Zero is the
    middle of its range, for a gripper (range_0_100) the closed end. LeRobot takes a turn for one count less, which is
    undone here."""
    count = 2 * math.pi / resolution
    span = range_max - range_min
    if not 0 < span < resolution:
        raise ValueError(
            f"its calibration is from {range_min} to {range_max} of {resolution} counts; calibrate it again"
        )
    if unit == "degrees":
        per_degree = (resolution - 1) / 360
        return Scale(count * per_degree, -span / 2 / per_degree, span / 2 / per_degree)
    if unit == "range_m100_100":
        return Scale(count * span / 200, -100.0, 100.0)
    if unit == "range_0_100":
        return Scale(count * span / 100, 0.0, 100.0)
    raise ValueError(f"LeRobot's unit {unit!r} is not known; known are degrees, range_m100_100 and range_0_100")


class LeRobot:
    """`python`: the interpreter of LeRobot's environment. `kind`, `config`: as `lerobot-record` has them, by
    `--robot.type`. `joints`: LeRobot's names, in order. `plugin`: a module or file that registers a robot. `scales`: of
    robots without a bus, whose calibration can't be asked. `answer`, `start`: seconds for a call and for opening.

    `written` [n] rad is what the servos had as goals after the last `write`, None where that cannot be known: LeRobot
    itself answers with what it was asked, whatever it cut off.
    """

    def __init__(
        self,
        python: str,
        kind: str,
        config: Mapping[str, Any],
        *,
        joints: Sequence[str] = SO101,
        plugin: str | None = None,
        scales: Sequence[Scale] | None = None,
        answer: float = 0.1,
        start: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        if config.get("cameras"):
            raise ValueError("config has cameras, and LeRobot waits for their frames; give them to hardware/camera.py")
        if scales is not None and len(scales) != len(joints):
            raise ValueError(f"{len(scales)} scales for {len(joints)} joints; give one for each")
        self.spec = ArmSpec("lerobot", tuple(joints), frozenset(), 2)
        self.written: Array | None = None
        self._python, self._kind, self._plugin = python, kind, plugin
        self._config, self._given = dict(config), scales
        self._answer, self._start = answer, start
        self._clock = clock or RealClock()
        self._child: Child | None = None
        self._scales: tuple[Scale, ...] = ()
        self._enabled, self._seq = False, 0

    def open(self) -> None:
        """Some ten seconds: LeRobot takes as long to be imported. A robot without a bus may be energised by it."""
        self.close()
        child = Child(self._python, Path(__file__).with_name("lerobot_process.py"), f"LeRobot's {self._kind}")
        try:
            about = child.ask(self._start, do="open", kind=self._kind, config=self._config, plugin=self._plugin)
            if tuple(about["names"]) != self.spec.names:
                found = ", ".join(about["names"])
                raise Refused(f"{self._kind} has the joints {found}, not {', '.join(self.spec.names)}; name these")
            self._scales = self._read_scales(about["joints"])
        except ArmError:
            child.end()
            raise
        self._child = child

    def close(self) -> None:
        """LeRobot's own way out cuts the power, or fails half way: its process is ended, and the power stays."""
        if self._child is not None:
            self._child.end()
        self._child, self._enabled, self.written = None, False, None

    def read(self) -> ArmState:
        found = self._ask(do="read")
        values = np.array(found["values"], dtype=np.float64)
        if not np.isfinite(values).all():
            raise NoAnswer(f"{self._kind} reports {found['values']}")
        n = len(self.spec.names)
        self._seq += 1
        return ArmState(
            position=self._radians(values),
            velocity=np.full(n, np.nan),
            effort=np.full(n, np.nan),
            temperature=np.full(n, np.nan),
            powered=np.full(n, self._enabled) if found["powered"] is None else np.array(found["powered"], dtype=bool),
            faults=(),
            seq=self._seq,
            time_ns=self._clock.now_ns(),
        )

    def write(self, position: Array) -> None:
        """What is outside the calibrated range raises ValueError too: LeRobot would cut it off and not say so."""
        q = vector("position", position, len(self.spec.names))
        self._there()
        values = q / [each.slope for each in self._scales]
        for name, value, angle, each in zip(self.spec.names, values, q, self._scales, strict=True):
            if not each.low - 1e-6 <= value <= each.high + 1e-6:
                low, high = each.low * each.slope, each.high * each.slope
                raise ValueError(f"{name} is {angle:.4f} rad; it is calibrated for [{low:.4f}, {high:.4f}]")
        self.written = None
        self._keep(self._ask(do="write", values=values.tolist()))

    def enable(self) -> None:
        """A moment without power comes first, if it had any: LeRobot sets up its servos so."""
        self._keep(self._ask(2.0, do="enable"))
        self._enabled = True

    def stop(self, category: Category) -> StopReport:
        """A hold, whatever was asked for, and the report says 2."""
        begin = self._clock.now_ns()
        done: tuple[str, ...] = ()
        try:
            before = self.read().position
            self._keep(self._ask(do="hold"))
            if self.written is not None and np.abs(self.written - before).max() < 0.1:
                done = self.spec.names
        except ArmError:
            pass
        unsure = tuple(name for name in self.spec.names if name not in done)
        return StopReport(2, done, unsure, (self._clock.now_ns() - begin) / 1e9)

    def _keep(self, found: dict[str, Any]) -> None:
        self.written = None if found["written"] is None else self._radians(np.array(found["written"], dtype=np.float64))

    def _radians(self, values: Array) -> Array:
        return values * [each.slope for each in self._scales]

    def _read_scales(self, joints: Sequence[Any]) -> tuple[Scale, ...]:
        if self._given is not None:
            return tuple(self._given)
        if any(joint is None for joint in joints):
            raise Refused(f"{self._kind} has no bus whose calibration could be asked; give scales")
        try:
            return tuple(scale(*joint) for joint in joints)
        except ValueError as error:
            raise Refused(f"{self._kind}: {error}") from None

    def _there(self) -> Child:
        if self._child is None:
            raise BusLost(f"LeRobot's {self._kind} is not open; open it")
        return self._child

    def _ask(self, seconds: float | None = None, **request: Any) -> dict[str, Any]:
        try:
            return self._there().ask(seconds or self._answer, **request)
        except BusLost:
            self.close()
            raise
