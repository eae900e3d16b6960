"""The Preference Transformer: plain loops, causality, padding, windows; and a wish with a memory that it can learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import gelu, layer_norm

from embodied import checkpoint
from embodied.feedback import Feedback, Segments
from embodied.losses import LossError, logistic, pairwise
from embodied.rewards.ensemble import RewardEnsemble
from embodied.rewards.transformer import PreferenceTransformer

STEPS = 10


def small(**settings):
    defaults = dict(width=8, heads=2, history=5, seed=3, steps=5, batch=8)
    return PreferenceTransformer(2, 1, **defaults | settings)


def some(n=4, steps=9, seed=0):
    gen = torch.Generator().manual_seed(seed)
    mask = torch.ones(n, steps, dtype=torch.bool)
    return torch.randn(n, steps, 2, generator=gen), torch.randn(n, steps, 1, generator=gen), mask


def turned_back(rows, seed):
    """Somebody likes to move out until the mark at 1.5 m was touched, and back from then on.

    Positions before and after are drawn alike, so that no single step tells whether the mark was touched.
    """
    rng = np.random.default_rng(seed)
    where, velocity = rng.uniform(-1, 1, (2, rows, 2, STEPS))
    touched = rng.integers(0, STEPS, (rows, 2))
    np.put_along_axis(where, touched[..., None], 1.5, -1)
    utility = np.where(np.arange(STEPS) > touched[..., None], -velocity, velocity).sum(-1)
    return answers(where[..., None], velocity[..., None], utility)


def answers(obs, act, utility):
    obs, act = (torch.from_numpy(x).float() for x in (obs, act))
    first = torch.from_numpy(utility[:, 0] > utility[:, 1]).float()
    mask, one = torch.ones(obs.shape[:3], dtype=torch.bool), torch.ones(len(obs))
    return Feedback(
        Segments(obs, act, mask, torch.zeros(mask.shape)),
        torch.stack([first, 1 - first], -1),
        one,
        one.long(),
        one.bool(),
    )


def accuracy(model, feedback):
    gap = torch.diff(model.utilities(feedback.segments).mean(0)).squeeze(-1)
    return ((gap < 0) == (feedback.target[:, 0] == 1)).float().mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_a_wish_with_a_memory_that_no_reward_of_one_step_can(seed):
    told, unseen = turned_back(700, seed), turned_back(1000, 100 + seed)
    with_memory = PreferenceTransformer(1, 1, history=STEPS, steps=150, seed=seed)
    of_one_step = RewardEnsemble(1, 1, steps=300, seed=seed)
    for model in (with_memory, of_one_step):
        model.fit(told, np.random.default_rng(seed))
    found, other = accuracy(with_memory, unseen), accuracy(of_one_step, unseen)
    assert found > 0.78 and other < 0.68 and found - other > 0.15


def reference(model, obs, act, mask):
    """One sequence, one member, one layer, a step at a time."""
    weights = {name: p[0].detach() for name, p in model.named_parameters()}

    def linear(name, x):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"][0]

    def norm(x):
        return layer_norm(x, x.shape)

    steps = [t for t in range(len(mask)) if mask[t]]
    x = {t: linear("embed", (torch.cat([obs[t], act[t]]) - model.step_mean) / model.step_std) for t in steps}
    size, out = model.width // model.heads, {}
    for t in steps:
        near = [s for s in steps if 0 <= t - s <= model.reach]
        heard = []
        for h in range(model.heads):
            part = slice(h * size, (h + 1) * size)
            query = linear("qkv.0", norm(x[t]))[: model.width][part]
            keys = [linear("qkv.0", norm(x[s]))[model.width : 2 * model.width][part] for s in near]
            values = [linear("qkv.0", norm(x[s]))[2 * model.width :][part] for s in near]
            distance = [weights["distance.0"][h, t - s] for s in near]
            match = [(query @ k).item() / math.sqrt(size) + b.item() for k, b in zip(keys, distance, strict=True)]
            share = np.exp(match) / np.exp(match).sum()
            heard.append(sum(w * v for w, v in zip(share, values, strict=True)))
        y = x[t] + linear("mix.0", torch.cat(heard).float())
        out[t] = norm(y + linear("down.0", gelu(linear("up.0", norm(y)))))
    weight = dict.fromkeys(steps, 0.0)
    for t in steps:
        query = linear("relevance", out[t])[: model.width]
        match = [(query @ linear("relevance", out[s])[model.width :]).item() / math.sqrt(model.width) for s in steps]
        share = np.exp(match) / np.exp(match).sum()
        for s, w in zip(steps, share, strict=True):
            weight[s] += w / len(steps)
    return {t: linear("head", out[t]).item() for t in steps}, weight


@pytest.mark.parametrize("keep", [[True] * 7, [True] * 4 + [False] * 3, [False, True, True, False, True, True, True]])
def test_rewards_and_weights_are_those_of_plain_loops(keep):
    model = small()
    obs, act, _ = some(1, 7)
    model.anchor(obs.numpy(), act.numpy(), np.ones((1, 7), bool))
    mask = torch.tensor([keep])
    reward, weight = model(obs, act, mask)
    expected, shares = reference(model, obs[0], act[0], keep)
    for t in expected:
        assert reward[0, 0, t].item() == pytest.approx(expected[t], abs=1e-5)
        assert weight[0, 0, t].item() == pytest.approx(shares[t], abs=1e-5)
    assert weight.sum().item() == pytest.approx(1)
    assert not weight[0][~mask].any()


@given(seed=st.integers(0, 10**6), layers=st.integers(1, 3))
def test_a_reward_depends_on_the_last_steps_of_the_history_and_on_nothing_else(seed, layers):
    model = small(layers=layers, seed=seed, history=7)
    obs, act, mask = some(2, 12, seed)
    obs.requires_grad_()
    reward, _ = model(obs, act, mask)
    t = seed % 12
    (gradient,) = torch.autograd.grad(reward[..., t].sum(), obs)
    touched = gradient.abs().sum((0, 2)) > 0
    first = max(0, t - model.history + 1)
    assert touched.tolist() == [first <= s <= t for s in range(12)]
    assert model.history <= 7


def test_a_later_step_does_not_change_an_earlier_reward_though_it_changes_weights():
    model = small()
    obs, act, mask = some()
    changed = obs.clone()
    changed[:, 6:] += 10
    (reward, weight), (other, other_weight) = model(obs, act, mask), model(changed, act, mask)
    assert torch.equal(reward[..., :6], other[..., :6])
    assert not torch.allclose(reward[..., 6:], other[..., 6:])
    assert not torch.allclose(weight[..., :6], other_weight[..., :6])


@given(seed=st.integers(0, 10**6), length=st.integers(1, 9))
def test_padding_changes_nothing_in_front_or_behind(seed, length):
    model = small(layers=2)
    obs, act, _ = some(3, 9, seed)
    short = [x[:, :length] for x in (obs, act)]
    alone = model(*short, torch.ones(3, length, dtype=torch.bool))
    for front in (0, 9 - length):
        where = slice(front, front + length)
        mask = torch.zeros(3, 9, dtype=torch.bool)
        mask[:, where] = True
        padded = [1e3 * torch.ones_like(x) for x in (obs, act)]
        for whole, part in zip(padded, short, strict=True):
            whole[:, where] = part
        for a, b in zip(alone, model(*padded, mask), strict=True):
            assert torch.allclose(a, b[..., where], atol=1e-5)


def test_the_agent_gets_the_normalised_reward_of_the_last_step_of_its_window():
    for layers in (1, 2):
        model = small(layers=layers, members=2)
        obs, act, mask = (x.numpy() for x in some(6, 12))
        model.anchor(obs, act, mask)
        reward, _ = model(*some(6, 12))
        normalised = (reward - model.reward_mean[:, None, None]) / model.reward_std[:, None, None]
        assert torch.allclose(normalised.mean((1, 2)), torch.zeros(2), atol=1e-5)
        assert torch.allclose(normalised.std((1, 2), correction=0), torch.ones(2), atol=1e-4)
        expected = normalised.mean(0).detach().numpy()
        for t in range(12):
            begin = max(0, t + 1 - model.history)
            window = (
                np.zeros((6, model.history, 2)),
                np.zeros((6, model.history, 1)),
                np.zeros((6, model.history), bool),
            )
            for into, whole in zip(window, (obs, act, mask), strict=True):
                into[:, model.history - (t + 1 - begin) :] = whole[:, begin : t + 1]
            assert np.allclose(model.reward_after(*window), expected[:, t], atol=1e-5)
            longer = obs[:, : t + 1], act[:, : t + 1], mask[:, : t + 1]
            assert np.allclose(model.reward_after(*longer), expected[:, t], atol=1e-5)


def test_members_are_networks_of_their_own():
    many = small(members=3)
    alone = small()
    obs, act, mask = some()
    together, _ = many(obs, act, mask)
    for member in range(3):
        with torch.no_grad():
            for ours, theirs in zip(alone.parameters(), many.parameters(), strict=True):
                ours.copy_(theirs[member : member + 1])
        assert torch.allclose(alone(obs, act, mask)[0][0], together[member], atol=1e-5)
    assert together.std(0).min() > 0


def test_saved_and_restored_it_goes_on_bit_for_bit(tmp_path):
    told = turned_back(30, 0)

    def make():
        return PreferenceTransformer(1, 1, width=8, history=4, steps=4, batch=8)

    model, rng = make(), np.random.default_rng(0)
    model.fit(told, rng)
    checkpoint.save(tmp_path, 1, reward=model, rng=rng)
    restored, stream = make(), np.random.default_rng(1)
    checkpoint.load(tmp_path, reward=restored, rng=stream)
    window = np.ones((2, 4, 1)), np.ones((2, 4, 1)), np.ones((2, 4), bool)
    assert np.array_equal(model.reward_after(*window), restored.reward_after(*window))
    assert model.fit(told, rng) == restored.fit(told, stream)
    assert np.array_equal(model.reward_after(*window), restored.reward_after(*window))
    with pytest.raises(checkpoint.CheckpointError, match="1 x 1-1, width 8, 4 heads, 1 layers, history 4"):
        checkpoint.load(tmp_path, reward=PreferenceTransformer(1, 1, width=8, history=5))


def test_a_segments_utility_is_the_weighted_mean_of_its_rewards():
    model = small(members=2)
    told = turned_back(5, 0)
    segments = Segments(
        told.segments.obs.expand(-1, -1, -1, 2), told.segments.act, told.segments.mask, told.segments.log_prob
    )
    utilities = model.utilities(segments)
    assert utilities.shape == (2, 5, 2) and not utilities.requires_grad
    reward, weight = model(segments.obs[3], segments.act[3], segments.mask[3])
    assert torch.allclose(utilities[:, 3], (reward * weight).sum(-1), atol=1e-6)


def test_however_many_at_a_time(monkeypatch):
    model = PreferenceTransformer(1, 1, width=8, history=4, members=2)
    told = turned_back(7, 0)
    window = np.random.default_rng(0).normal(size=(2, 9, 4, 1))
    mask = np.ones((9, 4), bool)
    utilities, reward = model.utilities(told.segments), model.reward_after(*window, mask)
    monkeypatch.setattr("embodied.rewards.transformer.CHUNK", 11)
    assert torch.allclose(model.utilities(told.segments), utilities, atol=1e-6)
    assert np.allclose(model.reward_after(*window, mask), reward, atol=1e-6)
    assert model.utilities(told.segments[:0]).shape == (2, 0, 2)


def test_bad_inputs_have_their_sentence():
    model = small()
    obs, act, mask = (x.numpy() for x in some())
    with pytest.raises(ValueError, match="sizes 1 and 1, this reward was made for 2 and 1"):
        model.reward_after(obs[..., :1], act, mask)
    told = turned_back(3, 0).segments
    shared = Segments({"image": torch.zeros(3, 2)}, told.act, told.mask, told.log_prob)
    with pytest.raises(ValueError, match="dict of image"):
        model.utilities(shared)
    with pytest.raises(ValueError, match="last step is masked"):
        model.reward_after(obs, act, np.zeros_like(mask))
    with pytest.raises(ValueError, match=r"observation \[0, 0, 0\] is not finite"):
        model.reward_after(obs * np.nan, act, mask)
    with pytest.raises(ValueError, match="anchor set has shape"):
        model.anchor(obs[0], act[0], mask[0])
    with pytest.raises(ValueError, match="width 9"):
        small(width=9)
    with pytest.raises(ValueError, match="history is 1 with 1 layers"):
        small(history=1)
    with pytest.raises(LossError, match="sign"):
        small(loss=pairwise(lambda better, worse: logistic(worse, better)))
