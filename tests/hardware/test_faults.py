"""Faults that lie in the daemon, each injected where it happens; the emulator's own record says what the arm was told.

| fault | how | reaction |
| --- | --- | --- |
| 1, 2 | one servo, or all, answer nothing | one reading reused and flagged, at the second a stop and FAULT |
| 3 | the port vanishes | FAULT in the same tick, nothing written; opened again by reset only |
| 8 | a servo starts anew | its power is not what it should be: FAULT within 200 ms |
| 9 | an encoder leaps | FAULT in the same tick, and the joint stays where it is |
| 10 | overload, heat | category 1 within a second, FAULT |
| 11 | something holds a joint | FAULT once it lags for tracking_seconds, and nothing presses on |
| 12 | NaN, another shape, another type | refused, at the third FAULT |
| 13 | out of limits | cut; for a second too often: FAULT |
| 14 | a first action far away | no leap: from the command on, at its speed limits |
| 15, 16 | a policy hangs, a gateway dies | stop (category 2) after 200 ms, 100 ms; start is needed again |
| 17 | stale, doubled, foreign, future chunks | dropped |
| 19 | the wall clock steps | nothing changes |
| 20 | the loop is late | no burst, no leap; over 3 periods stop, over 10 FAULT |
| 21 | the disk takes no more | stop first, the episode is partial; none begun with less than 1 GiB |
| 23 | the guard dies | stop, and no arm without one |
| 27, 28, 29 | two clients; e-stops; resets | one lease; flushed, latched, idempotent; refused |
| 33 | told to end | category 1, the journal sealed |
| 34 | a person takes over; his arm is unplugged | no leap; hold and stop |
| 35 | limits that make no sense | no start |

22, 33 and the kills of 23 need real processes: test_processes.py.
"""

import resource
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hardware.arm import ArmError
from hardware.armd import main, schedule
from hardware.arms.twin import Twin
from hardware.carried import Happened
from hardware.journal import Event, Tick, journals, recover
from hardware.latch import read as latched
from hardware.link import Ask, Estop, GiveBack, Leader, Scene, Seen, Stop, Take
from hardware.machine import MOVING
from hardware.machine import Event as Happens
from hardware.motion import apply
from hardware.tick import DISK_TICKS
from tests.hardware.harness import GATEWAY, JOINT, PERIOD, TWIN, Rig, servos, toml, twin

ALL = [1, 2, 3, 4, 5, 6]
STEP = JOINT["velocity"] * PERIOD * 1e-9


@pytest.fixture
def arm(tmp_path, so101):
    rig = servos(tmp_path, so101)
    rig.emulator = so101.control
    yield rig
    rig.close()


@pytest.fixture
def rig(tmp_path):
    made = twin(tmp_path)
    yield made
    made.close()


def running(rig, ticks=15, speed=0.5):
    rig.starts()
    last = rig.moves(speed=speed, ticks=ticks)
    assert last.mode == "RUNNING" and last.verdict != ""
    return last


def told(arm, since):
    """Goals written after the emulator's time `since`, of each servo."""
    goals = [goal for goal in arm.emulator("record")["goals"] if goal[0] > since]
    return {number: [ticks for _, of, ticks, _ in goals if of == number] for number in ALL}


def now(arm):
    return arm.emulator("state")["now"]


@pytest.mark.parametrize("dead", [[4], ALL])
def test_1_2_silent_servos_are_missed_once_and_then_a_fault(arm, dead):
    running(arm, speed=0.2)
    arm.emulator("faults", dead=dead)
    first = arm.moves(ticks=1)
    assert first.missed and first.mode == "RUNNING" and first.misses == 1
    second = arm.moves(ticks=1)
    assert second.mode == "STOPPING"
    assert arm.until("FAULT", 10) <= 10 and "no answer" in arm.snapshots[-1].cause
    since = now(arm)
    arm.tick(2)
    for number, ticks in told(arm, since).items():
        assert len(set(ticks)) <= 1, f"servo {number} was still moved"
    assert all(arm.emulator("state")["powered"])  # category 2: what holds goes on holding
    assert latched(arm.robot.latch).mode == "FAULT"


def test_1_without_power_silent_servos_only_keep_it_from_being_armed(arm):
    arm.take()
    arm.emulator("faults", dead=[4])
    assert arm.tick(3).mode == "READY" and arm.snapshots[-1].missed
    assert "reading is missing" in arm.ask(Ask("arm", arm.lease)).refused
    arm.emulator("faults", dead=[])
    arm.arms()


def test_3_a_port_that_vanishes(arm):
    running(arm)
    arm.emulator("hang_up")
    assert arm.moves(ticks=1).mode in ("STOPPING", "FAULT")
    assert arm.until("FAULT", 2) <= 2 and "gone" in arm.snapshots[-1].cause
    asked = arm.arm.bus.asked
    arm.tick(20)
    assert arm.arm.bus.asked == asked  # no spin
    assert "cannot be opened" in arm.ask(Ask("reset", arm.lease)).refused
    arm.emulator("reset", virtual=True)
    assert arm.ask(Ask("reset", arm.lease)).refused == ""
    assert arm.tick().mode == "READY" and latched(arm.robot.latch) is None
    arm.starts()


def test_8_a_servo_that_starts_anew(arm):
    running(arm)
    arm.emulator("reboot", id=3)
    arm.until("FAULT", 20)
    assert "power elbow_flex" in arm.snapshots[-1].cause
    assert arm.ask(Ask("reset", arm.lease)).refused == ""
    assert arm.tick(10).mode == "READY" and not any(arm.emulator("state")["powered"])


def test_9_an_encoder_that_leaps(arm):
    running(arm)
    before = arm.emulator("state")["position"]
    arm.emulator("jump", id=2, ticks=600)
    last = arm.moves(ticks=1)
    assert last.mode == "STOPPING" or last.mode == "FAULT"
    arm.until("FAULT", 2)
    arm.tick(50)
    assert abs(arm.emulator("state")["position"][1] - before[1]) < 0.03


@pytest.mark.parametrize(("order", "given"), [("status", {"bits": 0x20}), ("temperature", {"celsius": 80})])
def test_10_overload_and_heat_take_the_power(arm, order, given):
    running(arm)
    arm.emulator(order, id=2, **given)
    assert arm.until("FAULT", 100) < 100
    assert "over" in arm.snapshots[-1].cause
    assert not any(arm.emulator("state")["powered"])


def test_10_heat_while_it_holds_takes_the_power_too(arm):
    running(arm)
    arm.emulator("faults", dead=[4])
    arm.tick(2)
    arm.until("FAULT", 10)
    arm.emulator("faults", dead=[])
    arm.emulator("temperature", id=2, celsius=80)
    arm.tick(20)
    assert not any(arm.emulator("state")["powered"]) and arm.snapshots[-1].mode == "FAULT"


def test_11_a_joint_that_is_held(arm):
    running(arm)
    arm.emulator("lock", joint=1)
    for ticks in range(200):  # noqa: B007
        if arm.moves(speed=1.0, ticks=1).mode != "RUNNING":
            break
    assert ticks < (JOINT["tracking"] / 0.8 + 0.05) * 100
    arm.until("FAULT", 3)
    assert "something holds it" in arm.snapshots[-1].cause
    state = arm.emulator("state")
    assert abs(state["goal"][1] - state["position"][1]) < 0.01  # it does not press on


@pytest.mark.parametrize(
    "actions",
    [np.full((5, 6), np.nan), np.full((5, 6), np.inf), np.zeros((5, 5)), np.zeros((0, 6)), np.full((5, 6), 1e9)],
)
def test_12_chunks_that_are_none(arm, actions):
    running(arm)
    way = arm.carried.way
    for refused in range(1, 4):
        arm.say(arm.chunk(actions))
        last = arm.tick()
        assert arm.replies[-1][1].refused
        assert last.mode == ("RUNNING" if refused < 3 else "STOPPING")
        assert arm.carried.way is (way if refused < 3 else None)
    arm.until("FAULT", 30)


def test_13_out_of_limits_is_cut_and_too_often_a_fault(arm):
    running(arm)
    last = arm.snapshots[-1].command
    for ticks in range(400):  # noqa: B007
        if arm.moves(speed=1.9, ticks=1).mode != "RUNNING":
            break
        step, last = np.abs(arm.snapshots[-1].command - last), arm.snapshots[-1].command
        assert (step <= STEP + 1e-9).all() and (last <= JOINT["upper"]).all()
    arm.until("FAULT", 30)
    assert "were cut" in arm.snapshots[-1].cause and ticks > 100
    assert sum(arm.snapshots[-1].clips["position"]) > 0
    servo = arm.arm.servos[0]
    assert arm.emulator("record")["highest"]["1"] <= servo.ticks(JOINT["upper"])


def test_14_a_first_action_far_away_is_no_leap(arm):
    arm.starts()
    since = now(arm)
    for _ in range(100):
        arm.say(arm.chunk(np.full(25, 1.0)))
        if arm.tick().mode != "RUNNING":
            break
    for number, ticks in told(arm, since).items():
        most = STEP * 4096 / (2 * np.pi) + 1
        assert np.abs(np.diff(ticks)).max() <= most, number


def test_15_a_policy_that_hangs(arm):
    running(arm)
    end = arm.carried.way.end_ns
    while arm.snapshots[-1].mode == "RUNNING":
        arm.tick()
    passed = arm.clock.now_ns() - end
    assert 200_000_000 < passed <= 200_000_000 + PERIOD
    arm.until("HOLD", 5)
    assert "nothing new" in arm.snapshots[-1].cause and arm.snapshots[-1].starved >= 20
    assert latched(arm.robot.latch) is None
    held = arm.snapshots[-1].command
    arm.moves(ticks=10)  # it is back, and nothing moves
    assert arm.snapshots[-1].mode == "HOLD" and (arm.snapshots[-1].command == held).all()
    assert "start it first" in arm.replies[-1][1].refused
    assert arm.ask(arm.start()).refused == ""
    assert arm.moves(ticks=10).mode == "RUNNING"


def test_15_a_policy_that_never_says_anything(rig):
    rig.starts()
    rig.tick(490)
    assert rig.snapshots[-1].mode == "RUNNING"
    rig.tick(20)
    assert rig.snapshots[-1].mode == "HOLD"


def test_16_who_spoke_while_a_tick_took_long_was_not_silent(rig):
    """A journal that is begun on a slow disk holds the loop up, and the beats of that time are heard after it."""
    running(rig)
    rig.clock.sleep_until(rig.clock.now_ns() + 20 * PERIOD)
    assert rig.moves(ticks=1).mode == "RUNNING"


@pytest.mark.parametrize("how", ["silent", "gone", "given back", "run out"])
def test_16_whoever_commands_is_no_longer_there(rig, how):
    running(rig)
    if how == "silent":
        rig.beats = False
    elif how == "gone":
        rig.gone, rig.beats = [GATEWAY], False
    elif how == "given back":
        rig.say(GiveBack(rig.lease))
    else:
        rig.carried.lease = replace(rig.carried.lease, until_ns=rig.clock.now_ns() + PERIOD)
    for ticks in range(1, 30):  # noqa: B007
        rig.tick()
        if rig.snapshots[-1].mode != "RUNNING":
            break
    assert ticks <= (11 if how == "silent" else 2)
    rig.until("HOLD", 30)
    if how != "silent":
        rig.beats = True
        assert "lease" in rig.ask(rig.start()).refused
        rig.take()
    rig.beats = True
    rig.tick(20)
    assert rig.snapshots[-1].mode == "HOLD"
    assert rig.ask(rig.start()).refused == ""


@pytest.mark.parametrize("what", ["start", "home"])
def test_16_given_back_and_taken_by_another_in_the_same_tick(rig, what):
    if what == "start":
        running(rig)
    else:
        rig.starts("home")
        rig.tick(5)
    assert rig.snapshots[-1].mode in MOVING
    rig.say(GiveBack(rig.lease))
    rig.say(Take("bob", 60.0), client=2)
    rig.tick()
    last = rig.snapshots[-1]
    assert last.holder == "bob" and last.mode == "STOPPING" and "given back" in last.cause
    rig.until("HOLD", 30)


def test_17_what_was_seen_before_a_stop_is_no_longer_answered(rig):
    running(rig)
    late = rig.chunk(np.full(25, 0.5), seq=10**6)
    rig.ask(Stop(2, "anna"))
    rig.until("HOLD", 30)
    assert rig.ask(rig.start()).refused == ""
    first = rig.chunk(np.full(25, 0.2), seq=10**6 + 1)
    refused = rig.ask(late).refused
    assert "never sent, or long ago" in refused and rig.carried.way is None
    assert rig.ask(first).refused == "" and rig.carried.way is not None  # the first Snapshot after the start is


def test_17_chunks_that_answer_nothing(rig):
    last = running(rig)
    way, actions = rig.carried.way, np.full(25, 0.5)
    odd = {
        "foreign": {"lease": "another"},
        "doubled": {"seq": rig.carried.lease.seq},
        "unknown": {"obs_seq": last.seq + 1000},
        "another time": {"obs_time_ns": last.time_ns + 1},
        "too old": {"obs_seq": last.seq - 110, "obs_time_ns": rig.carried.observed.get(last.seq - 110, 0)},
    }
    for what, changes in odd.items():
        rig.carried.refused = 0
        rig.say(rig.chunk(actions, **changes))
        rig.tick()
        assert rig.replies[-1][1].refused, what
        assert rig.carried.way is way, what


def test_19_steps_of_the_wall_clock_change_nothing(tmp_path):
    told = []
    for steps in (False, True):
        folder = tmp_path / str(steps)
        folder.mkdir()
        rig = twin(folder)
        if steps:
            hours = iter(np.resize([0, 3600, -3600], 100_000).tolist())
            rig.robot = replace(rig.robot, wall=lambda hours=hours: (1_700_000_000 + next(hours)) * 10**9)
        running(rig, 60)
        rig.stop()
        rig.until("HOLD")
        told.append([(snapshot.mode, tuple(snapshot.command)) for snapshot in rig.snapshots])
        (journal,) = journals(rig.robot.config.journal)
        assert recover(journal).whole
        rig.close()
    assert told[0] == told[1]


@pytest.mark.parametrize(("late", "end"), [(2, "RUNNING"), (5, "HOLD"), (30, "FAULT")])
def test_20_a_loop_that_was_late(rig, late, end):
    before = running(rig, 60)
    after = rig.tick(late=late)
    assert (np.abs(after.command - before.command) <= 2 * STEP + 1e-9).all()
    steps = [after.command]
    rig.tick(5)
    steps += [snapshot.command for snapshot in rig.snapshots[-5:]]
    assert (np.abs(np.diff(steps, axis=0)) <= STEP + 1e-9).all()
    if end == "RUNNING":
        assert rig.snapshots[-1].mode == "RUNNING"
    else:
        rig.until(end, 60)


def test_20_what_was_missed_is_not_caught_up():
    due, late = schedule(1000, 1000, 100, False)
    assert (due, late) == (1100, 0)
    assert schedule(1000, 1040, 100, False) == (1100, 40)
    assert schedule(1000, 1330, 100, False) == (1430, 330)
    assert schedule(1000, 1330, 100, True) == (1430, 0)


def test_21_a_disk_that_takes_no_more(rig):
    running(rig)
    path = rig.carried.journal.path
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 700, hard))
    try:
        modes = [rig.moves(ticks=1).mode for _ in range(10)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    stopping = modes.index("STOPPING")
    assert modes[stopping - 1] == "RUNNING" and "disk is full" in rig.snapshots[-1].cause
    rig.until("HOLD", 30)
    assert rig.snapshots[-1].cause and latched(rig.robot.latch) is None
    found = recover(path)
    assert not found.whole and len(found.ticks) >= 15
    assert rig.ask(rig.start()).refused == ""


def test_21_no_episode_is_begun_on_a_disk_that_is_nearly_full(rig):
    rig.arms()
    rig.carried.disk_free = 1 << 29
    assert "free some space" in rig.ask(rig.start()).refused
    assert rig.tick().mode == "HOLD" and not journals(rig.robot.config.journal)


def test_21_a_folder_that_is_gone_ends_no_tick(rig):
    rig.robot = replace(rig.robot, free=lambda folder: shutil.disk_usage(folder).free)
    rig.arms()
    shutil.rmtree(rig.robot.config.journal, ignore_errors=True)
    last = rig.tick(DISK_TICKS + 1)
    assert last.mode == "HOLD" and last.disk_free == 0
    assert "free some space" in rig.ask(rig.start()).refused


@pytest.mark.parametrize("what", ["read", "write"])
def test_a_driver_that_fails_is_a_fault_and_ends_no_tick(rig, what):
    running(rig)
    own = getattr(rig.arm, what)

    def fails(*given):
        raise ArmError("the SDK sent nothing; this is a defect of the driver")

    setattr(rig.arm, what, fails)
    rig.tick(3)
    setattr(rig.arm, what, own)
    rig.until("FAULT", 60)
    assert "defect of the driver" in rig.snapshots[-1].cause


def test_23_without_a_guard_nothing_moves(rig):
    running(rig)
    rig.guarded = False
    rig.tick()
    assert rig.snapshots[-1].mode == "STOPPING"
    rig.until("HOLD", 30)
    for what in ("start", "teleop", "home"):
        assert "guard" in rig.ask(Ask(what, rig.lease)).refused
    assert rig.ask(Ask("disarm", rig.lease)).refused == ""
    assert "guard" in rig.ask(Ask("arm", rig.lease)).refused
    rig.guarded = True
    assert rig.ask(Ask("arm", rig.lease)).refused == ""


def test_27_one_commands_and_everybody_may_stop(rig):
    running(rig)
    assert "anna holds the lease" in rig.ask(Take("ben", 10.0), client=2).refused
    for what in ("arm", "start", "teleop", "home", "reset", "disarm"):
        assert "whoever holds the lease" in rig.ask(Ask(what, "guessed"), client=2).refused
    way = rig.carried.way
    rig.say(rig.chunk(np.full(25, 1.0), lease="guessed"), client=2)
    rig.tick()
    assert rig.carried.way is way and rig.snapshots[-1].mode == "RUNNING"
    rig.ask(Stop(2, "ben"), client=2)
    rig.until("HOLD", 30)
    rig.ask(Estop("ben"), client=2)
    assert rig.snapshots[-1].mode == "ESTOP"


def test_28_an_estop_in_the_middle(arm):
    running(arm)
    arm.say(arm.chunk(np.full(25, 0.5)))
    arm.say(Estop("ben"), client=2)
    since = now(arm)
    assert arm.tick().mode == "ESTOP"
    assert latched(arm.robot.latch).mode == "ESTOP"
    assert not any(arm.emulator("state")["powered"])
    assert [on for time, _, on in arm.emulator("record")["powers"] if time > since] == [False] * 6
    off = now(arm)
    for _ in range(5):  # a storm
        for client in (1, 2, 3):
            arm.say(Estop("all"), client)
        arm.say(arm.chunk(np.full(25, 0.5)))
        arm.tick()
    assert not any(told(arm, off).values())  # nothing written any more
    assert arm.snapshots[-1].cause == "an e-stop by ben" and arm.snapshots[-1].command is not None
    (journal,) = journals(arm.robot.config.journal)
    found = recover(journal)
    events = [(at, one.record) for at, one in enumerate(found.records) if isinstance(one.record, Event)]
    at, estop = events[-1]
    before = found.records[at - 1].record
    assert estop.kind == "estop" and estop.who == "ben" and isinstance(before, Tick) and before.source == "policy"


def test_28_an_estop_while_it_stops(rig):
    running(rig, 60)
    rig.stop()
    assert rig.snapshots[-1].mode == "STOPPING"
    rig.say(Estop("ben"), client=2)
    rig.say(Stop(2, "anna"))
    assert rig.tick().mode == "ESTOP"
    rig.stop(2)
    rig.stop(0)
    assert rig.snapshots[-1].mode == "ESTOP" and not rig.arm.read().powered.any()


def test_28_an_estop_by_a_signal(rig):
    running(rig)
    rig.tick(estop=True)
    assert rig.snapshots[-1].mode == "ESTOP"


@pytest.mark.parametrize("moving", [True, False])
def test_28_an_arm_that_cannot_cut_its_power_says_so(rig, moving):
    """As LeRobot's: whatever it is asked for, it holds."""
    rig.arm.stop = lambda category: Twin.stop(rig.arm, 2)
    running(rig) if moving else rig.arms()
    for _ in range(2):
        rig.ask(Estop("anna"), client=2)
        last = rig.tick()
        assert last.mode == "ESTOP" and last.powered.all()
        assert last.cause == "an e-stop by anna; this arm cannot cut its power: it holds"
    assert latched(rig.robot.latch).cause == last.cause
    assert rig.ask(Ask("reset", rig.lease)).refused == ""
    last = rig.tick()
    assert last.mode == "READY" and "cannot cut its power" in last.cause and rig.carried.power
    rig.arms()
    rig.ask(Ask("home", rig.lease))
    rig.tick(10)
    rig.tick(ending=True)
    assert rig.snapshots[-1].mode == "STOPPING" and rig.carried.power  # and it brakes when it is told to end
    rig.until("READY", 60)


def test_29_resets_that_are_refused(rig):
    running(rig)
    assert "reset is for" in rig.ask(Ask("reset", rig.lease)).refused
    rig.arm.report("overload shoulder")
    rig.tick()
    rig.until("FAULT", 30)
    assert "whoever holds" in rig.ask(Ask("reset", "")).refused
    assert "is not gone" in rig.ask(Ask("reset", rig.lease)).refused
    assert latched(rig.robot.latch).mode == "FAULT"
    rig.arm.report()
    for what in ("arm", "start", "teleop", "home"):
        assert "reset it first" in rig.ask(Ask(what, rig.lease)).refused
    assert rig.ask(Ask("reset", rig.lease)).refused == ""
    assert rig.tick().mode == "READY" and latched(rig.robot.latch) is None
    assert "HOLD" in rig.ask(rig.start()).refused


def test_29_a_latch_outlives_the_daemon(tmp_path):
    first = twin(tmp_path)
    running(first)
    first.ask(Estop("ben"))
    first.close()
    second = twin(tmp_path)
    assert second.carried.state.mode == "ESTOP" and "ben" in second.carried.state.cause
    second.take()
    assert "reset it first" in second.ask(Ask("arm", second.lease)).refused
    second.close()


def test_29_an_arm_that_cannot_be_energised(rig):
    rig.take()
    rig.tick()
    rig.arm.report("overload shoulder")  # since it was read
    refused = apply(rig.robot, rig.carried, [Happened(Happens("arm", holder=True))], rig.clock.now_ns())
    assert "overload shoulder" in refused and rig.carried.state.mode == "READY"
    rig.arm.report()
    rig.arm.pull()
    refused = apply(rig.robot, rig.carried, [Happened(Happens("arm", holder=True))], rig.clock.now_ns())
    assert "not open" in refused and rig.carried.state.mode == "FAULT"


def test_numbers_of_the_world_are_kept_with_the_episode(tmp_path):
    file = toml(tmp_path, "twin", TWIN)
    file.write_text(file.read_text() + "\n[scene.cup]\nsize = 2\nunit = 'm'")
    rig = Rig(file)
    rig.take()
    assert "no 'lid'" in rig.ask(Scene(rig.lease, {"lid": (1.0,)})).refused
    for values in ((1.0,), (1.0, np.nan)):
        assert "2 finite" in rig.ask(Scene(rig.lease, {"cup": values})).refused
    assert rig.ask(Scene(rig.lease, {"cup": (0.1, 0.2)})).refused == ""
    rig.starts(task="lift it")
    rig.say(Seen(rig.lease, rig.snapshots[-1].seq, np.arange(4.0), np.array([0.5])))
    rig.moves(ticks=10)
    assert rig.ask(Scene(rig.lease, {"cup": (0.3, 0.2)})).refused == ""
    rig.say(Stop(2, "anna", done=True))
    rig.tick()
    rig.until("HOLD", 30)
    (journal,) = journals(rig.robot.config.journal)
    found = recover(journal)
    header = found.header
    assert (header.scene, header.task, header.robot) == ({"cup": (0.1, 0.2)}, "lift it", "robot")
    records = [one.record for one in found.records]
    assert [r.data for r in records if isinstance(r, Event) and r.kind == "note"] == [{"cup": [0.3, 0.2]}]
    (seen,) = [r for r in records if isinstance(r, Tick) and r.obs is not None]
    assert seen.obs.tolist() == [0, 1, 2, 3] and seen.act.tolist() == [0.5]
    assert records[-1].outcome == "done" and rig.snapshots[-1].scene == {"cup": (0.3, 0.2)}
    rig.close()


def test_33_told_to_end(rig):
    running(rig)
    for _ in range(100):
        rig.tick(ending=True)
        if not rig.carried.power:
            break
    assert rig.snapshots[-1].mode == "READY" and not rig.arm.read().powered.any() and rig.carried.journal is None
    (journal,) = journals(rig.robot.config.journal)
    assert recover(journal).whole


def test_34_a_person_takes_over_and_gives_back(rig):
    running(rig, 60)
    at = len(rig.snapshots)
    assert rig.ask(Ask("teleop", rig.lease)).refused == ""
    rig.leads = rig.snapshots[-1].command + 0.3
    rig.tick(100)
    assert rig.snapshots[-1].source == "human"
    assert np.abs(rig.snapshots[-1].command - rig.leads).max() < 1e-3
    rig.leads = None
    assert rig.ask(rig.start()).refused == ""
    rig.moves(ticks=20)
    commands = np.array([snapshot.command for snapshot in rig.snapshots[at - 1 :]])
    steps = np.diff(commands, axis=0)
    assert np.abs(steps).max() <= STEP + 1e-9
    assert np.abs(np.diff(steps, axis=0)).max() <= JOINT["acceleration"] * (PERIOD * 1e-9) ** 2 + 1e-9
    rig.stop()
    rig.until("HOLD", 30)
    (journal,) = journals(rig.robot.config.journal)
    records = [one.record for one in recover(journal).records]
    kinds = [record.kind for record in records if isinstance(record, Event)]
    assert kinds == ["start", "takeover", "handback", "stop"]
    over = next(i for i, record in enumerate(records) if isinstance(record, Event) and record.kind == "takeover")
    assert records[over - 1].source == "policy" and records[over].who == "anna"


def test_34_a_leader_that_is_unplugged(rig):
    rig.starts("teleop")
    rig.leads = rig.snapshots[-1].command + 0.2
    rig.tick(60)
    rig.leads = None
    for ticks in range(1, 30):  # noqa: B007
        rig.tick()
        if rig.snapshots[-1].mode != "TELEOP":
            break
    assert ticks <= 12
    rig.until("HOLD", 30)
    assert "silent" in rig.snapshots[-1].cause
    rig.say(Leader(rig.lease, next(rig.seqs), rig.snapshots[-1].command))
    rig.tick()
    assert "TELEOP" in rig.replies[-1][1].refused


@pytest.mark.parametrize(
    "joint", [{"lower": 2.0}, {"velocity": "nan"}, {"acceleration": 1000.0}, {"velocity": -1.0}, {"start": "inf"}]
)
def test_35_limits_that_make_no_sense(tmp_path, capsys, joint):
    assert main([str(toml(tmp_path, "twin", TWIN, joint=joint))]) == 1
    assert "robot.toml" in capsys.readouterr().err
    assert not (tmp_path / "episodes").exists()
