import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.point import EFFORT, HORIZON, START_POSITION, START_VELOCITY, A, B, PointMass, lqr, quadratic_reward

goals = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(np.array)


def returns(act, goal, effort=EFFORT, n=64, seed=0):
    """Sums of rewards [n] of a policy from the same starts, and the first observations."""
    env, reward = PointMass(n, seed=seed), quadratic_reward(goal, effort)
    first = obs = env.reset(seed=seed)[0]
    total = np.zeros(n)
    for _ in range(HORIZON):
        action = act(obs)
        total += reward(obs, action)
        obs = env.step(action)[0]
    return total, first


@settings(max_examples=20, deadline=None)
@given(goal=goals, effort=st.floats(EFFORT, 30))
def test_value_equals_rollouts(goal, effort):
    best = lqr(goal, effort)
    total, first = returns(best.act, goal, effort)
    np.testing.assert_allclose(best.value(first), total, atol=1e-9, rtol=0)


@settings(max_examples=20, deadline=None)
@given(goal=goals, seed=st.integers(0, 10**6), size=st.floats(1e-3, 0.1))
def test_no_change_of_gain_or_offset_improves_it(goal, seed, size):
    best = lqr(goal)
    rng = np.random.default_rng(seed)
    d_gain, d_offset = size * rng.normal(size=best.gain.shape), size * rng.normal(size=best.offset.shape)
    changed = type(best)(best.gain + d_gain, best.offset + d_offset, best.p, best.q, best.r)
    total, first = returns(changed.act, goal)
    # For every single start, not on average only; the box cannot help, as the optimum is inside.
    assert (total <= best.value(first) + 1e-12).all() and total.mean() < best.value(first).mean()


def test_the_optimum_never_meets_the_box():
    # Its actions are linear in (start, goal), so the largest over the box of both is the sum of absolute entries.
    x = np.concatenate([np.eye(4), np.zeros((4, 2))], 1)  # state as a linear map of (start, goal)
    unit = np.stack([lqr(goal).offset for goal in np.eye(2)], 2)  # [T,2,2], the offset is linear in the goal
    scale = np.array([START_POSITION] * 2 + [START_VELOCITY] * 2 + [1.0, 1.0])
    largest = 0.0
    for gain, offset in zip(lqr(np.zeros(2)).gain, unit, strict=True):
        u = -gain @ x - offset @ np.eye(6)[4:]
        largest = max(largest, (np.abs(u) @ scale).max())
        x = A @ x + B @ u
    assert 0.5 < largest < 1


def test_the_environment_pays_nothing_and_hides_the_goal():
    env = PointMass(4, seed=0)
    rng = np.random.default_rng(0)
    for t in range(2 * HORIZON):
        obs, reward, terminated, truncated, info = env.step(rng.uniform(-2, 2, (4, 2)))
        assert not reward.any() and not truncated.any() and obs.shape == (4, 5)
        assert terminated.all() == ("final_obs" in info) == ((t + 1) % HORIZON == 0)
    assert (info["final_obs"][:, 4] == 1).all() and (obs[:, 4] == -1).all()


def test_dynamics_are_those_of_a_pushed_point():
    env = PointMass(1, seed=0)
    env.reset(options={"state": np.array([[0.1, -0.2, 0.3, 0.4]])})
    obs = env.step(np.array([[0.5, -9.0]]))[0][0]  # -9 acts as -1: 10 and -20 m/s^2 during .1 s
    np.testing.assert_allclose(obs[:4], [0.1 + 0.03 + 0.05, -0.2 + 0.04 - 0.1, 1.3, -1.6], atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(before=st.integers(0, HORIZON - 1), seed=st.integers(0, 1000))
def test_resume_is_bit_identical(before, seed):
    rng = np.random.default_rng(seed)
    env, fresh = PointMass(3, seed=seed), PointMass(3, seed=seed + 1)
    for _ in range(before):
        env.step(rng.uniform(-1, 1, (3, 2)))
    fresh.load_state_dict(env.state_dict())
    for _ in range(HORIZON + 3):
        action = rng.uniform(-1, 1, (3, 2))
        np.testing.assert_array_equal(env.step(action)[0], fresh.step(action)[0])


def test_what_does_not_fit_is_named():
    env = PointMass(2, seed=0)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 2\)"):
        env.step(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="not all finite"):
        env.step(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="position and velocity"):
        env.reset(options={"state": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="at least 1"):
        PointMass(0, seed=0)
    with pytest.raises(ValueError, match="positive"):
        lqr(np.zeros(2), 0.0)
