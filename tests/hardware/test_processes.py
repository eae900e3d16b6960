"""The daemon, its guard and a gateway as processes of their own, on an emulated arm in real time: who is killed, and
who stops the arm then. Faults 22, 23 and 33, and what systemd is told."""

import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardware.armd import Signals
from hardware.config import read
from hardware.doors import Caller
from hardware.guard import HOLD_SECONDS, _gone_well
from hardware.journal import journals, recover
from hardware.latch import read as latched
from hardware.link import Ask, Bye, Estop, Hello, Take
from hardware.priority import DAEMON, GUARD
from tests.hardware.harness import TWIN, contract, toml
from tests.hardware.processes import SECONDS, Robot

pytestmark = pytest.mark.slow


@pytest.fixture
def robot(tmp_path, so101_process):
    made = Robot(tmp_path)
    made.has(so101_process.port, so101_process.control, so101_process.calibration)
    yield made
    made.end(*made.processes)


def test_22_killed_daemons_leave_an_arm_that_stands(robot):
    draw = random.Random(0)
    for _ in range(3):
        assert robot.armd().startswith("READY")
        robot.guard()
        robot.moves()
        time.sleep(draw.uniform(0.0, 0.3))
        robot.kill("armd")
        line = robot.guard_says()
        assert "stopped in" in line and "unsure" not in line and "could not" not in line, line
        robot.rests()
        assert all(robot.control("state")["powered"])  # category 2: it holds
        assert latched(robot.folder / "latch.json").mode == "FAULT"
        found = recover(journals(robot.folder)[-1])
        assert not found.whole and found.lost == 0 and len(found.ticks) > 10
        robot.end("guard", "mover")
        assert robot.armd().startswith("FAULT")
        caller = Caller(robot.socket)
        lease = caller.ask(Take("anna", 60.0)).lease
        assert "reset it first" in caller.ask(Ask("arm", lease)).refused
        assert caller.ask(Ask("reset", lease)).refused == ""
        robot.told("READY", caller)
        robot.kill("armd", signal.SIGTERM)
        assert robot.processes["armd"].wait(SECONDS) == 0


def test_22_a_daemon_that_hangs_is_ended_and_the_arm_stopped(robot):
    robot.armd()
    robot.guard()
    robot.moves()
    robot.kill("armd", signal.SIGSTOP)
    assert robot.processes["armd"].wait(SECONDS) == -signal.SIGKILL
    assert "stopped in" in robot.guard_says()
    robot.rests()


def test_22_a_guard_that_is_told_to_end_stops_the_arm_first(robot):
    robot.armd()
    robot.guard()
    robot.kill("guard", signal.SIGTERM)  # while the daemon lives and talks there is nothing to stop
    assert robot.processes["guard"].wait(SECONDS) == 0
    robot.guard()
    robot.moves()
    robot.kill("armd")
    robot.processes["armd"].wait(SECONDS)
    robot.kill("guard", signal.SIGTERM)
    assert "stopped in" in robot.guard_says()
    assert robot.processes["guard"].wait(SECONDS) == 0
    robot.rests()
    assert latched(robot.folder / "latch.json").mode == "FAULT"


def test_22_a_daemon_that_hangs_while_the_arm_holds_is_ended_too(robot):
    """It would hear no e-stop; without power there is nothing to stop."""
    robot.armd()
    robot.guard()
    robot.kill("armd", signal.SIGSTOP)
    time.sleep(HOLD_SECONDS + 1.0)
    assert robot.processes["armd"].poll() is None
    robot.kill("armd", signal.SIGCONT)
    caller = Caller(robot.socket)
    robot.control("pose", position=[0.0] * 6)
    lease = caller.ask(Take("anna", 60.0)).lease
    robot.until(lambda: caller.ask(Ask("arm", lease)).refused == "")
    robot.told("HOLD", caller)
    robot.kill("armd", signal.SIGSTOP)
    assert robot.processes["armd"].wait(SECONDS) == -signal.SIGKILL
    assert "stopped in" in robot.guard_says()
    assert all(robot.control("state")["powered"])
    assert latched(robot.folder / "latch.json").mode == "FAULT"


def test_23_a_killed_gateway_and_a_killed_guard(robot):
    robot.armd()
    assert "guards" in robot.guard()
    robot.moves()
    robot.kill("mover")
    snapshot = robot.told("HOLD")
    assert "lease" in snapshot.cause or "silent" in snapshot.cause
    robot.rests()
    caller = Caller(robot.socket)
    lease = caller.ask(Take("anna", 60.0)).lease
    assert caller.ask(Ask("disarm", lease)).refused == ""
    caller.close()
    robot.moves()
    robot.kill("guard")
    assert "guard" in robot.told("HOLD").cause
    robot.rests()
    assert "guard" in robot.processes["mover"].stderr.read()
    caller = Caller(robot.socket)
    lease = caller.ask(Take("anna", 60.0)).lease
    assert "guard" in caller.ask(Ask("start", lease)).refused
    robot.guard()
    begin = Ask("start", lease, contract=contract(read(robot.file)))
    robot.until(lambda: caller.ask(begin).refused == "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_33_told_to_end_in_the_middle(robot, number):
    robot.armd()
    robot.guard()
    robot.moves()
    for _ in range(2):  # a second one changes nothing
        robot.kill("armd", number)
    assert robot.processes["armd"].wait(SECONDS) == 0
    assert not any(robot.control("state")["powered"])
    assert recover(journals(robot.folder)[-1]).whole
    assert latched(robot.folder / "latch.json") is None and not robot.socket.exists()
    robot.kill("guard", signal.SIGTERM)
    assert robot.processes["guard"].wait(SECONDS) == 0
    assert robot.processes["guard"].stdout.read() == ""  # it had nothing to do


def test_28_an_estop_by_a_signal_and_by_a_stranger(robot):
    robot.armd()
    robot.guard()
    robot.moves()
    robot.kill("armd", signal.SIGUSR1)
    assert "signal" in robot.told("ESTOP").cause
    assert not any(robot.control("state")["powered"])
    caller = Caller(robot.socket)
    assert caller.ask(Estop("ben")).refused == ""
    robot.told("ESTOP", caller)


def test_what_systemd_is_told(robot, tmp_path):
    name = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(name))
        manager.settimeout(SECONDS)
        robot.armd(NOTIFY_SOCKET=str(name), WATCHDOG_USEC="100000")
        assert manager.recv(100) == b"WATCHDOG_USEC=5000000"  # so long a reset may open the arm again
        assert manager.recv(100).startswith(b"READY=1")
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        robot.kill("armd", signal.SIGTERM)
        robot.until(lambda: manager.recv(100) == b"STOPPING=1")
        assert robot.processes["armd"].wait(SECONDS) == 0


def test_a_daemon_that_ends_unsure_of_the_power_leaves_the_arm_to_its_guard(robot):
    """As when a port is lost while the servos hold: said was Bye, and nobody took the power."""
    robot.armd()
    robot.guard()
    caller = Caller(robot.socket)
    assert caller.ask(Ask("arm", caller.ask(Take("anna", 60.0)).lease)).refused == ""
    robot.told("HOLD", caller)
    robot.control("faults", dead=[4])
    robot.told("FAULT", caller)
    robot.kill("armd", signal.SIGTERM)
    assert robot.processes["armd"].wait(SECONDS) == 0
    assert "unsure" in robot.guard_says()
    robot.control("faults", dead=[])


def test_a_daemon_that_said_bye_and_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("hardware.guard.BYE_SECONDS", 0.2)
    with subprocess.Popen(["sleep", "60"]) as hung:
        daemon = os.pidfd_open(hung.pid)
        assert not _gone_well(daemon, Signals())
        assert hung.wait(SECONDS) == -signal.SIGKILL
        os.close(daemon)


SLOW = """
import socket, sys, time
from hardware.link import Bye, pack
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("here", flush=True)
end = listener.accept()[0]
end.recv(4096)
end.sendall(pack(Bye()))
time.sleep(1)
"""


def test_a_daemon_that_said_bye_and_closes_its_arm_slowly_did_not_die(tmp_path):
    """As LeRobot's and a UR's do; the guard used to meet it again, and to latch a FAULT when it had ended."""
    file = toml(tmp_path, "twin", TWIN)
    (tmp_path / "episodes").mkdir(0o700)
    words = [sys.executable, "-c", SLOW, str(tmp_path / "episodes" / "armd.sock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as slow:
        assert slow.stdout.readline() == "here\n"
        words = [sys.executable, "-m", "hardware.guard", str(file)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as guard:
            assert guard.stdout.readline() == f"guards {slow.pid}\n"
            assert slow.wait(SECONDS) == 0
            time.sleep(0.3)
            guard.terminate()
            said, warned = guard.communicate(timeout=SECONDS)
    assert said == "" and "died" not in warned and latched(tmp_path / "episodes" / "latch.json") is None


def test_the_guard_comes_after_the_daemon(robot):
    robot.armd()
    robot.guard()
    may = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] >= DAEMON
    for name, priority in (("armd", DAEMON), ("guard", GUARD)):
        pid = robot.processes[name].pid
        fifo = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO
        assert fifo == may and os.sched_getparam(pid).sched_priority == (priority if may else 0), name


def forbidden():
    """No real-time priority, for root neither."""
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    ctypes.CDLL(None).prctl(24, 23)  # PR_CAPBSET_DROP, CAP_SYS_NICE


def test_a_guard_that_may_not_come_first_says_so_and_guards(robot):
    robot.armd()
    assert "guards" in robot.guard(before=forbidden)
    robot.moves()
    robot.kill("armd")
    said = robot.guard_says()
    assert "stopped in" in said
    robot.rests()
    robot.kill("guard", signal.SIGTERM)
    said += robot.processes["guard"].stderr.read()
    assert [line for line in said.splitlines() if "FIFO" in line] == [
        "the guard: it is scheduled like any other process (SCHED_FIFO is not permitted; set LimitRTPRIO)"
    ]


def test_who_says_hello_and_bye_and_what_is_loaded(robot):
    robot.armd()
    robot.guard()
    caller = Caller(robot.socket)
    hello = caller.hear()
    assert isinstance(hello, Hello) and hello.family == "so101" and hello.pid == robot.processes["armd"].pid
    assert os.stat(robot.socket).st_mode & 0o777 == 0o600
    for name in ("armd", "guard"):
        maps = Path(f"/proc/{robot.processes[name].pid}/maps").read_text()
        assert "numpy" in maps
        for library in ("torch", "pydantic", "uvloop", "mujoco", "av.libs"):
            assert library not in maps, f"{name} has loaded {library}"
    robot.kill("armd", signal.SIGTERM)
    while not isinstance(caller.hear(), Bye):
        pass


def test_one_arm_has_one_daemon(robot):
    robot.armd()
    second = subprocess.run([sys.executable, "-m", "hardware.armd", str(robot.file)], capture_output=True, text=True)
    assert second.returncode == 1 and "another daemon" in second.stderr
    robot.told("READY")
