"""What clients ask of the daemon in a tick: who may, what comes of it, and why not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied.contract import ContractError, parse
from hardware import episode, latch, lease, machine
from hardware.arm import ArmError, BusLost, Refused, vector
from hardware.arms.make import opened
from hardware.carried import Arrived, Carried, Happened, Robot
from hardware.chunks import Chunk, ChunkError, accept
from hardware.chunks import begin as stay
from hardware.contracts import objections
from hardware.envelope import REJECTS, begin
from hardware.journal import Event as Note
from hardware.journal import JournalError
from hardware.lease import LeaseError
from hardware.link import Ask, Estop, GiveBack, Leader, Message, Renew, Reply, Scene, Seen, Stop, Take
from hardware.machine import LATCHED, MOVING, Event

WITH_POWER = ("power", "range", "watchdog", "script_ended")
"""Of the arm's own words: what is over once the joints have no power, which is what a reset does."""
LONGEST = 60.0
"""Seconds of a lease: whoever wants it longer renews it."""


class No(Exception):
    """Why it is refused."""


@dataclass(frozen=True)
class Heard:
    """waiting: the client and number of whoever is told once what he asked for is done."""

    happened: list[Happened]
    replies: list[tuple[int, Reply]]
    waiting: tuple[int, int] | None


def hear(robot: Robot, carried: Carried, arrived: Arrived, stops: bool, now_ns: int) -> Heard:
    """stops: a stop happened in this tick. Beside one nothing is begun, in whatever order they came."""
    happened: list[Happened] = []
    replies: list[tuple[int, Reply]] = []
    for client, number, message in arrived.said:
        if client == carried.client:
            carried.heard_ns = now_ns
        if isinstance(message, Ask):
            continue
        given, refused = "", ""
        try:
            given = _said(robot, carried, client, message, happened, now_ns)
        except (No, LeaseError, ChunkError) as error:
            refused = str(error)
        if number:
            replies.append((client, Reply(number, refused, given)))
    stops = stops or any(one.event.kind in machine.STOPS for one in happened)
    waiting = None
    for client, number, message in arrived.said:
        if not isinstance(message, Ask):
            continue
        try:
            if stops or waiting:
                raise No("a stop came at the same time" if stops else "somebody else asked at the same time; ask again")
            happened.append(_asked(robot, carried, arrived, message, now_ns))
            waiting = client, number
        except No as error:
            replies.append((client, Reply(number, str(error))))
    return Heard(happened, [reply for reply in replies if reply[1].to], waiting)


def _said(robot: Robot, carried: Carried, client: int, message: Message, happened: list[Happened], now_ns: int) -> str:
    """A lease's id, to a Take. Raises No, LeaseError, ChunkError."""
    match message:
        case Take() | Renew() if not 0 < message.seconds <= LONGEST:
            raise No(f"a lease of {message.seconds} s cannot be; ask for up to {LONGEST:g} s, and renew it")
        case Take():
            if not message.holder.strip():
                raise No("nobody is named to hold the lease; say who it is")
            length = round(message.seconds * 1e9)
            carried.lease = lease.take(carried.lease, robot.draw(), message.holder, now_ns, length)
            carried.client, carried.heard_ns = client, now_ns
            return carried.lease.id
        case Renew():
            carried.lease = lease.renew(carried.lease, message.lease, now_ns, round(message.seconds * 1e9))
        case GiveBack():
            carried.lease = lease.give_back(carried.lease, message.lease, now_ns)
            if carried.state.mode in MOVING:  # whoever takes it in this very tick does not lead on
                happened.append(Happened(Event("stop"), why="the lease was given back"))
        case Stop():
            carried.done = carried.done or message.done
            happened.append(
                Happened(Event("stop", message.category), message.who, message.why or "somebody stopped it")
            )
        case Estop():
            happened.append(Happened(Event("estop", 0, f"an e-stop by {message.who or 'somebody'}"), message.who))
        case Chunk():
            _chunk(robot, carried, message, happened, now_ns)
        case Leader():
            _leader(robot, carried, message, now_ns)
        case Seen():
            _mine(carried, message.lease, now_ns)
            if message.obs_seq not in carried.observed:
                raise No(f"observation {message.obs_seq} was never sent, or long ago")
            carried.seen = message
        case Scene():
            _mine(carried, message.lease, now_ns)
            carried.scene = _scene(robot, carried, message)
            told = {name: list(values) for name, values in message.values.items()}
            episode.note(carried, Note("note", "scene", data=told), now_ns)
        case _:
            pass  # a beat says that somebody is there
    return ""


def _mine(carried: Carried, lease_id: str, now_ns: int) -> None:
    lease.renew(carried.lease, lease_id, now_ns, 0)  # only looked at: what it returns is not kept


def _chunk(robot: Robot, carried: Carried, chunk: Chunk, happened: list[Happened], now_ns: int) -> None:
    carried.lease = lease.admit(carried.lease, chunk.lease, chunk.seq, now_ns)
    if carried.state.mode != "RUNNING" or carried.memory is None:
        raise No(f"a chunk is for RUNNING, and the arm is in {carried.state.mode}; start it first")
    way = carried.way if carried.way is not None else stay(carried.memory.command, now_ns)
    try:
        carried.way = accept(robot.following, way, chunk, carried.observed, now_ns)
    except ChunkError as error:
        carried.refused += 1
        if carried.refused == REJECTS:
            why = f"{REJECTS} chunks in a row were refused: {error}"
            happened.append(Happened(Event("fault", robot.arm.spec.stop, why)))
        raise
    carried.refused = 0


def _leader(robot: Robot, carried: Carried, leader: Leader, now_ns: int) -> None:
    carried.lease = lease.admit(carried.lease, leader.lease, leader.seq, now_ns)
    if carried.state.mode != "TELEOP":
        raise No(f"a leader is for TELEOP, and the arm is in {carried.state.mode}; ask for it first")
    try:
        vector("the leader's target", leader.target, len(robot.limits.names))
    except ValueError as error:
        raise No(str(error)) from None
    carried.leader, carried.leader_ns = leader, now_ns


def _scene(robot: Robot, carried: Carried, scene: Scene) -> dict[str, tuple[float, ...]]:
    sizes = {source.name: source.size for source in robot.config.scene}
    for name, values in scene.values.items():
        if name not in sizes:
            raise No(f"the scene has no {name!r}; the robot's file knows {', '.join(sizes) or 'none'}")
        if len(values) != sizes[name] or not np.isfinite(values).all():
            raise No(f"{name!r} of the scene is {values}; give {sizes[name]} finite numbers")
    return {**carried.scene, **scene.values}


def _asked(robot: Robot, carried: Carried, arrived: Arrived, ask: Ask, now_ns: int) -> Happened:
    """Raises No. With a lease that is not the right one nothing is even looked at."""
    found = carried.lease
    holder = found is not None and lease.held(found, now_ns) and found.id == ask.lease
    if ask.what == "reset" and holder and carried.state.mode in LATCHED:
        return _reset(robot, carried)
    event = Event(ask.what, holder=holder)
    if refused := machine.refusal(carried.state, event):
        raise No(refused)
    if ask.what in ("arm", "start", "teleop", "home"):
        _ready(robot, carried, arrived, ask, now_ns)
    return Happened(event, found.holder if found else "")


def _ready(robot: Robot, carried: Carried, arrived: Arrived, ask: Ask, now_ns: int) -> None:
    """Raises No for what the machine does not know of. After that an episode has begun, where one is to."""
    if not arrived.guarded:
        raise No("the guard does not live, and without it nobody stops the arm if the daemon dies; start it")
    if carried.missed:
        raise No("the arm's last reading is missing; try again, or look at its connection")
    if ask.what == "arm":
        try:
            begin(robot.limits, carried.reading, now_ns)
        except Refused as error:
            raise No(str(error)) from None
        return
    if ask.what == "home" and not robot.config.home:
        raise No(f"{robot.config.file} says no home; give every joint one")
    if ask.what == "start" and not ask.contract:
        raise No("a policy leads by its contract, and none was sent; send the text of its contract.json with start")
    if ask.contract:
        try:
            contract = parse(ask.contract, "the policy's contract")
            found = objections(robot.config, contract, robot.arm.spec.can, carried.scene)
        except ContractError as error:
            raise No(str(error)) from None
        if found:
            raise No("the policy cannot act here: " + "; ".join(found))
    if ask.what == "start" and carried.journal is not None and carried.journal.policy != episode.policy(ask.contract):
        raise No("the episode was begun for another policy, or for none; stop the arm, then start: that begins another")
    if carried.state.mode not in MOVING:
        try:
            episode.begin(robot, carried, ask.task or ask.what, ask.contract, now_ns)
        except JournalError as error:
            raise No(str(error)) from None


def _reset(robot: Robot, carried: Carried) -> Happened:
    """The arm is opened again if it was lost, and the file is gone, before anything is said to be over. Raises No."""
    if carried.lost:
        carried.slow = True
        robot.arm.close()
        try:
            carried.reading, carried.missed, carried.lost = opened(robot.arm), False, ""
        except ArmError as error:
            if isinstance(error, BusLost):
                robot.arm.close()
            raise No(f"the cause of {carried.state.mode} is not gone: {error}") from None
    if carried.missed:
        raise No("the arm's last reading is missing; try again, or look at its connection")
    clear = all(word.startswith(WITH_POWER) for word in carried.reading.faults)
    event = Event("reset", holder=True, clear=clear)
    if refused := machine.refusal(carried.state, event):
        raise No(refused)
    try:
        latch.clear(robot.latch)
    except latch.LatchError as error:
        raise No(str(error)) from None
    carried.latched, carried.unheard, carried.gaps, carried.unwritten, carried.slow = "", 0, 0, 0, True
    return Happened(event)
