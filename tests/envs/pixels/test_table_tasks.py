"""Rewards against cases worked out by hand, and where things begin."""

import numpy as np
import pytest

from envs.pixels.table_model import AREAS, FENCE, GOAL, LIKED, OTHERS, RADIUS, STRIP
from envs.pixels.table_tasks import BINS, EVEN, INTRUSION, gap, observe, start, step_reward, success, uneven

HAND = np.array([0.40, 0.0])


def test_group_pays_for_the_last_one_the_gap_the_hand_and_the_action():
    objects = np.array([[0.46, 0.08], [0.56, 0.0]])
    # 0.20 and 0.10 from the line; sqrt(.01 + .0064) = .128062 apart; hand .1 and .16 away
    expected = -3 * 0.20 - 3 * (0.1280625 - 2 * RADIUS) - 0.5 * (0.10 + 0.16) - 0.01 * (0.25 + 1.0)
    assert step_reward("group", HAND, objects, np.array([0.5, -1.0])) == pytest.approx(expected, abs=1e-6)
    assert gap(np.array([[0.5, 0.0], [0.5, 1.9 * RADIUS]])) == 0  # touching is as near as it gets


def test_clutter_pays_no_gap_and_for_each_one_that_spoils_the_goal():
    liked = np.array([[0.66, 0.03], [0.66, -0.03]])
    far, near = np.array([[0.50, 0.2], [0.50, -0.2]]), np.array([[GOAL - 0.039, 0.2], [GOAL + 0.039, -0.2]])
    hand, still = np.array([0.66, 0.0]), np.zeros(2)
    clean = step_reward("clutter", hand, np.concatenate([liked, far, far]), still)
    assert clean == pytest.approx(-0.5 * 0.06)
    assert step_reward("clutter", hand, np.concatenate([liked, near, far]), still) == pytest.approx(clean - 2 * 0.5)


def test_rewards_are_the_same_for_many_as_for_each():
    rng = np.random.default_rng(0)
    hand, act = rng.uniform(0.3, 0.7, (5, 3, 2)), rng.uniform(-1, 1, (5, 3, 2))
    for task in ("group", "clutter"):
        objects = rng.uniform(0.3, 0.7, (5, 3, LIKED[task] + OTHERS[task], 2))
        many = step_reward(task, hand, objects, act)
        assert many.shape == (5, 3)
        assert many[2, 1] == pytest.approx(step_reward(task, hand[2, 1], objects[2, 1], act[2, 1]))


def test_even_wiping_leaves_nothing_in_any_order_and_standing_still_leaves_half():
    low, high = STRIP.y
    grid = np.linspace(low, high, 30)
    assert uneven(grid) == pytest.approx(0) and uneven(np.random.default_rng(0).permutation(grid)) == pytest.approx(0)
    assert uneven(np.zeros(30)) == pytest.approx(np.abs(np.linspace(-1, 1, 30)).mean())
    # One half only: the sorted places are -1 .. 0 against -1 .. 1, so on average half too low
    assert uneven(np.linspace(low, 0, 31)) == pytest.approx(0.5)


def test_success():
    way = np.tile(HAND, (45, 1))
    path = np.zeros((45, 6, 2))
    path[-1, :2] = [[GOAL - 0.079, 0.2], [GOAL + 0.079, -0.2]]
    assert success("group", way, path[:, :2]) and success("clutter", way, path)
    path[-1, 4, 0] = GOAL + 0.99 * INTRUSION
    assert not success("clutter", way, path)
    path[-1, 0, 0] = GOAL - 0.081
    assert not success("group", way, path[:, :2])
    low, high = STRIP.y
    for share, good in ((0.99 - 2 * EVEN, False), (1.01 - 2 * EVEN, True)):  # a grid that is narrower by this much
        way = np.stack([np.full(2001, 0.5), share * np.linspace(low, high, 2001)], 1)
        assert success("wipe", way, np.zeros((2001, 0, 2))) is good


def test_nothing_begins_in_anything_else_or_done():
    rng = np.random.default_rng(0)
    for task in AREAS:
        area = AREAS[task]
        for _ in range(200):
            hand, objects = start(task, rng)
            at = objects[:, :2]
            assert area.x[0] <= hand[0] <= area.x[1] and area.y[0] <= hand[1] <= area.y[1]
            assert len(objects) == LIKED[task] + OTHERS[task]
            if not len(objects):
                continue
            apart = np.linalg.norm(at[:, None] - at, axis=-1) + np.eye(len(at))
            assert apart.min() > 2 * RADIUS
            assert (at[:, 0] - RADIUS > hand[0] + 0.012).all() and np.all(np.abs(at[:, 1]) < FENCE[1][1])
            assert not success(task, hand[None], at[None]) and (GOAL - at[:, 0] > INTRUSION).all()


def test_a_policy_that_wipes_is_told_where_it_has_been():
    low, high = STRIP.y
    way = np.array([[0.5, low], [0.5, low + 0.001], [0.5, low], [0.5, high]])  # the start is not counted
    told = observe("wipe", way, np.zeros((0, 2)), 30)
    assert told.shape == (3 + BINS,) and told[2] == pytest.approx(3 / 30)
    np.testing.assert_allclose(told[3:], np.array([2, 0, 0, 0, 0, 0, 0, 1]) / 30, atol=1e-7)
