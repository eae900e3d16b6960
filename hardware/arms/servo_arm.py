"""An arm of servos on one bus, whoever made them: `hardware.arm.Arm` over a table of registers."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence

import numpy as np

from hardware.arm import (
    Ability,
    ArmError,
    ArmSpec,
    ArmState,
    Array,
    Category,
    Clock,
    NoAnswer,
    Refused,
    StopReport,
    vector,
)
from hardware.arms import eeprom, stops
from hardware.arms.calibration import Calibration
from hardware.arms.line import Sdk
from hardware.arms.registers import Checked, Registers
from hardware.arms.servo_bus import Bus

SLACK = 40
"""Ticks by which a joint at rest may lie beyond its range when it is energised: a folded arm leans on its stops."""
CHECK_NS = 50_000_000
"""How often power, errors and temperature are asked for."""


class ServoArm:
    """`effort`: N m of one unit of the servos' load or current register, NaN where unknown. `spare_ms`: how long a
    servo may take to answer beyond the time of the bytes. `budget_s`: what a reading that is tried again may cost."""

    def __init__(
        self,
        family: str,
        sdk: Sdk,
        registers: Registers,
        port: str,
        calibration: Calibration,
        clock: Clock,
        *,
        baud: int,
        spare_ms: float,
        budget_s: float,
        effort: float,
        watchdog_s: float = 0.0,
    ) -> None:
        for what, value in (("spare_ms", spare_ms), ("budget_s", budget_s)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{what} is {value!r}; give a positive number")
        if not 0 <= watchdog_s <= 2.54:
            raise ValueError(f"watchdog_s is {watchdog_s!r}; give 0 (none) to 2.54 seconds")
        self.servos = calibration.servos
        names = tuple(servo.name for servo in self.servos)
        can: set[Ability] = {"velocity", "temperature"}
        if math.isfinite(effort):
            can.add("effort")
        if watchdog_s:
            can.add("watchdog")
        self.spec = ArmSpec(family, names, frozenset(can), 2)
        self.bus = Bus(sdk, port, {servo.id: servo.name for servo in self.servos}, baud, spare_ms, budget_s)
        self._registers, self._clock, self._effort = registers, clock, effort
        self._watchdog = math.ceil(watchdog_s / 0.02)
        self._ids = [servo.id for servo in self.servos]
        self._turn: Array = np.array([servo.sign * 2 * math.pi / servo.turn for servo in self.servos])
        self._seq = 0
        self._forget()

    def _forget(self) -> None:
        self._expected = dict.fromkeys(self._ids, False)  # who is to have power
        self._checked: dict[int, Checked] = {}
        self._checked_ns: int | None = None
        self._ticks: dict[int, int] = {}

    def connect(self) -> None:
        """What `open` does first, and calibrating needs no more: the port, and that each servo is there, once, and of
        the model it is said to be. Raises as `open`."""
        self._forget()
        self.bus.open()
        try:
            for servo in self.servos:
                found = self.bus.alone(servo.id).number(*self._registers.model)
                if found != servo.model:
                    raise Refused(f"servo {servo.id} ({servo.name}) is of model {found}, the calibration's of "
                                  f"{servo.model}; it is another arm, or another servo was put in")  # fmt: skip
        except BaseException:
            self.bus.close()
            raise

    def open(self) -> None:
        """Refused where a servo's EEPROM is not what the calibration says: another offset or mode, wider limits."""
        self.connect()
        try:
            with self.bus.patient():
                for servo in self.servos:
                    eeprom.same(self.bus, self._registers, servo)
                self._check()
            self._expected = {number: self._checked[number].powered for number in self._ids}
        except BaseException:
            self.bus.close()
            raise

    def seize(self) -> None:
        """The port, and who has power, of whoever answers: enough for `stop`, however many servos are dead, and no more
        is checked. Who does not say is taken to have power. Raises BusLost, Refused where the port is not to be had."""
        self._forget()
        self.bus.open()
        with self.bus.patient():
            found, _ = self.bus.read_some(self._ids, self._registers.torque, 1)
        self._expected = {number: number not in found or found[number].number() != 0 for number in self._ids}

    def close(self) -> None:
        self.bus.close()

    def ticks(self) -> list[int]:
        """What the servos count, uncalibrated [n]. Raises NoAnswer, BusLost."""
        found = self.bus.read_all(self._ids, *self._registers.measured)
        return [self._registers.measure(found[number]).ticks for number in self._ids]

    def install(self) -> None:
        """Writes limits and offset of the calibration into the servos, which lose power first. Needs `connect` only.
        Raises Refused, NoAnswer, BusLost."""
        with self._limp():
            eeprom.install(self.bus, self._registers, self.servos)

    def centre(self) -> None:
        """Has every servo count half a turn where it is now, after it has lost power: the seam of its count is then as
        far away as can be. Needs `connect` only. Raises as `install`."""
        with self._limp():
            self.servos = eeprom.centred(self.bus, self._registers, self.servos)

    @contextlib.contextmanager
    def _limp(self) -> Iterator[None]:
        if unsure := self.stop(0).unsure:
            raise NoAnswer(f"{', '.join(unsure)} may have power; switch the arm off and on, and begin again", unsure)
        with self.bus.patient():
            yield

    def read(self) -> ArmState:
        told = self._registers
        begun = self._clock.now_ns()
        answers = self.bus.read_all(self._ids, *told.measured)
        now = (begun + self._clock.now_ns()) // 2
        found = {number: told.measure(answer) for number, answer in answers.items()}
        alert = any(each.alert and not self._errors(number) for number, each in found.items())
        if self._checked_ns is None or alert or now - self._checked_ns >= CHECK_NS:
            self._check()
        self._ticks = {number: each.ticks for number, each in found.items()}
        faults: list[str] = []
        celsius: list[float] = []
        for servo in self.servos:
            each, checked = found[servo.id], self._checked[servo.id]
            words = dict.fromkeys((*each.errors, *checked.errors))
            if checked.powered != self._expected[servo.id]:
                words["power"] = None
            if servo.astray(each.ticks):
                words["turn"] = None
            elif self._expected[servo.id] and not servo.low - SLACK <= each.ticks <= servo.high + SLACK:
                words["range"] = None
            faults += [f"{word} {servo.name}" for word in words]
            heat = checked.celsius if each.celsius is None else each.celsius
            celsius.append(math.nan if heat is None else heat)
        self._seq += 1
        ordered = [found[number] for number in self._ids]
        return ArmState(
            position=self._angles([each.ticks for each in ordered]),
            velocity=np.array([each.speed for each in ordered]) * self._turn,
            effort=np.array([each.effort for each in ordered]) * np.sign(self._turn) * self._effort,
            temperature=np.array(celsius, np.float64),
            powered=np.array([self._checked[number].powered for number in self._ids]),
            faults=tuple(faults),
            seq=self._seq,
            time_ns=now,
        )

    def write(self, position: Array) -> None:
        """One packet. Beyond a joint's range it raises ValueError, before `enable` Refused: some servos take power from
        being given a goal."""
        goals = {}
        for servo, angle in zip(self.servos, vector("position", position, len(self.servos)), strict=True):
            ticks = servo.ticks(float(angle))
            if not servo.low - 1 <= ticks <= servo.high + 1:  # a tick is what rounding may cost
                lower, upper = servo.limits
                raise ValueError(f"{servo.name} is to go to {angle:.4f} rad, its range is {lower:.4f} to {upper:.4f}; "
                                 "give the arm tighter limits")  # fmt: skip
            goals[servo.id] = min(max(ticks, servo.low), servo.high)
        if not all(self._expected.values()):
            raise Refused("the arm is not enabled: goals are written to servos with power only; enable it")
        self.bus.write_all(*self._registers.goal, goals)

    def enable(self) -> None:
        """Goals, verified, then power, verified; whatever fails, all lose power again. A missed answer is asked for
        again for longer than while it moves."""
        try:
            with self.bus.patient():
                self._enable()
        except ArmError:
            self.stop(0)
            raise

    def stop(self, category: Category) -> StopReport:
        """0 tells all servos at once to drop power, then each, then asks. 2 makes the measured position the goal; who
        does not say where it is gets what it said last, and is unsure. 1: as 2, then 0 at rest or after 25 ms."""
        begun = time.monotonic_ns()
        done: set[int] = set()
        if category != 0:
            with contextlib.suppress(Exception):
                powered = {number for number in self._ids if self._expected[number]}
                done = stops.hold(self.bus, self._registers, self.servos, powered, self._ticks, self._watchdog)
        if category == 1:
            with contextlib.suppress(Exception):
                stops.rest(self.bus, self._registers, self._ids, self._clock)
        if category != 2:
            self._expected = dict.fromkeys(self._ids, False)
            done = stops.release(self.bus, self._registers, self._ids)
            self._checked_ns = None  # the next reading asks who has power
        return StopReport(
            category,
            tuple(servo.name for servo in self.servos if servo.id in done),
            tuple(servo.name for servo in self.servos if servo.id not in done),
            (time.monotonic_ns() - begun) / 1e9,
        )

    def _angles(self, ticks: Sequence[int]) -> Array:
        return (np.array(ticks, np.float64) - [servo.zero for servo in self.servos]) * self._turn

    def _errors(self, number: int) -> tuple[str, ...]:
        return self._checked[number].errors if number in self._checked else ()

    def _check(self) -> None:
        told = self._registers
        found = [self.bus.read_all(self._ids, *place) for place in told.checked]
        self._checked = {number: told.check([answers[number] for answers in found]) for number in self._ids}
        self._checked_ns = self._clock.now_ns()

    def _enable(self) -> None:
        told = self._registers
        answers = self.bus.read_all(self._ids, *told.measured)
        stops.watch(self.bus, self._registers, self._ids, 0)  # one that has run out refuses goals
        self._check()
        goals = {}
        for servo in self.servos:
            each = told.measure(answers[servo.id])
            if errors := dict.fromkeys((*each.errors, *self._errors(servo.id))):
                raise Refused(f"{servo.name} reports {', '.join(errors)}; mend that, then take its power off and on")
            if not servo.low - SLACK <= each.ticks <= servo.high + SLACK:
                lower, upper = servo.limits
                raise Refused(f"{servo.name} is at {servo.angle(each.ticks):.3f} rad, its range is {lower:.3f} to "
                              f"{upper:.3f}; move it there by hand, or power it off and on if it counts a turn too "
                              "many")  # fmt: skip
            goals[servo.id] = min(max(each.ticks, servo.low), servo.high)
        self.bus.write_all(*told.goal, goals)
        for number, answer in self.bus.read_all(self._ids, *told.goal).items():
            if (found := answer.number()) != goals[number]:
                raise Refused(f"{self.bus.names[number]} has {found} for its goal, not {goals[number]}; try again")
        for number in self._ids:
            self.bus.write(number, told.torque, 1, 1)
        stops.watch(self.bus, self._registers, self._ids, self._watchdog)
        self._check()
        if without := [self.bus.names[number] for number in self._ids if not self._checked[number].powered]:
            raise Refused(f"{', '.join(without)} took no power; look at supply and wiring")
        self._expected = dict.fromkeys(self._ids, True)
        self._ticks = {number: told.measure(answer).ticks for number, answer in answers.items()}
