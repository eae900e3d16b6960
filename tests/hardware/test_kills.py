"""Each of the five processes of a robot is killed with -9 at instants that a seed draws, in the middle of a motion that
a policy leads. The others stop the arm, nothing begins again by itself, and of the journal at most the last tick is
missing, by the word of the emulator, which is not told what the journal says.

`RAPPORT_KILLS=50 pytest -m slow tests/hardware/test_kills.py`: that many of each.
"""

import json
import os
import random
import time
from contextlib import suppress

import httpx
import numpy as np
import pytest

from hardware.doors import Caller
from hardware.emulators.control import Control
from hardware.emulators.presets import calibration
from hardware.gateway import tokens
from hardware.journal import journals, recover
from hardware.latch import read as latched
from hardware.link import Snapshot
from hardware.machine import MOVING
from tests.hardware.gateway.robot import free_port
from tests.hardware.processes import SECONDS, Robot
from tests.hardware.swinging import TOKEN

KILLS = int(os.environ.get("RAPPORT_KILLS", "3"))
"""Of each process; a kill takes some seconds."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 30 * KILLS)]
WITHIN = 0.4
"""Seconds of the motion within which the instants lie."""


class Whole(Robot):
    """All five."""

    def __init__(self, folder):
        super().__init__(folder)
        self.link = folder / "port"
        self.emulator()
        self.has(self.link, self.control, calibration("so101"))
        self.port, self.served = free_port(), free_port()
        self.file.write_text(self.file.read_text() + f'\n[gateway]\nhost = "127.0.0.1"\nport = {self.port}\n')
        (folder / "token").write_text(TOKEN)
        self.folder.mkdir()
        token = tokens.tokens(self.folder / tokens.FILE).of("operate")
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS
        )

    def emulator(self):
        self.run("emulator", "hardware.emulators", "so101", "--link", str(self.link), "--first")
        self.control = Control(f"{self.link}.control")

    def policy(self):
        assert self.run("policy", "tests.hardware.swinging", str(self.file), str(self.served)) == "serves"

    def gateway(self):
        address, token = f"ws://127.0.0.1:{self.served}", self.file.with_name("token")
        assert self.run(
            "gateway", "hardware.gateway", str(self.file), "--policy", address, "--policy-token", str(token)
        )

    def start(self, name):
        getattr(self, name)()

    def state(self):
        """Told by the daemon itself."""
        caller = Caller(self.socket)
        try:
            while not isinstance(told := caller.hear(), Snapshot):
                pass
            return told
        finally:
            caller.close()

    def swings(self):
        """Until the policy moves the arm. Whatever is not there yet is waited for; a busy machine may stop it first."""
        assert self.state().mode != "RUNNING"
        self.control("forget")
        until, goal = time.monotonic() + 2 * SECONDS, None
        while time.monotonic() < until:
            with suppress(httpx.TransportError, OSError):
                self._asks()
                told = self.state()
                if told.mode == "RUNNING" and goal is not None and np.abs(told.command - goal).max() > 0.005:
                    return told
                goal = told.command if told.mode == "RUNNING" else None
        raise AssertionError(f"it does not move: {self.state()}")

    def _asks(self):
        mode = self.state().mode
        what = {"FAULT": "reset", "READY": "arm", "HOLD": "start"}.get(mode)
        if what:
            if self.http.patch("/v1/lease", json={"seconds": 60}).is_error:
                lease = self.http.post("/v1/lease", json={"seconds": 60})
                self.http.headers["X-Lease"] = lease.json().get("lease", "")
            if what == "arm":
                self.control("pose", position=[0.0] * 6)  # without power it had fallen
            self.http.post(f"/v1/{what}", json={"task": "swing"} if what == "start" else None)

    def rows(self):
        """Every goal of all servos that the arm was told, [k,6] ticks."""
        goals = self.control("record")["goals"]
        assert [number for _, number, _, _ in goals] == [1, 2, 3, 4, 5, 6] * (len(goals) // 6)
        return np.array([ticks for _, _, ticks, _ in goals]).reshape(-1, 6)


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """Started once: whoever is killed is started again alone."""
    made = Whole(tmp_path_factory.mktemp("robot"))
    for name in ("armd", "guard", "policy", "gateway"):
        made.start(name)
    yield made
    made.http.close()
    made.end(*made.processes)


WHY = {
    "guard": ("HOLD", ("guard is gone",)),
    "gateway": ("HOLD", ("silent", "lease")),
    "policy": ("HOLD", ("policy",)),
    "emulator": ("FAULT", ("gone", "no answer")),
}


def stopped_by_the_daemon(robot, who):
    mode, words = WHY[who]
    told = robot.until(lambda: (told := robot.state()).mode not in (*MOVING, "STOPPING") and told)
    if told.mode != mode:  # a machine that stalls at that very moment stops the arm too
        assert told.mode == "FAULT" and ("late" in told.cause or "no answer" in told.cause), told.cause
    else:
        assert any(word in told.cause for word in words), told.cause
    robot.until(lambda: not robot.state().episode)
    found = recover(journals(robot.folder)[-1])
    assert found.whole and found.ticks
    assert (latched(robot.folder / "latch.json") is not None) == (told.mode == "FAULT")


def stopped_by_the_guard(robot):
    line = robot.guard_says()
    assert "unsure" not in line and "could not" not in line, line
    robot.rests()
    assert all(robot.control("state")["powered"])  # category 2: it holds
    assert latched(robot.folder / "latch.json").mode == "FAULT"
    found = recover(journals(robot.folder)[-1])
    assert not found.whole and found.lost == 0
    servos = calibration("so101").servos
    written = np.array([[s.ticks(a) for s, a in zip(servos, t.record.command, strict=True)] for t in found.ticks])
    told = robot.rows()[:-1]  # the last is the guard's: stay where you are
    last = min(len(written), 20)
    ends = [told[len(told) - missing - last : len(told) - missing] for missing in (0, 1)]
    same = [np.array_equal(end, written[-last:]) for end in ends]
    assert any(same), json.dumps({"told": told[-5:].tolist(), "written": written[-5:].tolist()})


@pytest.mark.parametrize("who", ["armd", "guard", "gateway", "policy", "emulator"])
def test_killed_at_any_instant(robot, who):
    draw = random.Random(f"{who} 0")
    for _ in range(KILLS):
        robot.swings()
        time.sleep(draw.uniform(0.0, WITHIN))
        robot.kill(who)
        if who == "armd":
            stopped_by_the_guard(robot)
        else:
            stopped_by_the_daemon(robot, who)
        if who != "emulator":
            robot.rests()
        robot.start(who)
