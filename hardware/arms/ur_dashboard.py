"""The UR dashboard, a line asked and a line answered; without the SDK, so that power goes off though the SDK has died.

Commands and answers: Universal Robots, "Dashboard Server e-Series". In local control the robot refuses all that acts.
"""

from __future__ import annotations

import socket
import time

from hardware.arm import BusLost

PORT = 29999


class Dashboard:
    def __init__(self, host: str) -> None:
        self.host = host
        self._socket: socket.socket | None = None
        self._buffer = b""

    def ask(self, line: str, seconds: float) -> str:
        """Connects when it must, once. Raises BusLost."""
        due = time.monotonic() + seconds
        fresh = self._socket is None
        try:
            if self._socket is None:
                self._socket = socket.create_connection((self.host, PORT), timeout=seconds)
                self._line(due)  # its greeting
            self._socket.sendall(line.encode() + b"\n")
            return self._line(due)
        except TimeoutError:
            self.close()
            raise BusLost(f"the dashboard of {self.host} did not answer {line!r} within {seconds:g} s") from None
        except OSError as error:
            self.close()
            if not fresh and (left := due - time.monotonic()) > 0:  # an old connection that broke meanwhile
                return self.ask(line, left)
            raise BusLost(f"the dashboard of {self.host} is not there ({error}); see that the robot is on") from None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def _line(self, due: float) -> str:
        assert self._socket is not None
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(1e-4, due - time.monotonic()))
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionResetError("it hung up")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace").strip()
