"""The physics against closed forms and laws: nothing leaves, nothing comes from nothing, friction takes its way."""

import subprocess
import sys

import numpy as np
import pytest

from envs.pixels.sweep_physics import (
    _FLOOR,
    _OBJECT_MASS,
    ARENA,
    BODIES,
    HALF_LENGTH,
    HALF_THICK,
    PRONG_REACH,
    RADIUS,
    SHAPES,
    STRIDE,
    VX,
    Setup,
    X,
    Y,
    advance,
    placed,
)
from envs.pixels.sweep_tasks import WIDTH


def act(setup, x, y, grip=-1.0):
    return np.array([x, y, grip])[: setup.actions]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_objects_never_leave_and_bodies_neither(body, shape):
    setup, rng = Setup(body, 2, shape), np.random.default_rng(5)
    state = placed(setup, [0, -0.7], [[-0.2, -0.3], [0.2, -0.3]])
    for step in range(400):
        if step % 12 == 0:
            action = rng.uniform(-1, 1, setup.actions).round()  # rams things into walls and corners
        state = advance(setup, state, action)
        assert np.isfinite(state).all()
        assert (np.abs(state[setup.parts :, :2]) < ARENA - RADIUS + 0.04).all()
        assert abs(state[0, X]) + HALF_LENGTH[body] < ARENA + 0.05 and (state[: setup.parts, 2] == 0).all()
        if setup.parts == 3:
            reach = (state[1:3, X] - state[0, X]) * [-1, 1]
            assert (reach > PRONG_REACH[0] - 0.02).all() and (reach < PRONG_REACH[1] + 0.02).all()


@pytest.mark.parametrize("body", BODIES)
def test_nothing_comes_from_nothing(body):
    setup = Setup(body, 2)
    state = placed(setup, [0, -0.7], [[-0.2, -0.3], [0.2, -0.3]])
    np.testing.assert_array_equal(advance(setup, state, act(setup, 0, 0, 0.0)), state)
    moved = advance(setup, state, act(setup, 1, 0))
    np.testing.assert_array_equal(moved[setup.parts :], state[setup.parts :])  # untouched: not by one bit


@pytest.mark.parametrize("body", BODIES)
def test_a_body_under_way_goes_a_stride_in_each_decision(body):
    setup = Setup(body, 1)
    state = advance(setup, placed(setup, [-0.5, -0.6], [[0, 0.8]]), act(setup, 0.6, 0.3))
    after = advance(setup, state, act(setup, 0.6, 0.3))
    np.testing.assert_allclose(after[0, :2] - state[0, :2], [0.6 * STRIDE, 0.3 * STRIDE], atol=2e-3)


def test_an_object_let_go_slides_as_far_as_friction_says():
    setup = Setup("short", 1)
    for speed in (0.3, 0.5, 1.0):
        state = placed(setup, [0, -0.8], [[-0.5, 0.3]])
        state[1, VX] = speed
        way = advance(setup, state, act(setup, 0, 0))[1, X] + 0.5
        # m v^2 / 2F; in substeps of .04 s the speed falls at their ends, which adds v dt / 2 at most
        assert way == pytest.approx(_OBJECT_MASS * speed**2 / (2 * _FLOOR) + speed * 0.02, abs=0.004)


@pytest.mark.parametrize("body", ["short", "medium", "long"])
def test_what_is_pushed_lies_against_what_pushes(body):
    setup = Setup(body, 1)
    state = placed(setup, [0, -0.6], [[0, -0.4]])
    for _ in range(4):
        state = advance(setup, state, act(setup, 0, 1))
    assert state[1, Y] - state[0, Y] == pytest.approx(RADIUS + HALF_THICK, abs=0.005) and state[0, Y] > 0.1
    state = placed(setup, [-0.6, 0], [[-0.6 + HALF_LENGTH[body] + RADIUS + 0.02, 0]])
    for _ in range(3):
        state = advance(setup, state, act(setup, 1, 0))
    assert state[1, X] - state[0, X] == pytest.approx(RADIUS + HALF_LENGTH[body], abs=0.005)


def test_a_long_stick_takes_along_what_a_short_one_passes_between():
    ends = {}
    for body in ("short", "long"):
        setup = Setup(body, 2)
        state = placed(setup, [0, -0.6], [[-0.26, -0.3], [0.26, -0.3]])
        for _ in range(5):
            state = advance(setup, state, act(setup, 0, 1))
        ends[body] = state[1:, Y]
    assert (ends["short"] == -0.3).all() and (ends["long"] > 0.3).all()


def test_closed_prongs_carry_an_object_to_the_side_and_hold_it():
    setup = Setup("gripper", 1)
    state = placed(setup, [0, -0.5], [[0, -0.5 + HALF_THICK + RADIUS + 0.01]])
    for _ in range(3):
        state = advance(setup, state, act(setup, 0, 0, 1.0))
    gripped = np.abs(state[1:3, X] - state[3, X])
    np.testing.assert_allclose(gripped, RADIUS + 0.03, atol=0.01)  # both prongs touch it
    start = state[3, :2].copy()
    for move in [(0.5, 0)] * 4 + [(0, -1)]:  # down at the end: only friction holds it then
        state = advance(setup, state, act(setup, *move, 1.0))
    np.testing.assert_allclose(state[3, :2] - start, state[0, :2] - [0, -0.5], atol=0.05)
    assert state[3, X] > 0.3


@pytest.mark.parametrize("body", BODIES)
def test_left_is_as_right(body):
    setup = Setup(body, 1)
    flip = np.array([-1, 1, -1, -1, 1, -1])
    one = placed(setup, [-0.3, -0.4], [[0.05, -0.38]])
    other = placed(setup, [0.3, -0.4], [[-0.05, -0.38]])
    for _ in range(5):
        one = advance(setup, one, act(setup, 0.8, 0.1))
        other = advance(setup, other, act(setup, -0.8, 0.1))
    order = [0, 2, 1, 3] if setup.parts == 3 else [0, 1]
    np.testing.assert_allclose(other[order] * flip, one, atol=2e-3)
    assert one[-1, X] > 0.1  # it was pushed


def test_the_same_bits_in_another_process():
    run = (
        "import numpy as np; from envs.pixels.sweep_physics import *; s = Setup('gripper', 2, 'square');"
        "x = placed(s, [0, -.6], [[-.1, -.3], [.1, -.25]]); r = np.random.default_rng(0)\n"
        "for _ in range(60): x = advance(s, x, r.uniform(-1, 1, 3) + [0, .3, 0])\nprint(x.tobytes().hex())"
    )
    told = {subprocess.run([sys.executable, "-c", run], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(told) == 1


def test_every_body_can_cover_the_width():
    assert all(half + WIDTH <= ARENA for half in HALF_LENGTH.values())


def test_unknown_bodies_and_shapes_are_named():
    with pytest.raises(ValueError, match="'stick'"):
        Setup("stick", 1)
    with pytest.raises(ValueError, match="'oval'"):
        Setup("long", 1, "oval")
