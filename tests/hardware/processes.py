"""A robot's processes, on an emulated SO-101 in real time: started, killed, and what the arm does meanwhile."""

import os
import signal
import subprocess
import sys
import time

from hardware.arms.calibration import save
from hardware.doors import Caller
from hardware.link import Ask, Snapshot, Take
from tests.hardware.harness import toml

SECONDS = 20.0
"""After which a test gives up; no figure."""


class Robot:
    """Processes by their names; `control` says what the arm was really told."""

    def __init__(self, folder):
        self.processes, self.home, self.folder = {}, folder, folder / "episodes"

    def has(self, port, control, calibration):
        """The arm that is emulated there, in real time."""
        control("reset", virtual=False)
        self.control = control
        save(self.home / "calibration.json", calibration)
        names = [servo.name for servo in calibration.servos]
        arm = f'port = "{port}"\ncalibration = "calibration.json"\nspare_ms = 100.0\nbudget_s = 0.15'
        # Others use the machine: a stall of theirs is no fault of the arm's, and a slow loop is less often late.
        limits = {"lower": -1.9, "upper": 1.9}
        more = "tracking_seconds = 1.0"
        self.file = toml(self.home, "so101", names, arm=arm, joint=limits, more=more, rate=20.0)

    @property
    def socket(self):
        return self.folder / "armd.sock"

    def run(self, name, *words, before=None, **environment):
        """Returns its first line, or nothing if it has none to say. before: what it does before it is what it is."""
        self.end(name)
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            preexec_fn=before,
        )
        return self.processes[name].stdout.readline().strip()

    def armd(self, **environment):
        for _ in range(5):
            if line := self.run("armd", "hardware.armd", str(self.file), **environment):
                return line
        raise AssertionError(self.processes["armd"].stderr.read())

    def guard(self, **more):
        return self.run("guard", "hardware.guard", str(self.file), **more)

    def guard_says(self):
        """All until what it did about a daemon that died."""
        said = ""
        while "died" not in said:
            said += (line := self.processes["guard"].stderr.readline())
            assert line, f"the guard ended: {said}"
        return said

    def moves(self):
        """A busy machine may stop it before it has begun: then once more."""
        for _ in range(10):
            caller = Caller(self.socket)
            lease = caller.ask(Take("anna", 60.0)).lease
            for what in ("reset", "disarm"):
                caller.ask(Ask(what, lease))
            caller.close()
            self.control("pose", position=[0.0] * 6)
            if self.run("mover", "tests.hardware.mover", str(self.socket)) == "moving":
                return
        raise AssertionError(self.processes["mover"].stderr.read())

    def end(self, *names):
        for process in filter(None, (self.processes.pop(name, None) for name in names)):
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def kill(self, name, number=signal.SIGKILL):
        self.processes[name].send_signal(number)

    def rests(self):
        """Until no goal has changed for a while, or no joint has power."""
        until, since, last = time.monotonic() + SECONDS, time.monotonic(), None
        while time.monotonic() - since < 0.5:
            state = self.control("state")
            now = state["goal"] if any(state["powered"]) else []
            if now != last:
                last, since = now, time.monotonic()
            assert time.monotonic() < until, "it goes on"
            time.sleep(0.02)

    def told(self, wanted, caller=None):
        """The first Snapshot of that mode."""
        caller = caller or Caller(self.socket)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            told = caller.hear()
            if isinstance(told, Snapshot):
                snapshot = told
                if told.mode == wanted:
                    return told
        raise AssertionError(f"{wanted} did not come, it is {snapshot.mode}: {snapshot.cause}")

    def until(self, so):
        until = time.monotonic() + SECONDS
        while not (found := so()):
            assert time.monotonic() < until
            time.sleep(0.02)
        return found
