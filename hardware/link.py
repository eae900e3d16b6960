"""What the daemon and whoever speaks to it say: frozen records as msgpack over a Unix socket, never pickle.

The socket is `armd.sock` in the robot's folder (`socket_path`), for its owner only. A frame is `u32 length`,
little-endian, and msgpack of [kind, number, {field: value}]. `pack` makes one, `Frames` finds them in a stream. The
number is the sender's: the daemon's `Reply` names it, and 0 wants no reply. Vectors go as [shape, float64 bytes].

    the daemon says     Hello once, then a Snapshot every tick, a Reply to every request that has a number, at last Bye
    a gateway says      Take, Renew, GiveBack                       who commands: one lease, ended by its connection too
                        Ask arm, disarm, start, teleop, home, reset with the lease
                        Stop, Estop                                 from anybody, without a lease
                        Chunk, Leader                               with the lease, numbered upwards by `seq` together
                        Seen, Scene                                 with the lease: what the policy saw; the world
                        Beat                                        every BEAT_SECONDS, whatever else is said
    the guard says      Guarding                                    and is believed to live as long as its process does

While the arm moves, the connection that took the lease has to say something every SILENCE_SECONDS, and its lease must
not run out: else the arm stops (category 2). A Chunk answers an observation, which is a Snapshot: its `obs_seq` and
`obs_time_ns` are that Snapshot's `seq` and `time_ns`. Whoever reads slowly loses Snapshots, never a Reply. A frame that
says nothing sensible is answered by a Reply to 0; one that is too long ends the connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

import msgpack

from hardware.arm import Array, Category
from hardware.chunks import Chunk
from hardware.machine import Mode
from hardware.typed import LinkError as LinkError
from hardware.typed import plain, typed

VERSION = 2
BEAT_SECONDS, SILENCE_SECONDS = 0.025, 0.1
MOST_BYTES = 1 << 20
"""Of a frame."""
_MOST_TEXT, _MOST_PARTS = 1 << 16, 4096
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Take:
    """The lease for `seconds`, if nobody has it; its id comes with the Reply."""

    holder: str
    seconds: float


@dataclass(frozen=True)
class Renew:
    lease: str
    seconds: float


@dataclass(frozen=True)
class GiveBack:
    """While the arm moves, it stops."""

    lease: str


@dataclass(frozen=True)
class Ask:
    """What the holder of the lease asks. For start and teleop: `task` one sentence; for start also `contract`, the text
    of the policy's contract.json: the daemon refuses one that is not for this robot, or that is missing. Each begins an
    episode."""

    what: Literal["arm", "disarm", "start", "teleop", "home", "reset"]
    lease: str
    task: str = ""
    contract: str = ""


@dataclass(frozen=True)
class Stop:
    """who: whose hand, empty where it was no person. done: the task is over, as it should be."""

    category: Category
    who: str = ""
    why: str = ""
    done: bool = False


@dataclass(frozen=True)
class Estop:
    """Category 0, latched: a raised arm may drop."""

    who: str = ""


@dataclass(frozen=True, eq=False)
class Leader:
    """Where the person's arm is, [n] rad: followed in TELEOP. Silent for longer than SILENCE_SECONDS: held, stopped."""

    lease: str
    seq: int
    target: Array


@dataclass(frozen=True, eq=False)
class Seen:
    """What the policy saw at observation `obs_seq`, [O], and what it said in its own terms, [A] or []: for the journal.
    To be sent when it looks."""

    lease: str
    obs_seq: int
    obs: Array
    act: Array


@dataclass(frozen=True)
class Scene:
    """Numbers of the world by their names in the robot's file: for the journal, and back in every Snapshot."""

    lease: str
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Beat:
    pass


@dataclass(frozen=True)
class Guarding:
    """The process at the other end of this connection stops the arm if the daemon dies."""


@dataclass(frozen=True)
class Hello:
    """config: sha256 of the robot's file as the daemon read it. stop: the arm's own category of an ordinary stop.
    warnings: what is not as it should be, and does not keep it from starting, one sentence each."""

    version: int
    pid: int
    config: str
    family: str
    names: tuple[str, ...]
    rate: float
    stop: Category
    can: tuple[str, ...]
    fifo: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Reply:
    """to: the number of the request. refused: why, as a sentence; empty if it is done. lease: the id, to a Take."""

    to: int
    refused: str = ""
    lease: str = ""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One tick. seq: of the tick; time_ns: when the reading was taken, monotonic: together, the observation.

    mode, cause: of the machine's state; cause is of what is latched. holder: of the lease, or nobody (""). Vectors [n]:
    rad, rad/s, N m, degrees Celsius, NaN where unknown; powered 0 or 1; requested is [] where nobody asked. clips: how
    often each kind of limit cut each joint's action [n]. chunk: the last one followed, -1; action_age_ns: since the end
    of the path that is followed, below 0 before it. lateness_ns: of this tick. missed: the reading is an earlier one.
    reading_ns: what it took to ask the arm, 0 where it was not asked.
    clips, overruns, misses and starved (ticks) are counted since the daemon began. episode: the name of the journal
    that is written, or ""; journal_failed: why it is partial. disk_free: bytes, where journals go.
    """

    seq: int
    time_ns: int
    mode: Mode
    cause: str
    category: Category
    holder: str
    lease_left_ns: int
    guarded: bool
    position: Array
    velocity: Array
    effort: Array
    temperature: Array
    powered: Array
    faults: tuple[str, ...]
    command: Array
    requested: Array
    source: str
    verdict: str
    clipped: tuple[str, ...]
    why: str
    clips: Mapping[str, tuple[float, ...]]
    chunk: int
    action_age_ns: int
    lateness_ns: int
    missed: bool
    reading_ns: int
    overruns: int
    misses: int
    starved: int
    episode: str
    journal_failed: str
    disk_free: int
    scene: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bye:
    """The daemon ends, and has stopped the arm. Whoever loses the connection without it has to think the worst."""


Request = Take | Renew | GiveBack | Ask | Stop | Estop | Chunk | Leader | Seen | Scene | Beat | Guarding
Told = Hello | Reply | Snapshot | Bye
Message = Request | Told
_KINDS: Mapping[str, type[Any]] = MappingProxyType({kind.__name__: kind for kind in get_args(Message)})
_HINTS = {name: get_type_hints(kind) for name, kind in _KINDS.items()}
_NEEDED = {name: {f.name for f in fields(kind)} for name, kind in _KINDS.items()}


def socket_path(folder: Path) -> Path:
    """Raises LinkError if the kernel has no room for it."""
    path = Path(folder).absolute() / "armd.sock"
    if len(str(path).encode()) > 107:
        raise LinkError(f"{path} is too long for a socket's name; give the robot a folder with a shorter one")
    return path


def pack(message: Message, number: int = 0) -> bytes:
    """One frame. Raises LinkError if it is longer than MOST_BYTES."""
    kind = type(message).__name__
    values = {name: plain(getattr(message, name)) for name in _HINTS[kind]}
    body: bytes = msgpack.packb([kind, number, values])
    if len(body) > MOST_BYTES:
        raise LinkError(f"a {kind} of {len(body)} bytes is too long; {MOST_BYTES} are the most")
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> tuple[Message, int]:
    """The message of a frame without its length, and its number. Raises LinkError, and nothing else."""
    try:
        found = msgpack.unpackb(
            body, max_str_len=_MOST_TEXT, max_bin_len=MOST_BYTES, max_array_len=_MOST_PARTS, max_map_len=_MOST_PARTS
        )
        kind, number, values = found
    except Exception as error:  # a stranger's bytes may raise anything
        raise LinkError(f"a frame of {len(body)} bytes is no message ({type(error).__name__})") from None
    if not isinstance(kind, str) or kind not in _KINDS or type(number) is not int or not isinstance(values, dict):
        raise LinkError(f"a frame is of {str(kind)[:50]!r}; known are {', '.join(_KINDS)}")
    if odd := values.keys() ^ _NEEDED[kind]:
        raise LinkError(f"a {kind} lacks, or does not know, {sorted(map(str, odd))[0][:50]!r}")
    return _KINDS[kind](**{name: typed(kind, name, hint, values[name]) for name, hint in _HINTS[kind].items()}), number


class Frames:
    """Finds messages in a stream. `feed` yields (message, number), or a LinkError for a frame that is none; what nobody
    took is there the next time. It raises LinkError for a length beyond MOST_BYTES, after which the stream cannot be
    read any more."""

    def __init__(self) -> None:
        self._left = bytearray()

    def __len__(self) -> int:
        """Bytes that are not yet a message that was taken."""
        return len(self._left)

    def feed(self, data: bytes) -> Iterator[tuple[Message, int] | LinkError]:
        self._left += data
        while len(self._left) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._left)
            if length > MOST_BYTES:
                raise LinkError(f"a frame of {length} bytes is announced; {MOST_BYTES} are the most")
            end = _LENGTH.size + length
            if len(self._left) < end:
                return
            body = bytes(self._left[_LENGTH.size : end])
            del self._left[:end]
            try:
                yield unpack(body)
            except LinkError as error:
                yield error
