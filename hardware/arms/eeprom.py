"""What a servo keeps without power, held against its calibration, and written from it: limits, offset, mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hardware.arm import Refused
from hardware.arms.calibration import Servo
from hardware.arms.registers import Place, Registers
from hardware.arms.servo_bus import Bus


def same(bus: Bus, told: Registers, servo: Servo) -> None:
    """Raises Refused where it is another than the calibration says: wider limits, another offset or mode."""
    who = f"servo {servo.id} ({servo.name})"
    low, high = (bus.read(servo.id, *place).number(signed=place[1] == 4) for place in (told.low, told.high))
    if low < servo.low or high > servo.high:
        raise Refused(f"{who} lets itself go from {low} to {high}, the calibration's range is {servo.low} to "
                      f"{servo.high}; calibrate, which writes the limits")  # fmt: skip
    offset, wanted = bus.read(servo.id, *told.offset).data, told.offset_raw(servo.offset)
    if offset != wanted.to_bytes(told.offset[1], "little", signed=wanted < 0):
        raise Refused(f"{who} has another offset ({offset.hex()}) than when it was calibrated; calibrate again")
    for what, place, value in told.fixed:
        if (found := bus.read(servo.id, *place).number()) != value:
            raise Refused(f"{what} of {who} is {found}, not {value}; set it with the maker's tool")


def install(bus: Bus, told: Registers, servos: Sequence[Servo]) -> None:
    """Limits and offset of the calibration, into servos without power. Raises Refused, NoAnswer, BusLost."""
    for servo in servos:
        offset = told.offset_raw(servo.offset)
        _write(bus, told, servo, ((told.offset, offset), (told.low, servo.low), (told.high, servo.high)))
        same(bus, told, servo)


def centred(bus: Bus, told: Registers, servos: Sequence[Servo]) -> tuple[Servo, ...]:
    """The servos with offsets that have each count half a turn where it is now; written, so without power. Whatever
    offset was in one is forgotten. Raises Refused where one would have to be too great; NoAnswer, BusLost."""
    found = []
    for servo in servos:
        _write(bus, told, servo, ((told.offset, told.offset_raw(0)),))
        count = told.measure(bus.read(servo.id, *told.measured)).ticks % servo.turn
        missing = servo.turn // 2 - count
        if abs(missing) > told.offset_most + 1:
            raise Refused(
                f"servo {servo.id} ({servo.name}) counts {count}, {abs(missing)} from the middle, and no offset makes "
                f"up for more than {told.offset_most}; turn its horn, or the servo"
            )
        offset = told.offset_sign * min(max(missing, -told.offset_most), told.offset_most)
        _write(bus, told, servo, ((told.offset, told.offset_raw(offset)),))
        found.append(replace(servo, offset=offset))
    return tuple(found)


def _write(bus: Bus, told: Registers, servo: Servo, values: Sequence[tuple[Place, int]]) -> None:
    if told.unlock is not None:
        bus.write(servo.id, told.unlock, 1, 0)
    try:
        for place, value in values:
            bus.write(servo.id, *place, value)
    finally:
        if told.unlock is not None:
            bus.write(servo.id, told.unlock, 1, 1)
