"""Regret with fitted values: where the values are exact it is the regret that tables give."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embodied.feedback import Segments
from embodied.planning import expected_features, optimal, uniform_policy
from embodied.regret import regret
from embodied.rewards.ensemble import RewardEnsemble
from embodied.rewards.learning import Ahead
from embodied.scores import Return
from embodied.walks import STATE, walks
from envs.delivery import GAMMA, board

HOME = board()
REWARD = expected_features(HOME) @ HOME.weights
VALUE = torch.from_numpy(optimal(HOME, REWARD).value).float()


def linear(members=1):
    """The board's own reward as a network without a hidden layer: obs are state, next state and what was found."""
    model = RewardEnsemble(8, 1, members=members, hidden=())
    with torch.no_grad():
        model.weights[0][:] = torch.tensor([0.0, 0.0, *HOME.weights, 0.0])[None, :, None]
        model.biases[0].zero_()
    return model


def shown(n=50, length=5, ended="refuse"):
    return walks(HOME, uniform_policy(HOME), (n, 2), length, np.random.default_rng(0), ended)


def but_the_last(segments):
    """The steps whose end is seen."""
    count = segments.mask.sum(-1, keepdim=True)
    return replace(segments, mask=segments.mask & (torch.arange(segments.mask.shape[-1]) < count - 1))


@pytest.mark.parametrize("ended", ["refuse", "keep"])
def test_with_exact_values_it_is_the_regret_of_the_table(ended):
    segments, model = shown(ended=ended), linear()
    model.ahead = Ahead(lambda obs: VALUE[obs[..., STATE].long()], GAMMA)
    expected = -regret(HOME, REWARD, but_the_last(segments))
    np.testing.assert_allclose(model.score(segments)[0].detach(), expected, atol=1e-4)


def test_values_are_of_the_normalised_reward():
    """Values of (r - m) / s: the score is s times the regret under that, whatever each member's m and s are."""
    segments, model = shown(), linear(members=2)
    model.reward_mean.copy_(torch.tensor([-1.5, 0.5]))
    model.reward_std.copy_(torch.tensor([2.0, 3.0]))
    found = []
    for m, s in zip(model.reward_mean.tolist(), model.reward_std.tolist(), strict=True):
        normal = (REWARD - m) / s
        value = torch.from_numpy(optimal(HOME, normal).value).float()
        model.ahead = Ahead(lambda obs, value=value: value[obs[..., STATE].long()], GAMMA)
        found.append(model.score(segments)[len(found)].detach())
        np.testing.assert_allclose(found[-1], -s * regret(HOME, normal, but_the_last(segments)), atol=1e-3)


def test_without_values_it_is_the_return_of_the_steps_whose_end_is_seen():
    segments, model = shown(), linear()
    model.ahead = Ahead(lambda obs: torch.zeros(obs.shape[:-1]), 1.0)
    torch.testing.assert_close(model.score(segments), Return(model)(but_the_last(segments)))


def test_padding_and_where_a_crop_begins_make_no_difference():
    segments, model = shown(length=6), linear()
    model.ahead = Ahead(lambda obs: VALUE[obs[..., STATE].long()], GAMMA)
    inner = Segments(
        segments.obs[:, :, 1:5], segments.act[:, :, 1:5], segments.mask[:, :, 1:5], segments.log_prob[:, :, 1:5]
    )
    mask = segments.mask.clone()
    mask[..., 0], mask[..., 5] = False, False
    torch.testing.assert_close(model.score(replace(segments, mask=mask)), model.score(inner))


def test_a_single_step_has_no_regret_that_one_could_see():
    model = linear()
    model.ahead = Ahead(lambda obs: VALUE[obs[..., STATE].long()], GAMMA)
    with pytest.raises(ValueError, match="alternative 0 of row 0 has 1 step"):
        model.score(shown(length=1))
