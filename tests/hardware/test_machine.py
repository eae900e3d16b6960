"""No sequence of events moves an arm that nobody armed and started, and every stop stops."""

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hardware.machine import ASKED, LATCHED, MOVING, STOPS, Event, Kind, Mode, State, refusal, settle, transition

MOVES = {"follow_policy", "follow_leader", "go_home"}
STARTS = ("start", "teleop", "home")
events = st.builds(
    Event,
    kind=st.sampled_from(get_args(Kind)),
    category=st.sampled_from([0, 1, 2]),
    cause=st.sampled_from(["bus lost", "someone pressed it"]),
    holder=st.booleans(),
    clear=st.booleans(),
)
ALL_STATES = [
    *(State(mode) for mode in get_args(Mode) if mode != "STOPPING"),
    *(
        State("STOPPING", after, category, "some cause" if after in LATCHED else "")
        for after, category in itertools.product(("HOLD", "READY", "FAULT", "ESTOP"), (0, 1, 2))
    ),
]
ALL_EVENTS = [
    Event(kind, category, "a cause", holder, clear)
    for kind, category, holder, clear in itertools.product(get_args(Kind), (0, 1, 2), (False, True), (False, True))
]


def test_it_is_total_and_no_single_step_does_what_it_must_not():
    for state, event in itertools.product(ALL_STATES, ALL_EVENTS):
        new, effects = transition(state, event)
        assert new.mode in get_args(Mode)
        assert bool(MOVES & set(effects)) <= (new.mode in MOVING)
        assert (new.mode in MOVING and new.mode != state.mode) <= (event.kind in STARTS and event.holder)
        assert ("brake" in effects) <= (new.mode == "STOPPING" and state.mode in MOVING)
        assert ("enable" in effects) == (event.kind == "arm" and state.mode == "READY" and event.holder)
        assert ("unlatch" in effects) == (event.kind == "reset" and state.mode in LATCHED and new.mode == "READY")
        assert (new.mode in LATCHED or new.after in LATCHED) >= ("latch" in effects)
        if state.mode in LATCHED and new.mode not in LATCHED:
            assert event.kind == "reset" and event.holder and event.clear and new.mode == "READY"
            assert "power_off" in effects
        if state.mode == "STOPPING":
            assert new.mode not in MOVING and not MOVES & set(effects)
        if event.kind in ("fault", "estop"):
            assert new.mode in (*LATCHED, "STOPPING") and (new.mode != "STOPPING" or new.after in LATCHED)
            assert event.category > 0 or "power_off" in effects
        if event.kind in STOPS:
            assert new.mode not in MOVING or (event.kind == "starved" and state.mode == "HOMING" == new.mode)
        if event.kind in ASKED and refusal(state, event):
            assert (new, effects) == (state, ())


class Arm(RuleBasedStateMachine):
    """Random events against what has to have happened before: invariant 8."""

    def __init__(self):
        super().__init__()
        self.state, self.since, self.powered, self.latched = State(), [], False, False

    @rule(given=st.lists(events, min_size=1, max_size=4))
    def tick(self, given):
        before = self.state
        self.state, effects = settle(before, given)
        stopped = any(event.kind in STOPS[:3] for event in given)
        if stopped:
            assert self.state.mode not in MOVING and not MOVES & set(effects)
        asked = [] if any(event.kind in STOPS for event in given) else given
        self.since += [event.kind for event in asked if event.holder and event.kind in ASKED]
        if self.state.mode in LATCHED:
            self.since = []
        for effect in effects:
            self.powered = {"enable": True, "power_off": False}.get(effect, self.powered)
            self.latched = {"latch": True, "unlatch": False}.get(effect, self.latched)

    @rule()
    def as_it_should(self):
        """So that long random runs get beyond OFF."""
        for kind in ("connected", "checked", "reset", "arm", "start"):
            self.tick([Event(kind, holder=True, clear=True)])

    @invariant()
    def who_moves_was_reset_armed_and_started(self):
        if self.state.mode in MOVING:
            kinds = iter(self.since)
            assert "arm" in kinds and any(kind in STARTS for kind in kinds)
            assert self.powered and not self.latched

    @invariant()
    def what_is_latched_is_on_disk(self):
        ends = self.state.after if self.state.mode == "STOPPING" else self.state.mode
        assert self.latched == (ends in LATCHED)

    @invariant()
    def no_power_where_none_belongs(self):
        if self.state.mode in ("OFF", "CONNECTED", "READY"):
            assert not self.powered
        if self.state.mode in ("HOLD", *MOVING):
            assert self.powered


TestArm = Arm.TestCase


@given(st.sampled_from(ALL_STATES), st.lists(events, max_size=4), st.randoms(use_true_random=False))
def test_stops_of_one_tick_win_in_whatever_order_they_come(state, given, random):
    stops = [event for event in given if event.kind in STOPS]
    others = [event for event in given if event.kind not in STOPS]
    mixed = list(given)
    random.shuffle(mixed)
    kept = iter(others)  # their own order is kept: among what is asked it means something
    mixed = [event if event.kind in STOPS else next(kept) for event in mixed]
    assert settle(state, mixed) == settle(state, stops + others)
    if any(event.kind == "estop" for event in given):
        end = settle(state, mixed)[0]
        assert "ESTOP" in (end.mode, end.after)


def test_beside_a_stop_nothing_that_is_asked_counts():
    for state, kind, asked in itertools.product(ALL_STATES, STOPS, ASKED):
        stop, wanted = Event(kind), Event(asked, holder=True, clear=True)
        assert settle(state, [wanted, stop]) == settle(state, [stop, wanted]) == settle(state, [stop])


def walk(*kinds, state=None, **more):
    state = State() if state is None else state
    for kind in kinds:
        state, effects = transition(state, Event(kind, holder=True, **more))
    return state, effects


def test_the_ordinary_day():
    assert walk("connected", "checked") == (State("READY"), ())
    assert walk("connected", "checked", "arm") == (State("HOLD"), ("flush", "enable", "hold"))
    running, effects = walk("connected", "checked", "arm", "start")
    assert running.mode == "RUNNING" and effects == ("flush", "follow_policy")
    assert walk("teleop", state=running) == (State("TELEOP"), ("flush", "follow_leader"))
    assert walk("teleop", "start", state=running)[0].mode == "RUNNING"
    assert walk("stop", "rest", state=running) == (State("HOLD"), ("hold",))
    assert walk("stop", "rest", state=running, category=1) == (State("READY"), ("power_off",))
    assert walk("stop", state=running, category=0) == (State("READY"), ("flush", "power_off"))
    assert walk("home", "arrived", state=State("HOLD")) == (State("HOLD"), ("flush", "hold"))
    assert walk("disarm", "closed", state=State("HOLD"))[0] == State("OFF")


def test_a_starved_policy_stops_unlatched_and_does_not_go_on_by_itself():
    state, effects = walk("starved", state=State("RUNNING"))
    assert state == State("STOPPING", "HOLD", 2) and effects == ("flush", "brake")
    state, _ = walk("rest", state=state)
    assert state == State("HOLD") and walk("starved", "rest", "connected", state=state)[0] == state
    assert walk("start", state=state)[0].mode == "RUNNING"


def test_stops_grow_stronger_and_never_weaker():
    state, _ = walk("stop", state=State("RUNNING"))
    state, effects = transition(state, Event("fault", 1, "overheated"))
    assert state == State("STOPPING", "FAULT", 1, "overheated") and effects == ("latch",)
    assert walk("stop", "starved", "fault", state=state)[0] == state
    state, effects = transition(state, Event("estop", 2, "a button"))
    assert state == State("STOPPING", "ESTOP", 1, "a button") and effects == ("latch",)
    assert transition(state, Event("estop", 2, "again")) == (state, ())
    assert transition(state, Event("rest")) == (State("ESTOP", cause="a button"), ("power_off",))
    assert transition(state, Event("estop", 0)) == (State("ESTOP", cause="a button"), ("flush", "power_off"))


def test_a_fault_that_may_hold_lets_no_arm_drop():
    held, effects = transition(State("HOLD"), Event("fault", 2, "hot"))
    assert held == State("FAULT", cause="hot") and effects == ("flush", "hold", "latch")
    assert transition(held, Event("fault", 2, "hotter")) == (held, ("flush", "hold"))
    assert transition(held, Event("estop", 0, "a button")) == (
        State("ESTOP", cause="a button"),
        ("flush", "power_off", "latch"),
    )


def test_a_port_that_closes_under_power_is_a_fault():
    for mode in ("HOLD", *MOVING):
        state, effects = transition(State(mode), Event("closed"))
        assert state.mode == "FAULT" and "closed" in state.cause and effects == ("flush", "power_off", "latch")


@pytest.mark.parametrize(
    ("state", "event", "said"),
    [
        (
            State("RUNNING"),
            Event("reset", holder=True, clear=True),
            "reset is for FAULT or ESTOP, and the arm is in RUN",
        ),
        (State("FAULT", cause="bus lost"), Event("reset", clear=True), "reset is for whoever holds the lease; take it"),
        (State("FAULT", cause="bus lost"), Event("reset", holder=True), "the cause of FAULT is not gone: bus lost"),
        (State("ESTOP", cause="button"), Event("arm", holder=True), r"the arm is in ESTOP \(button\); reset it first"),
        (State("READY"), Event("start", holder=True), "start is for HOLD or TELEOP, and the arm is in READY"),
    ],
)
def test_what_is_refused_is_told(state, event, said):
    with pytest.raises(AssertionError, match=said):
        assert not refusal(state, event), refusal(state, event)


def test_one_tick_may_tell_and_ask():
    state, effects = settle(State("STOPPING"), [Event("start", holder=True), Event("rest")])
    assert state.mode == "RUNNING" and effects == ("hold", "flush", "follow_policy")
    state, effects = settle(State("READY"), [Event(kind, holder=True) for kind in ("arm", "start", "fault")])
    assert state.mode == "FAULT" and not {"enable"} & set(effects)
