"""A reward that is an advantage: at most 0, 0 for the best, and on the board, where all is known, minus the regret."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embodied.accident import as_reward
from embodied.feedback import Segments
from embodied.planning import expected_features, optimal, scaled_return, uniform_policy
from embodied.regret import regret
from embodied.rewards.advantage import AdvantageEnsemble
from embodied.rewards.ensemble import RewardEnsemble
from embodied.walks import STATE, answered, labels, walks
from envs.delivery import board

HOME = board(np.array([[0, 0, 0, 1], [0, 3, 0, 0], [0, 5, 0, 4], [0, 0, 0, 0]]))
REWARD = expected_features(HOME) @ HOME.weights
STATES, ACTIONS = REWARD.shape


def seen(segments):
    """Steps of the board as networks see them: state and action as ones and zeros."""
    obs = torch.eye(STATES)[segments.obs[..., STATE].long()]
    act = torch.eye(ACTIONS)[segments.act[..., 0].long()]
    return Segments(obs, act, segments.mask, segments.log_prob)


def shown(n, seed, ended="mask"):
    return walks(HOME, uniform_policy(HOME), (n, 2), 3, np.random.default_rng(seed), ended)


def every_step(model):
    """What an agent is given for every state and action, [S,A]."""
    found = model.reward(np.repeat(np.eye(STATES), ACTIONS, 0), np.tile(np.eye(ACTIONS), (STATES, 1)))
    return found.astype(np.float64).reshape(STATES, ACTIONS)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_at_most_0_and_0_for_the_best(seed):
    model = AdvantageEnsemble(4, 2, np.random.default_rng(seed).uniform(-1, 1, (50, 2)), members=3, seed=seed)
    obs, act = torch.randn(20, 4), torch.rand(20, 2) * 2 - 1
    score = lambda a: RewardEnsemble.forward(model, obs, a.expand(20, 2))  # noqa: E731
    every = torch.stack([*(score(rival) for rival in model.rivals), score(act)])
    paid = model.paid(obs, act)
    assert paid.shape == (3, 20) and (paid <= 0).all() and (paid < 0).any()
    torch.testing.assert_close(paid, every[-1] - every.amax(0))
    best = every[:-1, 0].argmax(0)
    torch.testing.assert_close(model.paid(obs, model.rivals[best])[0], torch.zeros(20))
    # Softly, it lies between what is below the greatest, and what is below the mean.
    torch.testing.assert_close(model(obs, act), every[-1] - 0.1 * torch.log(torch.exp(every / 0.1).mean(0)))
    cold = AdvantageEnsemble(4, 2, model.rivals.numpy(), members=3, seed=seed, temperature=1e-4)
    torch.testing.assert_close(cold(obs, act), paid, atol=1e-3, rtol=0)


@pytest.mark.parametrize("seed", [1, 4])
def test_answers_by_regret_teach_the_advantage_and_as_a_reward_it_leads_to_the_optimum(seed):
    """Where a plain score goes round in circles for ever (`accident`), since its constant is open."""
    walked = shown(3000, seed, "refuse")
    told = answered(walked, labels(-regret(HOME, REWARD, walked), np.random.default_rng(1)))
    data = replace(told, segments=seen(told.segments))
    settings = dict(members=1, hidden=(64,), steps=400, batch=500, rate=0.01, seed=seed)
    found = {}
    for name, model in {
        "advantage": AdvantageEnsemble(STATES, ACTIONS, np.eye(ACTIONS), **settings),
        "score": RewardEnsemble(STATES, ACTIONS, **settings),
    }.items():
        model.fit(data, np.random.default_rng(0))
        found[name] = every_step(model)
    assert optimal(HOME, found["advantage"]).value.max() <= 1e-9
    assert scaled_return(HOME, as_reward(HOME, found["advantage"]), REWARD) > 0.9
    assert (found["score"][HOME.starts].max(-1) > 0).any()


def test_rivals_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"rivals are \[3, 2\]; give finite actions \[C,1\]"):
        AdvantageEnsemble(4, 1, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="temperature is 0"):
        AdvantageEnsemble(4, 1, np.zeros((3, 1)), temperature=0)
    assert AdvantageEnsemble(4, 1, np.zeros((3, 1))).fingerprint().startswith("advantages against 3 actions")
