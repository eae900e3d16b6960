"""The hand goes where it is sent, and the joints stay within their limits."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.pixels.table_arms import ARMS
from envs.pixels.table_control import DT, SPEED, TICK, TICKS, Hand, guarded, least_squares, limited
from envs.pixels.table_model import AREAS, CLEARANCE, build


def set_up(task, name):
    model = build(task, name)
    data = mujoco.MjData(model)
    return data, Hand(model, data, ARMS[name], CLEARANCE)


def corners(area):
    return [np.array([x, y]) for x in area.x for y in (*area.y, 0.0)]


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("task", ["group", "wipe"])
def test_it_can_be_put_anywhere_in_its_area_upright(task, name):
    data, hand = set_up(task, name)
    for at in corners(AREAS[task]):
        hand.place(at)
        np.testing.assert_allclose(hand.look(), [*at, CLEARANCE], atol=2e-5)
        np.testing.assert_allclose(data.site("tool").xmat.reshape(3, 3), np.diag([1, -1, -1]), atol=1e-3)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("task", ["group", "wipe"])
def test_it_follows_within_millimetres_and_keeps_height_limits_and_speeds(task, name):
    arm, area = ARMS[name], AREAS[task]
    data, hand = set_up(task, name)
    target = np.array([0.5, 0.0])
    hand.place(target)
    rng = np.random.default_rng(0)
    speeds = hand._speeds
    for k in range(240):
        if k % 12 == 0:
            action = np.clip(rng.uniform(-1.5, 1.5, 2), -1, 1)
        rests = k % 12 >= 10  # to see where it comes to rest
        velocity = guarded(np.zeros(2) if rests else action, target, area)
        for _ in range(TICKS):
            hand.go(target, velocity)
            target = target + velocity * TICK
        at = hand.look()
        # At full speed outwards one of KUKA's joints is as fast as it can be; a step later it has caught up.
        assert np.abs(at[:2] - target).max() < (2e-3 if k % 12 == 11 else 8e-3)
        assert abs(at[2] - CLEARANCE) < 1e-3
        assert np.abs(data.site("tool").xmat.reshape(3, 3) - np.diag([1, -1, -1])).max() < 0.01
        assert (hand.joints > arm.low).all() and (hand.joints < arm.high).all()
        assert (np.abs(data.qvel[speeds]) < 1.1 * arm.speed).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_least_squares_does_what_it_is_asked_and_pulls_where_that_costs_nothing(seed):
    rng = np.random.default_rng(seed)
    jacobian, twist, pull = rng.normal(size=(6, 7)), rng.normal(size=6), rng.normal(size=7)
    if np.linalg.svd(jacobian, compute_uv=False)[-1] < 0.3:
        return  # there the damping is meant to give way
    speed = least_squares(twist, jacobian, pull)
    np.testing.assert_allclose(jacobian @ speed, twist, atol=0.02)
    free = np.linalg.svd(jacobian)[2][-1]  # what moves no hand
    np.testing.assert_allclose(free @ speed, free @ pull, atol=1e-9)


def test_no_joint_is_driven_into_its_stop_or_too_fast():
    arm = ARMS["franka"]
    q = arm.rest.copy()
    q[1] = arm.low[1] + 0.02
    speed = limited(np.array([10.0, -5.0, 0, 0, 0, 0, 0]), q, arm)
    assert speed[0] == arm.speed[0] and -0.01 / TICK - 1e-9 <= speed[1] < 0
    np.testing.assert_array_equal(limited(np.full(7, 0.1), arm.rest, arm), np.full(7, 0.1))


def test_the_area_is_not_left():
    area = AREAS["group"]
    edge = np.array([area.x[1] - 0.01, 0.0])
    np.testing.assert_allclose(guarded(np.array([1.0, -1.0]), edge, area), [0.01 / DT, -SPEED])


def test_out_of_reach_is_said():
    _, hand = set_up("group", "kuka")
    with pytest.raises(ValueError, match=r"no nearer than .* \[1.2, 0.0\]"):
        hand.place(np.array([1.2, 0.0]))
