"""A UR5e's controller for ur_rtde as it is: RTDE on port 30004, dashboard on 29999, scripts on 30003.

    python -m hardware.emulators.ur --address 127.0.0.2 --control /run/user/1000/ur.sock

The ports are written into the SDK, so each controller needs its own loopback address. What is not as in a real one: the
joints are numbers that keep to limits, without masses; the script is not run; it wakes up in a moment. With `--virtual`
nothing moves and no watchdog runs but when told to `advance`; packages still go out in real time, or the SDK gives up,
so the arm's limits on the age of data have to be wide then.

Faults, and what the controller saw, by JSON lines on the control socket: {"do": "estop"} -> {"ok": ...}.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hardware import priority
from hardware.emulators.ur_controller import Controller
from hardware.emulators.ur_frames import Recipe, frame, frames, recipe

HZ = 500
PORTS = {"rtde": 30004, "dashboard": 29999, "script": 30003}
VERSION = struct.pack(">4I", 5, 11, 0, 0)
SCRIPT_ENDS = b'textmsg("RTDE Control Script Terminated")'


class Client:
    """One connection: bytes not yet understood, and for RTDE the recipes it set up."""

    def __init__(self, connection: socket.socket, service: str) -> None:
        self.connection, self.service = connection, service
        self.buffer = bytearray()
        self.output: Recipe | None = None
        self.inputs: list[Recipe] = []
        self.every, self.started = 1, False


class Server:
    def __init__(self, address: str, control: Path | None, virtual: bool) -> None:
        self.controller, self.virtual = Controller(prompt=virtual), virtual
        self.clients: list[Client] = []
        self.ticks, self.running = 0, True
        self.selector = selectors.DefaultSelector()
        self.do: dict[str, Callable[[dict[str, Any]], object]] = _faults(self)
        for service, port in PORTS.items():
            listener = socket.create_server((address, port), reuse_port=False)
            self._listen(listener, service)
        if control is not None:
            control.unlink(missing_ok=True)
            unix = socket.socket(socket.AF_UNIX)
            unix.bind(str(control))
            unix.listen()
            self._listen(unix, "control")

    def run(self) -> None:
        due = time.monotonic()
        while self.running:
            for key, _ in self.selector.select(max(0.0, due - time.monotonic())):
                key.data()
            if (now := time.monotonic()) >= due:
                due = due + 1 / HZ if now - due < 0.02 else now + 1 / HZ  # after a stall time goes on, it does not leap
                self.tick(0.0 if self.virtual else 1 / HZ)

    def tick(self, dt: float) -> None:
        self.controller.cycle(dt)
        self.ticks += 1
        values = self.controller.values()
        for client in [each for each in self.clients if each.started and self.ticks % each.every == 0]:
            assert client.output is not None
            self._send(client, frame("U", b"\x01" + client.output.pack(values)))

    def drop(self, service: str) -> int:
        gone = [client for client in self.clients if client.service == service]
        for client in gone:
            self._close(client)
        return len(gone)

    def _listen(self, listener: socket.socket, service: str) -> None:
        def accept() -> None:
            connection, _ = listener.accept()
            connection.setblocking(False)
            if connection.family == socket.AF_INET:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(connection, service)
            self.clients.append(client)
            self.selector.register(connection, selectors.EVENT_READ, lambda: self._receive(client))
            if service == "dashboard":
                self._send(client, b"Connected: Universal Robots Dashboard Server\n")

        self.selector.register(listener, selectors.EVENT_READ, accept)

    def _receive(self, client: Client) -> None:
        try:
            data = client.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._close(client)
            return
        client.buffer += data
        understand = {"rtde": self._rtde, "script": self._script}.get(client.service, self._lines)
        understand(client)

    def _rtde(self, client: Client) -> None:
        for kind, body in frames(client.buffer):
            if kind == "V":
                self._send(client, frame("V", b"\x01"))
            elif kind == "v":
                self._send(client, frame("v", VERSION))
            elif kind == "O":
                client.output = recipe(body[8:])
                client.every = max(1, round(HZ / struct.unpack(">d", body[:8])[0]))
                self._send(client, frame("O", b"\x01" + ",".join(client.output.types).encode()))
            elif kind == "I":
                client.inputs.append(recipe(body))
                self._send(client, frame("I", bytes([len(client.inputs)]) + ",".join(client.inputs[-1].types).encode()))
            elif kind in "SP":
                client.started = kind == "S" and client.output is not None
                self._send(client, frame(kind, bytes([kind == "P" or client.started])))
            elif kind == "U":
                try:
                    self.controller.inputs(client.inputs[body[0] - 1].unpack(body[1:]))
                except (IndexError, struct.error):
                    self.controller.malformed += 1

    def _script(self, client: Client) -> None:
        if SCRIPT_ENDS in client.buffer and client.buffer.endswith(b"end\n"):
            self.controller.upload(bytes(client.buffer))
            client.buffer.clear()

    def _lines(self, client: Client) -> None:
        while (end := client.buffer.find(b"\n")) >= 0:
            line = client.buffer[:end].decode(errors="replace").strip()
            del client.buffer[: end + 1]
            if client.service == "dashboard":
                self._send(client, (self.controller.dashboard(line) + "\n").encode())
            else:
                self._send(client, (json.dumps(self._told(line)) + "\n").encode())

    def _told(self, line: str) -> dict[str, object]:
        try:
            asked = json.loads(line)
            return {"ok": self.do[asked["do"]](asked)}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}; it can do {', '.join(sorted(self.do))}"}

    def _send(self, client: Client, data: bytes) -> None:
        try:
            client.connection.sendall(data)
        except OSError:
            self._close(client)

    def _close(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
            self.selector.unregister(client.connection)
            client.connection.close()


def _faults(server: Server) -> dict[str, Callable[[dict[str, Any]], object]]:
    """What the control socket can be told to do; each answers with what is then so."""
    robot = server.controller

    def advance(asked: dict[str, Any]) -> float:
        for _ in range(round(asked["seconds"] * HZ)):
            server.tick(1 / HZ)
        return robot.time

    def simply(act: Callable[[], None]) -> Callable[[dict[str, Any]], object]:
        def done(asked: dict[str, Any]) -> bool:
            act()
            return True

        return done

    def put(name: str, key: str) -> Callable[[dict[str, Any]], object]:
        def done(asked: dict[str, Any]) -> bool:
            setattr(robot, name, asked[key])
            return True

        return done

    return {
        "advance": advance,
        "estop": simply(robot.estop),
        "release_estop": simply(robot.release_estop),
        "protective_stop": simply(robot.protect),
        "end_program": simply(robot.end_program),
        "power_off": simply(robot.power_off),
        "freeze": lambda asked: time.sleep(asked["seconds"]),
        "kill": lambda asked: os._exit(9),
        "quit": simply(lambda: setattr(server, "running", False)),
        "echo": put("echo", "value"),  # reports this number for every joint; null ends it
        "remote": put("remote", "value"),
        "drop": lambda asked: server.drop(asked["service"]),
        "state": lambda asked: {
            "time": robot.time,
            "q": robot.q.tolist(),
            "qd": robot.qd.tolist(),
            "target": robot.target.tolist(),
            "mode": robot.mode,
            "safety": robot.safety,
            "runtime": robot.runtime,
            "uploads": robot.uploads,
            "malformed": robot.malformed,
            "given": robot.given,
        },
        "record": lambda asked: list(robot.record)[-int(asked.get("last", 1000)) :],
    }


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="ur", description="A stand-in for a UR5e's controller.")
    parser.add_argument("--address", default="127.0.0.2", help="a loopback address that no other controller has")
    parser.add_argument("--control", type=Path, help="a Unix socket for faults and records, one JSON object a line")
    parser.add_argument("--virtual", action="store_true", help="time passes only when the control socket says advance")
    parser.add_argument("--first", action="store_true", help="come before other processes, where that is permitted")
    given = parser.parse_args(words)
    if given.first:
        priority.first(priority.EMULATED)
    server = Server(given.address, given.control, given.virtual)
    print(json.dumps({"ready": given.address}), flush=True)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1:])
