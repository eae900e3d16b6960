"""Files that only grow, in records that tell whether they are whole: what a journal and a log of frames have in common.

A file is one line of ASCII that names its kind and version, and then records, little-endian:
`u32 len | u32 crc | u8 type | u64 mono_ns | u64 wall_ns | len bytes`; crc is zlib.crc32 of all that comes after it. A
record reaches the kernel in one write(2), which outlives the process that made it; a thread of its own brings it to the
disk every half second, so losing the power costs at most that much.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from embodied import atomic

HEAD = struct.Struct("<IIBQQ")
_BODY = struct.Struct("<BQQ")  # of HEAD, what the crc covers
SYNC_SECONDS = 0.5


class JournalError(ValueError):
    """A file that cannot be made or read; the sentence names it and the mend."""


@dataclass(frozen=True)
class Raw:
    """One record as it lies in the file, from byte `offset` on."""

    offset: int
    kind: int
    mono_ns: int
    wall_ns: int
    payload: bytes

    @property
    def end(self) -> int:
        return self.offset + HEAD.size + len(self.payload)


def pack(kind: int, mono_ns: int, wall_ns: int, payload: bytes) -> bytes:
    body = _BODY.pack(kind, mono_ns, wall_ns)
    return HEAD.pack(len(payload), zlib.crc32(payload, zlib.crc32(body)), kind, mono_ns, wall_ns) + payload


def scan(file: BinaryIO, size: int, magic: bytes, name: str) -> Iterator[Raw]:
    """The records of a file of `size` bytes, up to the first that is not whole. Raises JournalError where the first
    line is another."""
    line = file.read(len(magic))
    if line != magic:
        raise JournalError(_foreign(line, magic, name))
    offset = len(magic)
    while len(head := file.read(HEAD.size)) == HEAD.size:
        length, crc, kind, mono_ns, wall_ns = HEAD.unpack(head)
        if offset + HEAD.size + length > size:
            return  # torn, or a length that was damaged: not worth the memory
        payload = file.read(length)
        if zlib.crc32(payload, zlib.crc32(head[8:])) != crc:
            return
        yield (raw := Raw(offset, kind, mono_ns, wall_ns, payload))
        offset = raw.end


def _foreign(line: bytes, magic: bytes, name: str) -> str:
    ours = magic.decode().strip()
    kind, _, version = ours.rpartition(" ")
    if line.startswith(kind.encode() + b" "):
        return f"{name} is another version of a {kind} than this program's, which is {version}; update the program"
    if magic.startswith(line):
        return f"{name} ends within its first line: it was cut off when it was begun, and holds nothing"
    return f"{name} is no {kind}: it begins with {line!r}, not with {ours!r}"


class Appender:
    """One file that grows, held by this process alone. `append` never raises and never waits for the disk.

    Raises JournalError where the file is there already, or cannot be made. `failed` says what went wrong since; from
    then on nothing is written any more, for what came behind a torn record could not be read.
    """

    def __init__(
        self,
        path: Path,
        magic: bytes,
        first: bytes = b"",
        *,
        wall: Callable[[], int] = time.time_ns,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self.path, self.failed = Path(path), ""
        self._wall, self._end, self._fresh = wall, len(magic) + len(first), False
        try:
            os.makedirs(self.path.parent, 0o700, exist_ok=True)
        except OSError as error:
            raise JournalError(atomic.explain(error, self.path)) from error
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise JournalError(f"{self.path} is there already, and is never written over; give a new name") from None
        except OSError as error:
            raise JournalError(atomic.explain(error, self.path)) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # whoever reads can tell that it still grows; a kill lets it go
            if os.write(self._fd, magic + first) != self._end:
                raise JournalError(f"{self.path} cannot be written: the disk is full; free some space")
            os.fsync(self._fd)
            atomic.sync_folder(self.path.parent)
        except (OSError, JournalError) as error:
            os.close(self._fd)
            self.path.unlink(missing_ok=True)  # it holds nothing, and would keep the name
            if isinstance(error, OSError):
                raise JournalError(atomic.explain(error, self.path)) from error
            raise
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sync, args=(sync_seconds,), name=f"sync of {path}", daemon=True)
        self._thread.start()

    def append(self, kind: int, mono_ns: int, payload: bytes) -> int:
        """Where the record begins in the file, or -1 and `failed`."""
        if self.failed:
            return -1
        try:
            record = pack(kind, mono_ns, self._wall(), payload)
            written = os.write(self._fd, record)
        except Exception as error:
            self._fail(error)
            return -1
        if written != len(record):
            self._fail(OSError(errno.ENOSPC, f"{written} of {len(record)} bytes were taken"))
            return -1
        self._fresh, offset = True, self._end
        self._end += written
        return offset

    def fail(self, why: str) -> None:
        self.failed = self.failed or why

    def _fail(self, error: Exception) -> None:
        self.fail(atomic.explain(error, self.path) if isinstance(error, OSError) else f"{self.path}: {error!r}")

    def _sync(self, seconds: float) -> None:
        while not self._over.wait(seconds):
            self._synced()

    def _synced(self) -> None:
        if not self._fresh:
            return
        self._fresh = False
        try:
            os.fdatasync(self._fd)
        except OSError as error:  # the kernel says so once, and may then have dropped the pages
            self._fail(error)

    def close(self) -> bool:
        """Whether all that was appended is on the disk. Never raises; may be called twice."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._synced()
            os.close(self._fd)
        return not self.failed


def growing(file: BinaryIO) -> bool:
    """Whether an Appender still holds the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False
