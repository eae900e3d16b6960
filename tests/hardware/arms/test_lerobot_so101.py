"""LeRobot's own SO101Follower, unmodified, on an emulated SO-101. What the servos were told the emulator is asked."""

import contextlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardware.arm import BusLost, NoAnswer, Refused
from hardware.arms.lerobot import SO101, LeRobot
from tests.hardware.gateway.robot import free_port

pytestmark = [pytest.mark.slow, pytest.mark.peer]
ROOT = Path(__file__).parents[3]


def calibrated(so101, folder, **changes) -> None:
    """LeRobot's file for the emulated arm."""
    file = {}
    for servo in so101.calibration.servos:
        found = {"id": servo.id, "drive_mode": 0, "homing_offset": servo.offset}
        file[servo.name] = found | {"range_min": servo.low, "range_max": servo.high} | changes
    (folder / "so.json").write_text(json.dumps(file))


def an_arm(python, so101, folder, **more) -> LeRobot:
    config = {"port": so101.port, "id": "so", "calibration_dir": str(folder)} | more
    return LeRobot(python, "so101_follower", config, answer=3.0, start=240.0)


def truly(so101) -> np.ndarray:
    """Radians from the middle of the range, or from the gripper's closed end, by the counts past every wire."""
    servos = so101.calibration.servos
    zero = [(servo.low + servo.high) / 2 if servo.name != "gripper" else servo.low for servo in servos]
    return (np.array(so101.control("state")["ticks"]) - zero) * 2 * math.pi / 4096


@pytest.mark.parametrize("use_degrees", [True, False])
def test_it_is_read_enabled_moved_and_held(lerobot_python, so101, tmp_path, use_degrees):
    calibrated(so101, tmp_path)
    arm = an_arm(lerobot_python, so101, tmp_path, use_degrees=use_degrees)
    arm.open()
    assert (
        not any(so101.control("state")["powered"]) and so101.control("record")["powers"] == []
    )  # opening is not power
    state = arm.read()
    np.testing.assert_allclose(state.position, truly(so101), atol=2e-3)
    assert not state.powered.any()
    arm.enable()
    assert arm.read().powered.all()
    so101.control("advance", seconds=0.5)
    np.testing.assert_allclose(truly(so101), state.position, atol=0.05)  # where it was, but for what gravity bends
    target = arm.read().position + np.array([0.3, -0.2, 0.2, 0.1, -0.3, 0.2])
    arm.write(target)
    assert arm.written is not None
    np.testing.assert_allclose(arm.written, target, atol=2e-3)  # a count is 1.5e-3, and LeRobot rounds down
    so101.control("advance", seconds=2.0)
    np.testing.assert_allclose(arm.read().position, target, atol=0.05)
    so101.control("forget")
    with pytest.raises(ValueError, match="elbow_flex is"):
        arm.write(target + np.eye(6)[2] * 3)
    with pytest.raises(ValueError):
        arm.write(target * np.nan)
    assert so101.control("record")["goals"] == []
    report = arm.stop(0)
    assert report.category == 2 and report.done == SO101 and all(so101.control("state")["powered"])
    arm.close()
    assert all(so101.control("state")["powered"])


def test_what_was_written_is_what_the_servos_have_not_what_was_asked(lerobot_python, so101, tmp_path):
    """With `max_relative_target` LeRobot cuts the step off."""
    calibrated(so101, tmp_path)
    arm = an_arm(lerobot_python, so101, tmp_path, max_relative_target=2.0)
    arm.open()
    arm.enable()
    before = arm.read().position
    arm.write(before + 0.5)
    assert arm.written is not None
    np.testing.assert_allclose(arm.written[:5], before[:5] + math.radians(2), atol=3e-3)
    arm.close()


def test_a_late_reply_is_not_taken_for_the_next_one(lerobot_python, so101, tmp_path):
    calibrated(so101, tmp_path)
    arm = an_arm(lerobot_python, so101, tmp_path)
    arm.open()
    arm.enable()
    so101.control("faults", late_ms=120)
    with pytest.raises(NoAnswer):
        arm.read()
    so101.control("pose", position=[0.4, 0.3, 0.2, 0.1, 0.0, 0.1])
    right = 0
    while right < 5:  # the line is still behind for a while; what matters is that nothing wrong is read
        with contextlib.suppress(NoAnswer):
            np.testing.assert_allclose(arm.read().position, truly(so101), atol=5e-3)
            right += 1
    arm.close()


def test_a_dead_servo_is_no_answer_and_the_power_of_the_others_stays(lerobot_python, so101, tmp_path):
    calibrated(so101, tmp_path)
    arm = an_arm(lerobot_python, so101, tmp_path)
    arm.open()
    arm.enable()
    so101.control("faults", dead=[4])
    for call in (arm.read, lambda: arm.write(np.eye(6)[5] / 2)):
        with pytest.raises(NoAnswer):
            call()
    assert arm.stop(2).unsure == SO101
    arm.close()
    assert all(so101.control("state")["powered"])


def test_a_pulled_cable_is_a_lost_bus(lerobot_python, so101, tmp_path):
    calibrated(so101, tmp_path)
    arm = an_arm(lerobot_python, so101, tmp_path)
    arm.open()
    so101.control("hang_up")
    with pytest.raises(BusLost):
        arm.read()
    with pytest.raises(BusLost, match="open it"):
        arm.read()


def test_another_calibration_is_refused(lerobot_python, so101, tmp_path):
    calibrated(so101, tmp_path, range_max=3000)
    with pytest.raises(Refused, match="lerobot-calibrate"):
        an_arm(lerobot_python, so101, tmp_path).open()
    assert so101.control("record")["goals"] == [] and not any(so101.control("state")["powered"])


def test_a_policy_leads_it_through_gateway_and_daemon(lerobot_python, tmp_path):
    words = ["examples/robot_reach.py", "so101", "--lerobot", lerobot_python, "--out", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, *words, "--port", str(free_port())], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 of 5 points reached" in run.stdout
