"""Real cameras by FFmpeg, each read in a thread of its own that keeps the latest frame, and what may be wrong with it.

A camera that freezes goes on delivering its last picture. So a frame counts as new only where a pixel differs from the
one before: real sensors have noise, and two pictures of one are never the same to the last bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from hardware.arm import Array, Clock
from hardware.camera import Frame
from hardware.clock import RealClock

PAUSE_NS = 200_000_000  # without a good frame, after which the policy is not asked any more ...
STOP_NS = 2_000_000_000  # ... and after which the arm is stopped
DARK = 4.0  # mean of 0 to 255: a lens cap is darker, a room at night with a lamp is not
OPEN_SECONDS = 5.0


class CameraError(RuntimeError):
    """A camera that cannot be opened; the sentence names it and the mend."""


class StreamCamera:
    """source: what FFmpeg opens, such as /dev/video0 with `format` v4l2 and options {"video_size": "640x480",
    "framerate": "30"}, or the address of a stream. A device that is unplugged ends the thread, the last frame grows
    old, and `camera_fault` says so; `failed` says why. It is opened again by `close` and `open` only.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        format: str | None = None,
        options: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        film: bool = False,
    ) -> None:
        self.source, self.format, self.options, self.film = str(source), format, dict(options or {}), film
        self.failed = ""
        self.heard: Callable[[Frame], object] = lambda frame: None
        self._clock = clock or RealClock()
        self._latest: Frame | None = None
        self._seq = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Returns with the first frame there. Raises CameraError."""
        if self._thread is not None:
            raise CameraError(f"camera {self.source} is open already; close it first")
        self.failed, self._latest = "", None
        self._over.clear()
        first = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(first,), name=f"camera {self.source}", daemon=True)
        self._thread.start()
        if not first.wait(OPEN_SECONDS):
            self.failed = self.failed or f"no frame within {OPEN_SECONDS:g} s"
        if self.failed and self._latest is None:
            why = self.failed
            self.close()
            raise CameraError(
                f"camera {self.source} cannot be opened ({why}); see that it is plugged in, its name right, and no "
                "other program has it"
            )

    def latest(self) -> Frame | None:
        """The last frame that was new; none before the first. Never waits."""
        return self._latest

    def close(self) -> None:
        """Never raises. A device that blocks keeps its thread, which ends when it answers."""
        if self._thread is not None:
            self._over.set()
            self._thread.join(1.0)
            self._thread = None

    def _read(self, first: threading.Event) -> None:
        over, begun = self._over, self._clock.now_ns()
        try:
            with av.open(self.source, format=self.format, options=self.options, timeout=OPEN_SECONDS) as file:
                for picture in file.decode(video=0):
                    if self.film and picture.time is not None:
                        self._clock.sleep_until(begun + round(picture.time * 1e9))
                    if over.is_set():
                        return
                    self._take(picture.to_ndarray(format="rgb24"))
                    first.set()
            self.failed = "it ended"
        except Exception as error:  # FFmpeg's own, and whatever a driver makes of a cable that is pulled
            self.failed = f"{type(error).__name__}: {error}"
        finally:
            first.set()

    def _take(self, data: Array) -> None:
        if self._latest is None or not np.array_equal(self._latest.data, data):
            self._seq += 1
            self._latest = Frame(data, self._seq, self._clock.now_ns())
            self.heard(self._latest)


def film(path: Path, clock: Clock | None = None) -> StreamCamera:
    """A file, played at its own speed, in place of a camera: for trying things without one. It ends, as a camera that
    is unplugged does."""
    return StreamCamera(path, clock=clock, film=True)


@dataclass(frozen=True)
class CameraFault:
    """The policy is to be paused; with `stop`, the arm is to be stopped as well."""

    what: Literal["none", "stale", "size", "black"]
    sentence: str
    stop: bool


def camera_fault(
    frames: Sequence[Frame],
    now_ns: int,
    size: tuple[int, int] | None = None,
    *,
    pause_ns: int = PAUSE_NS,
    stop_ns: int = STOP_NS,
) -> CameraFault | None:
    """What is wrong with a camera whose last frames these are, oldest first; None where nothing is. Pure.

    Age is that of the last picture that was another than the one before, whatever it was numbered and whenever it
    came. size: height and width that were agreed; without, those of the first frame. A frame of another size, or a
    black one, is a fault at once; a stop comes once the last good one is `stop_ns` old.
    """
    if not frames:
        return CameraFault("none", "the camera has not shown anything yet", False)
    height, width = size or frames[0].data.shape[:2]
    good = [f for f in _new(frames) if f.data.shape[:2] == (height, width) and not _black(f)]
    age = now_ns - (good[-1].time_ns if good else frames[0].time_ns)
    stop, last = age > stop_ns, frames[-1]
    if (got := last.data.shape[:2]) != (height, width):
        return CameraFault("size", f"a frame is {got[1]} x {got[0]} pixels, not {width} x {height}", stop)
    if _black(last):
        return CameraFault("black", f"the picture is black (mean {last.data.mean():.1f} of 255)", stop)
    if age > pause_ns:
        return CameraFault("stale", f"the last picture that was new is {age / 1e9:.2f} s old", stop)
    return None


def _new(frames: Sequence[Frame]) -> list[Frame]:
    kept = [frames[0]]
    for frame in frames[1:]:
        if frame.seq != kept[-1].seq and not np.array_equal(frame.data, kept[-1].data):
            kept.append(frame)
    return kept


def _black(frame: Frame) -> bool:
    return float(frame.data.mean()) < DARK
