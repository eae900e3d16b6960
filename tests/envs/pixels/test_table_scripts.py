"""Scripted behaviour: some good, most not; films need OpenGL and are in test_table_draw."""

import numpy as np
import pytest

from envs.pixels.table import TableEnv
from envs.pixels.table_arms import ARMS
from envs.pixels.table_scripts import films, follow, path, rehearse


def test_a_path_goes_through_its_points_at_its_speed_and_waits():
    way = path(np.array([0.4, 0.0]), np.array([[0.4, 0.08], [0.44, 0.08]]), 6)  # 0.04 m a step
    expected = [[0.4, 0.04], [0.4, 0.08], [0.44, 0.08], [0.44, 0.08], [0.44, 0.08], [0.44, 0.08]]
    np.testing.assert_allclose(way, expected, atol=1e-12)
    half = path(np.array([0.4, 0.0]), np.array([[0.4, 0.08]]), 4, 0.5)
    np.testing.assert_allclose(half[:, 1], [0.02, 0.04, 0.06, 0.08], atol=1e-12)
    np.testing.assert_allclose(follow(np.array([0.4, 0.0]), np.array([0.42, -1.0])), [0.5, -1.0])


@pytest.mark.slow  # a minute
@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("task", ["group", "clutter", "wipe"])
def test_some_succeed_and_returns_are_spread(task, arm):
    env, rng = TableEnv(task, arm), np.random.default_rng(7)
    seen = [rehearse(env, rng) for _ in range(200)]
    done, returns = np.array([one.success for one in seen]), np.array([one.reward.sum() for one in seen])
    assert 0.05 <= np.mean(done) <= 0.4
    low, middle, high = np.percentile(returns, [10, 50, 90])
    assert high - low > abs(middle) / 2
    # Who succeeds has done well by the reward too, or one of the two is wrong.
    assert np.median(returns[done]) > np.percentile(returns[~done], 75)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="n is 0"):
        films("group", "franka", 0, np.random.default_rng(0))
