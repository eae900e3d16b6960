"""A UR arm through the unmodified ur_rtde, against a controller in a process of its own. What the arm was told is asked
of the controller, never of the arm. Real time passes here, so the limits are wide: how fast all is stands in
`benchmarks/ur.py`, not here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hardware.arm import ArmState, BusLost, NoAnswer, Refused
from hardware.arms.ur import NAMES, UR
from hardware.arms.ur_dashboard import Dashboard
from hardware.clock import VirtualClock
from hardware.emulators.ur_controller import POWER_OFF, RUNNING
from hardware.emulators.ur_started import Started, started


@pytest.fixture
def robot() -> Iterator[Started]:
    with started() as running:
        yield running


@pytest.fixture
def arm(robot: Started) -> Iterator[UR]:
    arm = an_arm(robot)
    arm.open()
    yield arm
    arm.close()


def an_arm(robot: Started) -> UR:
    return UR(robot.address, answer=2.0, fresh=0.5, lost=1.5, watchdog_hz=2.0)


def until(told, seconds: float = 10.0):
    """What `told` returns once it is true; a bound on patience, not on the arm."""
    due = time.monotonic() + seconds
    while not (found := told()):
        assert time.monotonic() < due
        time.sleep(0.01)
    return found


def lost(call) -> BusLost:
    def tried():
        try:
            call()
        except NoAnswer:
            return None
        except BusLost as error:
            return error
        return None

    return until(tried)


def moved(arm: UR, robot: Started, by: float, seconds: float = 0.3) -> np.ndarray:
    target = arm.read().position + by
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        arm.write(target)
        time.sleep(0.01)
    return target


def test_opening_reads_and_does_nothing_else(arm, robot):
    state = arm.read()
    np.testing.assert_allclose(state.position, robot.tell("state")["q"])
    assert state.powered.all() and state.faults == () and np.isnan(state.effort).all()
    assert (state.temperature == 30).all() and (state.velocity == 0).all()
    assert robot.tell("state")["uploads"] == 0 and robot.tell("state")["runtime"] == 1
    with pytest.raises(NoAnswer, match="enable starts one"):
        arm.write(state.position)
    assert robot.tell("record") == []


def test_readings_that_are_new_have_a_new_number_and_time(arm):
    first = arm.read()
    second = until(lambda: (now := arm.read()).seq > first.seq and now)
    assert second.time_ns > first.time_ns


def test_it_goes_where_it_is_told_and_is_told_nothing_else(arm, robot):
    arm.enable()
    assert robot.tell("state")["given"] == 0  # enabled, and still where it was
    target = moved(arm, robot, 0.1, 0.8)
    np.testing.assert_allclose(arm.read().position, target, atol=1e-3)
    record = robot.tell("record")
    assert all(each["obeyed"] and each["command"] == 11 for each in record)
    np.testing.assert_array_equal([each["target"] for each in record], np.tile(target, (len(record), 1)))
    assert robot.tell("state")["uploads"] == 1


def test_what_is_no_target_is_not_sent(arm, robot):
    arm.enable()
    for bad in ([0.0] * 5, [0.0] * 7, [0, 0, 0, 0, 0, np.nan], [np.inf] * 6, "stop", None, [[0.0] * 6]):
        with pytest.raises(ValueError, match="position is"):
            arm.write(bad)
    told = robot.tell("state")
    assert told["given"] == 0 and told["malformed"] == 0


@pytest.mark.slow
def test_the_sdk_itself_would_have_sent_it(robot):
    """Why `write` looks first; the day that this fails the guard may go."""
    script = (
        "import math, sys, time; from rtde_control import RTDEControlInterface as C\n"
        f"c = C({robot.address!r}); print(c.servoJ([0.0] * 5, 0.0, 0.0, 0.002, 0.1, 300.0)); time.sleep(0.1)\n"
        "print(c.servoJ([math.nan] * 6, 0.0, 0.0, 0.002, 0.1, 300.0)); time.sleep(0.1)\n"
        "sys.stdout.flush(); import os; os._exit(0)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert said.stdout.split() == ["True", "True"]
    told = robot.tell("state")
    assert told["malformed"] == 1 and np.isnan(robot.tell("record")[-1]["target"]).all()


def test_when_writes_cease_the_watchdog_ends_the_program(arm, robot):
    arm.enable()
    moved(arm, robot, 0.05, 0.1)
    until(lambda: robot.tell("state")["runtime"] == 1)
    assert until(lambda: arm.read().faults) == ("script_ended",)
    with pytest.raises(NoAnswer, match="script has ended"):
        arm.write(arm.read().position)
    assert robot.tell("state")["uploads"] == 1 and not any(robot.tell("state")["qd"])


@pytest.mark.slow
def test_while_it_holds_reading_is_enough(arm, robot):
    arm.enable()
    due = time.monotonic() + 1.2  # the watchdog's patience is half a second
    while time.monotonic() < due:
        state = arm.read()
        time.sleep(0.02)
    assert state.faults == () and robot.tell("state")["runtime"] == 2


@pytest.mark.slow
def test_a_script_that_ended_starts_again_only_by_enable(arm, robot):
    arm.enable()
    moved(arm, robot, 0.05, 0.1)
    robot.tell("end_program")
    assert until(lambda: arm.read().faults) == ("script_ended",)
    for _ in range(5):
        with pytest.raises(NoAnswer):
            arm.write(arm.read().position)
    assert robot.tell("state")["uploads"] == 1
    arm.enable()
    assert robot.tell("state")["uploads"] == 2 and arm.read().faults == ()


@pytest.mark.parametrize(
    ("fault", "word"), [("estop", {"robot_estop", "estop"}), ("protective_stop", {"protective_stop"})]
)
def test_a_stop_of_the_robots_own_is_a_fault_and_nothing_moves_until_it_is_cleared(arm, robot, fault, word):
    arm.enable()
    moved(arm, robot, 0.2, 0.1)
    robot.tell(fault)
    state = until(lambda: (now := arm.read()).faults and now)
    assert word <= set(state.faults) and "script_ended" in state.faults
    assert state.powered.all() == (fault != "estop")
    with pytest.raises(NoAnswer):
        arm.write(state.position + 0.1)
    with pytest.raises(Refused, match="clear it on the teach pendant"):
        arm.enable()
    until(lambda: not any(robot.tell("state")["qd"]))
    assert robot.tell("state")["uploads"] == 1


@pytest.mark.slow
def test_after_an_estop_enable_powers_it_and_uploads_again(arm, robot):
    arm.enable()
    robot.tell("estop")
    robot.tell("release_estop")
    until(lambda: not arm.read().powered.any())
    arm.enable()
    assert arm.read().powered.all() and robot.tell("state")["mode"] == RUNNING
    target = moved(arm, robot, 0.05, 0.8)
    np.testing.assert_allclose(arm.read().position, target, atol=1e-3)


@pytest.mark.slow
def test_local_control_is_refused(arm, robot):
    robot.tell("remote", value=False)
    with pytest.raises(Refused, match="remote control on the teach pendant"):
        arm.enable()
    report = arm.stop(0)
    assert report.done == () and report.unsure == NAMES  # it was told, and did not do it
    assert robot.tell("state")["uploads"] == 0 and robot.tell("state")["mode"] == RUNNING


@pytest.mark.slow
def test_joints_that_are_no_numbers_are_no_answer(arm, robot):
    robot.tell("echo", value=float("nan"))

    def refused() -> bool:
        try:
            arm.read()
        except NoAnswer as error:
            return "six finite numbers are right" in str(error)
        return False

    until(refused)
    robot.tell("echo", value=None)
    until(lambda: np.isfinite(arm_or_nothing(arm)).all())


def arm_or_nothing(arm: UR) -> np.ndarray:
    try:
        return arm.read().position
    except NoAnswer:
        return np.array([np.nan])


@pytest.mark.slow
def test_a_frozen_controller_is_first_no_answer_and_then_lost(arm, robot):
    arm.enable()
    robot.send("freeze", seconds=3.0)
    seen: list[str] = []

    def tried() -> bool:
        try:
            arm.read()
        except NoAnswer as error:
            seen.append(str(error))
        except BusLost as error:
            seen.append(str(error))
            return True
        time.sleep(0.02)
        return False

    until(tried)
    assert "nothing new for" in seen[0]
    for call in (arm.read, lambda: arm.write(np.zeros(6)), arm.enable):  # lost it stays, though the robot comes back
        with pytest.raises(BusLost):
            call()
    time.sleep(2.0)
    assert robot.answer() is None  # to freeze, late
    with pytest.raises(BusLost):
        arm.read()
    assert robot.tell("state")["uploads"] == 1
    assert until(lambda: robot.tell("state")["runtime"] == 1)
    arm.open()
    assert isinstance(arm.read(), ArmState)
    assert robot.tell("state")["uploads"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("service", ["rtde", "script", "dashboard"])
def test_a_dropped_connection_is_lost_and_nothing_is_uploaded(arm, robot, service):
    arm.enable()
    moved(arm, robot, 0.05, 0.1)
    assert robot.tell("drop", service=service) >= 1
    if service == "rtde":
        assert "close and open again" in str(lost(arm.read))
        with pytest.raises(BusLost):
            arm.write(np.zeros(6))
        time.sleep(0.3)
        assert robot.tell("state")["uploads"] == 1
        arm.open()
        arm.enable()
        assert robot.tell("state")["uploads"] == 2
    else:  # neither is needed while it moves; the dashboard's is made anew when it is
        arm.write(arm.read().position)
        assert arm.stop(0).done == NAMES
        assert robot.tell("state")["uploads"] == 1


@pytest.mark.slow
def test_a_dead_controller_is_lost_and_the_parent_lives(arm, robot):
    arm.enable()
    robot.kill()
    assert str(lost(arm.read)).startswith(robot.address)
    report = arm.stop(0)
    assert report.done == () and report.unsure == NAMES
    with pytest.raises(Refused, match="ur_rtde at open"):
        arm.open()
    robot.start()
    arm.open()
    assert arm.read().faults == () and robot.tell("state")["uploads"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_child_that_dies_is_a_lost_bus_and_the_robot_can_still_be_stopped(arm, robot, how):
    arm.enable()
    moved(arm, robot, 0.05, 0.1)
    os.kill(arm._child.pid, how)
    error = lost(arm.read)
    if how != signal.SIGKILL:
        assert f"signal {int(how)}" in str(error)
    assert arm.stop(0).done == NAMES
    assert robot.tell("state")["mode"] == POWER_OFF


@pytest.mark.slow
def test_a_child_that_hangs_is_killed(arm, robot):
    arm.enable()
    pid = arm._child.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(BusLost, match="did not answer read within"):
        arm.read()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_the_child_goes_with_its_parent(robot):
    script = (
        "import sys, os; from hardware.arms.ur import UR\n"
        f"arm = UR({robot.address!r}, answer=2.0, fresh=0.5, lost=1.5); arm.open(); arm.enable()\n"
        "print(arm._child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    pid = int(said.stdout)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    until(lambda: robot.tell("state")["runtime"] == 1)  # by the watchdog


def test_stop_2_brakes_and_holds_and_goes_on_when_told(arm, robot):
    arm.enable()
    target = arm.read().position + 0.5
    for left in np.linspace(0.5, 0.4, 20):
        arm.write(target - left)
        time.sleep(0.01)
    arm.write(target)
    report = arm.stop(2)
    assert report.category == 2 and set(report.done) | set(report.unsure) == set(NAMES)
    until(lambda: arm.stop(2).done == NAMES)
    until(lambda: not any(robot.tell("state")["qd"]))
    stands = robot.tell("state")
    assert stands["mode"] == RUNNING and stands["q"][0] < target[0] - 0.1
    time.sleep(0.1)
    assert robot.tell("state")["q"] == stands["q"]
    goes_on = moved(arm, robot, 0.05, 0.8)
    np.testing.assert_allclose(arm.read().position, goes_on, atol=1e-3)
    assert robot.tell("state")["uploads"] == 1


@pytest.mark.parametrize("category", [0, 1])
def test_stops_0_and_1_end_without_power(arm, robot, category):
    arm.enable()
    moved(arm, robot, 0.3, 0.1)
    report = arm.stop(category)
    assert report.done == NAMES and report.unsure == ()
    assert arm.stop(category).done == NAMES
    told = robot.tell("state")
    assert told["mode"] == POWER_OFF and not any(told["qd"])
    assert until(lambda: not arm.read().powered.any())
    assert arm.read().faults == ()  # it was asked for


@pytest.mark.slow
def test_before_it_is_open_every_call_says_so(robot):
    arm = an_arm(robot)
    for call in (arm.read, lambda: arm.write(np.zeros(6))):
        with pytest.raises(BusLost, match="open it"):
            call()
    arm.close()
    arm.close()
    assert arm.stop(0).done == NAMES  # the dashboard needs no opening


def test_a_second_dashboard_that_is_not_there():
    with pytest.raises(BusLost, match="see that the robot is on"):
        Dashboard("127.0.0.1").ask("robotmode", 0.5)


def test_in_virtual_time_it_moves_when_the_clock_does():
    with started(virtual=True) as robot:
        then = [0]

        def moved(now_ns: int) -> None:
            robot.tell("advance", seconds=(now_ns - then[0]) / 1e9)
            then[0] = now_ns

        clock = VirtualClock(moved)
        # Packages reach the SDK in real time, and an hour may have passed meanwhile: how old data is says nothing here.
        arm = UR(robot.address, answer=5.0, fresh=10.0, lost=20.0, clock=clock)
        arm.open()
        arm.enable()
        target = np.array(robot.tell("state")["q"]) + 0.2
        for tick in range(80):
            arm.write(target)
            if tick % 20 == 0:
                before = robot.tell("state")["q"]
                time.sleep(0.02)
                assert robot.tell("state")["q"] == before
            clock.sleep_until(clock.now_ns() + 10_000_000)
        np.testing.assert_allclose(robot.tell("state")["q"], target, atol=1e-3)
        assert robot.tell("state")["runtime"] == 2
        moved(then[0] + 120_000_000)  # a tenth of a second without a word is the watchdog's
        assert robot.tell("state")["runtime"] == 1
        arm.close()


@pytest.mark.parametrize(("what", "value"), [("lookahead", 0.5), ("gain", 5), ("period", 1.0), ("watchdog_hz", 0)])
def test_settings_that_the_sdk_or_a_guard_could_not_honour(what, value):
    with pytest.raises(ValueError, match=f"{what} is {value}"):
        UR("127.0.0.2", **{what: value})
