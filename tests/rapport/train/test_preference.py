"""Runs in which people compare regret, or in which the policy is learned from comparisons directly."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied.episodes import Episode
from embodied.feedback import Feedback, Segments
from embodied.rewards.advantage import AdvantageEnsemble
from embodied.rewards.ensemble import RewardEnsemble
from policies.recorder import Trajectory
from rapport.train import METHODS, by_regret, contrast, pebble, surf, train
from rapport.train.contrastive import Contrast
from rapport.train.expert import advantages
from rapport.train.questions import groups
from rapport.train.spaces import world
from tests.rapport.train.test_training import OWN, SMALL, Stop, files, settings, stop_at

ROLLS = {"n_steps": 24, "batch_size": 24}


@pytest.mark.parametrize(
    ("method", "kwargs"), [(by_regret(pebble()), SMALL), (by_regret(surf()), SMALL), (contrast(), ROLLS)]
)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, method, kwargs):
    own = replace(settings(), method=method)
    whole = train(own, tmp_path / "whole", kwargs=kwargs)
    for index in (0, 1, 2):
        with pytest.raises(Stop):
            train(own, tmp_path / "part", told=stop_at(index), kwargs=kwargs)
    train(own, tmp_path / "part", kwargs=kwargs)
    assert files(tmp_path / "whole") == files(tmp_path / "part")
    assert whole.result["method"] == method.name and whole.result["budget"]["answered"] == 6


@pytest.mark.parametrize(("name", "kwargs", "rivals"), [("Line", SMALL, 8), ("Mixed", {**ROLLS, "n_epochs": 1}, 2)])
def test_by_regret_the_agent_is_paid_an_advantage(tmp_path, name, kwargs, rivals):
    trained = train(replace(settings(name), method=by_regret(pebble())), tmp_path, kwargs=kwargs)
    reward = trained.reward
    assert isinstance(reward, AdvantageEnsemble) and len(reward.rivals) == rivals
    obs = torch.randn(20, reward.obs_size)
    acts = reward.rivals[torch.arange(20) % rivals]
    assert (reward.paid(obs, acts) <= 0).all() and (reward.paid(obs, acts) < 0).any()


def test_actions_of_any_kind_are_drawn_within_their_bounds():
    assert (world(f"{OWN}:Mixed", {}, 12, 0).any_actions(9, 0) == np.eye(2)).all()
    drawn = world(f"{OWN}:Line", {}, 12, 0).any_actions(200, 0)
    assert drawn.shape == (200, 1) and drawn.min() < -0.9 and drawn.max() > 0.9 and np.abs(drawn).max() <= 1
    several = replace(world(f"{OWN}:Line", {}, 12, 0), actions=spaces.MultiDiscrete([2, 3])).any_actions(50, 0)
    assert several.shape == (50, 5) and (several[:, :2].sum(1) == 1).all() and (several[:, 2:].sum(1) == 1).all()


@pytest.mark.parametrize(("name", "sides"), [("Line", [[[1.0]], [[-1.0]]]), ("Mixed", [[[0.0, 1.0]], [[1.0, 0.0]]])])
def test_contrast_moves_the_policy_towards_what_was_preferred(tmp_path, name, sides):
    trained = train(replace(settings(name), method=contrast()), tmp_path, kwargs=ROLLS)
    assert isinstance(trained.reward, Contrast) and not hasattr(trained.reward, "reward")
    assert 0 <= trained.rows[-1]["metrics"]["agreement"] <= 1
    size = trained.actor.world.observations.shape[0]
    obs = torch.randn(40, 1, 6, size).expand(40, 2, 6, size)
    act, mask = torch.tensor(sides).expand(40, 2, 6, len(sides[0][0])), torch.ones(40, 2, 6, dtype=torch.bool)
    one, better = torch.ones(40), torch.tensor([1.0, 0.0]).expand(40, 2)
    told = Feedback(Segments(obs, act, mask, torch.zeros(40, 2, 6)), better, one, one.long(), one.bool())
    for _ in range(10):
        agrees = trained.reward.fit(told, np.random.default_rng(0))["agreement"]
    chosen = trained.actor.act(obs[:, 0, 0].numpy())
    assert agrees > 0.9 and (chosen > 0).mean() > 0.9


def test_clips_of_a_pair_are_equally_long_where_they_have_to_be():
    told = [Trajectory(n, np.zeros((n, 2)), np.zeros((n, 1)), np.zeros(n), True) for n in range(3, 12)]
    for equal in (True, False):
        where = groups(told, 50, 2, 8, np.random.default_rng(0), equal)
        length = where[..., 2] - where[..., 1]
        assert (length[:, 0] == length[:, 1]).all() == equal and length.max() == 8 and len(np.unique(length)) > 3
        assert (where[..., 2] <= where[..., 0] + 3).all() and (where[..., 1] >= 0).all()


def test_a_teacher_by_regret_asks_an_expert(tmp_path):
    told = []
    own = replace(settings(clip=4), judged_by="regret", teacher="mistake")
    trained = train(own, tmp_path / "run", says=told.append, kwargs=SMALL)
    assert "First an expert" in told[0] and trained.result["budget"]["asked"] == 6
    again = replace(own, expert=str(tmp_path / "run" / "expert"))
    train(again, tmp_path / "second", says=told.append, kwargs=SMALL)
    assert len([sentence for sentence in told if "First" in sentence]) == 1
    rounds = [(tmp_path / n / "rounds.json").read_text() for n in ("run", "second")]
    assert rounds[0] == rounds[1]
    with pytest.raises(ValueError, match=r"learned .*Line by pebble"):
        train(replace(own, expert=str(tmp_path / "run")), tmp_path / "third", kwargs=SMALL)
    with pytest.raises(ValueError, match="is not finished"):
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "config.json").write_text((tmp_path / "run" / "expert" / "config.json").read_text())
        train(replace(own, expert=str(tmp_path / "part")), tmp_path / "third", kwargs=SMALL)
    with pytest.raises(ValueError, match="a run of an earlier version, whose settings say nothing of answers, steps"):
        old = {"env": own.env, "env_kwargs": {}, "method": {"reward": "true"}}
        (tmp_path / "part" / "config.json").write_text(json.dumps(old))
        (tmp_path / "part" / "result.json").write_text("{}")
        train(replace(own, expert=str(tmp_path / "part")), tmp_path / "third", kwargs=SMALL)
    with pytest.raises(ValueError, match="is no run"):
        train(replace(own, expert=str(tmp_path / "nowhere")), tmp_path / "third", kwargs=SMALL)


def test_advantages_are_reward_and_value_ahead_less_value():
    obs = np.array([[4.0], [2.0], [1.0]])
    info = {"reward": np.array([1.0, 2.0, 3.0])}
    over = Episode("a", obs, np.zeros((3, 1)), info, True)
    of = advantages(lambda obs: obs[:, 0], 0.5)
    np.testing.assert_allclose(of(over), [1 + 1 - 4, 2 + 0.5 - 2, 3 - 1])
    np.testing.assert_allclose(of(replace(over, terminated=False))[-1], 0)


def test_what_cannot_be_combined_is_refused(tmp_path):
    with pytest.raises(ValueError, match="an advantage is of single steps"):
        by_regret(METHODS["transformer"]())
    with pytest.raises(ValueError, match="take contrast"):
        replace(pebble(), preference="cpl")
    with pytest.raises(ValueError, match="says itself what it pays"):
        make = RewardEnsemble
        train(
            replace(settings(), method=by_regret(pebble())),
            tmp_path / "c",
            reward=lambda o, a, s: make(o, a),
            kwargs=SMALL,
        )
    with pytest.raises(ValueError, match="shows frames, and advantages are of vectors"):
        train(replace(settings("Frames"), method=by_regret(pebble())), tmp_path / "d")
    with pytest.raises(ValueError, match="its thresholds are shares of a return"):
        settings(judged_by="regret", teacher="skip")
    with pytest.raises(ValueError, match="give judged_by regret too"):
        settings(expert="somewhere")
    with pytest.raises(ValueError, match="no algorithm of stable-baselines3"):
        train(replace(settings(algorithm="ppo"), method=contrast()), tmp_path / "a")
    with pytest.raises(ValueError, match="leave yours out"):
        train(replace(settings(), method=contrast()), tmp_path / "b", loss=lambda a, b: (b - a).exp(), kwargs=ROLLS)
