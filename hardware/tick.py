"""One tick of the daemon's loop: what arrived and what is carried become one command, one record and one snapshot.

In this order: the arm is read; events of the tick are gathered, from the arm, from time, from clients, and settled,
stops first; what is to be followed goes through the envelope and is written; what is latched reaches the disk; the tick
reaches the journal; only then anybody is told. Nothing here is decided by a clock.
"""

from __future__ import annotations

import numpy as np

from hardware import episode, lease, motion, requests, senses
from hardware.carried import Arrived, Came, Carried, Happened, Robot
from hardware.journal import Event as Record
from hardware.link import Reply, Snapshot
from hardware.machine import LATCHED, MOVING, STOPS, State

KEPT_SECONDS = 1.2
"""How long a Snapshot may be answered; longer than the age at which a chunk is refused."""
DISK_TICKS = 100


def tick(robot: Robot, carried: Carried, arrived: Arrived, now_ns: int) -> Came:
    """Changes `carried`. Raises nothing for whatever an arm, a client or a disk does."""
    carried.seq, carried.slow = carried.seq + 1, False
    if carried.seq % DISK_TICKS == 1:
        carried.disk_free = free(robot)
    before = carried.state
    sensed = [*senses.measured(robot, carried), *senses.noticed(robot, carried, arrived, now_ns)]
    happened = senses.news(carried, sensed)
    stops = any(one.event.kind in STOPS for one in happened)
    heard = requests.hear(robot, carried, arrived, stops, now_ns)
    happened += [*senses.news(carried, heard.happened), *motion.rested(carried)]
    refused = motion.apply(robot, carried, happened, now_ns) if happened else ""
    _hands(carried, before, happened, now_ns)
    came = senses.news(carried, motion.drive(robot, carried, now_ns))
    if came:
        between = carried.state
        motion.apply(robot, carried, came, now_ns)
        episode.stopped(carried, between, came, now_ns)
    motion.latched(robot, carried)
    episode.tick(carried, now_ns)
    if carried.state.mode not in (*MOVING, "STOPPING"):
        episode.end(carried, now_ns)
    replies = list(heard.replies)
    if heard.waiting is not None and heard.waiting[1]:
        replies.append((heard.waiting[0], Reply(heard.waiting[1], refused)))
    snapshot = _snapshot(carried, arrived, now_ns)
    carried.observed[snapshot.seq] = snapshot.time_ns
    while len(carried.observed) > KEPT_SECONDS * robot.limits.rate:
        del carried.observed[next(iter(carried.observed))]
    return Came(snapshot, replies, carried.slow)


def free(robot: Robot) -> int:
    """Bytes where journals go; none where that cannot be known."""
    try:
        return robot.free(robot.config.journal)
    except OSError:
        return 0


def _hands(carried: Carried, before: State, happened: list[Happened], now_ns: int) -> None:
    """Who leads from now on, and who stopped it, between the last tick's record and this one's."""
    asked = {one.event.kind: one.who for one in happened}
    mode = carried.state.mode
    if mode != before.mode:
        for kind, what in (("start", "policy"), ("teleop", "human"), ("home", "homing")):
            if kind in asked and mode in MOVING and before.mode == "HOLD":
                episode.note(carried, Record("start", what, asked[kind]), now_ns)
        if (before.mode, mode) == ("RUNNING", "TELEOP"):
            episode.note(carried, Record("takeover", "", asked.get("teleop", "")), now_ns)
        if (before.mode, mode) == ("TELEOP", "RUNNING"):
            episode.note(carried, Record("handback", "", asked.get("start", "")), now_ns)
    episode.stopped(carried, before, happened, now_ns)


def _snapshot(carried: Carried, arrived: Arrived, now_ns: int) -> Snapshot:
    state, reading, verdict, way = carried.state, carried.reading, carried.verdict, carried.way
    held = carried.lease is not None and lease.held(carried.lease, now_ns)
    kinds = () if verdict is None else tuple(dict.fromkeys(kind for joint in verdict.kinds for kind in joint))
    return Snapshot(
        seq=carried.seq,
        time_ns=reading.time_ns,
        mode=state.mode,
        cause=state.cause if state.mode in LATCHED or state.cause else carried.why,
        category=state.category,
        holder=carried.lease.holder if carried.lease is not None and held else "",
        lease_left_ns=carried.lease.until_ns - now_ns if carried.lease is not None and held else 0,
        guarded=arrived.guarded,
        position=reading.position,
        velocity=reading.velocity,
        effort=reading.effort,
        temperature=reading.temperature,
        powered=reading.powered,
        faults=reading.faults,
        command=carried.command,
        requested=np.zeros(0) if carried.requested is None else carried.requested,
        source=carried.source,
        verdict="" if verdict is None else verdict.word,
        clipped=kinds,
        why="" if verdict is None else verdict.why,
        clips={kind: tuple(counts.tolist()) for kind, counts in carried.clips.items()},
        chunk=-1 if way is None else way.seq,
        action_age_ns=0 if way is None else now_ns - way.end_ns,
        lateness_ns=arrived.lateness_ns,
        missed=carried.missed,
        reading_ns=carried.reading_ns,
        overruns=carried.overruns,
        misses=carried.misses,
        starved=carried.starved,
        episode="" if carried.journal is None else carried.journal.path.stem,
        journal_failed="" if carried.journal is None else carried.journal.failed,
        disk_free=carried.disk_free,
        scene=carried.scene,
    )
