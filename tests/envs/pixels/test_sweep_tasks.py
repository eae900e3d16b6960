"""Rewards and success against cases worked out by hand."""

import numpy as np
import pytest

from envs.pixels.sweep_physics import BODIES, RADIUS, SHAPES, placed
from envs.pixels.sweep_tasks import (
    BINS,
    GAP_WEIGHT,
    TASKS,
    TOP,
    WIDTH,
    ZONE_WEIGHT,
    features,
    observe,
    overlap,
    rewards,
    setup_of,
    start,
    step_reward,
    success,
    uneven,
)


def track(setup, body, objects):
    """[T,B,6] with the body and the objects at given places [T,2], [T,n,2]."""
    return np.stack([placed(setup, at, o) for at, o in zip(body, objects, strict=True)])


@pytest.mark.parametrize(
    ("at", "depth"),
    [
        ((0, 0.1), 1),  # in the middle
        ((0.2, 0.1), 0.5),  # on the edge
        ((0.245, 0.1), 0.25),
        ((0.29, 0.1), 0),  # touches
        ((0.28, 0.38), 0),  # beside the corner, in its box but further than a radius
        ((0, -0.1 - RADIUS / 2), 0.25),
    ],
)
def test_overlap_with_the_square(at, depth):
    setup = setup_of("avoiding", "short")
    state = placed(setup, [0.7, -0.7], [at])
    assert overlap(setup, state) == pytest.approx(depth)
    assert step_reward("avoiding", setup, state) == pytest.approx(-(TOP - at[1]) - ZONE_WEIGHT * depth)


def test_grouping_pays_for_height_and_nearness():
    setup = setup_of("grouping", "gripper")
    far = placed(setup, [0, -0.7], [[-0.3, TOP - 0.4], [0.1, TOP - 0.2]])
    gap = np.hypot(0.4, 0.2) - 2 * RADIUS
    assert step_reward("grouping", setup, far) == pytest.approx(-0.3 - GAP_WEIGHT * gap)
    there = placed(setup, [0, -0.7], [[-RADIUS, TOP + 0.1], [RADIUS, TOP + 0.1]])
    assert step_reward("grouping", setup, there) == pytest.approx(0)


def test_covering_is_worth_something_at_its_end_only():
    setup = setup_of("covering", "long")
    order = np.random.default_rng(0).permutation(20)
    x = np.linspace(-WIDTH, WIDTH, 20)
    lie = np.tile([[-0.2, -0.3], [0.2, -0.3]], (20, 1, 1))
    even = track(setup, np.stack([x[order], np.full(20, -0.5)], 1), lie)
    still = track(setup, np.tile([0.0, -0.5], (20, 1)), lie)
    paid = rewards("covering", setup, np.stack([even, still]))
    np.testing.assert_allclose(paid[0], 0, atol=1e-12)
    assert (paid[1, :-1] == 0).all() and paid[1, -1] == pytest.approx(-np.abs(x).mean())
    assert success("covering", setup, np.stack([even, still])).tolist() == [True, False]
    assert uneven(np.array([0.6, -0.5, 0.2])) == pytest.approx((0.1 + 0.2 + 0) / 3)


def test_success_by_hand():
    setup = setup_of("grouping", "short")
    body = np.tile([0.5, -0.5], (3, 1))
    pair = np.array([[[-RADIUS, TOP], [RADIUS, TOP]]])
    low, apart = pair - [0, 0.02], pair * [1.5, 1]
    ends = [track(setup, body, np.concatenate([pair, apart, last])) for last in (pair, low, apart)]
    assert success("grouping", setup, np.stack(ends)).tolist() == [True, False, False]
    setup = setup_of("avoiding", "short")
    ways = [
        [(0.35, 0), (0.35, 0.3), (0.35, TOP)],
        [(0, 0), (0.35, 0.3), (0.35, TOP)],
        [(0.35, 0), (0.35, 0), (0.35, 0)],
    ]
    runs = [track(setup, body, np.array(way)[:, None]) for way in ways]
    assert success("avoiding", setup, np.stack(runs)).tolist() == [True, False, False]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("starts", ["wide", "narrow"])
def test_no_start_is_a_success_or_a_collision(task, starts):
    rng, setup = np.random.default_rng(0), setup_of(task, "gripper")
    begun = np.stack([start(task, setup, starts, rng) for _ in range(200)])
    held = np.repeat(begun[:, None], 20, 1)
    assert not success(task, setup, held).any()
    objects = begun[:, setup.parts :, :2]
    if setup.objects == 2:
        assert (np.linalg.norm(objects[:, 0] - objects[:, 1], axis=-1) > 2 * RADIUS).all()
    assert (objects[..., 1].min(-1) - RADIUS > begun[:, 0, 1] + 0.04).all()  # the body lies below
    assert objects.std(0).max() < (0.04 if starts == "narrow" else 0.3)
    if task == "avoiding":
        assert (overlap(setup, begun) == 0).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_observations_say_where_things_are_and_how_time_was_spent(task, body, shape):
    setup, rng = setup_of(task, body, shape), np.random.default_rng(1)
    states = np.repeat(start(task, setup, "wide", rng)[None], 6, 0)
    states[:, 0, 0] = [0.3, -0.6, -0.6, 0.6, 0.0, 0.9]
    if setup.parts == 3:
        states[:, 1, 0], states[:, 2, 0] = states[:, 0, 0] - 0.08, states[:, 0, 0] + 0.21
    told = observe(task, setup, states, np.arange(6), 5)
    assert told.shape == (6, features(task, setup)) and told.dtype == np.float32
    np.testing.assert_allclose(told[:, :2], states[:, 0, :2], rtol=1e-6)
    np.testing.assert_allclose(told[0, 2:4], states[0, setup.parts, :2], rtol=1e-6)
    rest = told[:, 2 + setup.objects * (2 if shape == "round" else 4) :]
    if setup.parts == 3:
        np.testing.assert_allclose(rest[:, :2], [[0, 1]] * 6, atol=1e-6)
        rest = rest[:, 2:]
    np.testing.assert_allclose(rest[:, 0], np.arange(6) / 5, rtol=1e-6)
    if task == "covering":
        np.testing.assert_allclose(rest[:, 1:].sum(1), np.arange(6) / 5, rtol=1e-6)
        np.testing.assert_allclose(rest[-1, 1:] * 5, [2] + [0] * (BINS // 2 - 1) + [1] + [0] * (BINS // 2 - 2) + [2])


def test_unknown_tasks_and_starts_are_named():
    with pytest.raises(ValueError, match="'sweeping'"):
        setup_of("sweeping", "long")
    with pytest.raises(ValueError, match="'fixed'"):
        start("avoiding", setup_of("avoiding", "long"), "fixed", np.random.default_rng(0))
