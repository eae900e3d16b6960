import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.pixels.nuisance import HEAVY
from envs.pixels.sweep import SweepEnv
from envs.pixels.sweep_physics import BODIES, placed
from envs.pixels.sweep_scripts import SCRIPTS, films, played
from envs.pixels.sweep_tasks import TASKS, WIDTH, rewards, setup_of, start, success
from envs.state import check


@pytest.mark.filterwarnings("ignore:.*alternative render modes")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("body", BODIES)
def test_gymnasium_and_a_saved_state_agree(task, body):
    check_env(SweepEnv(task, body, "heavy", render_mode="rgb_array"))
    found = check(lambda: SweepEnv(task, body, shape="square"))
    assert found.exact and not found.warnings


def walk(env, actions):
    """What an environment tells and shows of some actions."""
    told = []
    for action in actions:
        obs, reward, over, _, info = env.step(action)
        told.append((obs.tobytes(), reward, over, info["success"], env.render().tobytes()))
        if over:
            env.reset()
    return told


def test_the_same_seed_is_the_same_film_and_so_is_a_restored_one():
    make = lambda: SweepEnv("grouping", "gripper", "heavy", render_mode="rgb_array")  # noqa: E731
    one, other, late = make(), make(), make()
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    one.reset(seed=4), other.reset(seed=4), late.reset(seed=9)
    before = walk(one, actions[:27])
    assert walk(other, actions[:27]) == before
    late.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(late.render(), one.render())
    assert walk(late, actions[27:]) == walk(one, actions[27:])
    other.reset(seed=5)
    assert walk(other, actions[:27]) != before


def test_nuisance_is_in_the_picture_only():
    envs = [SweepEnv("avoiding", "long", level, render_mode="rgb_array") for level in ("none", HEAVY)]
    for env in envs:
        env.reset(seed=1)
    for action in np.random.default_rng(2).uniform(-1, 1, (20, 2)):
        (obs, *rest), (same, *also) = (env.step(action) for env in envs)
        np.testing.assert_array_equal(obs, same)
        assert rest == also
        assert (envs[0].render() != envs[1].render()).mean() > 0.5


@pytest.mark.parametrize("task", TASKS)
def test_the_environment_pays_what_the_films_say(task):
    setup, rng = setup_of(task, "medium"), np.random.default_rng(3)
    for script in SCRIPTS[task].values():
        begun = start(task, setup, "wide", rng)
        act, states = played(setup, begun, script(setup, begun, 20, rng), 20)
        env = SweepEnv(task, "medium")
        env.reset(seed=0, options={"state": begun})
        steps = [env.step(a) for a in act]
        np.testing.assert_allclose([step[1] for step in steps], rewards(task, setup, states), rtol=1e-12)
        assert steps[-1][4]["success"] == success(task, setup, states)
        assert [step[2] for step in steps] == [False] * 19 + [True]


def test_even_coverage_is_worth_nearly_nothing_less_and_standing_still_fails():
    for body in BODIES:
        env = SweepEnv("covering", body)
        begun = placed(env.setup, [-WIDTH, -0.8], [[-0.2, -0.3], [0.2, -0.3]])
        grid = np.linspace(-WIDTH, WIDTH, 20)
        for even in (True, False):
            obs, _ = env.reset(seed=0, options={"state": begun})
            for x in grid:
                move = (x - obs[0]) / 0.2 if even else 0.0
                obs, reward, _, _, info = env.step(np.array([move, 0, 0])[: env.setup.actions])
            assert info["success"] == even
            assert (reward > -0.03) if even else reward == pytest.approx(-WIDTH, abs=0.01)
    for task in ("avoiding", "grouping"):
        env = SweepEnv(task)
        env.reset(seed=0)
        assert not [env.step(np.zeros(2)) for _ in range(20)][-1][4]["success"]


def test_any_length_and_size():
    env = SweepEnv(steps=7, size=96, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (96, 96, 3)
    assert [env.step(np.ones(2))[2] for _ in range(7)] == [False] * 6 + [True]
    with pytest.raises(RuntimeError, match="7 steps is over"):
        env.step(np.ones(2))
    assert SweepEnv().render() is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "pushing"}, "'pushing'"),
        ({"body": "wide"}, "'wide'"),
        ({"shape": "flat"}, "'flat'"),
        ({"nuisance": "some"}, "'some'"),
        ({"starts": "any"}, "'any'"),
        ({"size": 4}, "size is 4"),
        ({"steps": 1}, "steps is 1"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_bad_settings_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        SweepEnv(**wrong)


def test_bad_actions_and_states_are_named():
    env = SweepEnv(body="gripper", render_mode="rgb_array")
    with pytest.raises(RuntimeError, match="reset"):
        env.render()
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(3))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="give 3 finite numbers"):
        env.step(np.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.array([0, np.nan, 0]))
    with pytest.raises(ValueError, match=r"shape \(4, 6\)"):
        env.reset(options={"state": np.zeros((2, 6))})


def test_films_are_the_same_for_the_same_stream_and_differ_between_videos():
    one, same = (films("avoiding", "short", 4, np.random.default_rng(0), nuisance="heavy") for _ in range(2))
    for name in ("frames", "act", "state", "reward", "success"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert len(np.unique(one.reward.sum(1))) == 4
