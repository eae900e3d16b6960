"""TableEnv as it is played: the same again, saved and gone on, and what pushes what."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.pixels.table import TableEnv
from envs.pixels.table_arms import ARMS
from envs.pixels.table_model import FENCE, GOAL, RADIUS
from envs.pixels.table_scripts import follow, hand_of, objects_of, path
from envs.state import check

TASKS = ("group", "clutter", "wipe")


def play(env, seed, actions):
    told = [env.reset(seed=seed)[0]]
    for action in actions:
        obs, reward, *_ = env.step(action)
        told += [obs, reward]
    return np.concatenate([np.ravel(part) for part in told])


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_and_a_resumed_run_find_nothing_wrong(task, arm):
    check_env(TableEnv(task, arm), skip_render_check=True)
    found = check(lambda: TableEnv(task, arm), steps=40)
    assert found.exact and not found.warnings


def test_the_same_seed_gives_the_same_episode_and_another_another():
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    one, other = TableEnv("clutter", "kuka"), TableEnv("clutter", "kuka", nuisance="heavy")
    first = play(one, 3, actions)
    np.testing.assert_array_equal(first, play(one, 3, actions))
    np.testing.assert_array_equal(first, play(other, 3, actions))  # nuisance is only to be seen
    assert not np.array_equal(first, play(one, 4, actions))


@pytest.mark.parametrize("arm", ARMS)
def test_pushing_both_to_the_line_from_behind_succeeds(arm):
    env, done = TableEnv("group", arm), []
    for seed in range(5):
        obs, _ = env.reset(seed=seed)
        at = objects_of("group", obs)
        if abs(at[0, 1] - at[1, 1]) > 0.14:  # one push takes only what the tool is wide enough for
            continue
        middle = at[:, 1].mean()
        way = path(hand_of(obs), np.array([[0.37, middle], [GOAL - RADIUS - 0.02, middle]]), env.steps)
        total = 0.0
        for target in way:
            obs, reward, over, _, info = env.step(follow(hand_of(obs), target))
            total += reward
        assert over and np.isfinite(total)
        done.append(info["success"])
    assert len(done) >= 2 and all(done)


def test_objects_move_only_when_they_are_pushed_and_stay_on_the_table():
    env = TableEnv("clutter", "franka")
    obs, _ = env.reset(seed=0)
    rests = env.step(np.zeros(2))[0]
    np.testing.assert_allclose(rests[2:14], obs[2:14], atol=1e-6)
    rng = np.random.default_rng(0)
    for k in range(200):
        if k % 45 == 0:
            env.reset(seed=k)
        if k % 6 == 0:
            action = rng.choice([-1.0, 1.0], 2)
        env.step(action)
        places = env.qpos[:18].reshape(6, 3)
        for axis, (low, high) in enumerate(FENCE):
            assert (places[:, axis] > low - 0.01).all() and (places[:, axis] < high + 0.01).all()


@pytest.mark.parametrize("arm", ARMS)
def test_what_is_pushed_does_not_fly_on(arm):
    """Two objects squeezed in a bent blade once popped out of it."""
    env = TableEnv("group", arm)
    for seed in range(8):
        obs, _ = env.reset(seed=seed)
        middle = objects_of("group", obs)[:, 1].mean()
        for target in path(hand_of(obs), np.array([[0.37, middle], [0.60, middle]]), 25):
            obs = env.step(follow(hand_of(obs), target))[0]
        after = objects_of("group", obs)
        assert (after[:, 0] - hand_of(obs)[0] < 0.14).all()
        later = objects_of("group", env.step(np.zeros(2))[0])
        assert np.abs(later - after).max() < 5e-3


def test_wiping_is_paid_at_the_end_only():
    env = TableEnv("wipe", "franka", steps=6)
    env.reset(seed=0)
    rewards = [env.step(np.array([0.0, 1.0]))[1] for _ in range(6)]
    assert rewards[:5] == [0.0] * 5 and rewards[5] < 0
    with pytest.raises(RuntimeError, match=r"6 steps .* reset"):
        env.step(np.zeros(2))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "stack"}, "'stack'; take one of group, clutter, wipe"),
        ({"arm": "ur5"}, "'ur5'; take one of franka, kuka"),
        ({"camera": "left"}, "'left'; take one of front, top"),
        ({"nuisance": "much"}, "'much'"),
        ({"size": 8}, "size is 8"),
        ({"steps": 1}, "steps is 1"),
        ({"steps": 0}, "steps is 0"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_what_does_not_fit_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        TableEnv(**wrong)


def test_wrong_actions_are_named():
    env = TableEnv()
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    for wrong in (np.zeros(3), np.array([np.nan, 0.0])):
        with pytest.raises(ValueError, match="2 finite numbers"):
            env.step(wrong)
    assert env.render() is None
