"""How tests speak to an emulator past its bus: one JSON object a line over a Unix socket, one answer each."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


class Control:
    """`control("advance", seconds=.1)` sends {"do": "advance", "seconds": .1} and returns what "ok" holds."""

    def __init__(self, path: Path | str, seconds: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(seconds)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def __call__(self, do: str, **given: Any) -> Any:
        """Raises ValueError with the emulator's own sentence when it refuses, ConnectionError when it is gone."""
        self._socket.sendall(json.dumps({"do": do, **given}).encode() + b"\n")
        if not (line := self._lines.readline()):
            raise ConnectionError("the emulator is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
