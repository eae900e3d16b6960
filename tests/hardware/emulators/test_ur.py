"""The stand-in controller by itself: its frames, its body, and what its script does, cycle by cycle."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.emulators.ur_body import ACCELERATION, FASTEST, READY, braked, chain, flange, towards
from hardware.emulators.ur_controller import IDLE, PLAYING, POWER_OFF, RUNNING, STOPPED, Controller
from hardware.emulators.ur_frames import Recipe, frame, frames, recipe, type_of

DT = 0.002
angles = st.floats(-6, 6)
six = st.lists(angles, min_size=6, max_size=6)


def playing() -> Controller:
    robot = Controller()
    robot.upload(b"def rtde_control():")
    for _ in range(26):
        robot.cycle(DT)
    assert robot.runtime == PLAYING
    return robot


def servo(robot: Controller, target, lag: float = 0.1) -> None:
    doubles = [*target, 0.0, 0.0, DT, lag, 300.0]
    robot.inputs({"input_int_register_0": (11,)} | {f"input_double_register_{i}": (x,) for i, x in enumerate(doubles)})


def out(robot: Controller) -> float:
    return robot.values()["output_int_register_0"][0]


def command(robot: Controller, number: int, *doubles: float) -> None:
    robot.inputs(
        {"input_int_register_0": (number,)} | {f"input_double_register_{i}": (x,) for i, x in enumerate(doubles)}
    )


def test_the_flange_of_a_ur5e_at_zero_is_where_its_table_puts_it():
    # Stretched out along -x: two links; the wrist's offsets add up sideways and downwards.
    pose = flange(np.zeros(6))
    np.testing.assert_allclose(pose[:3], [-0.425 - 0.3922, -0.1333 - 0.0996, 0.1625 - 0.0997], atol=1e-12)
    np.testing.assert_allclose(pose[3:], [np.pi / 2, 0, 0], atol=1e-9)


def test_its_hinges_carry_the_flange_where_its_table_puts_it():
    for joints in np.random.default_rng(0).uniform(-6, 6, (50, 6)):
        np.testing.assert_allclose(chain().point(joints), flange(joints)[:3], atol=1e-8)


@given(six, st.floats(-3, 3))
def test_turning_the_base_turns_the_flange_about_the_vertical(q, turn):
    a, b = flange(np.array(q)), flange(np.array([q[0] + turn, *q[1:]]))
    assert a[2] == pytest.approx(b[2], abs=1e-9)
    assert np.hypot(*a[:2]) == pytest.approx(np.hypot(*b[:2]), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(six, six, st.floats(0.03, 0.2))
def test_the_servo_keeps_to_speed_and_acceleration_and_arrives(q, target, lag):
    at, speed = np.array(q), np.zeros(6)
    for _ in range(4000):
        now, faster = towards(at, speed, np.array(target), DT, lag)
        assert (np.abs(faster) <= FASTEST + 1e-9).all()
        assert (np.abs(faster - speed) <= ACCELERATION * DT + 1e-9).all()
        at, speed = now, faster
    np.testing.assert_allclose(at, target, atol=1e-3)


@given(six, st.floats(0.1, 40))
def test_braking_never_turns_round(speeds, deceleration):
    at, speed = np.zeros(6), np.array(speeds) / 2
    for _ in range(50):
        now, slower = braked(at, speed, DT, deceleration)
        assert (np.abs(slower) <= np.abs(speed)).all() and (slower * speed >= 0).all()
        at, speed = now, slower


NAMES = ("timestamp", "actual_q", "robot_mode", "payload_cog", "output_int_register_2", "actual_digital_input_bits")


@given(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), st.integers(1, 40))
def test_frames_survive_any_cutting_of_the_stream(names, chunk):
    whole = Recipe(tuple(names))
    body = whole.pack({"timestamp": (1.5,), "actual_q": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "robot_mode": (7,)})
    stream = frame("U", b"\x01" + body) + frame("V", b"\x01") + frame("U", b"\x01" + body)
    buffer, found = bytearray(), []
    for start in range(0, len(stream), chunk):
        buffer += stream[start : start + chunk]
        found += list(frames(buffer))
    assert found == [("U", b"\x01" + body), ("V", b"\x01"), ("U", b"\x01" + body)] and not buffer
    assert whole.unpack(body).get("robot_mode", (7,)) == (7,)


@given(st.binary(max_size=200))
def test_noise_is_taken_for_frames_or_left_and_never_raises(noise):
    list(frames(bytearray(noise)))


def test_what_the_controller_does_not_know_it_says():
    assert recipe(b"timestamp,nonsense,").types == ("DOUBLE", "NOT_FOUND")
    assert type_of("input_double_register_17") == "DOUBLE" and type_of("output_bit_registers0_to_31") == "UINT32"


def test_a_package_that_is_short_is_told_apart():
    whole = recipe(b"input_int_register_0,input_double_register_0")
    with pytest.raises(struct.error):
        whole.unpack(struct.pack(">i", 11) + b"\x00" * 7)


def test_a_command_is_done_once_and_then_waits_to_be_cleared():
    robot = playing()
    assert out(robot) == 1
    command(robot, 35, 10.0)
    robot.cycle(DT)
    robot.cycle(DT)
    assert out(robot) == 2
    command(robot, 0)
    robot.cycle(DT)
    assert out(robot) == 1


def test_a_move_is_done_when_it_has_arrived():
    robot = playing()
    goal = np.array(READY) + 0.2
    command(robot, 1, *goal, 1.0, 2.0)
    robot.cycle(DT)
    assert out(robot) == 0
    for _ in range(1000):
        robot.cycle(DT)
    assert out(robot) == 2
    np.testing.assert_allclose(robot.q, goal, atol=1e-3)


@pytest.mark.parametrize("hertz", [5.0, 10.0, 100.0])
def test_the_watchdog_ends_the_program_one_period_after_the_last_package(hertz):
    robot = playing()
    command(robot, 35, hertz)
    robot.cycle(DT)
    servo(robot, np.array(READY) + 1.0)
    cycles = 0
    while robot.runtime == PLAYING:
        robot.cycle(DT)
        cycles += 1
    assert cycles == pytest.approx(1 / hertz / DT, abs=1.01)
    for _ in range(200):
        robot.cycle(DT)
    assert robot.runtime == STOPPED and not robot.qd.any()


def test_every_target_is_remembered_whether_obeyed_or_not():
    robot = Controller()
    servo(robot, [1.0] * 6)
    robot.cycle(DT)
    np.testing.assert_array_equal(robot.q, READY)
    robot = playing()
    servo(robot, [np.nan] * 6)
    robot.cycle(DT)
    assert np.isnan(robot.record[-1]["target"]).all() and robot.record[-1]["obeyed"]
    for _ in range(10):
        robot.cycle(DT)
    np.testing.assert_array_equal(robot.q, READY)


def test_power_comes_in_two_steps_and_goes_in_one():
    robot = playing()
    servo(robot, np.array(READY) + 1.0)
    for _ in range(20):
        robot.cycle(DT)
    assert robot.qd.any()
    assert robot.dashboard("power off") == "Powering off"
    assert robot.mode == POWER_OFF and not robot.qd.any() and robot.runtime == STOPPED
    assert robot.dashboard("brake release") == "Brake releasing"
    assert robot.dashboard("power on") == "Powering on"
    for _ in range(60):
        robot.cycle(DT)
    assert robot.mode == IDLE
    robot.dashboard("brake release")
    for _ in range(60):
        robot.cycle(DT)
    assert robot.mode == RUNNING and robot.runtime == STOPPED


def test_an_estop_takes_the_power_and_a_protective_stop_the_motion():
    robot = playing()
    robot.estop()
    assert robot.mode == POWER_OFF and robot.values()["safety_status_bits"] == (1 << 6 | 1 << 7 | 1 << 10,)
    robot.dashboard("power on")
    assert robot.mode == POWER_OFF
    robot.release_estop()
    robot.dashboard("power on")
    assert robot.mode != POWER_OFF
    robot = playing()
    robot.protect()
    assert robot.mode == RUNNING and robot.values()["safety_status_bits"] == (1 << 2 | 1 << 10,)
    assert robot.dashboard("unlock protective stop") == "Protective stop releasing"
    assert robot.dashboard("programState").startswith("PAUSED")
