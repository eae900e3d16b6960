"""What a tick learns without being told: what the arm measures and reports, who is silent, and how late it is."""

from __future__ import annotations

from hardware.arm import ArmError, BusLost, NoAnswer
from hardware.carried import Arrived, Carried, Happened, Robot
from hardware.lease import held
from hardware.link import SILENCE_SECONDS
from hardware.machine import LATCHED, MOVING, Event

LATE, TOO_LATE = 3, 10
"""Periods: beyond these a moving arm stops, and a powered one is at fault."""
MISSES = 2
"""Readings or commands in a row that did not come out well, before the arm is at fault."""
OFTEN = 0.1
"""A greater share of the last second's readings that is missing is a fault too, though no two ran together."""
HOT = ("overheat", "overload", "overcurrent", "temperature")
"""Of the arm's own words: what does not end while the joints hold, so the power goes."""


def measured(robot: Robot, carried: Carried) -> list[Happened]:
    """Reads the arm. One missed reading is the one before, flagged; two in a row, or too many in a second, are a fault
    if joints have power, and without it only keep them from getting any. A lost bus is not asked again."""
    carried.missed, carried.reading_ns = True, 0
    if carried.lost:
        return []
    begun = robot.lap()
    carried.gaps = carried.gaps << 1 & (1 << round(robot.limits.rate)) - 1
    try:
        carried.reading = robot.arm.read()
    except NoAnswer as error:
        carried.unheard += 1
        carried.misses += 1
        carried.gaps |= 1
        if carried.unheard < MISSES and carried.gaps.bit_count() > OFTEN * robot.limits.rate and carried.power:
            return [fault(robot, f"more than {OFTEN:.0%} of a second's readings are missing; the last one: {error}")]
        return [fault(robot, str(error))] if carried.unheard >= MISSES and carried.power else []
    except BusLost as error:
        return [lose(robot, carried, error)]
    except ArmError as error:  # a driver that does not do what it should
        carried.misses += 1
        return [fault(robot, str(error))]
    finally:
        carried.reading_ns = robot.lap() - begun
    carried.missed, carried.unheard = False, 0
    if not (words := carried.reading.faults):
        return []
    said = f"the arm reports {', '.join(words)}"
    if any("estop" in word for word in words):
        return [Happened(Event("estop", 0, said))]
    hot = any(word.startswith(HOT) for word in words)
    return [Happened(Event("fault", 1, said))] if hot else [fault(robot, said)]


def fault(robot: Robot, cause: str) -> Happened:
    return Happened(Event("fault", robot.arm.spec.stop, cause))


def lose(robot: Robot, carried: Carried, error: BusLost) -> Happened:
    carried.lost, carried.misses, carried.missed = str(error), carried.misses + 1, True
    return fault(robot, str(error))


def noticed(robot: Robot, carried: Carried, arrived: Arrived, now_ns: int) -> list[Happened]:
    """Of time, of those who should be there, and of signals."""
    found = []
    moving, late = carried.state.mode in MOVING, arrived.lateness_ns
    if arrived.estop:
        found.append(Happened(Event("estop", 0, "an e-stop by a signal"), "signal"))
    if arrived.ending and carried.power:
        found.append(_stop("the daemon was told to end", 1))
    carried.overruns += late > robot.period_ns
    if carried.power and late > TOO_LATE * robot.period_ns:
        found.append(fault(robot, f"the loop was {late / 1e6:.0f} ms late; give it a core, or SCHED_FIFO"))
    elif moving and late > LATE * robot.period_ns:
        found.append(_stop(f"the loop was {late / 1e6:.0f} ms late"))
    if carried.lease is not None and carried.client in arrived.gone:
        carried.lease = None
        if moving:
            found.append(_stop("whoever held the lease is gone"))
    elif moving and not held(carried.lease, now_ns):
        found.append(_stop("nobody holds the lease any more"))
    elif moving and now_ns - carried.heard_ns > SILENCE_SECONDS * 1e9 and not _heard(carried, arrived):
        found.append(_stop(f"whoever holds the lease was silent for more than {SILENCE_SECONDS * 1e3:.0f} ms"))
    if moving and not arrived.guarded:
        found.append(_stop("the guard is gone"))
    if moving and carried.journal is not None and carried.journal.failed:
        found.append(_stop(f"the episode cannot be written any more: {carried.journal.failed}"))
    return found


def news(carried: Carried, happened: list[Happened]) -> list[Happened]:
    """Without what the state knows already: a fault that lasts is told once, unless it now asks for the power to go."""
    return [one for one in happened if not _known(carried, one.event)]


def _known(carried: Carried, event: Event) -> bool:
    state = carried.state
    if event.kind not in ("fault", "estop"):
        return False
    ends = state.mode if state.mode in LATCHED else state.after if state.mode == "STOPPING" else "HOLD"
    if ends not in LATCHED or (event.kind == "estop" and ends == "FAULT"):
        return False
    if state.mode == "STOPPING":
        return state.category <= event.category
    return event.category == 2 or not carried.power


def _stop(why: str, category: int = 2) -> Happened:
    return Happened(Event("stop", 1 if category == 1 else 2), why=why)


def _heard(carried: Carried, arrived: Arrived) -> bool:
    """After a tick that took long, what was said meanwhile comes with this one."""
    return any(client == carried.client for client, _, _ in arrived.said)
