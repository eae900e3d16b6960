"""The exported Cartesian step against the environment's, which takes its Jacobian from MuJoCo."""

import json
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import arm_model
from envs.arm import CupArms
from policies.cartesian import Cartesian
from rapport.cup.handover import cartesian

STEP = cartesian()  # the main job's


def walk(arms, rng, steps, scale):
    """States that a long, wild episode visits, with an action each; the environment's answer to it."""
    arms.reset()
    push = rng.uniform(-1, 1, (arms.num_envs, 5))
    for _ in range(steps):
        action = np.clip(push + scale * rng.normal(size=push.shape), -1.5, 1.5)
        yield action, arms.command(action)
        arms.step(action)


def test_equals_the_environment_near_and_beyond_all_guards_and_at_the_cap():
    arms, rng, worst = CupArms(48, seed=4), np.random.default_rng(4), 0.0
    seen = dict.fromkeys(("low", "high", "near", "far", "tilted", "capped", "free"), 0)
    for scale in (0.1, 1.0, 0.0):
        for action, expected in walk(arms, rng, 79, scale):
            joints = arms.qpos
            found = STEP.velocity(joints, action)
            worst = max(worst, np.abs(found - expected).max())
            point, pointing, _ = STEP.kinematics(joints)
            radius = np.hypot(point[:, 0], point[:, 1])
            capped = np.abs(found).max(1) > STEP.joint_speed - 1e-12
            seen["low"] += (point[:, 2] < STEP.z[0] + 0.001).sum()
            seen["high"] += (point[:, 2] > STEP.z[1] - 0.001).sum()
            seen["near"] += (radius < STEP.radius[0] + 0.001).sum()
            seen["far"] += (radius > STEP.radius[1] - 0.001).sum()
            seen["tilted"] += (np.arccos(np.clip(pointing[:, 2], -1, 1)) > STEP.tilt - 0.01).sum()
            seen["capped"] += capped.sum()
            seen["free"] += (~capped).sum()
    assert worst < 1e-9
    assert min(seen.values()) >= 20, seen


def test_kinematics_equal_mujoco_at_any_posture():
    model = arm_model.build()
    data, site, rng = mujoco.MjData(model), model.site("cup").id, np.random.default_rng(0)
    joints = rng.uniform(-np.pi, np.pi, (50, 7))
    point, pointing, jacobian = STEP.kinematics(joints)
    linear, angular = np.empty((2, 3, 7))
    for i, q in enumerate(joints):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, linear, angular, site)
        np.testing.assert_allclose(point[i], data.site_xpos[site], atol=1e-12)
        np.testing.assert_allclose(pointing[i], data.site_xmat[site].reshape(3, 3)[:, 2], atol=1e-12)
        np.testing.assert_allclose(jacobian[i], np.concatenate([linear, angular]), atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_jacobian_is_the_derivative_of_the_point(seed):
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(4, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    chain = replace(
        STEP,
        offsets=tuple(map(tuple, rng.normal(size=(4, 3)))),
        axes=tuple(map(tuple, axes)),
        rest=(0.0,) * 4,
        pull=(0.5,) * 4,
    )
    joints, h = rng.uniform(-3, 3, 4), 1e-6
    ahead, behind = (chain.kinematics(joints + sign * h * np.eye(4)) for sign in (1, -1))
    _, pointing, jacobian = chain.kinematics(joints)
    np.testing.assert_allclose((ahead[0] - behind[0]) / (2 * h), jacobian[:3].T, atol=1e-7)
    turned = np.cross(jacobian[3:].T, pointing)
    np.testing.assert_allclose((ahead[1] - behind[1]) / (2 * h), turned, atol=1e-7)


def test_velocity_is_the_damped_least_squares_optimum():
    rng = np.random.default_rng(1)
    joints = np.array(STEP.rest) + 0.2 * rng.normal(size=7)
    point, pointing, jacobian = STEP.kinematics(joints)
    action = 0.2 * rng.uniform(-1, 1, 5)
    found = replace(STEP, joint_speed=1e9).velocity(joints, action)
    capped = STEP.velocity(joints, action)
    np.testing.assert_allclose(capped, found * min(1.0, STEP.joint_speed / np.abs(found).max()))
    wanted, pull = STEP.guarded(point, pointing, action), np.array(STEP.pull) * (np.array(STEP.rest) - joints)
    stacked = np.vstack([jacobian[:5], np.sqrt(STEP.damping) * np.eye(7)])
    target = np.concatenate([wanted, np.sqrt(STEP.damping) * pull])
    np.testing.assert_allclose(found, np.linalg.lstsq(stacked, target, rcond=None)[0], atol=1e-10)


def test_batches_of_any_shape_and_json_give_the_same_bits():
    rng = np.random.default_rng(2)
    joints, action = rng.uniform(-2, 2, (3, 4, 7)), rng.uniform(-1, 1, (3, 4, 5))
    again = Cartesian.from_json(json.loads(json.dumps(STEP.to_json())))
    assert again == STEP
    together = again.velocity(joints, action)
    assert together.shape == (3, 4, 7)
    np.testing.assert_allclose(together[1, 2], STEP.velocity(joints[1, 2], action[1, 2]), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rest": (0.0,) * 6}, r"rest is .* a chain of 7 hinges needs finite numbers \(7,\)"),
        ({"tool": (0.0, 0.0, float("nan"))}, "tool is .*nan"),
        ({"pointing": (-2.0, 0.0, 0.0)}, r"pointing has a vector of length 2.0; make it 1"),
        ({"damping": 0.0}, "damping is 0.0; give a number above 0"),
        ({"axes": (), "offsets": ()}, "a chain of 0 hinges"),
    ],
)
def test_refuses_unfit_parameters(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(STEP, **change)


def test_refuses_unfit_json_joints_and_actions():
    data = STEP.to_json()
    del data["rate"]
    with pytest.raises(ValueError, match=r"lacks \['rate'\] and has the unknown \['rat'\]"):
        Cartesian.from_json({**data, "rat": 20.0})
    with pytest.raises(ValueError, match="give 7 finite numbers for each arm, in rad"):
        STEP.velocity(np.zeros(6), np.zeros(5))
    with pytest.raises(ValueError, match="give 5 finite numbers"):
        STEP.velocity(np.zeros(7), np.array([0, 0, np.nan, 0, 0]))
