"""What the daemon's loop carries from tick to tick, what a tick is given, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hardware.arm import Arm, ArmState, Array
from hardware.chunks import Following, Handover
from hardware.chunks import Path as Way
from hardware.config import Config
from hardware.envelope import Memory, Verdict
from hardware.journal import Journal, Source
from hardware.lease import Lease
from hardware.limits import Limits
from hardware.link import Leader, Message, Reply, Seen, Snapshot
from hardware.machine import Event, State


@dataclass(frozen=True)
class Robot:
    """What no tick changes. digest: sha256 of the robot's file; wall: ns, for names and labels only; lap: ns, to tell
    how long a reading took, and nothing else; draw: an id that nobody guesses; free: bytes that are free at a folder;
    latch: the file that outlives the process."""

    config: Config
    arm: Arm
    digest: str
    wall: Callable[[], int]
    lap: Callable[[], int]
    draw: Callable[[], str]
    free: Callable[[Path], int]
    latch: Path

    @property
    def limits(self) -> Limits:
        return self.config.limits

    @property
    def following(self) -> Following:
        return Following(tuple(self.limits.velocity.tolist()))

    @property
    def period_ns(self) -> int:
        return round(1e9 / self.limits.rate)


@dataclass(frozen=True)
class Happened:
    """An event of the machine; who did it, if a person did, and why, in a sentence."""

    event: Event
    who: str = ""
    why: str = ""


@dataclass(frozen=True)
class Arrived:
    """Since the tick before. said: (client, number, message). estop, ending: by a signal. guarded: the guard lives."""

    said: Sequence[tuple[int, int, Message]] = ()
    gone: Sequence[int] = ()
    lateness_ns: int = 0
    guarded: bool = True
    estop: bool = False
    ending: bool = False


@dataclass(frozen=True)
class Came:
    """replies: (client, reply). slow: something was done that may take longer than a tick, while nothing moved."""

    snapshot: Snapshot
    replies: Sequence[tuple[int, Reply]]
    slow: bool


@dataclass(eq=False)
class Carried:
    """memory: the envelope's, while commands are written. power: the joints were given some, and not told to drop it;
    unsure: those that may have some since that was said last. lost: why the arm has to be opened again. way: what the
    policy wants, None before its first chunk. since_ns: when what is followed began. missed: the reading is an earlier
    one; reading_ns: what it took, 0 where the arm was not asked; unheard, unwritten: so many in a row went wrong; gaps:
    the last second's readings as bits, 1 where missed. client, heard_ns: who took the lease, and when he was heard
    last. observed: the times of Snapshots by their seq."""

    state: State
    reading: ArmState
    command: Array
    seq: int = 0
    memory: Memory | None = None
    power: bool = False
    unsure: tuple[str, ...] = ()
    lost: str = ""
    missed: bool = False
    reading_ns: int = 0
    unheard: int = 0
    gaps: int = 0
    unwritten: int = 0
    way: Way | None = None
    hand: Handover | None = None
    leader: Leader | None = None
    leader_ns: int = 0
    since_ns: int = 0
    refused: int = 0
    lease: Lease | None = None
    client: int = 0
    heard_ns: int = 0
    observed: dict[int, int] = field(default_factory=dict)
    scene: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    seen: Seen | None = None
    journal: Journal | None = None
    done: bool = False
    why: str = ""
    latched: str = ""
    disk_free: int = 0
    source: Source = "hold"
    requested: Array | None = None
    verdict: Verdict | None = None
    clips: dict[str, Array] = field(default_factory=dict)
    overruns: int = 0
    misses: int = 0
    starved: int = 0
    slow: bool = False
