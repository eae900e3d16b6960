"""Runs in which people compare regret, or in which the policy is learned from comparisons directly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embodied.episodes import Episode
from rapport.train import METHODS, by_regret, contrast, surf, train
from rapport.train.contrastive import Contrast
from rapport.train.expert import advantages
from tests.rapport.train.test_training import SMALL, Stop, files, settings, stop_at

ROLLS = {"n_steps": 24, "batch_size": 24}


@pytest.mark.parametrize(
    ("method", "kwargs"), [(by_regret(METHODS["pebble"]()), SMALL), (by_regret(surf()), SMALL), (contrast(), ROLLS)]
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


def test_regret_counts_from_the_first_reward_on_and_with_the_agents_own_values(tmp_path):
    trained = train(replace(settings(), method=by_regret(METHODS["pebble"]())), tmp_path, kwargs=SMALL)
    obs = torch.rand(3, 2, 4, 2)
    ahead = trained.reward.ahead
    assert ahead.gamma == trained.actor.sb3.model.gamma
    expected = trained.actor.sb3.value(obs.reshape(-1, 2).numpy()).reshape(3, 2, 4)
    np.testing.assert_array_equal(ahead.value(obs), expected)
    plain = train(settings(), tmp_path / "plain", kwargs=SMALL)
    assert plain.reward.ahead is None


@pytest.mark.parametrize("name", ["Line", "Mixed"])
def test_contrast_moves_the_policy_towards_what_was_preferred(tmp_path, name):
    trained = train(replace(settings(name, answers=20), method=contrast()), tmp_path, kwargs=ROLLS)
    assert isinstance(trained.reward, Contrast) and trained.rows[-1]["metrics"]["agreement"] > 0.6
    assert not hasattr(trained.reward, "reward")


def test_a_teacher_by_regret_asks_an_expert(tmp_path):
    told = []
    own = replace(settings(clip=4), judged_by="regret", teacher="equal")
    trained = train(own, tmp_path / "run", says=told.append, kwargs=SMALL)
    assert "First an expert" in told[0] and trained.result["budget"]["asked"] == 6
    again = replace(own, expert=str(tmp_path / "run" / "expert"))
    train(again, tmp_path / "second", says=told.append, kwargs=SMALL)
    assert len([sentence for sentence in told if "First" in sentence]) == 1
    rounds = [(tmp_path / n / "rounds.json").read_text() for n in ("run", "second")]
    assert rounds[0] == rounds[1]
    with pytest.raises(ValueError, match=r"learned .*Line by pebble"):
        train(replace(own, expert=str(tmp_path / "run")), tmp_path / "third", kwargs=SMALL)
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
    with pytest.raises(ValueError, match="regret adds up rewards of single steps"):
        by_regret(METHODS["transformer"]())
    with pytest.raises(ValueError, match="take contrast"):
        replace(METHODS["pebble"](), preference="cpl")
    with pytest.raises(ValueError, match="judged by regret: give at least 2"):
        replace(settings(clip=1), method=by_regret(METHODS["pebble"]()))
    with pytest.raises(ValueError, match="give judged_by regret too"):
        settings(expert="somewhere")
    with pytest.raises(ValueError, match="no algorithm of stable-baselines3"):
        train(replace(settings(algorithm="ppo"), method=contrast()), tmp_path / "a")
    with pytest.raises(ValueError, match="leave yours out"):
        train(replace(settings(), method=contrast()), tmp_path / "b", loss=lambda a, b: (b - a).exp(), kwargs=ROLLS)
