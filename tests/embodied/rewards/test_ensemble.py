"""The reward ensemble: it finds a known reward, its members differ, its normaliser is fixed and saved with it."""

import numpy as np
import pytest
import torch

from embodied import checkpoint
from embodied.feedback import Feedback, Segments
from embodied.losses import LossError, logistic, pairwise
from embodied.rewards.ensemble import RewardEnsemble
from embodied.scores import Return

TRUE = torch.tensor([1.0, -0.5, 0.0, 0.7])


def pairs(rows, seed, steps=5):
    """Noiseless answers about a linear reward of three observations and one action."""
    gen = torch.Generator().manual_seed(seed)
    obs, act = torch.randn(rows, 2, steps, 3, generator=gen), torch.randn(rows, 2, steps, 1, generator=gen)
    utility = (torch.cat([obs, act], -1) @ TRUE).sum(-1)
    first = (utility[:, 0] > utility[:, 1]).float()
    mask = torch.ones(rows, 2, steps, dtype=torch.bool)
    one = torch.ones(rows)
    return Feedback(
        Segments(obs, act, mask, torch.zeros(mask.shape)),
        torch.stack([first, 1 - first], -1),
        one,
        one.long(),
        one.bool(),
    )


def steps_of(feedback):
    return feedback.segments.obs.flatten(0, 2).numpy(), feedback.segments.act.flatten(0, 2).numpy()


def accuracy(model, feedback):
    gap = torch.diff(model.utilities(feedback.segments).mean(0)).squeeze(-1)
    return ((gap < 0) == (feedback.target[:, 0] == 1)).float().mean().item()


@pytest.mark.parametrize(("bounded", "steps"), [(True, 60), (False, 150)])
def test_it_finds_a_linear_reward_from_200_noiseless_pairs(bounded, steps):
    model = RewardEnsemble(3, 1, bounded=bounded, hidden=(32, 32), steps=steps)
    told = pairs(200, seed=1)
    model.anchor(*steps_of(told))
    report = model.fit(told, np.random.default_rng(0))
    assert accuracy(model, pairs(1000, seed=2)) > 0.9
    assert report["agreement"] > 0.9
    obs, act = steps_of(pairs(500, seed=3))
    true = np.concatenate([obs, act], -1) @ TRUE.numpy()
    assert np.corrcoef(model.reward(obs, act), true)[0, 1] > 0.9


def test_random_answers_teach_nothing():
    model = RewardEnsemble(3, 1, hidden=(32, 32), steps=100)
    told = pairs(200, seed=1)
    coin = torch.randint(0, 2, (200,), generator=torch.Generator().manual_seed(0)).float()
    noise = Feedback(told.segments, torch.stack([coin, 1 - coin], -1), told.weight, told.annotator, told.same_context)
    model.fit(noise, np.random.default_rng(0))
    assert 0.3 < accuracy(model, pairs(1000, seed=2)) < 0.7


def test_members_are_independent_networks_and_the_product_over_them_is_their_own():
    model = RewardEnsemble(3, 1, members=4, hidden=(8,), bounded=False, seed=5)
    obs, act = torch.randn(2, 6, 3), torch.randn(2, 6, 1)
    reward = model(obs, act)
    assert reward.shape == (4, 2, 6)
    for member in range(4):
        (w0, w1), (b0, b1) = ([p[member] for p in ps] for ps in (model.weights, model.biases))
        own = torch.nn.functional.leaky_relu(torch.cat([obs, act], -1) @ w0 + b0) @ w1 + b1
        assert torch.allclose(reward[member], own[..., 0], atol=1e-6)
    assert reward.std(0).min() > 0


def test_the_seed_makes_the_weights_and_leaves_the_global_stream_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (RewardEnsemble(3, 1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.weights[0], same.weights[0]) and not torch.equal(one.weights[0], other.weights[0])


def test_bounded_rewards_stay_in_the_unit_interval():
    model = RewardEnsemble(3, 1, bounded=True)
    assert model(1e4 * torch.randn(100, 3), torch.zeros(100, 1)).abs().max() <= 1


def test_on_the_anchor_set_every_member_has_mean_zero_and_deviation_one_after_each_fit():
    model = RewardEnsemble(3, 1, hidden=(16,), steps=20)
    anchors = steps_of(pairs(60, seed=9))
    model.anchor(*anchors)
    for seed in (1, 2):
        model.fit(pairs(50, seed=seed), np.random.default_rng(0))
        members = model(*map(torch.from_numpy, anchors))
        normalised = (members - model.reward_mean[:, None]) / model.reward_std[:, None]
        assert torch.allclose(normalised.mean(1), torch.zeros(3), atol=1e-5)
        assert torch.allclose(normalised.std(1, correction=0), torch.ones(3), atol=1e-4)
        assert np.allclose(model.reward(*anchors), normalised.mean(0).detach().numpy(), atol=1e-6)
    assert torch.allclose(model.obs_mean, torch.from_numpy(np.concatenate(anchors, -1)).mean(0), atol=1e-6)


def test_inputs_of_any_unit_give_the_same_reward():
    """Metres or millimetres train alike, and a dimension that never moves does no harm."""
    rewards = []
    for scale in (1.0, 1000.0):
        told = pairs(50, seed=1)
        obs = told.segments.obs * torch.tensor([scale, 1.0, 0.0])
        segments = Segments(obs, told.segments.act, told.segments.mask, told.segments.log_prob)
        model = RewardEnsemble(3, 1, hidden=(16,), steps=5)
        model.fit(
            Feedback(segments, told.target, told.weight, told.annotator, told.same_context), np.random.default_rng(0)
        )
        rewards.append(model.reward(obs[:, 0, 0].numpy(), told.segments.act[:, 0, 0].numpy()))
    assert np.allclose(*rewards, atol=1e-3)


def test_saved_and_restored_it_goes_on_bit_for_bit(tmp_path):
    def make():
        return RewardEnsemble(3, 1, hidden=(16,), steps=10, batch=16)

    told, more = pairs(50, seed=1), pairs(60, seed=2)
    model, rng = make(), np.random.default_rng(0)
    model.fit(told, rng)  # its steps become the anchor set
    checkpoint.save(tmp_path, 1, reward=model, rng=rng)
    restored, stream = make(), np.random.default_rng(5)
    assert checkpoint.load(tmp_path, reward=restored, rng=stream) == 1
    obs, act = steps_of(more)
    assert np.array_equal(model.reward(obs, act), restored.reward(obs, act))
    assert model.fit(more, rng) == restored.fit(more, stream)
    assert np.array_equal(model.reward(obs, act), restored.reward(obs, act))
    assert torch.equal(model.reward_std, restored.reward_std) and all(map(torch.equal, model.anchors, restored.anchors))


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    checkpoint.save(tmp_path, 1, reward=RewardEnsemble(3, 1))
    for other in (RewardEnsemble(4, 1), RewardEnsemble(3, 1, members=5), RewardEnsemble(3, 1, bounded=True)):
        with pytest.raises(checkpoint.CheckpointError, match="RewardEnsemble of 3 x 4-64-64-1, linear"):
            checkpoint.load(tmp_path, reward=other)


def test_utilities_are_sums_of_the_members_over_real_steps():
    model, told = RewardEnsemble(3, 1, hidden=(8,)), pairs(4, seed=0)
    utilities = model.utilities(told.segments)
    assert utilities.shape == (3, 4, 2) and not utilities.requires_grad
    assert torch.equal(utilities, Return(model)(told.segments).detach())


def test_a_users_own_pair_loss_trains_it_and_a_wrong_one_is_refused_at_once():
    def own(better, worse):
        return torch.log1p(torch.exp(-(better - worse).abs())) + torch.relu(worse - better)

    model = RewardEnsemble(3, 1, hidden=(32,), loss=pairwise(own), steps=150, rate=3e-3)
    model.fit(pairs(200, seed=1), np.random.default_rng(0))
    assert accuracy(model, pairs(500, seed=2)) > 0.9
    with pytest.raises(LossError, match="sign"):
        RewardEnsemble(3, 1, loss=pairwise(lambda better, worse: logistic(worse, better)))


def test_bad_inputs_have_their_sentence():
    model = RewardEnsemble(3, 1)
    with pytest.raises(ValueError, match="sizes 5 and 1, this reward was made for 3 and 1"):
        model.reward(np.zeros((2, 5)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"observation \[1, 2\] is not finite"):
        model.reward(np.array([[0.0, 0, 0], [0, 0, np.nan]]), np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"anchor set has shape \[1, 4\]"):
        model.anchor(np.zeros((1, 3)), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="NaN"):
        model.anchor(np.full((2, 3), np.inf), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="members 0"):
        RewardEnsemble(3, 1, members=0)
    with pytest.raises(ValueError, match="dict of image"):
        model({"image": torch.zeros(2, 3)}, torch.zeros(2, 1))


def test_spread_is_the_deviation_of_the_normalised_members_and_grows_away_from_what_was_answered():
    told = pairs(200, seed=1)
    model = RewardEnsemble(3, 1, hidden=(32,), steps=150)
    model.fit(told, np.random.default_rng(0))
    obs, act = steps_of(pairs(100, seed=2))
    normalised = [
        (model(torch.from_numpy(obs), torch.from_numpy(act))[e] - model.reward_mean[e]) / model.reward_std[e]
        for e in range(3)
    ]
    spread = model.spread(obs, act)
    assert spread.shape == (len(obs),)
    assert np.allclose(spread, np.std([m.detach().numpy() for m in normalised], axis=0), atol=1e-5)
    assert model.spread(5 * obs, 5 * act).mean() > 2 * spread.mean()
    assert not RewardEnsemble(3, 1, members=1).spread(obs, act).any()
