import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.arm import HORIZON, CupArm, CupArms, Layouts, decode, draw
from envs.arm_control import JOINT_SPEED, RADIUS_GUARD, TILT_GUARD, Z_GUARD
from envs.arm_model import REST
from envs.carriers import Carrier, careful, hurried


def rollout(arms: CupArms, carrier: Carrier, obs: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Decoded observations [n,81,...], rewards [n,80] and success [n] of a whole episode."""
    seen, rewards = [], []
    for _ in range(HORIZON):
        seen.append(obs)
        obs, reward, _, _, info = arms.step(carrier(obs))
        rewards.append(reward)
    seen.append(info["final_obs"])
    return decode(np.stack(seen, 1)), np.stack(rewards, 1), info["success"]


def over_laptop(seen: dict[str, np.ndarray]) -> np.ndarray:
    """[n,81] m, how deep the cup's centre is inside the laptop's outline (negative: outside)."""
    x, y = -seen["laptop_offset"][..., 0], -seen["laptop_offset"][..., 1]
    return np.minimum(0.11 - np.abs(x + 0.02), 0.16 - np.abs(y))


def test_reset_puts_the_cup_where_the_layout_says_and_upright():
    arms = CupArms(64, seed=0)
    layouts = draw(np.random.default_rng(7), 64)
    obs, _ = arms.reset(options={"layouts": layouts})
    seen = decode(obs)
    assert np.abs(seen["cup"] - layouts.start).max() < 1e-3
    assert np.rad2deg(seen["tilt"]).max() < 0.1
    np.testing.assert_allclose(seen["goal_offset"], layouts.goal - layouts.start, atol=1e-3)
    np.testing.assert_allclose(seen["laptop_offset"], layouts.laptop - layouts.start[:, :2], atol=1e-3)
    assert np.abs(seen["velocity"]).max() == 0 and np.abs(seen["last_action"]).max() == 0
    assert (seen["clock"] == 0).all()


def test_the_observation_agrees_with_the_physics_while_moving():
    arms = CupArms(3, seed=1)
    rng = np.random.default_rng(0)
    for _ in range(8):
        obs = arms.step(rng.uniform(-1, 1, (3, 5)))[0]
    action = rng.uniform(-0.3, 0.3, (3, 5)) * [1, 1, 1, 1, 5]
    for _ in range(4):
        before = decode(obs)["cup"]
        obs = arms.step(action)[0]
    seen = decode(obs)
    for i in range(3):
        data = mujoco.MjData(arms.model)
        data.qpos[:] = arms.qpos[i]
        mujoco.mj_kinematics(arms.model, data)
        np.testing.assert_allclose(seen["cup"][i], data.site("cup").xpos, atol=1e-6)
        up = data.site("cup").xmat[2::3]
        np.testing.assert_allclose(seen["opening"][i], up, atol=1e-6)
        np.testing.assert_allclose(seen["tilt"][i], np.arccos(up[2]), atol=1e-5)
    np.testing.assert_allclose(seen["joints"], arms.qpos, atol=1e-6)
    np.testing.assert_allclose(seen["last_action"], np.clip(action, -1, 1), atol=1e-6)
    # The action is held, so the velocity hardly changes within a step.
    np.testing.assert_allclose(seen["velocity"], (seen["cup"] - before) * 20, atol=0.02)
    np.testing.assert_allclose(seen["clock"], 12, atol=1e-5)


def test_command_moves_the_cup_as_the_finite_difference_jacobian_says():
    arms = CupArms(4, seed=2)
    rng = np.random.default_rng(1)
    for _ in range(10):
        arms.step(rng.uniform(-0.5, 0.5, (4, 5)))

    def pose(q: np.ndarray) -> np.ndarray:
        data = mujoco.MjData(arms.model)
        data.qpos[:] = q
        mujoco.mj_kinematics(arms.model, data)
        return np.concatenate([data.site("cup").xpos, data.site("cup").xmat])

    action = np.array([0.3, -0.4, 0.2, 0.5, -0.3])
    speed = arms.command(np.tile(action, (4, 1)))
    step = 1e-5
    for i, q in enumerate(arms.qpos):
        columns = [(pose(q + step * e) - pose(q - step * e)) / (2 * step) for e in np.eye(7)]
        jacobian = np.stack(columns, 1)  # [12,7]
        matrix = pose(q)[3:].reshape(3, 3)
        turns = []
        for j in range(7):  # dR = [w]x R
            cross = jacobian[3:, j].reshape(3, 3) @ matrix.T
            turns.append([cross[2, 1], cross[0, 2]])
        full = np.concatenate([jacobian[:3], np.array(turns).T])  # [5,7]
        np.testing.assert_allclose(arms.jacobian[i], full, atol=1e-7)
        wanted = action * [0.6, 0.6, 0.6, 1.8, 1.8]
        pull = 0.5 * (REST - q) * [0, 1, 1, 1, 1, 1, 1]
        inverse = full.T @ np.linalg.inv(full @ full.T + 1e-3 * np.eye(5))
        by_hand = inverse @ wanted + (np.eye(7) - inverse @ full) @ pull
        np.testing.assert_allclose(speed[i], by_hand, atol=1e-6)
        np.testing.assert_allclose(full @ speed[i], wanted, atol=0.03)


def test_command_is_pure_and_capped():
    arms, twin = CupArms(5, seed=3), CupArms(5, seed=3)
    rng = np.random.default_rng(2)
    for _ in range(HORIZON + 5):
        action = rng.uniform(-1, 1, (5, 5))
        speed = arms.command(action)
        assert np.abs(speed).max() <= JOINT_SPEED + 1e-12
        np.testing.assert_array_equal(speed, arms.command(action))
        arms.command(rng.uniform(-1, 1, (5, 5)))
        for left, right in zip(arms.step(action)[:2], twin.step(action)[:2], strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("hold", [1, 20, 80])
def test_guards_hold_under_random_actions(hold):
    arms = CupArms(32, seed=4)
    rng = np.random.default_rng(3)
    cups, tilts = [], []
    for k in range(3 * HORIZON):
        if k % hold == 0:
            action = rng.uniform(-3, 3, (32, 5))
        seen = decode(arms.step(action)[0])
        cups.append(seen["cup"])
        tilts.append(seen["tilt"])
    cup = np.concatenate(cups)
    radius = np.hypot(cup[:, 0], cup[:, 1])
    # Soft by some overshoot: the arm lags behind its command, most where it is stretched out.
    assert np.rad2deg(np.max(tilts)) < np.rad2deg(TILT_GUARD) + 6
    assert RADIUS_GUARD[0] - 0.03 < radius.min() and radius.max() < RADIUS_GUARD[1] + 0.04
    assert Z_GUARD[0] - 0.06 < cup[:, 2].min() and cup[:, 2].max() < Z_GUARD[1] + 0.08
    for values, (low, high) in ((radius, RADIUS_GUARD), (cup[:, 2], Z_GUARD)):
        assert np.mean((values < low - 0.02) | (values > high + 0.02)) < 0.01


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    rng = np.random.default_rng(5)
    actions = rng.uniform(-1, 1, (HORIZON + 10, 6, 5))

    def run(seed: int) -> np.ndarray:
        arms = CupArms(6, seed=seed)
        return np.stack([arms.step(action)[0] for action in actions])

    np.testing.assert_array_equal(run(1), run(1))
    assert np.abs(run(1) - run(2)).max() > 0.01


@settings(max_examples=5, deadline=None)
@given(before=st.integers(0, HORIZON - 1), seed=st.integers(0, 1000))
def test_resume_in_the_middle_of_an_episode_is_bit_identical(before, seed):
    rng = np.random.default_rng(seed)
    arms = CupArms(3, seed=seed)
    for _ in range(before):
        arms.step(rng.uniform(-1, 1, (3, 5)))
    state = arms.state_dict()
    fresh = CupArms(3, seed=seed + 1)
    fresh.step(np.ones((3, 5)))
    fresh.load_state_dict(state)
    np.testing.assert_array_equal(arms.command(np.ones((3, 5))), fresh.command(np.ones((3, 5))))
    for _ in range(HORIZON + 3):  # over the end of this episode, into layouts that are yet to be drawn
        action = rng.uniform(-1, 1, (3, 5))
        left, right = arms.step(action), fresh.step(action)
        for a, b in zip(left[:4], right[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        assert left[4].keys() == right[4].keys()
        for key in left[4]:
            np.testing.assert_array_equal(left[4][key], right[4][key])
    assert state["t"] == before  # a saved state is a copy, not a view


def test_careful_carrier_meets_everything_on_every_layout():
    arms = CupArms(64, seed=6)
    seen, rewards, success = rollout(arms, careful(), arms.reset(seed=6)[0])
    assert success.all()
    assert over_laptop(seen).max() < -0.03  # not even within the 3 cm margin
    assert np.rad2deg(seen["tilt"].mean(1)).max() < 10
    assert rewards.shape == (64, 80)


def test_hurried_carrier_does_the_task_and_fails_both_wishes():
    arms = CupArms(64, seed=6)
    seen, _, success = rollout(arms, hurried(np.random.default_rng(0), 64), arms.reset(seed=6)[0])
    assert success.all()
    assert (over_laptop(seen).max(1) > 0).all()
    assert (np.rad2deg(seen["tilt"].mean(1)) > 30).all()
    # Leant towards the motion: the opening points along the way to the goal.
    way = seen["goal_offset"][:, 0, :2]
    way = way / np.linalg.norm(way, axis=1, keepdims=True)
    lean = seen["opening"][:, 40, :2]
    assert (np.einsum("ni,ni->n", lean / np.linalg.norm(lean, axis=1, keepdims=True), way) > np.cos(0.35)).all()


def test_the_reward_pays_for_the_goal_and_leaves_the_way_free():
    arms = CupArms(8, seed=8)
    layouts = draw(np.random.default_rng(0), 8)
    seen, rewards, _ = rollout(arms, careful(), arms.reset(options={"layouts": layouts})[0])
    distance = np.linalg.norm(seen["goal_offset"], axis=-1)
    before, after = distance[:, :-1], distance[:, 1:]
    late = np.arange(HORIZON)
    by_hand = 3 * (before - 0.99 * after) + 0.15 * np.exp(-((after / 0.06) ** 2)) * (late >= 60)
    by_hand = by_hand + 0.4 * (after < 0.05) * (late >= 75)
    np.testing.assert_allclose(rewards, by_hand, atol=1e-5)
    # Potential shaping: its discounted sum depends on the two ends only (Ng et al. 1999).
    shaping = (0.99**late * 3 * (before - 0.99 * after)).sum(1)
    np.testing.assert_allclose(shaping, 3 * (distance[:, 0] - 0.99**HORIZON * distance[:, -1]), atol=1e-9)


def test_success_means_the_last_five_steps():
    def final(leave: int) -> bool:
        arms = CupArms(1, seed=9)
        obs, _ = arms.reset(seed=9)
        carrier = careful()
        for t in range(HORIZON):
            away = np.array([[-1.0, 0, 0, 0, 0]])
            obs, _, _, _, info = arms.step(away if t >= leave else carrier(obs))
        return bool(info["success"][0])

    assert final(HORIZON) and not final(HORIZON - 6)


def test_an_episode_ends_as_terminated_and_shows_its_last_observation():
    arms = CupArms(2, seed=10)
    for t in range(HORIZON):
        obs, _, terminated, truncated, info = arms.step(np.zeros((2, 5)))
        assert not truncated.any() and terminated.all() == (t == HORIZON - 1)
    assert (decode(info["final_obs"])["clock"] == HORIZON).all() and (decode(obs)["clock"] == 0).all()
    assert not np.array_equal(info["final_obs"][:, :3], obs[:, :3])
    assert info["final_qpos"].shape == (2, 7) and not info["success"].any()


def test_the_single_arm_passes_gymnasiums_checks():
    env = gymnasium.make("rapport/CupArm-v0")
    check_env(env.unwrapped, skip_render_check=True)
    obs, _ = env.reset(seed=0)
    carrier = careful()
    for _ in range(HORIZON):
        obs, _, terminated, truncated, info = env.step(carrier(obs[None])[0].astype(np.float32))
    assert terminated and not truncated and info["success"]
    assert decode(obs)["clock"] == HORIZON
    with pytest.raises(RuntimeError, match="call reset"):
        env.unwrapped.step(np.zeros(5, np.float32))


def test_unseeded_single_arms_differ():
    first, second = CupArm(), CupArm()
    assert not np.array_equal(first.reset()[0], second.reset()[0])


def test_what_does_not_fit_is_named():
    arms = CupArms(3, seed=0)
    with pytest.raises(ValueError, match=r"shape \(2, 5\).*\(3, 5\)"):
        arms.step(np.zeros((2, 5)))
    bad = np.zeros((3, 5))
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"action of arm 1 is .*nan"):
        arms.step(bad)
    with pytest.raises(ValueError, match="arm 1"):
        arms.command(bad)
    assert arms.t == 0
    with pytest.raises(ValueError, match="at least 1"):
        CupArms(0, seed=0)
    with pytest.raises(ValueError, match="2 layouts for 3 arms"):
        arms.reset(options={"layouts": arms.layouts[:2]})
    with pytest.raises(ValueError, match="give envs"):
        arms.reset(options={"layouts": {"start": 1}})
    with pytest.raises(ValueError, match="goal has shape"):
        Layouts(np.zeros((2, 3)), np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="not finite"):
        Layouts(np.full((2, 3), np.nan), np.zeros((2, 3)), np.zeros((2, 2)))
    far = Layouts(np.full((3, 3), 2.0), np.zeros((3, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="out of the arm's reach"):
        arms.reset(options={"layouts": far})
    with pytest.raises(ValueError, match=r"CupArms\(2\)"):
        arms.load_state_dict(CupArms(2, seed=0).state_dict())
    with pytest.raises(ValueError, match="last axis must be 26"):
        decode(np.zeros((4, 25)))


def test_layouts_are_chosen_by_row():
    layouts = draw(np.random.default_rng(0), 5)
    assert len(layouts) == 5 and len(layouts[2]) == 1 and len(layouts[1:4]) == 3
    np.testing.assert_array_equal(layouts[np.array([3, 0])].goal, layouts.goal[[3, 0]])
    np.testing.assert_array_equal(layouts[2].laptop[0], layouts.laptop[2])
