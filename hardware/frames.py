"""What the cameras saw in one episode, beside its journal: JPEG, one record a frame, in the same scheme.

A journal's `frame` events say when the policy was shown which; this file has the pictures. It is written by whoever has
the cameras, never by the loop.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
from PIL import Image

from hardware.arm import Array
from hardware.camera import Frame
from hardware.framed import HEAD, Appender, scan

MAGIC = b"rapport frames 1\n"
SUFFIX = ".frames"
QUALITY = 90  # of JPEG: edges stay sharp, at about a tenth of the size
_FRAME = 0


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
        return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


class FrameLog:
    """Raises JournalError as `Journal` does; `append` says False once something failed."""

    def __init__(self, path: Path, *, wall: Callable[[], int] = time.time_ns) -> None:
        self._file = Appender(path, MAGIC, wall=wall)
        self.path = self._file.path

    @property
    def failed(self) -> str:
        return self._file.failed

    def append(self, camera: str, frame: Frame) -> bool:
        try:
            out = io.BytesIO()
            Image.fromarray(frame.data).save(out, "JPEG", quality=QUALITY)
            payload = msgpack.packb((camera, frame.seq, out.getvalue()))
        except Exception as error:
            self._file.fail(f"{self.path}: a frame of camera {camera!r} cannot be written ({error})")
            return False
        return self._file.append(_FRAME, frame.time_ns, payload) >= 0

    def close(self) -> bool:
        return self._file.close()


def frames(path: Path, camera: str = "") -> Iterator[Stored]:
    """Those that are whole, in order, of one camera or of all. Raises JournalError for what is no log of frames."""
    path = Path(path)
    with path.open("rb") as file:
        for raw in scan(file, os.fstat(file.fileno()).st_size, MAGIC, str(path)):
            name, seq, _ = msgpack.unpackb(raw.payload)
            if camera in ("", name):
                yield Stored(name, seq, raw.mono_ns, path, raw.offset, raw.end)


def beside(journal: Path) -> Path:
    """Where the frames of a journal are, or would be."""
    return journal.with_name(journal.name.removesuffix(".journal") + SUFFIX)


def cameras(path: Path) -> list[str]:
    """Whose frames there are; none where there is no file."""
    return sorted({stored.camera for stored in frames(path)}) if os.path.exists(path) else []
