"""Faults that lie in a bus, in a servo's memory or in a controller, as the daemon meets them, in its own ticks.

| fault | how | reaction |
| --- | --- | --- |
| 4 | answers are damaged | none is believed; FAULT at the second in a row, or at a tenth of a second's |
| 5 | answers are cut short, or come after noise | the same |
| 6 | an answer comes late | that reading is missed and flagged, the next is true |
| 7, 30 | two servos of one id; another EEPROM | the daemon does not start |
| 32 | a UR's e-stop, protective stop, ended script | ESTOP or FAULT in two ticks; no upload but by `arm` |
| 32 | a UR's controller stands still | FAULT two ticks after its data is too old |
"""

import subprocess
import sys

import numpy as np
import pytest

from hardware.arms.ur import NAMES
from hardware.arms.ur_dashboard import Dashboard
from hardware.clock import VirtualClock
from hardware.emulators.ur_body import READY
from hardware.emulators.ur_started import started
from hardware.latch import read as latched
from hardware.link import Ask
from tests.hardware.harness import PERIOD, Rig, servos, toml

PATIENT = 1000.0, 5.0
"""ms and s for an answer that has to come, on whatever machine."""
FRESH, LOST = 1.0, 2.0
"""Seconds of virtual time: how old a UR's data may be, and when it is lost. Wide: packages come in real time."""


@pytest.fixture
def arm(tmp_path, so101):
    rig = servos(tmp_path, so101)
    rig.emulator = so101.control
    rig.starts()
    assert rig.moves(speed=0.2, ticks=15).mode == "RUNNING"
    yield rig
    rig.close()


def true(rig):
    return np.array(rig.emulator("state")["position"])


@pytest.mark.parametrize("fault", [{"corrupt": 1.0}, {"truncate": 1.0}, {"drop": 1.0}])
def test_4_5_damaged_answers_are_a_fault_at_the_second_in_a_row(arm, fault):
    before = arm.snapshots[-1]
    arm.emulator("faults", **fault)
    first, second = arm.moves(ticks=1), arm.moves(ticks=1)
    for snapshot in (first, second):
        assert snapshot.missed and (snapshot.position == before.position).all()
    assert (first.mode, second.mode) == ("RUNNING", "STOPPING")
    assert arm.until("FAULT", 10) <= 10
    arm.emulator("faults", **dict.fromkeys(fault, 0.0))
    assert np.abs(true(arm) - before.position).max() < 0.05


def test_4_readings_that_are_missed_too_often_are_a_fault(arm):
    """Every fifth, so that no two run together: a tenth of a second's hundred is reached with the eleventh."""
    for tick in range(1, 100):
        damaged = tick % 5 == 0
        arm.emulator("faults", corrupt=float(damaged))
        arm.arm.bus.patience(*((150.0, 0.01) if damaged else PATIENT))
        last = arm.moves(speed=0.0, ticks=1)
        assert last.missed == damaged
        if last.mode != "RUNNING":
            break
        if not last.missed:
            np.testing.assert_allclose(last.position, true(arm), atol=0.02)
    assert tick == 55 and "10% of a second's readings" in last.cause
    arm.emulator("faults", corrupt=0.0)
    assert arm.until("FAULT", 10) <= 10
    assert arm.ask(Ask("reset", arm.lease)).refused == ""
    assert arm.tick(3).mode == "READY"


@pytest.mark.parametrize("fault", [{"noise": 1.0}, {"corrupt": 0.05}, {"truncate": 0.05}])
def test_4_5_whatever_is_read_among_noise_is_true(arm, fault):
    arm.emulator("faults", seed=1, **fault)
    for _ in range(50):
        last = arm.moves(speed=0.2, ticks=1)
        if not last.missed:  # the emulator is read a command later than the daemon
            np.testing.assert_allclose(last.position, true(arm), atol=0.01)
    arm.emulator("faults", **dict.fromkeys(fault, 0.0))


def test_6_a_late_answer_is_missed_and_never_taken_for_the_next(arm):
    arm.arm.bus.patience(50.0, 0.06)
    arm.emulator("faults", late_ms=80)
    first = arm.moves(ticks=1)
    assert first.missed and first.mode == "RUNNING"
    arm.arm.bus.patience(*PATIENT)
    for _ in range(5):
        last = arm.moves(ticks=1)
        assert last.mode == "RUNNING" and not last.missed
        np.testing.assert_allclose(last.position, true(arm), atol=0.01)


def start(file):
    return subprocess.run(
        [sys.executable, "-m", "hardware.armd", "--no-fifo", str(file)], capture_output=True, text=True, timeout=60
    )


def test_7_30_a_daemon_does_not_start_on_an_arm_that_is_not_as_calibrated(tmp_path, so101):
    rig = servos(tmp_path, so101)
    rig.close()
    so101.control("faults", doubled=[5])
    done = start(rig.robot.config.file)
    assert done.returncode == 1 and "two servos" in done.stderr
    so101.control("faults", doubled=[])
    so101.control("poke", id=3, address=11, data=[0xFF, 0x0F])
    done = start(rig.robot.config.file)
    assert done.returncode == 1 and "elbow_flex) lets itself go" in done.stderr
    assert not any(so101.control("state")["powered"]) and so101.control("record")["goals"] == []


@pytest.fixture
def controller():
    with started(virtual=True) as running:
        yield running


@pytest.fixture
def ur(tmp_path, controller):
    """A UR in virtual time, led by a policy. `frozen`: its time goes on without it."""
    seen = [0]

    def moved(now_ns):
        if not rig_of["frozen"]:
            controller.tell("advance", seconds=(now_ns - seen[0]) / 1e9)
        seen[0] = now_ns

    rig_of = {"frozen": False}
    more = f'port = "{controller.address}"\nanswer = 10.0\nfresh = {FRESH}\nlost = {LOST}'
    joint = {"lower": -6.2, "upper": 6.2, "tracking": 0.5}
    rig = Rig(toml(tmp_path, "ur5e", NAMES, arm=more, joint=joint, more="tracking_seconds = 1.0"), VirtualClock(moved))
    rig.frozen = rig_of
    rig.take()
    assert rig.ask(Ask("reset", rig.lease)).refused == ""  # it had power
    rig.until("READY")
    rig.starts()
    assert rig.moves(speed=0.2, ticks=20).mode == "RUNNING"
    yield rig
    rig.frozen["frozen"] = False
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "mode", "word"),
    [
        ("estop", "ESTOP", "estop"),
        ("protective_stop", "FAULT", "protective_stop"),
        ("end_program", "FAULT", "script_ended"),
    ],
)
def test_32_what_a_controller_stops_by_itself(ur, controller, what, mode, word):
    uploads = controller.tell("state")["uploads"]
    controller.tell(what)
    stopped = next(tick for tick in range(1, 10) if ur.moves(speed=0.2, ticks=1).mode != "RUNNING")
    assert stopped <= 2
    assert ur.until(mode, 30) <= 30 and latched(ur.robot.latch).mode == mode
    ur.tick(20)
    assert any(word in fault for fault in ur.snapshots[-1].faults)
    assert controller.tell("state")["uploads"] == uploads  # nothing starts it again
    assert not any(controller.tell("state")["qd"])
    if what != "end_program":
        assert "is not gone" in ur.ask(Ask("reset", ur.lease)).refused
        controller.tell("release_estop")
        Dashboard(controller.address).ask("unlock protective stop", 10.0)
        while any("stop" in fault for fault in ur.tick().faults):  # packages reach the SDK in real time
            pass
    assert ur.ask(Ask("reset", ur.lease)).refused == ""
    ur.until("READY")
    assert controller.tell("state")["uploads"] == uploads
    ur.starts()
    assert controller.tell("state")["uploads"] == uploads + 1


@pytest.mark.slow
def test_32_a_controller_that_stands_still(ur, controller):
    ur.stop()
    ur.until("HOLD")
    ur.frozen["frozen"] = True
    age = round(FRESH * 1e9 / PERIOD)
    stopped = next(tick for tick in range(1, 140) if ur.tick().mode != "HOLD")
    assert stopped <= age + 3
    assert ur.snapshots[-1].mode == "FAULT" and "nothing new for" in ur.snapshots[-1].cause
    assert np.abs(np.array(controller.tell("state")["q"]) - READY).max() < 0.2
