"""What the cameras show while an episode is written, kept beside its journal.

Cameras bring frames, and a thread of its own writes them: nobody else waits for the disk. What it cannot take in time
is lost, counted, and said in the file itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hardware.camera import Camera, Frame
from hardware.episode import DISK
from hardware.framed import JournalError
from hardware.frames import SUFFIX, FrameLog
from hardware.link import Snapshot

WAITING = 8
"""Frames of one camera that may wait for the disk: a quarter of a second of a usual one."""
MOST_BYTES = 2_000_000
"""A second, of one camera, whatever it shows: 7.2 GB an hour. A room at 640 x 480 pixels and 30 Hz takes about half."""
BURST = 2.0  # s for which it may be more
SLOW, FULL, BUSY = "the disk is too slow", "the disk is nearly full", f"more than {MOST_BYTES / 1e6:g} MB a second"


@dataclass(eq=False)
class Line:
    """One camera. period_ns: the shortest between two frames that are kept, on average; due_ns: when the next is.
    frames, lost, bytes: since the gateway began. unsaid: of this episode, and not yet in its file; missed: all of this
    episode, and why. allowed: bytes that may still be written, at time `since_ns`."""

    period_ns: int
    due_ns: int = 0
    waiting: int = 0
    frames: int = 0
    lost: int = 0
    bytes: int = 0
    unsaid: int = 0
    missed: int = 0
    why: str = ""
    allowed: float = MOST_BYTES * BURST
    since_ns: int = 0

    def lose(self, count: int, why: str) -> None:
        self.lost, self.unsaid, self.missed, self.why = self.lost + count, self.unsaid + count, self.missed + count, why


class Recording:
    """rates: of each camera, Hz: more of its frames are not kept. `told` is called with every Snapshot, `gone` when
    there are none to come; neither waits for anything."""

    def __init__(self, folder: Path, cameras: Mapping[str, Camera], rates: Mapping[str, float]) -> None:
        self.folder, self.cameras = folder, cameras
        self.lines = {name: Line(round(1e9 / rates[name])) for name in cameras}
        self._episode, self._room, self._over = "", True, False
        self._news = threading.Condition()
        self._waiting: deque[tuple[str, str, Frame | None]] = deque()  # (episode, camera, frame); None: it is over
        self._log: FrameLog | None = None
        self._thread: threading.Thread | None = None
        if cameras:
            self._thread = threading.Thread(target=self._write, name="recording", daemon=True)
            self._thread.start()
        for name, camera in cameras.items():
            camera.heard = partial(self._heard, name)

    def told(self, snapshot: Snapshot) -> None:
        self._room = snapshot.disk_free >= DISK
        if self.cameras and snapshot.episode != self._episode:
            self._begin(snapshot.episode)

    def gone(self) -> None:
        if self._episode:
            self._begin("")

    def amiss(self) -> dict[str, str]:
        """Of each camera what is missing of the present episode, or of the last, in a sentence, or nothing."""
        return {
            name: f"{line.missed} pictures of the episode are lost: {line.why}" if line.missed else ""
            for name, line in self.lines.items()
        }

    def close(self) -> None:
        """What waits is written first, unless the disk hangs."""
        if self._thread is not None:
            self.gone()
            with self._news:
                self._over = True
                self._news.notify()
            self._thread.join(2.0)
            self._thread = None

    def _begin(self, episode: str) -> None:
        with self._news:
            if self._episode:
                self._waiting.append((self._episode, "", None))
            self._episode = episode
            if episode:
                for line in self.lines.values():
                    line.due_ns, line.missed, line.why = 0, 0, ""
            self._news.notify()
        for name, camera in self.cameras.items() if episode else ():
            if (frame := camera.latest()) is not None:  # what is seen when it begins, before anything is new
                self._heard(name, frame)

    def _heard(self, name: str, frame: Frame) -> None:
        line = self.lines[name]
        with self._news:
            if not self._episode or frame.time_ns < line.due_ns - line.period_ns // 2:
                return
            line.due_ns = max(line.due_ns + line.period_ns, frame.time_ns + line.period_ns // 2)
            if not self._room:
                line.lose(1, FULL)
            elif line.waiting >= WAITING:
                line.lose(1, SLOW)
            else:
                line.waiting += 1
                self._waiting.append((self._episode, name, frame))
                self._news.notify()

    def _write(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    return
                episode, name, frame = self._waiting.popleft()
            if frame is None:
                self._end()
                continue
            self._keep(episode, name, frame)
            with self._news:
                self.lines[name].waiting -= 1

    def _keep(self, episode: str, name: str, frame: Frame) -> None:
        line = self.lines[name]
        passed = max(frame.time_ns - line.since_ns, 0) * 1e-9
        line.allowed, line.since_ns = min(line.allowed + passed * MOST_BYTES, MOST_BYTES * BURST), frame.time_ns
        try:
            if self._log is None:
                self._log = FrameLog(self.folder / f"{episode}{SUFFIX}")
            self._say(name, frame.time_ns)
            if line.allowed <= 0:
                line.lose(1, BUSY)
            elif size := self._log.append(name, frame):
                line.frames, line.bytes, line.allowed = line.frames + 1, line.bytes + size, line.allowed - size
            else:
                line.lose(1, self._log.failed)
        except JournalError as error:  # no file, so nowhere to say it but here
            line.lose(1, str(error))

    def _say(self, name: str, now_ns: int) -> None:
        """Into the file: what is missing between the last frame and the next."""
        line = self.lines[name]
        with self._news:
            unsaid, line.unsaid = line.unsaid, 0
        if unsaid and self._log is not None:
            self._log.lose(name, unsaid, line.why, now_ns)

    def _end(self) -> None:
        if self._log is None:
            for line in self.lines.values():
                line.unsaid = 0
            return
        for name, line in self.lines.items():
            self._say(name, line.since_ns)
        self._log.close()
        self._log = None
