"""What the daemon is doing with an arm, as states, and what may follow on what. Pure, and total.

    OFF -> CONNECTED -> READY -> HOLD -> RUNNING, TELEOP, HOMING -> STOPPING -> HOLD, READY, FAULT, ESTOP
           connected    checked   arm     start, teleop, home

READY has no power on the joints, HOLD has, and the two differ by `arm`: motion needs `arm`, then `start`. FAULT and
ESTOP are latched: only `reset` leaves them, with the cause gone, by the holder of the lease, and only to READY.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hardware.arm import Category

Mode = Literal["OFF", "CONNECTED", "READY", "HOLD", "RUNNING", "TELEOP", "HOMING", "STOPPING", "FAULT", "ESTOP"]
Kind = Literal[
    "connected", "checked", "closed",  # of the arm: it answers; it is the right one; its port was closed
    "arm", "disarm", "start", "teleop", "home", "reset",  # what the holder of the lease asks
    "arrived", "rest",  # of the arm: homing is over; a stop has come to rest
    "starved", "stop", "fault", "estop",  # what stops, the weakest first
]  # fmt: skip
Effect = Literal[
    "enable", "power_off", "hold", "brake", "flush",
    "follow_policy", "follow_leader", "go_home",  # these move
    "latch", "unlatch",  # what is on disk (latch.py)
]  # fmt: skip
"""hold: keep the present command, and energise nothing. flush: forget every chunk, and what was to be followed."""

MOVING: tuple[Mode, ...] = ("RUNNING", "TELEOP", "HOMING")
LATCHED: tuple[Mode, ...] = ("FAULT", "ESTOP")
STOPS: tuple[Kind, ...] = ("estop", "fault", "stop", "starved")
"""The strongest first."""
ASKED: tuple[Kind, ...] = ("arm", "disarm", "start", "teleop", "home", "reset")


@dataclass(frozen=True)
class State:
    """after: where STOPPING ends, and category: how. cause: of what is latched, or will be."""

    mode: Mode = "OFF"
    after: Mode = "HOLD"
    category: Category = 2
    cause: str = ""


@dataclass(frozen=True)
class Event:
    """category: of a stop, fault or estop. cause: of a fault or estop. holder: whoever asks holds the lease. clear: the
    cause of what is latched is gone, and the arm is connected and checked again."""

    kind: Kind
    category: Category = 2
    cause: str = ""
    holder: bool = False
    clear: bool = False


def refusal(state: State, event: Event) -> str:
    """Why what is asked cannot be done, as a sentence; empty if it can."""
    if event.kind not in ASKED:
        return ""
    if not event.holder:
        return f"{event.kind} is for whoever holds the lease; take it first"
    needs: dict[Kind, tuple[Mode, ...]] = {
        "arm": ("READY",),
        "disarm": ("HOLD",),
        "start": ("HOLD", "TELEOP"),
        "teleop": ("HOLD", "RUNNING"),
        "home": ("HOLD",),
        "reset": LATCHED,
    }
    if state.mode not in needs[event.kind]:
        held = f" ({state.cause}); reset it first" if state.mode in LATCHED else ""
        return f"{event.kind} is for {' or '.join(needs[event.kind])}, and the arm is in {state.mode}{held}"
    if event.kind == "reset" and not event.clear:
        return f"the cause of {state.mode} is not gone: {state.cause}"
    return ""


def transition(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """What comes of an event: the next state, and what is to be done, in this order. What means nothing here changes
    nothing."""
    if event.kind in STOPS:
        return _stopped(state, event)
    if event.kind in ASKED:
        return (state, ()) if refusal(state, event) else _DONE[event.kind]
    match event.kind, state.mode:
        case "connected", "OFF":
            return State("CONNECTED"), ()
        case "checked", "CONNECTED":
            return State("READY"), ()
        case "arrived", "HOMING":
            return State("HOLD"), ("flush", "hold")
        case "rest", "STOPPING":
            return _ended(state), ("hold" if state.category == 2 else "power_off",)
        case "closed", ("CONNECTED" | "READY"):
            return State(), ()
        case "closed", ("HOLD" | "RUNNING" | "TELEOP" | "HOMING" | "STOPPING"):
            lost = Event("fault", 0, "the arm's port was closed while the joints had power")
            return _stopped(state, lost)
    return state, ()


def settle(state: State, events: Iterable[Event]) -> tuple[State, tuple[Effect, ...]]:
    """The events of one tick. Stops come first, the strongest before the others, in whatever order they arrived, and
    beside one nothing that is asked counts; then what is told of the arm; then what is asked."""
    given = list(events)
    stops = [event for event in given if event.kind in STOPS]
    stops.sort(key=lambda event: (STOPS.index(event.kind), event.category, event.cause))
    told = [event for event in given if event.kind not in STOPS + ASKED]
    asked = [] if stops else [event for event in given if event.kind in ASKED]
    effects: tuple[Effect, ...] = ()
    for event in (*stops, *told, *asked):
        state, more = transition(state, event)
        effects += more
    return state, effects


_DONE: dict[Kind, tuple[State, tuple[Effect, ...]]] = {
    "arm": (State("HOLD"), ("flush", "enable", "hold")),
    "disarm": (State("READY"), ("flush", "power_off")),
    "start": (State("RUNNING"), ("flush", "follow_policy")),
    "teleop": (State("TELEOP"), ("flush", "follow_leader")),
    "home": (State("HOMING"), ("flush", "go_home")),
    "reset": (State("READY"), ("flush", "power_off", "unlatch")),
}
_WEIGHT: tuple[Mode, ...] = ("HOLD", "READY", "FAULT", "ESTOP")


def _stopped(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    if event.kind == "starved":
        running = state.mode in ("RUNNING", "TELEOP")
        return (State("STOPPING"), ("flush", "brake")) if running else (state, ())
    after: Mode = "HOLD" if event.category == 2 else "READY"
    if event.kind != "stop":
        after = "ESTOP" if event.kind == "estop" else "FAULT"
    stopping, category, cause = state.mode == "STOPPING", event.category, event.cause
    was = state.after if stopping else state.mode
    if was in _WEIGHT and _WEIGHT.index(was) >= _WEIGHT.index(after):  # no stop makes another one weaker
        after, cause = was, state.cause
    if stopping:
        category = min(category, state.category)
    latch: tuple[Effect, ...] = ("latch",) if after in LATCHED and after != was else ()
    end = State("STOPPING", after, category, cause)
    if (state.mode in MOVING or stopping) and category > 0:
        return end, latch if stopping else ("flush", "brake", *latch)
    if state.mode in MOVING or stopping:
        return _ended(end), ("flush", "power_off", *latch)
    if event.kind == "stop" and state.mode in ("OFF", "CONNECTED", "READY"):
        return state, ()  # nothing moves, and nothing has power
    keeps = category == 2 and state.mode in ("HOLD", *LATCHED)
    return _ended(end), ("flush", "hold" if keeps else "power_off", *latch)


def _ended(state: State) -> State:
    """After a stop. Without power only READY is left of HOLD."""
    if state.after in LATCHED:
        return State(state.after, cause=state.cause)
    return State("READY" if state.category < 2 else state.after)
