"""Both drivers against their emulators, over the makers' SDKs: what they do, and what goes wrong on a bus.

The emulators' time is virtual. Answers may take seconds, since a busy machine keeps bytes of a pseudo-terminal as long;
only where silence is what a test is about is there less patience, and nothing is said about who else was late.
"""

import dataclasses
import itertools
import random
import time

import numpy as np
import pytest

from hardware.arm import BusLost, NoAnswer, Refused
from hardware.arms.calibration import Calibration
from hardware.arms.dynamixel import Dynamixel
from hardware.arms.so101 import SO101
from hardware.clock import VirtualClock

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
POSE = [0.3, -0.2, 0.25, 0.1, -0.3, 0.2]
TORQUE = {"so101": 40, "dynamixel": 64}
LIMITS = {"so101": (9, [0, 0]), "dynamixel": (52, [0, 0, 0, 0])}
OFFSET = {"so101": 31, "dynamixel": 20}
OVERLOAD = 0x20
MADE = []


@pytest.fixture(params=["so101", "dynamixel"])
def emulator(request):
    found = request.getfixturevalue(request.param)
    found.family = request.param
    found.control("pose", position=POSE)
    return found


def make(emulator, calibration=None, **settings):
    passed = [0]

    def moved(now_ns):
        emulator.control("advance", seconds=(now_ns - passed[0]) / 1e9)
        passed[0] = now_ns

    kind = SO101 if emulator.family == "so101" else Dynamixel
    given = {"spare_ms": 3000.0, "budget_s": 9.0} | settings
    MADE.append(kind(emulator.port, calibration or emulator.calibration, VirtualClock(moved), **given))
    return MADE[-1]


@pytest.fixture(autouse=True)
def closed():
    """A port is one arm's: whatever a test does, the next one finds it free."""
    yield
    while MADE:
        MADE.pop().close()


@pytest.fixture
def arm(emulator):
    made = make(emulator)
    made.open()
    return made


def wait(arm, seconds):
    arm._clock.sleep_until(arm._clock.now_ns() + round(seconds * 1e9))


def quick(arm):
    """Silence costs little."""
    arm.bus.patience(100.0, 0.2)


def recovered(arm):
    """A reading, after what may still lie on the line was heard."""
    arm.bus.patience(3000.0, 9.0)
    for _ in range(5):
        try:
            return arm.read()
        except NoAnswer:
            pass
    return arm.read()


def powered(emulator):
    return emulator.control("state")["powered"]


def test_it_reads_what_is_and_open_energises_nothing(arm, emulator):
    state = arm.read()
    np.testing.assert_allclose(state.position, POSE, atol=0.001)
    np.testing.assert_array_equal(state.temperature, 30.0)
    assert not state.powered.any() and state.faults == () and np.isnan(state.effort).all()
    assert arm.read().seq == state.seq + 1 and arm.spec.names == NAMES and arm.spec.stop == 2
    assert emulator.control("record")["powers"] == [] and emulator.control("record")["goals"] == []


def test_enable_gives_the_measured_pose_for_a_goal_before_power(arm, emulator):
    arm.enable()
    told, ticks = emulator.control("record"), emulator.control("state")["ticks"]
    assert [(number, goal, on) for _, number, goal, on in told["goals"]] == [
        (number, count, False) for number, count in enumerate(ticks, 1)
    ]
    assert [on for *_, on in told["powers"]] == [True] * 6 and arm.read().powered.all()
    wait(arm, 0.1)
    np.testing.assert_allclose(emulator.control("state")["position"], POSE, atol=0.02)


def test_goals_move_it_and_velocity_has_their_sign(arm, emulator):
    arm.enable()
    goal = np.add(POSE, [0.3, 0.3, -0.3, 0.3, 0.3, -0.3])
    for part in np.linspace(0, 1, 30):
        arm.write(POSE + part * (goal - POSE))
        wait(arm, 0.02)
    moving = arm.read()
    assert (np.sign(moving.velocity) == np.sign(goal - POSE)).all()
    arm.write(goal)
    wait(arm, 0.09)
    np.testing.assert_allclose(arm.read().position, goal, atol=0.03)
    told = emulator.control("record")
    assert set(told["counts"].values()) == {32}
    assert [told["goals"][-6 + joint][2] for joint in range(6)] == [
        servo.ticks(angle) for servo, angle in zip(arm.servos, goal, strict=True)
    ]


@pytest.mark.parametrize("bad", [[np.nan] * 6, [np.inf] * 6, [0.0] * 5, 0.0, "rubbish", [3.0] * 6, [-1e300] * 6])
def test_what_is_no_pose_of_the_arm_is_refused_and_nothing_is_sent(arm, emulator, bad):
    arm.enable()
    emulator.control("forget")
    with pytest.raises(ValueError, match=r"position is|is to go to"):
        arm.write(bad)
    assert emulator.control("record")["goals"] == []


def test_without_enable_no_goal_is_written(arm, emulator):
    with pytest.raises(Refused, match="not enabled"):
        arm.write(np.array(POSE))
    assert emulator.control("record")["goals"] == []


def test_stop_2_holds_where_it_is_and_stop_1_takes_power_after_that(arm, emulator):
    arm.enable()
    arm.write(np.array(POSE) + 0.8)
    wait(arm, 0.09)
    assert np.abs(arm.read().velocity).max() > 1.0
    report = arm.stop(2)
    assert report.done == NAMES and report.unsure == () and all(powered(emulator))
    wait(arm, 0.05)
    assert arm.stop(2).done == NAMES
    wait(arm, 0.09)
    assert np.abs(arm.read().velocity).max() < 0.2 and arm.read().position[0] < POSE[0] + 0.7
    report = arm.stop(1)
    assert report.category == 1 and report.done == NAMES and not any(powered(emulator))
    assert arm.read().faults == () and not arm.read().powered.any()


def dead_subset(emulator, dead):
    emulator.control("reset", virtual=True, position=POSE)
    arm = make(emulator)
    arm.open()
    arm.enable()
    assert all(powered(emulator))
    arm.bus.patience(20.0, 0.03)
    emulator.control("faults", dead=list(dead))
    report = arm.stop(0)
    assert powered(emulator) == [number in dead for number in range(1, 7)]
    assert set(report.unsure) == {NAMES[number - 1] for number in dead} or not set(report.done) & {
        NAMES[number - 1] for number in dead
    }
    arm.close()


SUBSETS = [set(found) for n in range(7) for found in itertools.combinations(range(1, 7), n)]


@pytest.mark.parametrize("dead", [set(), *random.Random(0).sample(SUBSETS[1:-1], 4), set(range(1, 7))])
def test_stop_0_takes_power_from_all_that_live(emulator, dead):
    dead_subset(emulator, dead)


@pytest.mark.slow
def test_stop_0_with_every_subset_dead(emulator):
    for dead in SUBSETS:
        dead_subset(emulator, dead)


@pytest.mark.parametrize("category", [0, 1, 2])
def test_stop_never_raises(emulator, category):
    arm = make(emulator)
    assert arm.stop(category).unsure == NAMES
    arm.open()
    quick(arm)
    emulator.control("hang_up")
    assert arm.stop(category).unsure == NAMES
    arm.close()
    assert arm.stop(category).unsure == NAMES


def test_stop_1_and_2_with_silent_servos_do_their_part_for_the_others(arm, emulator):
    arm.enable()
    emulator.control("faults", dead=[2, 5])
    quick(arm)
    for category in (2, 1):
        assert set(arm.stop(category).unsure) >= {"shoulder_lift", "wrist_roll"}
    assert powered(emulator) == [False, True, False, False, True, False]


def test_one_silent_servo_is_named(arm, emulator):
    emulator.control("faults", dead=[4])
    quick(arm)
    named = []
    for _ in range(5):
        with pytest.raises(NoAnswer, match=r"servo 4 \(wrist_flex\)") as said:
            arm.read()
        named.append(said.value.joints)
    assert ("wrist_flex",) in named  # on a busy machine others may be late beside it
    emulator.control("faults", dead=[])
    np.testing.assert_allclose(recovered(arm).position, POSE, atol=0.001)


def test_all_silent(arm, emulator):
    emulator.control("faults", drop=1.0)
    quick(arm)
    with pytest.raises(NoAnswer) as said:
        arm.read()
    assert said.value.joints == NAMES
    with pytest.raises(NoAnswer):
        arm.enable()
    assert not any(powered(emulator))


def test_a_port_that_vanishes_is_opened_by_open_only(arm, emulator):
    arm.enable()
    emulator.control("hang_up")
    for act in (arm.read, lambda: arm.write(np.array(POSE)), arm.enable, arm.read):
        with pytest.raises((BusLost, Refused), match=r"is gone|is not open|not enabled"):
            act()
    with pytest.raises(BusLost, match="cannot be opened"):
        arm.open()
    emulator.control("reset", virtual=True, position=POSE)
    with pytest.raises(BusLost):
        arm.read()
    arm.open()
    assert not arm.read().powered.any()


@pytest.mark.parametrize("fault", [{"corrupt": 0.1}, {"truncate": 0.05}, {"noise": 0.3}, {"drop": 0.02}])
def test_damaged_answers_are_never_taken(arm, emulator, fault):
    true = arm.read().position
    emulator.control("faults", seed=3, **fault)
    quick(arm)
    right = 0
    for _ in range(60):
        try:
            np.testing.assert_array_equal(arm.read().position, true)
            right += 1
        except NoAnswer:
            pass
    assert right > 20 and (arm.bus.failed > 0 or "noise" in fault)
    emulator.control("faults", corrupt=0.0, truncate=0.0, noise=0.0, drop=0.0)
    np.testing.assert_array_equal(recovered(arm).position, true)


def test_noise_without_end_does_not_hold_it_up(arm, emulator):
    emulator.control("faults", noise=1.0, corrupt=1.0)
    quick(arm)
    begun = arm.bus.asked
    with pytest.raises(NoAnswer):
        for _ in range(20):
            arm.read()
    assert arm.bus.asked - begun < 1000


def test_a_late_answer_is_never_taken_for_the_next(arm, emulator):
    emulator.control("faults", late_ms=400)
    quick(arm)
    assert arm.bus._ask([1], 2, arm.bus._question([1], 3, 2)) == {} and arm.bus.failed == 1
    time.sleep(0.5)
    np.testing.assert_allclose(recovered(arm).position, POSE, atol=0.001)


@pytest.mark.parametrize("late", [30, 60, 200])
def test_whatever_is_late_every_reading_is_of_its_time(emulator, late):
    """The pose changes between readings, so that one answer behind would be seen."""
    arm = make(emulator)
    arm.open()
    arm.read()
    arm.bus.patience(25.0, 0.03)
    emulator.control("faults", late_ms=late)
    right = 0
    for k in range(40):
        pose = np.array(POSE) + 0.01 * k
        emulator.control("pose", position=pose.tolist())
        try:
            np.testing.assert_allclose(arm.read().position, pose, atol=0.001)
            right += 1
        except NoAnswer:
            pass
    assert right > 10
    arm.close()


def test_two_servos_of_one_id_are_refused(emulator):
    emulator.control("faults", doubled=[2])
    with pytest.raises(Refused, match=r"two servos answer as servo 2 \(shoulder_lift\)"):
        make(emulator).open()


def test_answers_that_make_no_sense_are_refused(emulator):
    emulator.control("faults", corrupt=1.0)
    with pytest.raises(Refused, match="make no sense"):
        make(emulator).open()


def test_a_servo_that_booted_again_is_a_fault_within_a_fifth_of_a_second(arm, emulator):
    arm.enable()
    assert arm.read().faults == ()
    emulator.control("reboot", id=3)
    seen = []
    for _ in range(20):
        wait(arm, 0.01)
        seen.append(arm.read())
    assert "power elbow_flex" in seen[-1].faults and not seen[-1].powered[2] and seen[-1].powered[0]


def test_a_count_that_jumps_is_reported_as_it_is(arm, emulator):
    arm.enable()
    before = arm.read()
    emulator.control("jump", id=2, ticks=300)
    after = arm.read()
    assert abs(after.position[1] - before.position[1]) == pytest.approx(300 * 2 * np.pi / 4096, abs=0.002)
    assert after.faults == ()  # whether it is plausible is for the envelope to say
    emulator.control("jump", id=2, ticks=-1900)
    assert arm.read().faults in (("range shoulder_lift",), ("turn shoulder_lift",))
    arm.stop(0)
    emulator.control("forget")
    with pytest.raises(Refused, match="a turn too many"):
        arm.enable()
    assert not any(powered(emulator)) and emulator.control("record")["goals"] == []


def test_another_turn_is_no_other_place_to_go_to(dynamixel):
    dynamixel.family = "dynamixel"
    arm = make(dynamixel)
    arm.open()
    dynamixel.control("jump", id=6, ticks=4096)
    assert arm.read().faults == ("turn gripper",)
    with pytest.raises(Refused, match=r"gripper is at .* a turn too many"):
        arm.enable()


def test_overload_and_heat_are_faults_and_forbid_power(arm, emulator):
    emulator.control("status", id=6, bits=OVERLOAD)
    emulator.control("temperature", id=1, celsius=75)
    state = arm.read()
    assert set(state.faults) >= {"overload gripper", "overheat shoulder_pan"}
    wait(arm, 0.06)
    assert arm.read().temperature[0] == 75
    with pytest.raises(Refused, match="shoulder_pan reports overheat"):
        arm.enable()
    assert not any(powered(emulator))


def test_the_wall_clock_changes_nothing(arm, emulator, monkeypatch):
    steps = itertools.cycle([0.0, 3600.0, -3600.0, 1e9])
    monkeypatch.setattr(time, "time", lambda: next(steps))
    arm.enable()
    for _ in range(10):
        np.testing.assert_allclose(arm.read().position, POSE, atol=0.01)
        arm.write(np.array(POSE))
    assert arm.stop(0).unsure == () and arm.bus.failed == 0


def test_another_calibration_is_refused(emulator):
    address, zeros = LIMITS[emulator.family]
    emulator.control("poke", id=3, address=address, data=zeros)
    with pytest.raises(Refused, match=r"servo 3 \(elbow_flex\) lets itself go from 0 to 3400"):
        make(emulator).open()
    emulator.control("reset", virtual=True)
    emulator.control("poke", id=5, address=OFFSET[emulator.family], data=[7, 0])
    with pytest.raises(Refused, match=r"servo 5 \(wrist_roll\) has another offset"):
        make(emulator).open()
    other = [dataclasses.replace(servo, model=1 + servo.model) for servo in emulator.calibration.servos]
    with pytest.raises(Refused, match="another arm"):
        make(emulator, Calibration("other", tuple(other))).open()
    emulator.control("reset", virtual=True)
    emulator.control("poke", id=1, address={"so101": 33, "dynamixel": 11}[emulator.family], data=[1])
    with pytest.raises(Refused, match="mode of servo 1"):
        make(emulator).open()


def test_a_calibration_is_installed_in_the_servos(emulator):
    tight = [dataclasses.replace(servo, low=900, high=3300, offset=-5) for servo in emulator.calibration.servos]
    arm = make(emulator, Calibration("new", tuple(tight)))
    with pytest.raises(Refused):
        arm.open()
    arm.connect()
    arm.install()
    emulator.control("reboot", id=2)
    arm.open()
    assert not any(powered(emulator)) and len(arm.ticks()) == 6
    arm.close()


def test_a_port_is_one_process_and_one_arm(arm, emulator):
    with pytest.raises(Refused, match="in use by another process"):
        make(emulator).open()
    arm.close()
    arm.close()
    again = make(emulator)
    again.open()
    again.close()


def test_a_joint_beyond_its_range_is_not_energised(emulator):
    emulator.control("pose", position=[2.17, 0, 0, 0, 0, 0])
    arm = make(emulator)
    arm.open()
    with pytest.raises(Refused, match=r"shoulder_pan is at 2.17"):
        arm.enable()
    assert not any(powered(emulator))
    arm.close()


def test_an_exception_in_the_sdk_leaves_the_port_usable(arm, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(arm.bus._port, "readPort", broken)
        with pytest.raises(KeyboardInterrupt):
            arm.read()
    np.testing.assert_allclose(arm.read().position, POSE, atol=0.001)


def test_a_daemon_that_falls_silent_is_stopped_by_the_servos_themselves(dynamixel):
    dynamixel.family = "dynamixel"
    dynamixel.control("pose", position=POSE)
    arm = make(dynamixel)
    arm.open()
    arm.enable()
    arm.write(np.array(POSE) + 1.0)
    dynamixel.control("advance", seconds=0.09)
    assert max(dynamixel.control("state")["velocity"]) > 1.0
    dynamixel.control("advance", seconds=1.0)
    assert max(np.subtract(dynamixel.control("state")["position"], POSE)) < 0.9
    wait(arm, 0.06)
    assert "watchdog shoulder_pan" in arm.read().faults
    arm.enable()
    assert arm.read().faults == ()
    arm.close()


@pytest.mark.parametrize(
    ("settings", "said"), [({"spare_ms": 0.0}, "spare_ms"), ({"budget_s": float("nan")}, "budget_s")]
)
def test_settings_that_make_no_sense(emulator, settings, said):
    with pytest.raises(ValueError, match=said):
        make(emulator, **settings)


@pytest.mark.slow
def test_whatever_goes_wrong_every_goal_is_in_range_and_every_reading_true(emulator):
    """Random faults, one after another; the emulator's own record is believed, not the driver's word."""
    arm, draw = make(emulator, spare_ms=8.0, budget_s=0.02), np.random.default_rng(5)
    low, high = np.array([servo.limits for servo in arm.servos]).T
    faults = [{}, {"corrupt": 0.2}, {"drop": 0.2}, {"truncate": 0.2}, {"noise": 0.5}, {"late_ms": 40}, {"dead": [3]}]
    none = {"corrupt": 0.0, "drop": 0.0, "truncate": 0.0, "noise": 0.0, "late_ms": 0.0, "dead": []}
    true = enabled = False
    for tick in range(600):
        if tick % 10 == 0:
            emulator.control("faults", **(none | faults[draw.integers(len(faults))]))
        if tick % 50 == 0 or not enabled:
            try:
                arm.open()
                arm.enable()
                enabled = True
            except (NoAnswer, Refused):
                enabled = False
                continue
        try:
            found = arm.read()
            np.testing.assert_allclose(found.position, emulator.control("state")["position"], atol=0.002)
            true += 1
            arm.write(np.clip(found.position + draw.uniform(-0.4, 0.4, 6), low, high))
        except NoAnswer:
            pass
        emulator.control("advance", seconds=0.01)
        if draw.random() < 0.02:
            arm.stop(draw.choice([0, 1, 2]))
            enabled = False
    told = emulator.control("record")
    assert true > 100
    for servo in arm.servos:
        key = str(servo.id)
        assert servo.low <= told["lowest"][key] and told["highest"][key] <= servo.high
