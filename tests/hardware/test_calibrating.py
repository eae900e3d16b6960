"""`rapport robot calibrate` at a terminal, as a person does it: an emulated arm is held, taken for zero, moved by hand
joint after joint, and what comes of it is true of the arm."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.arm import Refused
from hardware.arms.calibration import load
from hardware.arms.dynamixel import Dynamixel
from hardware.arms.so101 import SO101
from tests.hardware.harness import JOINT

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
SECONDS = 60.0
"""After which a test gives up; no figure."""


class Terminal:
    """A command at a terminal of its own: what it says is waited for, and keys are pressed."""

    def __init__(self, *words):
        self.end, theirs = pty.openpty()
        command = [sys.executable, "-m", "rapport", "robot", *map(str, words)]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=HERE)
        os.close(theirs)
        self.said = ""

    def hears(self, so):
        """Until what was said is so."""
        until = time.monotonic() + SECONDS
        while not (found := so(self.said)):
            assert time.monotonic() < until, self.said
            if select.select([self.end], [], [], 0.05)[0]:
                try:
                    self.said += os.read(self.end, 1 << 16).decode()
                except OSError:  # it has ended
                    assert so(self.said), self.said
        return found

    def enter(self):
        os.write(self.end, b"\n")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.end)


def robot(folder, arm, family):
    """The file of somebody who has an arm, and no calibration yet."""
    joints = "".join(
        f'[[joint]]\nname = "{servo.name}"\nid = {servo.id}\n'
        + "".join(f"{key} = {value}\n" for key, value in JOINT.items())
        for servo in arm.calibration.servos
    )
    file = folder / "robot.toml"
    file.write_text(
        f'rate = 100.0\njournal = "episodes"\n[arm]\nfamily = "{family}"\nport = "{arm.port}"\n'
        f'calibration = "mine.json"\nspare_ms = 100.0\nbudget_s = 0.3\n{joints}'
    )
    return file


def held(arm, position):
    """As a hand does."""
    arm.control("pose", position=list(position))
    for joint in range(len(position)):
        arm.control("lock", joint=joint)


@pytest.fixture
def typed():
    made = []

    def start(*words):
        made.append(Terminal(*words))
        return made[-1]

    yield start
    for terminal in made:
        terminal.close()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["so101", "dynamixel"])
def test_a_person_calibrates_an_arm(tmp_path, request, typed, family):
    arm = request.getfixturevalue(family)
    arm.control("reset", virtual=False)
    file, middle, reach = robot(tmp_path, arm, family), np.array([0.1, -0.2, 0.1, 0.2, 0.0, 0.1]), 0.8
    kind, model = (SO101, 777) if family == "so101" else (Dynamixel, 1020)
    if family == "so101":
        arm.control("poke", id=2, address=31, data=[0x2C, 0x01])  # somebody else's offset
        arm.control("jump", id=3, ticks=1700)  # its horn is on otherwise: without an offset it crosses the seam
    held(arm, middle)
    person = typed("calibrate", file, "--serial", "bench", "--model", model)
    person.hears(lambda said: "Enter takes it for zero" in said)
    person.enter()
    person.hears(lambda said: "gently to both ends" in said)
    person.enter()  # too early
    person.hears(lambda said: "Hardly moved: shoulder_pan, shoulder_lift" in said)
    for joint, servo in enumerate(arm.calibration.servos):
        for to in (-reach, reach):
            for share in np.linspace(0, 1, 5):
                held(arm, middle + to * share * np.eye(6)[joint])
                time.sleep(0.03)
        wanted = round(2 * reach * 180 / np.pi)
        last = re.compile(rf"{servo.name} (\d+)")

        def whole(said, last=last, wanted=wanted):
            return (found := last.findall(said)) and int(found[-1]) >= wanted - 1

        held(arm, middle - reach * np.eye(6)[joint])  # a busy machine has not seen both ends yet: wait at each
        seen = time.monotonic()
        while time.monotonic() - seen < SECONDS and not whole(person.said):
            for to in (-reach, reach):
                held(arm, middle + to * np.eye(6)[joint])
                until = time.monotonic() + 0.3
                person.hears(lambda said, until=until: time.monotonic() > until)
        assert whole(person.said), person.said[-200:]
    held(arm, middle)
    person.enter()
    person.hears(lambda said: "limits within" in said)
    assert person.process.wait(SECONDS) == 0
    found = load(tmp_path / "mine.json")
    assert found.serial == "bench"
    for servo in found.servos:
        assert abs(servo.zero - 2048) <= 3 and servo.model == model
        np.testing.assert_allclose(servo.limits, (-reach, reach), atol=0.04)  # 20 ticks are .03 rad
    calibrated = kind(arm.port, found, spare_ms=100.0, budget_s=0.3)
    calibrated.open()  # its EEPROM is what the file says
    signs = [servo.sign for servo in arm.calibration.servos]
    for offset in (0.0, 0.5, -0.5):
        held(arm, middle + offset)
        np.testing.assert_allclose(calibrated.read().position, np.multiply(signs, offset), atol=0.01)
    calibrated.close()


@pytest.mark.slow
def test_nobody_at_the_other_end_and_an_arm_that_falls_silent(tmp_path, so101, typed):
    so101.control("reset", virtual=False)
    file = robot(tmp_path, so101, "so101")
    command = [sys.executable, "-m", "rapport", "robot", "calibrate", str(file), "--serial", "bench"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env=HERE, capture_output=True, text=True)
    assert done.returncode == 2 and "calibrate from a terminal" in done.stderr
    person = typed("calibrate", file, "--serial", "bench")
    person.hears(lambda said: "Enter takes it for zero" in said)
    person.enter()
    person.hears(lambda said: "gently to both ends" in said)
    so101.control("hang_up")
    person.hears(lambda said: "plug the adapter in" in said)
    assert person.process.wait(SECONDS) == 2 and not (tmp_path / "mine.json").exists()


def test_a_dynamixel_whose_offset_would_be_too_great_is_named(dynamixel):
    dynamixel.control("pose", position=[0.0] * 6)
    dynamixel.control("jump", id=4, ticks=1500)
    arm = Dynamixel(dynamixel.port, dynamixel.calibration, spare_ms=100.0, budget_s=0.3)
    arm.connect()
    with pytest.raises(Refused, match=r"servo 4 \(wrist_flex\).*turn its horn"):
        arm.centre()
    arm.close()
