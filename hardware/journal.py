"""What happened in one episode, tick by tick, on disk whatever happens: one file, written by armd alone, read offline.

Every tick holds what was asked for, what was sent, and what was measured, so nobody has to believe that they are the
same. Vectors are little-endian bytes: float64, and float32 for what a policy saw. The file's form is `framed`'s.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import msgpack
import numpy as np

from embodied import atomic
from hardware.arm import Array
from hardware.framed import SYNC_SECONDS, Appender, JournalError, Raw, growing, pack, scan

__all__ = ["SOURCES", "End", "Event", "Header", "Journal", "JournalError", "Record", "Recorded", "Recovered", "Tick"]

MAGIC = b"rapport journal 1\n"
SUFFIX = ".journal"
Source = Literal["policy", "human", "homing", "hold", "brake"]
SOURCES: tuple[str, ...] = get_args(Source)
Outcome = Literal["done", "stopped", "fault", "unknown"]
Happened = Literal["start", "stop", "estop", "fault", "takeover", "handback", "frame", "note"]
_HEADER, _TICK, _EVENT, _END = range(4)


@dataclass(frozen=True)
class Header:
    """What holds for the whole episode. joints: URDF names [n]; rate: of the loop, Hz; task: one sentence; limits,
    contract: as JSON has them; scene: named numbers, such as a goal [3] m; config, policy: sha256, or nothing."""

    robot: str
    family: str
    joints: tuple[str, ...]
    rate: float
    task: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] = field(default_factory=dict)
    scene: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    config: str = ""
    policy: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "joints", tuple(self.joints))
        object.__setattr__(self, "scene", {name: tuple(map(float, given)) for name, given in self.scene.items()})
        if not self.joints or not self.rate > 0:
            raise JournalError(
                f"{len(self.joints)} joints at {self.rate} Hz; give the arm's joints and its loop's rate"
            )


@dataclass(frozen=True, eq=False)
class Tick:
    """One period of the loop. command [n] rad is what was sent, through the envelope; requested [n] what was asked for,
    None where nobody asked, or for no such vector. position, velocity, effort [n] were measured; `missed` says that
    they are those of an earlier tick. verdict: the envelope's word; clipped: the kinds of limit in its way, for each
    joint, or nothing. chunk: its number, -1 without. obs [O] is what the policy saw, at the ticks at which it
    looked, and act [A] what it said in its own terms.
    """

    seq: int
    command: Array
    position: Array
    velocity: Array
    effort: Array
    source: Source
    state: str
    verdict: str = "ok"
    clipped: tuple[tuple[str, ...], ...] = ()
    requested: Array | None = None
    chunk: int = -1
    obs: Array | None = None
    act: Array | None = None
    missed: bool = False


@dataclass(frozen=True)
class Event:
    """What happened between two ticks. what: the fault's code, the reason, or the camera of a frame; who: whose hand it
    was, where it was one; data: plain numbers and texts."""

    kind: Happened
    what: str = ""
    who: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """The last record of a whole journal. success is unknown until somebody says it."""

    outcome: Outcome
    why: str = ""
    success: bool | None = None


Record = Tick | Event | End


@dataclass(frozen=True, eq=False)
class Recorded:
    """A record and its place: byte offset in the file, and the clocks when it was written."""

    offset: int
    mono_ns: int
    wall_ns: int
    record: Record


@dataclass(frozen=True, eq=False)
class Recovered:
    """whole: it has its end, and nothing is damaged. cut_at: the byte up to which it can be believed; `lost` are behind
    it. growing: somebody still writes."""

    path: Path
    header: Header
    begun_ns: int  # wall clock
    records: tuple[Recorded, ...]
    whole: bool
    cut_at: int
    lost: int
    growing: bool

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)

    @property
    def ticks(self) -> list[Recorded]:
        return [each for each in self.records if isinstance(each.record, Tick)]


class Journal:
    """Of one episode, begun with its header on disk. Raises JournalError where that cannot be, or the file is there.

    From then on nothing is raised: `append` says False, and `failed` why, so that the loop can stop the arm first. A
    journal that failed never gets its end, and so is partial to whoever reads it. One thread appends. policy: of its
    header.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        now_ns: int,
        *,
        wall: Callable[[], int] = time.time_ns,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        try:
            said = json.dumps(asdict(header), allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise JournalError(f"the header of {path} is no JSON ({error}); give plain, finite numbers") from error
        first = pack(_HEADER, now_ns, wall(), said)
        self._file = Appender(path, MAGIC, first, wall=wall, sync_seconds=sync_seconds)
        self.path, self._joints, self.policy = self._file.path, len(header.joints), header.policy

    @property
    def failed(self) -> str:
        """What went wrong, or nothing."""
        return self._file.failed

    def append(self, record: Record, now_ns: int) -> bool:
        """Whether the kernel has it. now_ns: of the loop's clock."""
        try:
            kind, payload = _packed(record, self._joints)
        except Exception as error:  # whatever somebody put into a record, the loop goes on to its stop
            self._file.fail(f"{self.path}: {record!r} cannot be written ({error})")
            return False
        return self._file.append(kind, now_ns, payload) >= 0

    def end(self, end: End, now_ns: int) -> bool:
        """Whether the whole episode is on the disk, its end too. Waits for the disk: after the arm has stopped."""
        self.append(end, now_ns)
        return self._file.close()

    def close(self) -> None:
        """Without an end: the episode is partial."""
        self._file.close()


def recover(path: Path, *, truncate: bool = False) -> Recovered:
    """All records up to the first that is torn or damaged. truncate: the rest is cut off, if nobody still writes.

    Raises JournalError for what is no journal, of another version, or whose very header is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            alive = growing(file)  # before its size is looked at
            found = parse(path, file, os.fstat(file.fileno()).st_size, growing=alive)
    except OSError as error:
        raise JournalError(f"{path} cannot be read ({error.strerror}); mend that, or put back a copy") from error
    if found.lost and truncate and not alive:
        _cut(path, found.cut_at)
    return found


def parse(path: Path, file: BinaryIO, size: int, *, growing: bool = False) -> Recovered:
    """The same of `size` bytes from wherever; `path` names them. Raises JournalError as `recover` does."""
    header, begun, end, records = None, 0, 0, list[Recorded]()
    for raw in scan(file, size, MAGIC, str(path)):
        try:
            if header is None:
                header, begun = _header(raw.kind, raw.payload), raw.wall_ns
            else:
                found = _unpacked(raw.kind, raw.payload, len(header.joints))
                records.append(Recorded(raw.offset, raw.mono_ns, raw.wall_ns, found))
        except (ValueError, TypeError, KeyError, msgpack.UnpackException):
            break  # whole, and yet not what this program writes: believed no more than a torn one
        end = raw.end
    if header is None:
        raise JournalError(f"the header of {path} is damaged, and without it nothing says which joints these were")
    whole = end == size and bool(records) and isinstance(records[-1].record, End)
    return Recovered(path, header, begun, tuple(records), whole, end, size - end, growing)


def journals(folder: Path) -> list[Path]:
    """By name, which is by time where names begin with it."""
    return sorted(path for path in Path(folder).glob(f"*{SUFFIX}") if path.is_file())


def header_of(first: Raw) -> Header:
    """Of a journal's first record. Raises ValueError where it is none."""
    return _header(first.kind, first.payload)


def _cut(path: Path, end: int) -> None:
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(end)
            os.fsync(file.fileno())
    except OSError as error:
        raise JournalError(atomic.explain(error, path)) from error


def _bytes(value: Array | None, dtype: str, size: int | None = None) -> bytes | None:
    if value is None:
        return None
    found = np.asarray(value, dtype)
    if found.ndim != 1 or size not in (None, len(found)):
        raise ValueError(f"{list(found.shape)} numbers, not [{size or 'O'}]")
    return found.tobytes()


def _packed(record: Record, n: int) -> tuple[int, bytes]:
    match record:
        case Tick():
            # One array, not four: after a sleep every call costs tens of microseconds.
            all_four = np.array((record.command, record.position, record.velocity, record.effort), np.float64)
            if all_four.shape != (4, n):
                raise ValueError(
                    f"vectors {list(all_four.shape)}, not four of {n} joints; give NaN for what is unknown"
                )
            if record.source not in SOURCES:
                raise ValueError(f"source {record.source!r}; give one of {', '.join(SOURCES)}")
            requested = _bytes(record.requested, "<f8", n)
            obs, act = _bytes(record.obs, "<f4"), _bytes(record.act, "<f8")
            what = (record.verdict, record.clipped, record.source, record.chunk, record.state)
            return _TICK, msgpack.packb((record.seq, requested, all_four.tobytes(), *what, obs, act, record.missed))
        case Event():
            return _EVENT, msgpack.packb((record.kind, record.what, record.who, dict(record.data)))
        case End():
            return _END, msgpack.packb((record.outcome, record.why, record.success))


def _unpacked(kind: int, payload: bytes, n: int) -> Record:
    found = msgpack.unpackb(payload)
    if kind == _EVENT:
        return Event(*found)
    if kind == _END:
        return End(*found)
    if kind != _TICK:
        raise ValueError(f"a record of type {kind}")
    seq, requested, all_four, verdict, clipped, source, chunk, state, obs, act, missed = found
    command, position, velocity, effort = _vector(all_four, "<f8", 4 * n).reshape(4, n)
    asked = None if requested is None else _vector(requested, "<f8", n)
    saw, said = None if obs is None else _vector(obs, "<f4"), None if act is None else _vector(act, "<f8")
    measured = position, velocity, effort
    return Tick(
        seq, command, *measured, source, state, verdict, tuple(map(tuple, clipped)), asked, chunk, saw, said, missed
    )


def _vector(data: bytes, dtype: str, size: int | None = None) -> Array:
    found = np.frombuffer(data, dtype)
    if size not in (None, len(found)):
        raise ValueError(f"{len(found)} numbers of {size} joints")
    return found


def _header(kind: int, payload: bytes) -> Header:
    data = json.loads(payload)
    if kind != _HEADER or set(data) != {f.name for f in fields(Header)}:
        raise ValueError("no header")
    return Header(**data)
