"""Episodes of the daemon's loop: begun when something is to move, ended once it rests, with every tick on disk."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from hardware.carried import Carried, Happened, Robot
from hardware.journal import SUFFIX, End, Event, Header, Journal, JournalError, Tick
from hardware.machine import LATCHED, State

DISK = 1 << 30
"""Bytes that have to be free for an episode to begin."""
_LIMITS = ("lower", "upper", "velocity", "acceleration", "tracking", "start")


def begin(robot: Robot, carried: Carried, task: str, contract: str, now_ns: int) -> None:
    """Raises JournalError where the disk does not take it."""
    if carried.disk_free < DISK:
        raise JournalError(
            f"{carried.disk_free / 1e9:.2f} GB are free in {robot.config.journal}, and an episode is begun with "
            f"{DISK / 1e9:.2f} or more; free some space"
        )
    limits = robot.limits
    header = Header(
        robot=robot.config.file.stem,
        family=robot.arm.spec.family,
        joints=limits.names,
        rate=limits.rate,
        task=task,
        limits={name: getattr(limits, name).tolist() for name in _LIMITS},
        contract=json.loads(contract) if contract else {},
        scene=carried.scene,
        config=robot.digest,
        policy=policy(contract),
    )
    when = datetime.fromtimestamp(robot.wall() / 1e9, UTC).strftime("%Y%m%dT%H%M%S%f")
    folder = robot.config.journal
    for again in range(100):  # a wall clock may have been set back
        path = folder / f"{when}-{again:02d}{SUFFIX}"
        if not path.exists():
            break
    carried.journal = Journal(path, header, now_ns, wall=robot.wall)
    carried.done, carried.slow = False, True


def policy(contract: str) -> str:
    """What a header calls the policy of this contract."""
    return hashlib.sha256(contract.encode()).hexdigest() if contract else ""


def note(carried: Carried, event: Event, now_ns: int) -> None:
    """Between two ticks: it belongs to the one before."""
    if carried.journal is not None:
        carried.journal.append(event, now_ns)


def stopped(carried: Carried, before: State, happened: list[Happened], now_ns: int) -> None:
    """Each stop that changed something."""
    for one in happened:
        kind = one.event.kind
        if kind not in ("stop", "fault", "estop", "starved") or (carried.state.mode, carried.state.after) == (
            before.mode,
            before.after,
        ):
            continue
        what = one.why or one.event.cause
        note(carried, Event("stop" if kind == "starved" else kind, what, one.who), now_ns)


def tick(carried: Carried, now_ns: int) -> None:
    """What was asked for, sent and measured."""
    if carried.journal is None or carried.memory is None:
        return
    reading, verdict, seen = carried.reading, carried.verdict, carried.seen
    kinds = verdict.kinds if verdict is not None and any(verdict.kinds) else ()
    carried.journal.append(
        Tick(
            carried.seq,
            carried.command,
            reading.position,
            reading.velocity,
            reading.effort,
            carried.source,
            carried.state.mode,
            "ok" if verdict is None else verdict.word,
            kinds,
            carried.requested,
            -1 if carried.way is None else carried.way.seq,
            None if seen is None else seen.obs,
            None if seen is None or not len(seen.act) else seen.act,
            carried.missed,
        ),
        now_ns,
    )
    carried.seen = None


def end(carried: Carried, now_ns: int) -> None:
    """Once nothing moves any more. One whose writing failed gets no end: it is partial, and says so by that."""
    journal = carried.journal
    if journal is None:
        return
    if journal.failed:
        journal.close()
    else:
        latched = carried.state.mode in LATCHED
        why = carried.state.cause if latched else carried.why
        journal.end(End("fault" if latched else "done" if carried.done else "stopped", why), now_ns)
    carried.journal, carried.slow = None, True
