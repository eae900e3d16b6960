"""What the cameras saw in one episode, beside its journal: JPEG, one record a frame, in the same scheme.

It is written by whoever has the cameras (`hardware.gateway.recording`), never by the loop. What was not kept has a
record too, so that nobody takes a film with a hole for a still scene.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import msgpack
import numpy as np
from PIL import Image

from hardware.arm import Array
from hardware.camera import Frame
from hardware.framed import HEAD, Appender, JournalError, growing, scan

MAGIC = b"rapport frames 2\n"
SUFFIX = ".frames"
QUALITY = 90  # of JPEG: edges stay sharp, at about a tenth of the size
_FRAME, _LOST = range(2)


@dataclass(frozen=True)
class Stored:
    """A frame where it lies in its file, from byte `begin` to `end`: an hour of them takes no memory."""

    camera: str
    seq: int
    time_ns: int
    path: Path
    begin: int
    end: int

    def picture(self) -> Array:
        """uint8 [H,W,3]."""
        with self.path.open("rb") as file:
            file.seek(self.begin)
            _, _, jpeg = msgpack.unpackb(file.read(self.end - self.begin)[HEAD.size :])
        return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))


@dataclass(frozen=True)
class Kept:
    """Of one camera in one episode: frames that are there, those that are `lost`, and why the last of these were."""

    frames: int = 0
    lost: int = 0
    why: str = ""


class FrameLog:
    """Raises JournalError as `Journal` does. Each call says how many bytes it wrote, 0 once something failed."""

    def __init__(self, path: Path, *, wall: Callable[[], int] = time.time_ns) -> None:
        self._file = Appender(path, MAGIC, wall=wall)
        self.path = self._file.path

    @property
    def failed(self) -> str:
        return self._file.failed

    def append(self, camera: str, frame: Frame) -> int:
        try:
            payload = msgpack.packb((camera, frame.seq, _jpeg(frame.data)))
        except Exception as error:
            self._file.fail(f"{self.path}: a frame of camera {camera!r} cannot be written ({error})")
            return 0
        return self._write(_FRAME, frame.time_ns, payload)

    def lose(self, camera: str, count: int, why: str, now_ns: int) -> int:
        """So many frames since the last one are not here."""
        return self._write(_LOST, now_ns, msgpack.packb((camera, count, why)))

    def close(self) -> bool:
        return self._file.close()

    def _write(self, kind: int, now_ns: int, payload: bytes) -> int:
        return HEAD.size + len(payload) if self._file.append(kind, now_ns, payload) >= 0 else 0


def frames(path: Path, camera: str = "") -> Iterator[Stored]:
    """Those that are whole, in order, of one camera or of all. Raises JournalError for what is no log of frames."""
    path = Path(path)
    with path.open("rb") as file:
        for raw in scan(file, os.fstat(file.fileno()).st_size, MAGIC, str(path)):
            if raw.kind == _FRAME:
                name, seq, _ = msgpack.unpackb(raw.payload)
                if camera in ("", name):
                    yield Stored(name, seq, raw.mono_ns, path, raw.offset, raw.end)


def kept(path: Path) -> dict[str, Kept]:
    """Of every camera, by name; empty where there is no file. Raises JournalError while somebody still writes it, and
    for what is no log of frames."""
    found: dict[str, Kept] = {}
    path = Path(path)
    if not path.exists():
        return found
    with path.open("rb") as file:
        if growing(file):
            raise JournalError(f"{path} is still being written; come back when the episode is over")
        for raw in scan(file, os.fstat(file.fileno()).st_size, MAGIC, str(path)):
            name, count, *why = msgpack.unpackb(raw.payload)
            one = found.get(name, Kept())
            if raw.kind == _LOST:
                found[name] = Kept(one.frames, one.lost + count, why[0])
            else:
                found[name] = Kept(one.frames + 1, one.lost, one.why)
    return dict(sorted(found.items()))


def beside(journal: Path) -> Path:
    """Where the frames of a journal are, or would be."""
    return journal.with_name(journal.name.removesuffix(".journal") + SUFFIX)


def cameras(path: Path) -> list[str]:
    """Whose frames there are; none where there is no file."""
    return sorted({stored.camera for stored in frames(path)}) if os.path.exists(path) else []


def _jpeg(data: Array) -> bytes:
    # Into a file of the kernel's memory: only there does Pillow let go of the interpreter's lock. With a BytesIO other
    # threads waited 15 ms beside 640 x 480 pixels (the 99th of 100), and so 3.
    with os.fdopen(os.memfd_create("jpeg"), "w+b") as file:
        Image.fromarray(data).save(file, "JPEG", quality=QUALITY)
        file.seek(0)
        return file.read()
