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
MOST_BYTES = 4_000_000
"""A second, of one camera, whatever it shows: 14.4 GB an hour. The drawn arm at 640 x 480 pixels and 30 Hz takes 4.3,
and 7.8 with a sensor's noise of 5 (of 255) on it."""
BURST = 2.0  # s for which it may be more
SLOW, FULL, BUSY = "the disk is too slow", "the disk is nearly full", f"more than {MOST_BYTES / 1e6:g} MB a second"


@dataclass(eq=False)
class Line:
    """One camera. period_ns: the shortest between two frames that are kept, on average; due_ns: when the next is.
    frames, lost, bytes: since the gateway began. missed: lost of this episode, and why. unsaid: of them, those since
    the last frame that waits; owed: those of which the file does not tell yet. allowed: bytes that may still be
    written, at time `since_ns`."""

    period_ns: int
    due_ns: int = 0
    waiting: int = 0
    frames: int = 0
    lost: int = 0
    bytes: int = 0
    missed: int = 0
    why: str = ""
    unsaid: int = 0
    owed: int = 0
    allowed: float = MOST_BYTES * BURST
    since_ns: int = 0

    def lose(self, why: str) -> None:
        self.lost, self.missed, self.why = self.lost + 1, self.missed + 1, why


class Recording:
    """rates: of each camera, Hz: more of its frames are not kept. `told` is called with every Snapshot, `gone` when
    there are none to come; neither waits for anything."""

    def __init__(self, folder: Path, cameras: Mapping[str, Camera], rates: Mapping[str, float]) -> None:
        self.folder, self.cameras = folder, cameras
        self.lines = {name: Line(round(1e9 / rates[name])) for name in cameras}
        self._episode, self._room, self._over = "", True, False
        self._news = threading.Condition()
        # (episode, camera, frame, how many were lost before it); without a frame: the episode is over
        self._waiting: deque[tuple[str, str, Frame | None, int]] = deque()
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
            for name, line in self.lines.items() if self._episode else ():
                self._waiting.append((self._episode, name, None, line.unsaid))
                line.unsaid = 0
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
            if not self._room or line.waiting >= WAITING:
                line.lose(SLOW if self._room else FULL)
                line.unsaid += 1
            else:
                self._waiting.append((self._episode, name, frame, line.unsaid))
                line.waiting, line.unsaid = line.waiting + 1, 0
                self._news.notify()

    def _write(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    return
                episode, name, frame, lost = self._waiting.popleft()
            self.lines[name].owed += lost
            if frame is None:
                self._end(name)
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
            if line.allowed <= 0:
                self._lose(line, BUSY)
                return
            self._say(self._log, name)
            if size := self._log.append(name, frame):
                line.frames, line.bytes, line.allowed = line.frames + 1, line.bytes + size, line.allowed - size
            else:
                self._lose(line, self._log.failed)
        except JournalError as error:  # no file, so nowhere to say it but here
            self._lose(line, str(error))

    def _lose(self, line: Line, why: str) -> None:
        with self._news:
            line.lose(why)
        line.owed += 1

    def _say(self, log: FrameLog, name: str) -> None:
        """What is missing between the last frame and the next."""
        line = self.lines[name]
        if line.owed:
            log.lose(name, line.owed, line.why, line.since_ns)
            line.owed = 0

    def _end(self, name: str) -> None:
        """Of one camera; with the last of them the file is closed."""
        if self._log is not None:
            self._say(self._log, name)
        self.lines[name].owed = 0
        if self._log is not None and name == [*self.lines][-1]:
            self._log.close()
            self._log = None
