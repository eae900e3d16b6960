"""What a tick does to the arm: effects of the machine, what is followed, and the one command that is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hardware import envelope, latch, senses
from hardware.arm import ArmError, Array, BusLost, NoAnswer, Refused
from hardware.carried import Carried, Happened, Robot
from hardware.chunks import Following, hand_over, handed, target
from hardware.journal import Source
from hardware.limits import REDUCED_SPEED
from hardware.link import SILENCE_SECONDS
from hardware.machine import LATCHED, MOVING, Event, settle

FIRST_SECONDS = 5.0
"""How long a policy may take for its first chunk, and a person to take the leader arm: the arm holds meanwhile."""
ARRIVED = 1e-6
HOLDS = "this arm cannot cut its power: it holds"


def apply(robot: Robot, carried: Carried, happened: Sequence[Happened], now_ns: int) -> str:
    """The events of a tick, and what is to be done for them. Returns why the joints could not be energised, where that
    was asked for. What is on disk comes later (`latched`): a disk may be slow, and the arm stops first."""
    before = carried.state
    carried.state, effects = settle(carried.state, [one.event for one in happened])
    why = [one.why or one.event.cause for one in happened if one.event.kind in ("estop", "fault", "stop", "starved")]
    carried.why = why[0] if why else "" if carried.state.mode in MOVING and before.mode not in MOVING else carried.why
    for effect in effects:
        match effect:
            case "flush":
                carried.way = carried.hand = carried.leader = carried.seen = None
                carried.refused = 0
                carried.observed.clear()  # what answers an observation from before is no answer to what comes now
            case "enable":
                if refused := _enable(robot, carried, now_ns):
                    return refused
            case "power_off":
                _power_off(robot, carried)
            case "follow_policy" | "follow_leader" | "go_home":
                carried.since_ns = now_ns
                if carried.memory is not None and carried.memory.at_rest:
                    carried.memory = replace(carried.memory, first=True)
                if effect == "go_home":
                    carried.hand = hand_over(_gently(robot, carried), carried.command, _home(robot), now_ns, 1.0)
            case _:
                pass
    if carried.state.mode == "STOPPING" and _astray(robot, carried):
        _stay(robot, carried, now_ns)
    return ""


def drive(robot: Robot, carried: Carried, now_ns: int) -> list[Happened]:
    """Follows what is to be followed, through the envelope, and writes one command. What came of it: reasons to stop,
    and the end of a way."""
    if carried.memory is None:
        carried.verdict = carried.requested = None
        carried.source = "hold"
        return []
    action, carried.source, found = _follow(robot, carried, now_ns)
    carried.requested = action
    if action is None:
        carried.memory, command = envelope.brake(robot.limits, carried.memory, now_ns)
        carried.verdict = None
    else:
        carried.memory, command, verdict = envelope.envelope(
            robot.limits, carried.memory, action, carried.reading, now_ns
        )
        carried.verdict = verdict
        _count(carried, verdict)
        if verdict.stop:
            found.append(senses.fault(robot, verdict.stop))
    return found + _write(robot, carried, command)


def rested(carried: Carried) -> list[Happened]:
    """Whether a stop, or the way home, is over."""
    if carried.state.mode == "STOPPING" and (carried.memory is None or carried.memory.at_rest):
        return [Happened(Event("rest"))]
    return []


def latched(robot: Robot, carried: Carried) -> None:
    """On disk before anybody is told."""
    state = carried.state
    if state.mode not in LATCHED or carried.latched == state.mode:
        return
    carried.slow, carried.latched = True, state.mode
    try:
        latch.put(robot.latch, latch.Latch("ESTOP" if state.mode == "ESTOP" else "FAULT", state.cause, robot.wall()))
    except latch.LatchError as error:
        carried.state = replace(state, cause=f"{state.cause}; and it is not on disk: {error}")


def _follow(robot: Robot, carried: Carried, now_ns: int) -> tuple[Array | None, Source, list[Happened]]:
    """The action, None to brake and hold; whose it is; what happened on the way."""
    waited = now_ns - carried.since_ns > FIRST_SECONDS * 1e9
    match carried.state.mode:
        case "RUNNING" if carried.way is None:
            why = f"the policy sent nothing that could be followed for {FIRST_SECONDS:g} s"
            return None, "hold", [Happened(Event("starved"), why=why)] if waited else []
        case "RUNNING":
            assert carried.way is not None
            action, starved = target(robot.following, carried.way, now_ns)
            carried.starved += now_ns > carried.way.end_ns
            why = f"the policy sent nothing new for {robot.following.starve_ms:g} ms after its last action"
            return action, "policy", [Happened(Event("starved"), why=why)] if starved else []
        case "TELEOP" if carried.leader is None:
            stop = Happened(Event("stop"), why=f"no leader moved the arm for {FIRST_SECONDS:g} s")
            return None, "hold", [stop] if waited else []
        case "TELEOP":
            assert carried.leader is not None and carried.memory is not None
            if now_ns - carried.leader_ns > SILENCE_SECONDS * 1e9:
                return None, "hold", [Happened(Event("stop"), why="the leader arm is silent")]
            wanted = carried.leader.target
            if carried.hand is None:
                carried.hand = hand_over(robot.following, carried.memory.command, wanted, now_ns)
            return handed(carried.hand, wanted, now_ns), "human", []
        case "HOMING":
            assert carried.hand is not None and carried.memory is not None
            home = _home(robot)
            there = carried.memory.at_rest and np.abs(carried.memory.command - home).max() < ARRIVED
            carried.done = carried.done or bool(there)
            return handed(carried.hand, home, now_ns), "homing", [Happened(Event("arrived"))] if there else []
        case "STOPPING":
            return None, "brake", []
        case _:
            return None, "hold", []


def _write(robot: Robot, carried: Carried, command: Array) -> list[Happened]:
    carried.command = command
    try:
        robot.arm.write(command)
    except NoAnswer as error:
        carried.unwritten += 1
        return [senses.fault(robot, str(error))] if carried.unwritten >= senses.MISSES else []
    except BusLost as error:
        return [senses.lose(robot, carried, error)]
    except (ArmError, ValueError) as error:
        return [senses.fault(robot, f"the arm does not take a command: {error}")]
    carried.unwritten = 0
    return []


def _enable(robot: Robot, carried: Carried, now_ns: int) -> str:
    carried.slow = True
    try:
        robot.arm.enable()
        carried.power = True
        carried.reading = robot.arm.read()
        carried.memory = envelope.begin(robot.limits, carried.reading, now_ns)
        carried.command = carried.memory.command
        return ""
    except ArmError as error:
        carried.power = True  # for all that is known
        happened = [Happened(Event("stop", 0), why=str(error))]
        if isinstance(error, BusLost):
            happened = [senses.lose(robot, carried, error)]
        apply(robot, carried, happened, now_ns)
        return str(error)


def _power_off(robot: Robot, carried: Carried) -> None:
    report = robot.arm.stop(0)
    carried.memory, carried.power, carried.slow = None, report.category != 0, True
    carried.unsure = report.unsure
    said = [HOLDS] if carried.power else []
    if report.unsure:
        said.append(f"{', '.join(report.unsure)} may {'not hold' if carried.power else 'still have power'}")
    if not said:
        return
    carried.why, cause = "; ".join(said), carried.state.cause
    if cause and not cause.endswith(carried.why):  # told once, however often it is stopped
        carried.state = replace(carried.state, cause=f"{cause}; {carried.why}")


def _astray(robot: Robot, carried: Carried) -> bool:
    """Whether the arm is not where its commands are: it is held, its encoder leapt, or nobody hears it any more."""
    if carried.lost:
        return True
    if carried.memory is None:
        return False
    off = np.abs(carried.reading.position - carried.memory.command)
    return not (off <= robot.limits.tracking).all()


def _stay(robot: Robot, carried: Carried, now_ns: int) -> None:
    """Braking along commands that it does not follow would press on: it is told to stay where it measures itself."""
    robot.arm.stop(2 if robot.arm.spec.stop > 0 else 0)
    carried.memory, carried.slow = None, True
    if carried.lost:
        return
    try:
        carried.memory = envelope.begin(robot.limits, carried.reading, now_ns)
        carried.command = carried.memory.command
    except Refused as error:
        if carried.state.after not in LATCHED:  # it could not go on from there
            apply(robot, carried, [senses.fault(robot, str(error))], now_ns)


def _count(carried: Carried, verdict: envelope.Verdict) -> None:
    for i, kinds in enumerate(verdict.kinds):
        for kind in kinds:
            carried.clips.setdefault(kind, np.zeros(len(verdict.kinds)))[i] += 1


def _home(robot: Robot) -> Array:
    return np.array(robot.config.home)


def _gently(robot: Robot, carried: Carried) -> Following:
    """Speeds with which the way home keeps within the envelope, the tool's speed too: however all joints add up."""
    limits = robot.limits
    speed = limits.velocity / 2
    if limits.chain is not None:
        n = len(limits.chain.axes)
        way = np.abs(_home(robot) - carried.command)[:n]
        seconds = (way / speed[:n]).max()
        along = float((np.array(limits.chain.reaches) * way).sum())
        slower = max(1.0, along / max(seconds, 1e-9) / (limits.tool_speed or REDUCED_SPEED))
        speed = speed / slower
    return Following(tuple(speed.tolist()))
