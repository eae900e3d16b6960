"""The loop of an emulated servo bus: bytes from its wire, orders from its control socket, physics brought up to now."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from hardware.emulators.bench import Bench
from hardware.emulators.dynamixel import Dynamixel
from hardware.emulators.feetech import Feetech
from hardware.emulators.wire import Faults, Wire

CATCH_UP = 50
"""Steps of physics at most between two looks at the time: after a stall of the machine the arm does not leap."""
IDLE = 0.01
"""Seconds between two looks at the time when nothing is said."""


class Bus:
    """With `virtual` time nothing moves but by the order `advance`. Orders, one JSON object a line, {"do": name, ...}:

    faults (drop, corrupt, truncate, noise, late_ms, doubled, dead, seed), reset, advance (seconds), time (virtual),
    state, record, forget, reboot (id), jump (id, ticks), status (id, bits), temperature (id, celsius), lock (joint,
    on), pose (position), peek (id, address, length), poke (id, address, data), hang_up."""

    def __init__(
        self, servos: Feetech | Dynamixel, bench: Bench, wire: Wire, control: Path, virtual: bool = False
    ) -> None:
        self.servos, self.bench, self.wire, self.virtual = servos, bench, wire, virtual
        self._last = time.monotonic()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        control.unlink(missing_ok=True)
        self._listener.bind(str(control))
        self._listener.listen()
        self._lines: dict[socket.socket, bytes] = {}
        self._orders: dict[str, Callable[..., Any]] = {
            name.removeprefix("_do_"): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }

    def serve(self) -> None:
        """Until the process is ended."""
        while True:
            now = time.monotonic()
            due = self.wire.due()
            wait = IDLE if due is None else min(IDLE, max(0.0, due - now))
            # The wire first: what was written to it before an order was given comes before that order.
            ends: list[Any] = [self.wire.master] if self.wire.master >= 0 else []
            ends += [self._listener, *self._lines]
            ready, _, _ = select.select(ends, [], [], wait)
            self._catch_up()
            for end in ready:
                if end is self._listener:
                    self._lines[self._listener.accept()[0]] = b""
                elif isinstance(end, socket.socket):
                    self._obey(end)
                else:
                    self._listen()
            if self.wire.master >= 0:
                self.wire.send(time.monotonic())

    def _catch_up(self) -> None:
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if not self.virtual:
            self.bench.joints.advance(passed, CATCH_UP)
            self.bench.now += passed
        self.servos.refresh()

    def _listen(self) -> None:
        now = time.monotonic()
        buffer = self.wire.hear(now)
        while (packet := self.servos.take(buffer)) is not None:
            self.wire.say(self.servos.answer(packet), now)
            self.servos.refresh()

    def _obey(self, end: socket.socket) -> None:
        try:
            new = end.recv(65536)
        except ConnectionError:
            new = b""
        if not new:
            del self._lines[end]
            end.close()
            return
        *lines, self._lines[end] = (self._lines[end] + new).split(b"\n")
        for line in lines:
            try:
                given = json.loads(line)
                answer = {"ok": self._orders[given.pop("do")](**given)}
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                answer = {"error": f"{line.decode(errors='replace')} cannot be done ({error!r})"}
            self.servos.refresh()
            end.sendall(json.dumps(answer).encode() + b"\n")

    def _do_faults(self, dead: list[int] | None = None, seed: int | None = None, **chances: Any) -> None:
        if unknown := set(chances) - {field.name for field in fields(Faults)}:
            raise ValueError(f"no fault is called {sorted(unknown)[0]}")
        if dead is not None:
            self.bench.dead = set(dead)
        if seed is not None:
            self.wire.draw.seed(seed)
        for name, value in chances.items():
            setattr(self.wire.faults, name, value)

    def _do_reset(self, position: list[float] | None = None, virtual: bool | None = None) -> None:
        """As at the start: no faults, no power, nothing on record, plugged in."""
        self.wire.faults = Faults()
        self.wire.draw.seed(0)
        self.wire.plug_in()
        self.bench.clear()
        self.bench.joints.reset(None if position is None else np.array(position))
        self.servos.reset()
        self.bench.forget()
        self.virtual = self.virtual if virtual is None else virtual

    def _do_advance(self, seconds: float) -> float:
        """In steps as small as a watchdog's unit allows; the time it is then."""
        while seconds > 0:
            part = min(seconds, 0.002)
            self.bench.joints.advance(part)
            self.bench.now += part
            self.servos.refresh()
            seconds -= part
        return self.bench.now

    def _do_time(self, virtual: bool) -> None:
        self.virtual = virtual

    def _do_state(self) -> dict[str, Any]:
        return self.bench.state()

    def _do_record(self) -> dict[str, Any]:
        return self.bench.record()

    def _do_forget(self) -> None:
        self.bench.forget()

    def _do_reboot(self, id: int) -> None:
        self.servos.reboot(id)

    def _do_jump(self, id: int, ticks: int) -> None:
        self.bench.jump[id] += ticks

    def _do_status(self, id: int, bits: int) -> None:
        self.bench.status[id] = bits & 0x7F

    def _do_temperature(self, id: int, celsius: int) -> None:
        self.bench.celsius[id] = celsius

    def _do_lock(self, joint: int, on: bool = True) -> None:
        self.bench.joints.locked[joint] = on

    def _do_pose(self, position: list[float]) -> None:
        """Put there by hand, at rest, without power."""
        for number in self.bench.servos:
            self.bench.power(number, False)
        self.bench.joints.reset(np.array(position))
        for number in self.bench.servos:
            self.servos.memory[number][self.servos.torque] = 0

    def _do_peek(self, id: int, address: int, length: int) -> list[int]:
        return list(self.servos.memory[id][address : address + length])

    def _do_poke(self, id: int, address: int, data: list[int]) -> None:
        """Another EEPROM, say. What it does to motion is not looked at."""
        self.servos.memory[id][address : address + len(data)] = bytes(data)

    def _do_hang_up(self) -> None:
        self.wire.hang_up()
