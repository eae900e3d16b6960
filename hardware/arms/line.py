"""A maker's SDK as a servo bus uses it: a port that keeps time and forgets stale bytes, and what reads packets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import serial


class Line:
    """Goes before an SDK's `PortHandler` among the bases of a port of ours: what is true of time and of stale bytes."""

    spare_ms = 4.0

    def setupPort(self: Any, cflag_baud: int) -> bool:
        if self.is_open:
            self.closePort()
        # It waits in the kernel instead of spinning, which on a busy machine takes the time of whoever is to answer. No
        # other process may have the port, and nothing is written for ever.
        self.ser = serial.Serial(self.port_name, self.baudrate, timeout=0.001, write_timeout=0.05, exclusive=True)
        with contextlib.suppress(ValueError, OSError, NotImplementedError, AttributeError):
            self.ser.set_low_latency_mode(True)  # an FTDI adapter keeps bytes for 16 ms unless told
        self.is_open = True
        self.ser.reset_input_buffer()
        self.tx_time_per_byte = 10_000.0 / self.baudrate
        return True

    def clearPort(self: Any) -> None:
        self.ser.reset_input_buffer()  # not flush(), which leaves a late answer to be taken for the next one

    def setPacketTimeout(self: Any, packet_length: int) -> None:
        self.quota = 4 * packet_length + 64
        self.setPacketTimeoutMillis(self.tx_time_per_byte * packet_length + self.spare_ms)

    def getCurrentTime(self) -> float:
        return time.monotonic_ns() / 1e6  # not the wall clock, which may step

    def readPort(self: Any, length: int) -> bytes:
        # So many bytes and no more: an SDK that is fed noise without end never looks at its timer.
        got: bytes = self.ser.read(max(0, min(length, self.quota)))
        self.quota -= len(got)
        return got


@dataclass(frozen=True)
class Sdk:
    """A maker's SDK as the bus uses it. `port(name)` makes a port with `Line` in it; `packets` is the packet handler;
    `take(packet)` -> (id, error, data) of a status packet; `sync_read` sends the request."""

    port: Callable[[str], Any]
    packets: Any
    receive: Callable[[Any], tuple[Any, int]]
    take: Callable[[Any], tuple[int, int, bytes]]
    sync_read: Callable[[Any, int, int, list[int]], int]
    timeout: int
    overhead: int


@dataclass(frozen=True)
class Answer:
    error: int
    data: bytes

    def number(self, at: int = 0, length: int | None = None, *, signed: bool = False) -> int:
        """Little-endian."""
        return int.from_bytes(
            self.data[at : len(self.data) if length is None else at + length], "little", signed=signed
        )
