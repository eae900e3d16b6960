"""How servos on a bus are stopped, whichever of them are dead: told to stay, waited for, let go."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from hardware.arm import Clock
from hardware.arms.calibration import Servo
from hardware.arms.registers import Registers
from hardware.arms.servo_bus import Bus

SLOW = 40
"""Ticks a second: .06 rad/s."""


def watch(bus: Bus, told: Registers, ids: Sequence[int], units: int) -> None:
    """The servos' own watchdog, where they have one."""
    if told.watchdog is not None:
        bus.write_all(told.watchdog, 1, dict.fromkeys(ids, units))


def hold(
    bus: Bus, told: Registers, servos: Sequence[Servo], powered: set[int], last: Mapping[int, int], watchdog: int
) -> set[int]:
    """Where each measures itself becomes its goal, or where it was last. Returns who is known to hold there, or to have
    no power: such a one gets no goal, it might take some from it."""
    ids = [servo.id for servo in servos]
    answers, _ = bus.read_some(ids, *told.measured)
    where = {**last, **{number: told.measure(answer).ticks for number, answer in answers.items()}}
    goals = {
        servo.id: min(max(where[servo.id], servo.low), servo.high)
        for servo in servos
        if servo.id in powered and servo.id in where
    }
    if goals:
        watch(bus, told, ids, 0)
        bus.write_all(*told.goal, goals)
        watch(bus, told, ids, watchdog)
    found, _ = bus.read_some([number for number in ids if number in answers], *told.goal)
    return {number for number, answer in found.items() if number not in powered or answer.number() == goals[number]}


def rest(bus: Bus, told: Registers, ids: Sequence[int], clock: Clock) -> None:
    """Until they are slow, or 25 ms have passed."""
    until = time.monotonic_ns() + 25_000_000
    for _ in range(5):
        answers, _ = bus.read_some(ids, *told.measured)
        speeds = [abs(told.measure(answer).speed) for answer in answers.values()]
        if max(speeds, default=0.0) < SLOW or time.monotonic_ns() > until:
            return
        clock.sleep_until(clock.now_ns() + 5_000_000)


def release(bus: Bus, told: Registers, ids: Sequence[int]) -> set[int]:
    """Who is known to have no power. First what needs no answer; more rounds while they cost little."""
    begun = time.monotonic_ns()
    off: set[int] = set()
    for _ in range(3):
        with contextlib.suppress(Exception):
            bus.broadcast(told.torque, 1, 0)
        left = [number for number in ids if number not in off]
        for number in left:
            with contextlib.suppress(Exception):
                bus.write(number, told.torque, 1, 0, trusted=False)
        with contextlib.suppress(Exception):
            found, _ = bus.read_some(left, told.torque, 1)
            off |= {number for number, answer in found.items() if answer.number() == 0}
        if len(off) == len(ids) or time.monotonic_ns() - begun > 30_000_000:
            break
    with contextlib.suppress(Exception):
        watch(bus, told, ids, 0)
    return off
