"""Arms of Dynamixel X servos (Koch, ViperX, OMX) over ROBOTIS's own SDK, Protocol 2.0. The servos stop by themselves
when they hear nothing for `watchdog_s` (their Bus Watchdog)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dynamixel_sdk as maker

from hardware.arm import Clock
from hardware.arms.calibration import Calibration
from hardware.arms.line import Answer, Line, Sdk
from hardware.arms.registers import Checked, Measured, Registers
from hardware.arms.servo_arm import ServoArm
from hardware.clock import RealClock

_ERRORS = {0x01: "voltage", 0x04: "overheat", 0x08: "sensor", 0x10: "shock", 0x20: "overload"}
_SPEED = 0.229 / 60 * 4096
"""Ticks a second of one unit of Present Velocity (.229 turns a minute)."""


class _Port(Line, maker.PortHandler):
    pass


def _sdk() -> Sdk:
    packets: Any = maker.PacketHandler(2.0)
    return Sdk(
        port=_Port,
        packets=packets,
        # True is for fast reads: the packet as it came, since the SDK loses bytes where it takes stuffing out (FF FF FD
        # FF FD FD comes back a byte short).
        receive=lambda port: packets.rxPacket(port, True),
        take=lambda packet: (
            packet[4],
            packet[8],
            bytes(packet[9 : packet[5] + (packet[6] << 8) + 5]).replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd"),
        ),
        sync_read=lambda port, address, length, ids: packets.syncReadTx(port, address, length, ids, len(ids), False),
        timeout=maker.COMM_RX_TIMEOUT,
        overhead=11,
    )


def _measure(answer: Answer) -> Measured:
    """126 current, 128 velocity, 132 position; the error byte's highest bit says that register 70 has something."""
    return Measured(
        ticks=answer.number(6, 4, signed=True),
        speed=answer.number(2, 4, signed=True) * _SPEED,
        effort=answer.number(0, 2, signed=True),
        celsius=None,
        errors=(),
        alert=bool(answer.error & 0x80),
    )


def _check(answers: Sequence[Answer]) -> Checked:
    """64 to 70: power first, errors last; 98 watchdog, which is -1 once it has run out; 146 temperature."""
    state, watchdog, celsius = answers
    errors = [word for bit, word in _ERRORS.items() if state.data[6] & bit]
    if watchdog.number() == 0xFF:
        errors.append("watchdog")
    return Checked(state.data[0] == 1, celsius.number(), tuple(errors))


_REGISTERS = Registers(
    model=(0, 2),
    low=(52, 4),
    high=(48, 4),
    offset=(20, 4),
    offset_raw=lambda ticks: ticks,
    offset_sign=1,
    offset_most=1024,  # in position mode
    # In position mode only do the servo's own limits hold; a reversed drive would turn every sign.
    fixed=(("the operating mode", (11, 1), 3), ("the drive mode", (10, 1), 0), ("the answering", (68, 1), 2)),
    torque=64,
    goal=(116, 4),
    measured=(126, 10),
    measure=_measure,
    checked=((64, 7), (98, 1), (146, 1)),
    check=_check,
    watchdog=98,
)


class Dynamixel(ServoArm):
    """`effort` N m is the torque of one unit of Present Current (1 or 2.69 mA times the motor's N m/A, data sheets)."""

    def __init__(
        self,
        port: str,
        calibration: Calibration,
        clock: Clock | None = None,
        *,
        baud: int = 1_000_000,
        spare_ms: float = 4.0,
        budget_s: float = 0.008,
        effort: float = math.nan,
        watchdog_s: float = 0.1,
    ) -> None:
        super().__init__(
            "dynamixel",
            _sdk(),
            _REGISTERS,
            port,
            calibration,
            clock or RealClock(),
            baud=baud,
            spare_ms=spare_ms,
            budget_s=budget_s,
            effort=effort,
            watchdog_s=watchdog_s,
        )
