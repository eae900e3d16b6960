"""An SDK in a process of its own: asked by one JSON object a line, with a deadline, and killed when it misses one.

Why: ur_rtde ends its process by SIGSEGV when a controller freezes, LeRobot needs another environment, and either may
block for seconds. Whatever the child does, its parent goes on and hears BusLost.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from hardware.arm import ArmError, BusLost, NoAnswer, Refused

LONGEST = 1 << 20
_ERRORS: dict[str, type[ArmError]] = {"NoAnswer": NoAnswer, "Refused": Refused}


class Child:
    """`script` runs with `python` and is given the number of its channel. What it prints is kept: its last words."""

    def __init__(self, python: str, script: Path, name: str) -> None:
        self.name = name
        self._channel, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # as long-lived as the child
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # ours is not for theirs
        try:
            self._process = subprocess.Popen(
                [python, "-u", str(script), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        except OSError as error:
            self._channel.close()
            raise Refused(f"{name} could not be started with {python}: {error}; name a Python that has it") from None
        finally:
            theirs.close()
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """Its answer. Raises NoAnswer and Refused as the child says so; BusLost, with the child killed, when it died,
        was late by `seconds`, or answered what is no answer."""
        due = time.monotonic() + seconds
        try:
            self._channel.settimeout(seconds)
            self._channel.sendall(json.dumps(request).encode() + b"\n")
            while b"\n" not in self._buffer and len(self._buffer) < LONGEST:
                self._channel.settimeout(max(1e-4, due - time.monotonic()))
                data = self._channel.recv(1 << 16)
                if not data:
                    raise ConnectionResetError
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            answer = json.loads(line)
        except TimeoutError:
            raise self._lost(f"did not answer {request['do']} within {seconds:g} s") from None
        except (OSError, ValueError):
            raise self._lost(f"died at {request['do']}") from None
        if not isinstance(answer, dict):
            raise self._lost(f"answered {request['do']} with {answer!r}")
        if (kind := answer.get("error")) is None:
            return answer
        if kind in _ERRORS:
            raise _ERRORS[kind](answer["why"])
        raise self._lost(str(answer["why"]))

    def end(self) -> None:
        """Kills what is left of it. Never raises."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def last_words(self) -> str:
        size = os.fstat(self._said.fileno()).st_size
        lines = os.pread(self._said.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").split("\n")
        return "; ".join(line.strip() for line in lines if line.strip())[-300:]

    def _lost(self, what: str) -> BusLost:
        self.end()
        code = self._process.returncode
        how = f", ended by signal {-code}" if code < 0 and code != -9 else ""
        words = f" It said: {self.last_words()}" if self.last_words() else ""
        return BusLost(f"{self.name} {what}{how}; close and open again.{words}")
