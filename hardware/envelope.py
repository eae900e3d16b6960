"""The envelope: whatever is asked of an arm, what goes to it is within its limits and can be stopped within them. Pure.

`braking.py` says how fast the arm may go, and why braking is always possible. Here an action is looked at, cut or
rejected, and what is measured is held against what was commanded. An action that breaks nothing passes unchanged, to
the last bit. Where a joint cannot follow at once it catches up as fast as its acceleration allows, without overshoot;
until then its actions count as cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hardware import braking
from hardware.arm import ArmState, Array, Refused, vector
from hardware.limits import Limits

Word = Literal["ok", "clipped", "rejected"]
Kind = Literal["start", "position", "velocity", "acceleration", "stopping", "tool"]
REJECTS = 3
"""So many in a row stop the arm."""
CUTS = 0.2
"""A greater share of the last second's ticks that were not as asked, for a second, stops the arm."""
JUMP, JITTER = 3.0, 0.03
"""Between two readings no joint moves further than JUMP times what its `velocity` allows, and JITTER rad."""
_SLACK = 1e-9  # rad/s: an action that just meets a limit is not cut for its rounding


@dataclass(frozen=True, eq=False)
class Memory:
    """Carried from tick to tick. command, action and measured: [n] rad; velocity: of the commanded path, [n] rad/s.
    behind_ns: since when each joint is too far from its command, [n], -1 if it is not. cuts: the last second's ticks as
    bits, 1 where not as asked; often: for how many ticks there were too many. first: nothing has been asked yet."""

    command: Array
    velocity: Array
    action: Array
    now_ns: int
    measured: Array
    measured_ns: int
    seq: int
    behind_ns: Array
    rejects: int = 0
    cuts: int = 0
    often: int = 0
    first: bool = True

    @property
    def at_rest(self) -> bool:
        return not self.velocity.any()


@dataclass(frozen=True)
class Verdict:
    """What was done with an action. kinds: for each joint, what the action would have broken ("tool": speed or box).
    why: of a rejection. stop: why the arm has to stop, or None; with one, the command is of braking."""

    word: Word
    kinds: tuple[tuple[Kind, ...], ...]
    why: str = ""
    stop: str | None = None


def begin(limits: Limits, state: ArmState, now_ns: int) -> Memory:
    """At rest, where the arm is. Raises Refused if it is not where it may be, or does not say where."""
    try:
        measured = vector("what the arm measured", state.position, len(limits.names))
    except ValueError as error:
        raise Refused(f"{error}; look at the arm's connection") from None
    command = np.clip(measured, limits.lower, limits.upper)
    for name, there, nearest, start in zip(limits.names, measured, command, limits.start, strict=True):
        if abs(there - nearest) > start:
            raise Refused(f"joint {name!r} is at {there:.4g} rad, beyond its limit {nearest:.4g}; move it back by hand")
    still = np.zeros_like(command)
    if limits.chain is not None and not braking.tool_keeps(limits, command, still[None], 1 / limits.rate)[1][0]:
        point = np.round(limits.chain.point(command[: len(limits.chain.axes)]), 4)
        raise Refused(f"the tool is at {point} m, outside its box; move the arm by hand until it is inside")
    return Memory(command, still, command, now_ns, measured, state.time_ns, state.seq, np.full(len(still), -1))


def envelope(
    limits: Limits, memory: Memory, action: object, state: ArmState, now_ns: int
) -> tuple[Memory, Array, Verdict]:
    """The command of this tick, [n] rad float64. An action may be anything, and raises nothing.

    The first one moves nothing: the arm is told to stay where it is, and to stop if the action is beyond `start`.
    """
    dt = braking.tick(limits, memory.now_ns, now_ns)
    memory, stop = _watched(limits, memory, state, now_ns)
    kinds: tuple[tuple[Kind, ...], ...] = ((),) * len(limits.names)
    try:
        asked = vector("the action", _array(action), len(limits.names))
    except Exception as error:  # an object may raise anything when it is looked at
        memory = replace(memory, rejects=memory.rejects + 1)
        if memory.rejects >= REJECTS:
            stop = stop or f"{REJECTS} actions in a row were rejected: {_short(error)}"
        memory, command = _moved(limits, memory, None, None, dt, now_ns, cut=True)
        return memory, command, Verdict("rejected", kinds, _short(error), stop)
    velocity: Array | None = None
    if memory.first:
        kinds = tuple(("start",) if a != b else () for a, b in zip(asked, memory.command, strict=True))
        if (far := np.abs(asked - memory.command) > limits.start).any():
            i = int(far.argmax())
            stop = stop or (
                f"the first action has joint {limits.names[i]!r} at {asked[i]:.4g} rad, and it is at "
                f"{memory.command[i]:.4g}; begin nearer, within {limits.start[i]:g} rad"
            )
    else:
        velocity, kinds, unkept = _step(limits, memory, asked, dt)
        stop = stop or unkept
    cut = any(kinds)
    if memory.often > limits.rate:
        stop = stop or f"more than {CUTS:.0%} of the actions were cut, for a second; ask for less speed, or look at why"
    followed = stop is None and not memory.first
    whole = asked if followed and not cut else None
    target = memory.command if memory.first else np.clip(asked, limits.lower, limits.upper)
    memory = replace(memory, rejects=0, first=False, action=target)
    memory, command = _moved(limits, memory, velocity if followed else None, whole, dt, now_ns, cut)
    return memory, command, Verdict("rejected" if stop else "clipped" if cut else "ok", kinds, stop or "", stop)


def brake(limits: Limits, memory: Memory, now_ns: int) -> tuple[Memory, Array]:
    """One tick of a controlled stop: the command [n] rad. The arm's commands are at rest when `memory.at_rest`."""
    return _moved(limits, memory, None, None, braking.tick(limits, memory.now_ns, now_ns), now_ns, cut=False)


def _step(
    limits: Limits, memory: Memory, asked: Array, dt: float
) -> tuple[Array, tuple[tuple[Kind, ...], ...], str | None]:
    """The velocity [n] with which to follow, what was broken, and why to stop."""
    command, velocity = memory.command, memory.velocity
    low, high = braking.interval(limits, command, velocity, dt)
    near = np.clip(asked, limits.lower, limits.upper)
    wish, outside = (near - command) / dt, near != asked
    passes = (wish >= low - _SLACK) & (wish <= high + _SLACK) & ~outside
    along = np.clip((near - memory.action) / dt, -limits.velocity, limits.velocity)
    if memory.cuts & 1:  # whoever caught up too fast would go past
        passes &= np.abs(wish - along) <= limits.acceleration * dt + _SLACK
    kinds: list[tuple[Kind, ...]] = [()] * len(asked)
    if not passes.all():
        change = limits.acceleration * dt
        for i in np.flatnonzero(~passes):
            broken: dict[Kind, bool] = {
                "position": outside[i],
                "velocity": abs(wish[i]) > limits.velocity[i] + _SLACK,
                "acceleration": max(abs(wish[i] - velocity[i]), abs(wish[i] - along[i])) > change[i] + _SLACK,
            }
            kinds[i] = tuple(kind for kind, is_broken in broken.items() if is_broken) or ("stopping",)
        wish = np.where(passes, wish, np.clip(_chase(limits, near - command, along, dt), low, high))
    found, kept = braking.drawn_back(limits, command, velocity, wish, dt)
    for i in np.flatnonzero(found != wish):  # by this the tool was held back
        kinds[i] = (*kinds[i], "tool")
    return found, tuple(kinds), None if kept else "even a stop would take the tool out of its box or beyond its speed"


def _chase(limits: Limits, missing: Array, along: Array, dt: float) -> Array:
    """Velocity [n] that soonest meets a target [n] rad away, which moves at `along`, and goes with it: like braking
    before a limit, seen from the target."""
    missing = missing - along * dt
    return along + np.copysign(braking.room(np.abs(missing), limits.acceleration, dt, dt), missing)


def _watched(limits: Limits, memory: Memory, state: ArmState, now_ns: int) -> tuple[Memory, str | None]:
    """What was measured, remembered; and why to stop, if it is wrong."""
    try:
        measured = vector("what the arm measured", state.position, len(limits.names))
    except ValueError as error:
        return memory, str(error)
    stop = None
    if state.seq != memory.seq:
        seconds = max((state.time_ns - memory.measured_ns) * 1e-9, braking.SHORTEST / limits.rate)
        moved = np.abs(measured - memory.measured)
        if (leapt := moved > JUMP * limits.velocity * seconds + JITTER).any():
            i = int(leapt.argmax())
            stop = f"joint {limits.names[i]!r} was measured {moved[i]:.4g} rad away {seconds:.3g} s later: it cannot be"
    off = np.abs(measured - memory.command)
    behind = np.where(off <= limits.tracking, -1, np.where(memory.behind_ns < 0, now_ns, memory.behind_ns))
    late = (behind >= 0) & (now_ns - behind > limits.tracking_seconds * 1e9)
    if late.any():
        i = int(late.argmax())
        stop = stop or (
            f"joint {limits.names[i]!r} has been {off[i]:.4g} rad from its command for more than "
            f"{limits.tracking_seconds:g} s: something holds it"
        )
    memory = replace(memory, measured=measured, measured_ns=state.time_ns, seq=state.seq, behind_ns=behind)
    return memory, stop


def _moved(
    limits: Limits, memory: Memory, velocity: Array | None, whole: Array | None, dt: float, now_ns: int, cut: bool
) -> tuple[Memory, Array]:
    """The next command: `whole` as it is, or a step at `velocity`, or of braking."""
    if velocity is None:
        velocity = braking.braked(limits, memory.velocity, dt)
    command = whole
    if command is None:
        command = np.clip(memory.command + velocity * dt, limits.lower, limits.upper)
        velocity = (command - memory.command) / dt
    cuts = (memory.cuts << 1 | cut) & ((1 << round(limits.rate)) - 1)
    often = memory.often + 1 if cuts.bit_count() > CUTS * limits.rate else 0
    memory = replace(memory, command=command, velocity=velocity, now_ns=now_ns, cuts=cuts, often=often)
    return memory, command.copy()


def _array(action: object) -> Array:
    """Numbers as float64, a copy; texts, booleans and objects are none."""
    found = np.array(action)
    if found.dtype.kind not in "fiu":
        raise ValueError(f"the action is of {found.dtype}; give floating-point numbers")
    return found.astype(np.float64)


def _short(error: Exception) -> str:
    """What is wrong with an action; a stranger's exception is not even asked for its text."""
    return str(error)[:200] if type(error) is ValueError else type(error).__name__
