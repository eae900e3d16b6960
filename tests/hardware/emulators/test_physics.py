import mujoco
import numpy as np
import pytest

from hardware.emulators.physics import STEP, Hinge, Joints, mjcf
from hardware.emulators.presets import FINGERS, HINGES, chain


def test_goals_are_reached_with_power_and_at_the_speed_of_the_profile():
    joints = Joints(HINGES)
    goal = np.array([0.5, -0.4, 0.6, -0.5, 0.3, 0.2])
    for joint in range(6):
        joints.power(joint, True)
    joints.speed[:] = 1.0
    joints.set_goal(goal)
    fastest = 0.0
    for _ in range(100):
        joints.advance(0.01)
        fastest = max(fastest, np.abs(joints.velocity).max())
    joints.advance(0.5)
    np.testing.assert_allclose(joints.position, goal, atol=0.02)  # a servo sags under the weight it carries
    assert 0.9 < fastest < 1.3


def test_without_power_an_arm_falls_and_a_locked_joint_stays():
    joints = Joints(HINGES)
    joints.locked[2] = True
    joints.set_goal(np.full(6, 1.0))
    joints.advance(0.5)
    assert joints.position[1] > 0.3 and joints.position[2] == 0.0


def test_a_pendulum_swings_in_the_time_of_its_length():
    """The small oscillation of a rod with the armature of the model: T = 2 pi sqrt(I / (m g r))."""
    joints = Joints([Hinge("swing", (0, 0, 0), (0, 1, 0), -3.0, 3.0, mass=2.0)])
    model = joints._model
    model.dof_damping[:] = 0.0
    joints.reset(np.array([np.pi / 2 - 0.02]))  # x forward is zero, so hanging down is a quarter turn
    passed, crossings, before = 0.0, [], -0.02
    while len(crossings) < 3:
        joints.advance(STEP)
        passed += STEP
        now = joints.position[0] - np.pi / 2
        if before < 0 <= now or now < 0 <= before:
            crossings.append(passed)
        before = now
    body = 1
    far = np.linalg.norm(model.body_ipos[body])
    inertia = model.body_inertia[body].max() + model.body_mass[body] * far**2 + model.dof_armature[0]
    period = 2 * np.pi * np.sqrt(inertia / (model.body_mass[body] * 9.81 * far))
    assert crossings[2] - crossings[0] == pytest.approx(period, rel=0.02)


def test_time_is_kept_to_the_step_and_lost_beyond_the_most():
    joints, other = Joints(HINGES), Joints(HINGES)
    for _ in range(1000):
        joints.advance(0.0005)
    other.advance(0.5)
    np.testing.assert_array_equal(joints.position, other.position)
    stalled = Joints(HINGES)
    stalled.advance(10.0, most=50)
    short = Joints(HINGES)
    short.advance(0.1)
    np.testing.assert_array_equal(stalled.position, short.position)


def test_the_hinges_of_the_six_jointed_arm_carry_its_fingers_where_mujoco_has_them():
    model = mujoco.MjModel.from_xml_string(mjcf(HINGES))
    data = mujoco.MjData(model)
    for joints in np.random.default_rng(0).uniform(-2, 2, (50, 6)):
        data.qpos[:] = joints
        mujoco.mj_kinematics(model, data)
        wrist = data.body(5)  # the last link before the gripper
        fingers = wrist.xpos + wrist.xmat.reshape(3, 3) @ FINGERS
        np.testing.assert_allclose(chain().point(joints[:5]), fingers, atol=1e-9)
