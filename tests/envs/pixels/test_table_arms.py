"""The arms against their tables, multiplied out by hand."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.pixels.table_arms import ARMS
from envs.pixels.table_model import build

QUARTER = np.pi / 2


def turn(axis: str, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    out = np.eye(4)
    out[:3, :3] = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[axis]
    return out


def shift(x: float = 0.0, z: float = 0.0) -> np.ndarray:
    out = np.eye(4)
    out[0, 3], out[2, 3] = x, z
    return out


def franka_flange(q: np.ndarray) -> np.ndarray:
    """Craig's convention, as in Franka's documentation: Rx(alpha) Tx(a) Rz(q) Tz(d), and the flange."""
    a = [0, 0, 0, 0.0825, -0.0825, 0, 0.088]
    d = [0.333, 0, 0.316, 0, 0.384, 0, 0]
    alpha = [0, -QUARTER, QUARTER, QUARTER, -QUARTER, QUARTER, QUARTER]
    out = np.eye(4)
    for i in range(7):
        out = out @ turn("x", alpha[i]) @ shift(x=a[i]) @ turn("z", q[i]) @ shift(z=d[i])
    return out @ shift(z=0.107)


def kuka_flange(q: np.ndarray) -> np.ndarray:
    """The classic convention, as in Faria et al. 2018: Rz(q) Tz(d) Rx(alpha)."""
    d = [0.340, 0, 0.400, 0, 0.400, 0, 0.126]
    alpha = [-QUARTER, QUARTER, QUARTER, -QUARTER, -QUARTER, QUARTER, 0]
    out = np.eye(4)
    for i in range(7):
        out = out @ turn("z", q[i]) @ shift(z=d[i]) @ turn("x", alpha[i])
    return out


FLANGE = {"franka": franka_flange, "kuka": kuka_flange}
MODELS = {name: build("wipe", name) for name in ARMS}


@pytest.mark.parametrize("name", ARMS)
@settings(max_examples=40, deadline=None)
@given(share=st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_the_flange_is_where_the_table_says(name, share):
    arm, model = ARMS[name], MODELS[name]
    data = mujoco.MjData(model)
    data.qpos[:] = arm.low + np.array(share) * (arm.high - arm.low)
    mujoco.mj_kinematics(model, data)
    expected = shift(x=arm.stand) @ FLANGE[name](data.qpos) @ turn("z", arm.turn)
    hand = data.body("hand")
    np.testing.assert_allclose(hand.xpos, expected[:3, 3], atol=1e-12)
    np.testing.assert_allclose(hand.xmat.reshape(3, 3), expected[:3, :3], atol=1e-12)
    np.testing.assert_allclose(data.site("tool").xpos, (expected @ shift(z=arm.reach))[:3, 3], atol=1e-12)


@pytest.mark.parametrize("name", ARMS)
def test_stretched_out_it_reaches_as_far_as_its_links_are_long(name):
    """Straight up, by hand: the Panda's elbow offsets cancel, and its hand hangs 0.088 m to the front."""
    arm, model = ARMS[name], MODELS[name]
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    expected = {
        "franka": [0.088, 0, 0.333 + 0.316 + 0.384 - 0.107],
        "kuka": [arm.stand, 0, 0.340 + 0.400 + 0.400 + 0.126],
    }
    np.testing.assert_allclose(data.body("hand").xpos, expected[name], atol=1e-12)


@pytest.mark.parametrize("name", ARMS)
def test_limits_of_the_joints_are_in_the_model(name):
    arm, model = ARMS[name], MODELS[name]
    np.testing.assert_array_equal(model.jnt_range, np.stack([arm.low, arm.high], 1))
    assert model.jnt_limited.all()
    assert (arm.rest > arm.low).all() and (arm.rest < arm.high).all()


def test_they_are_two_different_arms():
    franka, kuka = ARMS["franka"], ARMS["kuka"]
    assert not np.allclose(franka.dh, kuka.dh) and not np.allclose(franka.speed, kuka.speed)
    assert min(np.linalg.norm(np.subtract(a, b)) for a in franka.colours[:1] for b in kuka.colours[:1]) > 100
