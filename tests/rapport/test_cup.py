"""The main job's parts: people, features, clips that are varied on purpose, budgets, and the refusal of nonsense."""

import numpy as np
import pytest

from embodied.episodes import Episodes
from embodied.feedback import stack
from embodied.records import Segment
from embodied.rewards.additive import Additive
from envs.arm import HORIZON, CupArms, draw
from envs.arm_task import LAPTOP_SHIFT
from envs.carriers import careful, hurried
from rapport.cup import people, pools
from rapport.cup.agent import CupAgent, Recipe, held_out, queries
from rapport.cup.features import FEATURES, GROUPS, PRIOR, TILT_KNOTS, covariance, step_features, tilt_features
from rapport.cup.measure import measure
from rapport.cup.train import Settings

ARMS = 16


@pytest.fixture(scope="module")
def envs():
    return CupArms(ARMS, seed=0)


@pytest.fixture(scope="module")
def episodes(envs):
    """The careful and the hurried carrier on the same layouts."""
    layouts = draw(np.random.default_rng(3), 2 * ARMS)
    rng = np.random.default_rng(0)
    return {
        "careful": pools.roll_out(envs, layouts, [careful()], None, rng),
        "hurried": pools.roll_out(envs, layouts, [hurried(rng, ARMS)], None, rng),
    }


def test_the_wishes_tell_a_careful_carrier_from_a_hurried_one(episodes):
    good, bad = (measure(people.CAREFUL, episodes[name]) for name in ("careful", "hurried"))
    assert (good.wishes, good.task, good.whole_cup) == (1, 1, 1) and good.depth < -people.CUP_RADIUS
    assert bad.wishes == 0 and bad.task == 1 and bad.each == {"around the laptop": 0, "upright": 0}
    assert 0.8 < bad.path < 0.95 and 35 < bad.tilt < 50


def test_each_person_likes_what_they_wish_for(episodes):
    good, bad = episodes["careful"], episodes["hurried"]
    for person, around in ((people.CAREFUL, 1), (people.SHORT, -1)):
        likes = [person.liking(e.obs.astype(float), e.act.astype(float)).sum(-1) for e in (good, bad)]
        assert (likes[0] > likes[1]).all(), "both want the cup upright more than anything"
        level = good.obs.astype(float).copy()
        straight = bad.obs.astype(float).copy()
        level[..., 3:5] = straight[..., 3:5] = 0  # posture set aside, only the way is left
        gap = person.liking(level, good.act) - person.liking(straight, bad.act)
        assert (around * gap.sum(-1) > 0).mean() > 0.9


def test_shapes_of_utilities_and_the_known_corners():
    obs = np.zeros((4, 26))
    obs[:, 11] = 2 * -LAPTOP_SHIFT  # cup in the middle of the laptop: offset is laptop minus cup, doubled
    np.testing.assert_allclose(people.depth(obs), 0.11)
    obs[:, 3] = 1.5 * np.sin(np.radians(40))
    np.testing.assert_allclose(people.tilt(obs), 40)
    liking = people.CAREFUL.liking(obs, np.zeros((4, 5)))
    np.testing.assert_allclose(liking, -3 / (1 + np.exp(-0.14 / 0.03)) - 1)


def test_features_are_what_they_are_called():
    assert FEATURES.size == 136 and step_features(np.zeros((3, 7, 26)), np.zeros((3, 7, 5))).shape == (3, 7, 136)
    curve = tilt_features(TILT_KNOTS)
    np.testing.assert_allclose(curve[:, 1:].sum(1), np.arange(9))  # each piece is passed once
    np.testing.assert_allclose(curve[:, 0], TILT_KNOTS / 40)
    cov = covariance(PRIOR.default)
    assert np.linalg.eigvalsh(cov).min() > 0
    for a in GROUPS.values():  # groups are independent a priori
        others = np.ones(136, bool)
        others[a] = False
        assert not cov[a][:, others].any()


def test_differences_of_clips_equal_the_sums_over_stacked_segments(episodes, tmp_path):
    pool = episodes["hurried"]
    c = pools.candidates(np.random.default_rng(1), len(pool.obs) // pools.VARIANTS)
    chosen = list(range(0, len(c), 5))
    asked = queries(pool, c, chosen, 3, Episodes(tmp_path))
    total = FEATURES.total(stack(asked))
    np.testing.assert_allclose(pools.differences(pool, c)[chosen], total[:, 0] - total[:, 1], atol=1e-9)
    assert all(len(q.segments[0]) == len(q.segments[1]) for q in asked)


def test_candidates_share_layout_and_window_and_swap_sides():
    c = pools.candidates(np.random.default_rng(0), 50)
    assert len(c) == 50 * 6 * 2 and (c.first // 4 == c.second // 4).all() and (c.first != c.second).all()
    assert set(np.unique(c.stop - c.start)) == {pools.CLIP, HORIZON} and c.stop.max() <= HORIZON
    assert 0.4 < (c.first > c.second).mean() < 0.6


def test_a_factorial_pool_varies_one_thing_at_a_time(envs):
    rng, n = np.random.default_rng(5), 8
    variation = pools.factorial(rng, n, 0.9)
    layouts = draw(rng, n)[np.repeat(np.arange(n), 4)]
    pool = pools.roll_out(envs, layouts, [careful()], variation, rng)
    cup = pool.obs[..., :3].reshape(n, 4, HORIZON, 3).astype(float)
    tilt = people.tilt(pool.obs.astype(float)).reshape(n, 4, HORIZON)
    posture_only = np.linalg.norm(cup[:, 0] - cup[:, 1], axis=-1).max(-1)
    path_too = np.linalg.norm(cup[:, 0] - cup[:, 2], axis=-1).max(-1)
    assert posture_only.mean() < 0.35 * path_too.mean()
    held = tilt[:, [1, 3], 40:].mean(-1)
    wanted = np.degrees(np.arccos(variation.opening[:, 2])).reshape(n, 4)[:, 1]
    assert np.abs(held - wanted[:, None]).mean() < 8


def test_roll_out_needs_whole_batches(envs):
    with pytest.raises(ValueError, match=r"17 layouts on 16 arms: give a multiple of 16"):
        pools.roll_out(envs, draw(np.random.default_rng(0), 17), [careful()], None, np.random.default_rng(0))


def test_later_questions_keep_their_turns():
    rng = np.random.default_rng(2)
    kind = np.repeat([0, 1, 2], 16)
    c = pools.candidates(rng, len(kind))
    x = rng.normal(size=(len(c), 136))
    chosen = pools.choose_later(Additive(FEATURES, PRIOR), x, c, kind, 5)
    assert [int(kind[c.layout[i]]) for i in chosen][:3] == [1, 1, 2] and kind[c.layout[chosen[4]]] == 2
    assert c.pair[chosen[1]] in (0, 5) and len({int(c.layout[i]) for i in chosen}) == 5


@pytest.mark.parametrize("answers", [10, 25, 50, 100, 200, 333, 500])
def test_a_schedule_spends_the_budget_and_the_same_training(answers):
    recipe = Recipe()
    rounds = recipe.schedule(answers)
    assert sum(r.questions for r in rounds) == answers
    assert sum(r.steps for r in rounds) == recipe.total_updates * recipe.arms * HORIZON
    assert all(r.questions > 0 for r in rounds) or answers < 25


def test_budgets_people_and_seeds_that_cannot_be_are_refused():
    for wrong, sentence in (
        (dict(answers=3), r"budget of 3 answers cannot be spent here: give 10 to 500"),
        (dict(answers=-1), r"budget of -1 answers"),
        (dict(answers=10_000), r"budget of 10000 answers"),
        (dict(person="nobody"), r"Nobody is called 'nobody': ask one of careful, short"),
        (dict(seed=-1), r"The seed is -1"),
        (dict(held_out=100), r"100 held-out layouts on 64 arms"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Settings(**wrong)


def test_held_out_layouts_are_their_own():
    a, b = held_out(0, 8), CupAgent(Recipe(arms=8, clone_episodes=8, clone_steps=1), 0).own_layouts
    assert not np.isin(a.start, b.start).any()
    np.testing.assert_array_equal(a.goal, held_out(0, 8).goal)


def test_a_person_judges_a_segment_the_task_included():
    obs = np.zeros((3, 26))
    obs[:, 8] = 2 * np.array([0.3, 0.2, 0.1])  # 20 cm nearer to the goal
    segment = Segment("e", 0, 3, obs, np.zeros((3, 5)))
    without = float(people.CAREFUL.liking(obs, np.zeros((3, 5))).sum())
    arrived = 0.2 * np.exp(-((np.array([0.3, 0.2, 0.1]) / 0.06) ** 2)).sum()
    assert abs(people.CAREFUL.utility(segment) - without - 10 * 0.2 - arrived) < 1e-9


@pytest.mark.parametrize("name", people.PEOPLE)
def test_the_true_reward_of_single_steps(name):
    obs = np.zeros((3, 26))
    obs[:, 11] = 10.0  # the laptop is far away
    obs[1, 3] = 1.5 * np.sin(np.radians(40))
    reward = people.TrueReward(people.PEOPLE[name]).reward(obs, np.zeros((3, 5)))
    assert reward.shape == (3,) and reward[1] - reward[0] == pytest.approx(-1)
