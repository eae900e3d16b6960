"""LeRobot as an arm, with a robot of the tests' own that LeRobot finds as it finds any third party's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.arm import BusLost, NoAnswer, Refused
from hardware.arms.lerobot import LeRobot, Scale, scale

DEGREES = Scale(math.pi / 180, -90, 90)


def trial(python: str, folder: Path, **more) -> LeRobot:
    config = {"folder": str(folder), "id": "trial", "calibration_dir": str(folder)} | more.pop("config", {})
    more = {"joints": ("pan", "lift", "gripper"), "scales": [DEGREES] * 3, "answer": 3.0, "start": 240.0} | more
    return LeRobot(python, "rapport_trial", config, plugin=str(Path(__file__).with_name("lerobot_plugin.py")), **more)


def told(folder: Path) -> list[dict[str, float]]:
    file = folder / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@given(st.integers(0, 2000), st.integers(1, 2000), st.floats(-1, 1))
def test_degrees_and_hundreds_of_one_joint_are_one_angle(low, span, part):
    """Counts from LeRobot's own formulas, one for each of its units, become the same radians."""
    high, resolution = low + span, 4096
    count = low + (part + 1) / 2 * span
    middle = (low + high) / 2
    degrees = (count - middle) * 360 / (resolution - 1)
    hundreds = (count - low) / (high - low) * 200 - 100
    true = (count - middle) * 2 * math.pi / resolution
    for unit, value in (("degrees", degrees), ("range_m100_100", hundreds)):
        found = scale(unit, low, high, resolution)
        assert value * found.slope == pytest.approx(true, abs=1e-9)
        assert found.low - 1e-6 <= value <= found.high + 1e-6
    gripper = scale("range_0_100", low, high, resolution)
    assert (hundreds + 100) / 2 * gripper.slope == pytest.approx((count - low) * 2 * math.pi / resolution, abs=1e-9)


@pytest.mark.parametrize(
    ("given_", "match"),
    [
        (("turns", 0, 10, 4096), "'turns' is not known"),
        (("degrees", 10, 10, 4096), "calibrate it again"),
        (("degrees", 10, 5, 4096), "calibrate it again"),
    ],
)
def test_calibrations_that_are_none(given_, match):
    with pytest.raises(ValueError, match=match):
        scale(*given_)


def test_cameras_and_a_missing_python_are_refused():
    with pytest.raises(ValueError, match="config has cameras"):
        LeRobot("python", "so101_follower", {"cameras": {"wrist": {}}})
    arm = LeRobot("/nowhere/python", "so101_follower", {})
    with pytest.raises(Refused, match="name a Python that has it"):
        arm.open()
    with pytest.raises(BusLost, match="open it"):
        arm.read()
    arm.close()
    assert arm.stop(2).unsure == arm.spec.names


@pytest.mark.slow
@pytest.mark.peer
def test_a_robot_of_lerobots_as_an_arm(lerobot_python, tmp_path):
    arm = trial(lerobot_python, tmp_path)
    arm.open()
    first = arm.read()
    np.testing.assert_array_equal(first.position, 0)
    assert arm.spec.stop == 2 and not first.powered.any() and np.isnan(first.velocity).all() and not told(tmp_path)
    arm.enable()
    assert arm.read().powered.all() and told(tmp_path) == [{"pan.pos": 0.0, "lift.pos": 0.0, "gripper.pos": 0.0}]
    arm.write([0.5, -0.25, math.pi / 2])
    assert arm.written is None  # nobody can know
    np.testing.assert_allclose(arm.read().position, [0.5, -0.25, math.pi / 2])
    np.testing.assert_allclose(list(told(tmp_path)[-1].values()), [math.degrees(0.5), math.degrees(-0.25), 90])
    before = len(told(tmp_path))
    for bad in ([0.0, np.nan, 0.0], [0.0, 0.0], [1e9, 0.0, 0.0], [0.0, -1.6, 0.0]):
        with pytest.raises(ValueError):
            arm.write(bad)
    assert len(told(tmp_path)) == before
    report = arm.stop(0)
    assert report.category == 2 and report.done == () and report.unsure == ("pan", "lift", "gripper")
    np.testing.assert_allclose(list(told(tmp_path)[-1].values()), [math.degrees(0.5), math.degrees(-0.25), 90])
    for fault in ("silent", "nan"):
        (tmp_path / fault).touch()
        with pytest.raises(NoAnswer):
            arm.read()
        (tmp_path / fault).unlink()
    arm.read()
    (tmp_path / "gone").touch()
    with pytest.raises(BusLost, match="No such file"):
        arm.read()
    (tmp_path / "gone").unlink()
    with pytest.raises(BusLost, match="open it"):
        arm.read()
    assert not (tmp_path / "disconnected").exists()


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.parametrize(("fault", "said"), [("slow", "did not answer read within"), ("abort", "signal 6")])
def test_lerobot_that_blocks_or_aborts_is_a_lost_bus(lerobot_python, tmp_path, fault, said):
    arm = trial(lerobot_python, tmp_path)
    arm.open()
    (tmp_path / fault).touch()
    with pytest.raises(BusLost, match=said):
        arm.read()
    assert arm.stop(2).unsure == arm.spec.names
    assert not (tmp_path / "disconnected").exists()


@pytest.mark.slow
@pytest.mark.peer
def test_what_cannot_be_opened_says_why(lerobot_python, tmp_path):
    for more, match in (
        ({"joints": ("a", "b", "c")}, "has the joints pan, lift, gripper, not a, b, c"),
        ({"scales": None}, "give scales"),
        ({"config": {"base": True}}, "told x.vel too"),
    ):
        with pytest.raises(Refused, match=match):
            trial(lerobot_python, tmp_path, **more).open()
    (tmp_path / "uncalibrated").touch()
    with pytest.raises(Refused, match="lerobot-calibrate"):
        trial(lerobot_python, tmp_path).open()
    with pytest.raises(Refused, match="has no robot 'so102'; it has"):
        LeRobot(lerobot_python, "so102", {}, start=240.0).open()
