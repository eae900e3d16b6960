"""What systemd is told: one datagram each, and nothing where nobody listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notify:
    """By NOTIFY_SOCKET and WATCHDOG_USEC of the environment. `every_ns`: half of what systemd waits for a WATCHDOG=1; 0
    if it does not wait. A message that cannot be sent is not sent: the loop has better to do."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        waits, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.every_ns = int(waits) * 500 if waits.isdecimal() and mine else 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if name else None

    def say(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return
