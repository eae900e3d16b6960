import numpy as np
import pytest

from hardware.arms.calibration import save
from hardware.arms.dynamixel import Dynamixel
from hardware.arms.lerobot import LeRobot
from hardware.arms.make import arm_of, stopper
from hardware.arms.so101 import SO101
from hardware.arms.twin import Twin
from hardware.arms.ur import NAMES, UR
from hardware.clock import RealClock, VirtualClock
from hardware.config import ConfigError, read
from hardware.emulators.presets import calibration
from tests.hardware.harness import TWIN, toml

SERVOS = tuple(servo.name for servo in calibration("so101").servos)


def made(folder, family, names, arm="", **more):
    return arm_of(read(toml(folder, family, names, arm=arm, **more)), VirtualClock())


@pytest.mark.parametrize(("family", "kind"), [("so101", SO101), ("dynamixel", Dynamixel)])
def test_servo_arms(tmp_path, family, kind):
    save(tmp_path / "c.json", calibration(family))
    arm = made(tmp_path, family, SERVOS, 'port = "/dev/none"\ncalibration = "c.json"\nbudget_s = 0.01')
    assert type(arm) is kind and arm.spec.names == SERVOS


def test_the_others(tmp_path):
    assert type(made(tmp_path, "ur5e", NAMES, 'port = "127.0.0.9"\ngain = 400')) is UR
    twin = made(tmp_path, "twin", TWIN, "start = [0.1, 0.2, 0.3]")
    assert type(twin) is Twin and np.allclose(twin.position, [0.1, 0.2, 0.3])
    arm = made(tmp_path, "lerobot", SERVOS, 'port = "/dev/none"\npython = "python3"\nkind = "so101_follower"\nid = "a"')
    assert type(arm) is LeRobot and arm.spec.names == SERVOS


@pytest.mark.parametrize(
    ("family", "names", "arm", "match"),
    [
        ("so100", SERVOS, "", "family of .* is 'so100'; known are so101, dynamixel"),
        ("so101", SERVOS, "", "lacks 'port'"),
        ("so101", SERVOS, 'port = "a"', "'calibration' is missing"),
        ("so101", SERVOS, 'port = "a"\ncalibration = "none.json"', "is not a calibration"),
        ("so101", SERVOS, 'port = "a"\ncalibration = "c.json"\nspeed = 1.0', "unknown key 'speed'; so101 knows"),
        (
            "so101",
            SERVOS,
            'port = "a"\ncalibration = "c.json"\nbaud = 1e6',
            "'baud' of .arm. is 1000000.0",
        ),
        ("so101", TWIN, 'port = "a"\ncalibration = "c.json"', "the file's joints are shoulder, elbow, wrist"),
        ("ur5e", TWIN, 'port = "a"', "those of a UR are shoulder_pan_joint"),
        ("ur5e", NAMES, 'port = "a"\ngain = 1.0', r"gain is 1.0; it lies within"),
        ("twin", TWIN, 'model = "none.xml"', "none.xml"),
        ("twin", TWIN, "start = [0.1]", "start is"),
        ("lerobot", TWIN, 'kind = "x"', "python is None; give a text"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, family, names, arm, match):
    save(tmp_path / "c.json", calibration("so101"))
    with pytest.raises(ConfigError, match=match) as error:
        made(tmp_path, family, names, arm)
    assert "robot.toml" in str(error.value)


def test_limits_beyond_the_calibration(tmp_path):
    save(tmp_path / "c.json", calibration("so101"))
    with pytest.raises(ConfigError, match=r"is calibrated for -2.0\d+ to 2.07"):
        made(tmp_path, "so101", SERVOS, 'port = "a"\ncalibration = "c.json"', joint={"upper": 3.0})


def left_moving(folder, family, emulator):
    """As a daemon that dies in motion leaves an arm; and what stops it."""
    save(folder / "c.json", emulator.calibration)
    words = f'port = "{emulator.port}"\ncalibration = "c.json"\nspare_ms = 150.0\nbudget_s = 0.2'
    config = read(toml(folder, family, SERVOS, arm=words))
    emulator.control("pose", position=[0.0] * 6)
    arm, stop = arm_of(config, RealClock()), stopper(config, RealClock())
    arm.open()
    arm.enable()
    arm.write(np.full(6, 0.5))
    emulator.control("advance", seconds=0.05)
    arm.close()
    return stop


@pytest.mark.parametrize("family", ["so101", "dynamixel"])
def test_who_has_only_the_file_can_stop_it(tmp_path, request, family):
    emulator = request.getfixturevalue(family)
    stop = left_moving(tmp_path, family, emulator)
    report = stop()
    assert report.category == 2 and report.unsure == ()
    before = emulator.control("state")
    assert all(before["powered"]) and max(before["goal"]) < 0.45
    emulator.control("advance", seconds=0.5)
    assert np.abs(np.array(emulator.control("state")["position"]) - before["goal"]).max() < 0.1


@pytest.mark.parametrize("dead", [[4], [1, 6]])
@pytest.mark.parametrize("family", ["so101", "dynamixel"])
def test_dead_servos_keep_none_of_the_others_from_being_stopped(tmp_path, request, family, dead):
    emulator = request.getfixturevalue(family)
    stop = left_moving(tmp_path, family, emulator)
    emulator.control("faults", dead=dead)
    report = stop()
    lives = [i for i in range(6) if i + 1 not in dead]
    assert report.unsure == tuple(SERVOS[i - 1] for i in dead)
    state = emulator.control("state")
    assert all(state["powered"][i] for i in lives)
    goals = np.array(state["goal"])
    assert goals[lives].max() < 0.45, goals  # they were on their way to .5


def test_nobody_else_can_stop_a_twin(tmp_path):
    assert stopper(read(toml(tmp_path, "twin", TWIN)), RealClock())() is None
