"""What a servo keeps without power, held against its calibration, and written from it: limits, offset, mode."""

from __future__ import annotations

from collections.abc import Sequence

from hardware.arm import Refused
from hardware.arms.calibration import Servo
from hardware.arms.registers import Registers
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
        if told.unlock is not None:
            bus.write(servo.id, told.unlock, 1, 0)
        try:
            raw = told.offset_raw(servo.offset)
            for place, value in ((told.offset, raw), (told.low, servo.low), (told.high, servo.high)):
                bus.write(servo.id, *place, value)
        finally:
            if told.unlock is not None:
                bus.write(servo.id, told.unlock, 1, 1)
        same(bus, told, servo)
