"""A pseudo-terminal as a serial line between a servo bus and its driver, with what goes wrong on one."""

from __future__ import annotations

import contextlib
import os
import random
import tty
from collections import deque
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Faults:
    """Chances of one answer to be lost, to have one bit turned, to be cut short, to come after noise; `late_ms`: the
    next answer is that late, once, and all others wait behind it; `doubled`: servos of which there are two."""

    drop: float = 0.0
    corrupt: float = 0.0
    truncate: float = 0.0
    noise: float = 0.0
    late_ms: float = 0.0
    doubled: tuple[int, ...] = ()


def damaged(answer: bytes, faults: Faults, draw: random.Random) -> bytes:
    if draw.random() < faults.drop:
        return b""
    if draw.random() < faults.truncate:
        answer = answer[: draw.randrange(len(answer))]
    if answer and draw.random() < faults.corrupt:
        at = draw.randrange(len(answer))
        answer = answer[:at] + bytes((answer[at] ^ 1 << draw.randrange(8),)) + answer[at + 1 :]
    if draw.random() < faults.noise:
        answer = draw.randbytes(draw.randint(1, 20)) + answer
    return answer


class Wire:
    """`byte_seconds`: how long a byte takes, 1e-5 at a megabaud; 0: none. The line is a queue: what is late makes all
    that comes after it late."""

    def __init__(self, link: Path, byte_seconds: float) -> None:
        self.link, self.byte_seconds = Path(link), byte_seconds
        self.faults, self.draw = Faults(), random.Random(0)
        self.master = -1
        self.plug_in()

    def plug_in(self) -> None:
        """A new terminal behind the same link, unless there is one."""
        self._queue: deque[tuple[float, bytes]] = deque()
        self._buffer, self._heard, self._free = bytearray(), 0.0, 0.0
        if self.master >= 0:
            return
        self.master, self._slave = os.openpty()
        for end in (self.master, self._slave):
            tty.setraw(end)
        os.set_blocking(self.master, False)
        self.port = os.ttyname(self._slave)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(self.port)

    def hang_up(self) -> None:
        """As if the adapter was pulled out."""
        if self.master >= 0:
            os.close(self.master)
            os.close(self._slave)
            self.master = -1
            self._queue.clear()  # nothing is due any more, or the loop would never wait again
            self.link.unlink(missing_ok=True)

    def hear(self, now: float) -> bytearray:
        """All bytes not yet made a frame of. A frame that stops halfway is given up, as servos do."""
        if now - self._heard > 0.005:
            self._buffer.clear()
        self._heard = now
        try:
            new = os.read(self.master, 4096)
        except BlockingIOError:
            new = b""
        self._free = max(self._free, now) + self.byte_seconds * len(new)
        self._buffer += new
        return self._buffer

    def say(self, answers: list[tuple[int, bytes]], now: float) -> None:
        for number, answer in answers:
            for _ in range(1 + (number in self.faults.doubled)):
                sent = damaged(answer, self.faults, self.draw)
                late, self.faults.late_ms = self.faults.late_ms / 1e3, 0.0
                self._free = max(self._free, now) + late + self.byte_seconds * len(sent)
                self._queue.append((self._free, sent))

    def due(self) -> float | None:
        """When the next answer is to be sent."""
        return self._queue[0][0] if self._queue else None

    def send(self, now: float) -> None:
        while self._queue and self._queue[0][0] <= now:
            _, answer = self._queue.popleft()
            with contextlib.suppress(BlockingIOError):  # nobody has read for 4 kB: lost, as on a wire
                os.write(self.master, answer)
