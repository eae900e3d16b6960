"""The SO-101 and its kin: Feetech STS3215 servos over Feetech's own SDK. They have no watchdog and check by a sum only,
so that plausibility, heartbeat and limits are for what is above to look after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import scservo_sdk as maker

from hardware.arm import Clock
from hardware.arms.calibration import Calibration
from hardware.arms.line import Answer, Line, Sdk
from hardware.arms.registers import Checked, Measured, Registers
from hardware.arms.servo_arm import ServoArm
from hardware.clock import RealClock

_ERRORS = {1: "voltage", 2: "sensor", 4: "overheat", 8: "overcurrent", 32: "overload"}


class _Port(Line, maker.PortHandler):
    pass


def _sdk() -> Sdk:
    packets: Any = maker.PacketHandler(0)  # little-endian, as STS servos are
    return Sdk(
        port=_Port,
        packets=packets,
        receive=packets.rxPacket,
        take=lambda packet: (packet[2], packet[4], bytes(packet[5 : packet[3] + 3])),
        sync_read=lambda port, address, length, ids: packets.syncReadTx(port, address, length, ids, len(ids)),
        timeout=maker.COMM_RX_TIMEOUT,
        overhead=6,
    )


def _signed(value: int, bit: int) -> int:
    """Of a magnitude whose sign is a bit."""
    return -(value & ~(1 << bit)) if value & 1 << bit else value


def _measure(answer: Answer) -> Measured:
    """56 position, 58 speed, 60 load, 62 voltage, 63 temperature, 65 status; the error byte repeats the status."""
    status = answer.error | answer.data[9]
    return Measured(
        ticks=_signed(answer.number(0, 2), 15),
        speed=_signed(answer.number(2, 2), 15),
        effort=_signed(answer.number(4, 2), 10),
        celsius=answer.data[7],
        errors=tuple(word for bit, word in _ERRORS.items() if status & bit),
    )


def _check(answers: Sequence[Answer]) -> Checked:
    return Checked(answers[0].number() == 1, None, ())


_REGISTERS = Registers(
    model=(3, 2),
    low=(9, 2),
    high=(11, 2),
    offset=(31, 2),
    offset_raw=lambda ticks: -ticks | 1 << 11 if ticks < 0 else ticks,
    offset_sign=-1,
    offset_most=2047,
    fixed=(("the mode", (33, 1), 0), ("the answering", (8, 1), 1)),
    torque=40,
    goal=(42, 2),
    measured=(56, 10),
    measure=_measure,
    checked=((40, 1),),
    check=_check,
    unlock=55,
)


class SO101(ServoArm):
    """`stall` N m is the torque of a load of 1000 (2.9 for the 12 V servo, data sheet); NaN leaves effort unknown."""

    def __init__(
        self,
        port: str,
        calibration: Calibration,
        clock: Clock | None = None,
        *,
        baud: int = 1_000_000,
        spare_ms: float = 4.0,
        budget_s: float = 0.008,
        stall: float = math.nan,
    ) -> None:
        super().__init__(
            "so101",
            _sdk(),
            _REGISTERS,
            port,
            calibration,
            clock or RealClock(),
            baud=baud,
            spare_ms=spare_ms,
            budget_s=budget_s,
            effort=stall / 1000,
        )
