"""A controller started in a process of its own, on a loopback address that nobody else has, and stopped again."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardware.emulators.ur import PORTS


class Started:
    def __init__(self, address: str, control: Path, virtual: bool) -> None:
        self.address, self._control, self._virtual = address, control, virtual
        self.start()

    def start(self) -> None:
        """At the same address as before, if it was killed."""
        words = ["--address", self.address, "--control", str(self._control), *(["--virtual"] if self._virtual else [])]
        command = [sys.executable, "-m", "hardware.emulators.ur", *words]
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=here)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise RuntimeError(f"the emulator at {self.address} did not start; what it said is above")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(self._control))
        self._lines = self._socket.makefile("rb")

    def tell(self, do: str, **more: Any) -> Any:
        """What it says to one line on its control socket. Raises RuntimeError when it cannot do that."""
        self.send(do, **more)
        return self.answer()

    def answer(self) -> Any:
        answer = json.loads(self._lines.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def send(self, do: str, **more: Any) -> None:
        """Without waiting for the answer, which after `freeze` comes late and after `kill` never."""
        self._socket.sendall(json.dumps({"do": do, **more}).encode() + b"\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._lines.close()
        self._socket.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def started(virtual: bool = False) -> Iterator[Started]:
    with tempfile.TemporaryDirectory() as folder:
        running = Started(_free_address(), Path(folder) / "control", virtual)
        try:
            yield running
        finally:
            running.kill()


def _free_address() -> str:
    draw = random.SystemRandom()
    while True:
        address = f"127.{draw.randint(1, 254)}.{draw.randint(0, 255)}.{draw.randint(2, 254)}"
        with socket.socket() as trial:
            try:
                trial.bind((address, PORTS["rtde"]))
            except OSError:
                continue
        return address
