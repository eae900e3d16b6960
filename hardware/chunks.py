"""Chunks of actions as one path: what a policy wants at which time, whatever its chunks' delays and seams. Pure.

Step i of a chunk is meant for the time of the observation plus i dt. A chunk arrives late: what its steps say about the
past is dropped, and over the next `blend` steps the path goes over from what the chunks before said to what it says.
Where two steps are further apart than the joints can go in their time, the rest of the chunk is put off until they can:
the path keeps its shape and takes longer. After the last step the path stays there.

Between steps the path is straight, and its corners are rounded over `ROUND_NS`: what is asked of the arm is the mean of
the straight path over that time about now. Straight lines alone would ask for a leap of speed at every step, and the
envelope would cut it. The mean leaves neither the steps' range of positions nor that of their speeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.arm import Array, vector

ROUND_NS = 40_000_000
"""So a new chunk begins to act after half of it."""
MOST_STEPS = 1000
SHORTEST_NS, LONGEST_NS = 2_000_000, 500_000_000
"""Of a chunk's dt."""


class ChunkError(ValueError):
    """A chunk that is not followed; the sentence says why. The path is what it was."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """actions [H,n] rad, `dt_ns` apart, the first for the time of observation `obs_seq`, which was `obs_time_ns`."""

    lease: str
    seq: int
    obs_seq: int
    obs_time_ns: int
    dt_ns: int
    actions: Array


@dataclass(frozen=True, eq=False)
class Path:
    """Straight between knots: times_ns [k] int64, rising; points [k,n] rad. seq: of the last chunk in it."""

    times_ns: Array
    points: Array
    seq: int = -1

    @property
    def end_ns(self) -> int:
        return int(self.times_ns[-1])


@dataclass(frozen=True)
class Following:
    """How chunks are followed. velocity [n] rad/s: the envelope's. max_age_ns: of an observation when its chunk comes.
    blend: steps from one chunk to the next. starve_ms: for how long after its end a path may be stayed at."""

    velocity: tuple[float, ...]
    max_age_ns: int = 1_000_000_000
    blend: int = 4
    starve_ms: float = 200.0

    def __post_init__(self) -> None:
        if not self.velocity or min(self.velocity) <= 0 or not np.isfinite(self.velocity).all():
            raise ValueError(f"velocity is {self.velocity}; give one for each joint, above 0")
        for name in ("max_age_ns", "blend", "starve_ms"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")


def begin(command: Array, now_ns: int) -> Path:
    """Stays at the present command [n]: what every source of motion begins with, and what a flush leaves."""
    return Path(np.array([now_ns], np.int64), np.array(command, np.float64)[None])


def accept(how: Following, path: Path, chunk: Chunk, observed: Mapping[int, int], now_ns: int) -> Path:
    """The path with a chunk in it. observed: the times of the observations that were sent, by their seq. The lease is
    the caller's to look at (lease.py). Raises ChunkError, whatever the chunk is made of."""
    try:
        actions = _checked(how, path, chunk, observed, now_ns)
    except ChunkError:
        raise
    except Exception as error:  # a field may be anything, and raise anything when it is looked at
        raise ChunkError(f"the chunk cannot be read ({type(error).__name__}); send numbers") from None
    seam = now_ns + ROUND_NS // 2  # what is rounded already is not changed
    times = chunk.obs_time_ns + chunk.dt_ns * np.arange(len(actions), dtype=np.int64)
    ahead = times > seam
    if not ahead.any():
        raise ChunkError(
            f"all {len(actions)} steps of chunk {chunk.seq} are past; make the policy faster, or its chunks longer"
        )
    times, actions = times[ahead], actions[ahead]
    share = np.minimum(np.arange(1, len(times) + 1) / how.blend, 1.0)[:, None]
    points = (1 - share) * straight(path, times) + share * actions
    kept = (path.times_ns > now_ns - ROUND_NS) & (path.times_ns < seam)
    first = straight(path, np.array([now_ns - ROUND_NS, seam]))
    head_times = np.concatenate([[now_ns - ROUND_NS], path.times_ns[kept], [seam]])
    head_points = np.concatenate([first[:1], path.points[kept], first[1:]])
    steps = np.diff(np.concatenate([[seam], times]))
    apart = np.abs(np.diff(np.concatenate([first[1:], points]), axis=0))
    needed = np.ceil((apart / np.array(how.velocity)).max(axis=1) * 1e9).astype(np.int64)
    times = seam + np.cumsum(np.maximum(steps, needed))
    return Path(np.concatenate([head_times, times]), np.concatenate([head_points, points]), chunk.seq)


def target(how: Following, path: Path, now_ns: int) -> tuple[Array, bool]:
    """What to ask of the arm now, [n] rad, and whether the path has been over for too long."""
    starved = now_ns - path.end_ns > how.starve_ms * 1e6
    ends = np.array([now_ns - ROUND_NS // 2, now_ns + ROUND_NS // 2], np.int64)
    inside = path.times_ns[(path.times_ns > ends[0]) & (path.times_ns < ends[1])]
    times = np.concatenate([ends[:1], inside, ends[1:]])
    points = straight(path, times)
    spans = np.diff(times)[:, None]
    return ((points[:-1] + points[1:]) / 2 * spans).sum(axis=0) / (ends[1] - ends[0]), bool(starved)


def straight(path: Path, times_ns: Array) -> Array:
    """[m,n] rad at times [m]: straight between knots, and staying before the first and after the last."""
    since = (times_ns - path.times_ns[0]).astype(np.float64)
    knots = (path.times_ns - path.times_ns[0]).astype(np.float64)
    i = np.clip(np.searchsorted(knots, since, side="right") - 1, 0, max(len(knots) - 2, 0))
    if len(knots) == 1:
        return np.repeat(path.points, len(since), axis=0)
    share = np.clip((since - knots[i]) / (knots[i + 1] - knots[i]), 0.0, 1.0)[:, None]
    return (1 - share) * path.points[i] + share * path.points[i + 1]


def _checked(how: Following, path: Path, chunk: Chunk, observed: Mapping[int, int], now_ns: int) -> Array:
    """The actions, float64, of a chunk that may be followed."""
    for name in ("seq", "obs_seq", "obs_time_ns", "dt_ns"):
        value = getattr(chunk, name)
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**62) < value < 2**62:
            raise ChunkError(f"{name} is {str(value)[:50]}; send a whole number")
    if chunk.seq <= path.seq:
        raise ChunkError(f"chunk {chunk.seq} comes after chunk {path.seq}; number them upwards, each once")
    if chunk.obs_seq not in observed:
        raise ChunkError(f"observation {chunk.obs_seq} was never sent, or long ago; answer a recent one")
    if (sent := observed[chunk.obs_seq]) != chunk.obs_time_ns:
        raise ChunkError(f"observation {chunk.obs_seq} is of {sent} ns, not of {chunk.obs_time_ns}; send its time back")
    if not 0 <= now_ns - chunk.obs_time_ns <= how.max_age_ns:
        age = (now_ns - chunk.obs_time_ns) / 1e6
        raise ChunkError(f"its observation is {age:.0f} ms old, and 0 to {how.max_age_ns / 1e6:.0f} are followed")
    if not SHORTEST_NS <= chunk.dt_ns <= LONGEST_NS:
        raise ChunkError(f"dt is {chunk.dt_ns / 1e6:g} ms; send {SHORTEST_NS / 1e6:g} to {LONGEST_NS / 1e6:g}")
    found, n = np.array(chunk.actions), len(how.velocity)
    if found.dtype.kind != "f" or found.ndim != 2 or found.shape[1] != n or not 0 < len(found) <= MOST_STEPS:
        raise ChunkError(
            f"actions are {found.dtype} {found.shape}; send floating-point numbers [1 to {MOST_STEPS},{n}]"
        )
    found = found.astype(np.float64)
    if not np.isfinite(found).all() or np.abs(found).max() > 1e3:
        raise ChunkError("actions have a number that is not finite, or beyond 1000 rad; look at the policy")
    return found


@dataclass(frozen=True, eq=False)
class Handover:
    """From where the arm is to somebody who moves it otherwise: a leader arm, a person. start [n] rad."""

    start: Array
    since_ns: int
    seconds: float


def hand_over(how: Following, command: Array, wanted: Array, now_ns: int, seconds: float = 0.5) -> Handover:
    """Takes `seconds`, or as much longer as the joints need from the command to what is wanted, both [n]."""
    n = len(how.velocity)
    start = vector("the command", command, n)
    furthest = np.abs(vector("what is wanted", wanted, n) - start) / np.array(how.velocity)
    return Handover(start, now_ns, max(seconds, 2 * float(furthest.max())))


def handed(hand: Handover, wanted: Array, now_ns: int) -> Array:
    """What to ask of the arm, [n]: at first its own command, in the end what is wanted [n], and no leap between."""
    share = min(max((now_ns - hand.since_ns) * 1e-9 / hand.seconds, 0.0), 1.0)
    share = share * share * (3 - 2 * share)
    return wanted if share == 1.0 else hand.start + share * (wanted - hand.start)
