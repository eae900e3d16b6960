"""The ensemble for pixels: it sees where a square is, its members are plain convolution networks, bytes stay bytes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, leaky_relu

from embodied import checkpoint
from embodied.feedback import Feedback, Segments, stack
from embodied.losses import LossError, logistic, pairwise
from embodied.records import Query, Segment
from embodied.rewards.conv import PixelEnsemble
from embodied.rewards.semi import SemiSupervised

SIZE, SQUARE, STEPS = 24, 4, 5


def frames(x, y, rng):
    """Dim noise and a bright square at columns x.., rows y..: integers [...] -> uint8 [...,24,24,3]."""
    picture = rng.integers(0, 80, (*x.shape, SIZE, SIZE, 3), dtype=np.uint8)
    along = np.arange(SIZE)
    across, down = ((along >= p[..., None]) & (along < p[..., None] + SQUARE) for p in (x, y))
    picture[down[..., :, None] & across[..., None, :]] = 255
    return picture


def left_is_better(rows, seed):
    """Pairs of clips; the better is the one in which the square is farther left. The action says nothing."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, SIZE - SQUARE + 1, (2, rows, 2, STEPS))
    mask, one = torch.ones(rows, 2, STEPS, dtype=torch.bool), torch.ones(rows)
    first = torch.from_numpy(0.5 * (1 + np.sign(x.sum(-1)[:, 1] - x.sum(-1)[:, 0]))).float()
    act = torch.from_numpy(rng.normal(size=(rows, 2, STEPS, 2))).float()
    return Feedback(
        Segments(torch.from_numpy(frames(x, y, rng)), act, mask, torch.zeros(mask.shape)),
        torch.stack([first, 1 - first], -1),
        one,
        one.long(),
        one.bool(),
    )


def small(**settings):
    return PixelEnsemble((7, 9, 3), 2, **dict(channels=(4, 6), hidden=8, steps=3, batch=4) | settings)


def some(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 7, 9, 3), dtype=np.uint8), rng.normal(size=(n, 2))


def some_pairs(n, rng):
    obs = rng.integers(0, 256, (n, 2, 3, 7, 9, 3), dtype=np.uint8)
    mask = torch.ones(n, 2, 3, dtype=torch.bool)
    act = torch.from_numpy(rng.normal(size=(n, 2, 3, 2))).float()
    return Segments(torch.from_numpy(obs), act, mask, torch.zeros(mask.shape))


def told(n=5):
    one = torch.ones(n)
    target = torch.tensor([[1.0, 0.0]]).expand(n, -1)
    return Feedback(some_pairs(n, np.random.default_rng(0)), target, one, one.long(), one.bool())


def test_sixty_answers_tell_that_the_bright_square_should_be_on_the_left():
    model = PixelEnsemble((SIZE, SIZE, 3), 2)
    answers, unseen = left_is_better(60, 0), left_is_better(300, 1)
    assert model.fit(answers, np.random.default_rng(0))["agreement"] > 0.95
    decided = unseen.target[:, 0] != 0.5
    gap = torch.diff(model.utilities(unseen.segments).mean(0)).squeeze(-1)
    assert ((gap < 0) == (unseen.target[:, 0] == 1))[decided].float().mean() > 0.8
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, SIZE - SQUARE + 1, (2, 200))
    reward = model.reward(frames(x, y, rng), rng.normal(size=(200, 2)))
    assert np.corrcoef(reward, -x)[0, 1] > 0.7
    assert reward[x <= 4].mean() > reward[x >= 16].mean() + 1  # in deviations of the anchor set


def test_members_are_plain_convolution_networks():
    model = small(members=4, seed=5)
    obs, act = some()
    model.anchor(obs, act)
    reward = model(torch.from_numpy(obs), torch.from_numpy(act).float())
    for member in range(4):
        x = torch.from_numpy(obs).permute(0, 3, 1, 2).float() / 127.5 - 1
        for kernel, shift, size in zip(model.kernels, model.shifts, (4, 6), strict=True):
            own = slice(member * size, (member + 1) * size)
            x = leaky_relu(conv2d(x, kernel[own], shift[own], stride=2, padding=1))
        done = torch.from_numpy((act - act.mean(0)) / act.std(0)).float()
        x = torch.cat([x.flatten(1), done], -1) @ model.look.weight[member] + model.look.bias[member]
        x = leaky_relu(x) @ model.head.weight[member] + model.head.bias[member]
        assert torch.allclose(reward[member], x[:, 0], atol=1e-5)
    assert reward.std(0).min() > 0


def test_bytes_and_floats_alike_and_however_many_at_a_time(monkeypatch):
    model = small()
    obs, act = some(20)
    model.anchor(obs, act)
    pairs = some_pairs(7, np.random.default_rng(1))
    reward, spread, utilities = model.reward(obs, act), model.spread(obs, act), model.utilities(pairs)
    assert np.allclose(model.reward(obs.astype(np.float32), act), reward, atol=1e-5)
    monkeypatch.setattr("embodied.rewards.conv.CHUNK", 12)
    assert np.allclose(model.reward(obs, act), reward, atol=1e-5)
    assert np.allclose(model.spread(obs, act), spread, atol=1e-5)
    assert torch.allclose(model.utilities(pairs), utilities, atol=1e-5)
    assert model.utilities(pairs[:0]).shape == (3, 0, 2)
    expected = model(pairs.obs[2, 1], pairs.act[2, 1]).sum(-1)
    assert torch.allclose(utilities[:, 2, 1], expected, atol=1e-5)


def test_on_the_anchor_set_every_member_has_mean_zero_and_deviation_one():
    model = small()
    model.fit(told(), np.random.default_rng(0))
    obs, act = (x.flatten(0, 2).numpy() for x in (told().segments.obs, told().segments.act))
    reward = (model(torch.from_numpy(obs), torch.from_numpy(act)) - model.reward_mean[:, None]) / model.reward_std[
        :, None
    ]
    assert torch.allclose(reward.mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(reward.std(1, correction=0), torch.ones(3), atol=1e-4)
    assert np.allclose(model.reward(obs, act), reward.mean(0).detach().numpy(), atol=1e-5)
    assert np.allclose(model.spread(obs, act), reward.detach().numpy().std(0), atol=1e-5)


def test_saved_and_restored_it_goes_on_bit_for_bit(tmp_path):
    model, rng = small(), np.random.default_rng(0)
    model.fit(told(), rng)
    checkpoint.save(tmp_path, 1, reward=model, rng=rng)
    restored, stream = small(), np.random.default_rng(1)
    checkpoint.load(tmp_path, reward=restored, rng=stream)
    assert np.array_equal(model.reward(*some()), restored.reward(*some()))
    assert model.fit(told(), rng) == restored.fit(told(), stream)
    assert np.array_equal(model.reward(*some()), restored.reward(*some()))
    with pytest.raises(checkpoint.CheckpointError, match=r"3 x 7x9x3\+2, channels 4-6, hidden 8"):
        checkpoint.load(tmp_path, reward=small(channels=(4, 4)))


def test_frames_from_records_stay_bytes_and_train_it_also_half_supervised():
    obs, act = some(4)
    clip = Segment("e", 0, 4, obs, act)
    segments = stack([Query("q", (clip, Segment("e", 0, 2, obs[2:], act[2:])))])
    assert segments.obs.dtype == torch.uint8 and np.array_equal(segments.obs[0, 0].numpy(), obs)
    assert not segments.obs[0, 1, 2:].any()
    semi = SemiSupervised(small(), some_pairs, tau=0.5)
    report = semi.fit(told(), np.random.default_rng(0))
    assert report["pseudo_share"] == 1 and report["pseudo_labels"] == 3 * 4  # steps times pairs in each


def test_bad_inputs_have_their_sentence():
    model = small()
    obs, act = some()
    with pytest.raises(ValueError, match=r"frames have shape \[6, 3, 7, 9\].* made for \[..., 7, 9, 3\]"):
        model.reward(obs.transpose(0, 3, 1, 2), act)
    with pytest.raises(ValueError, match=r"action \[2, 1\] is not finite"):
        model.reward(obs, np.where(np.arange(12).reshape(6, 2) == 5, np.nan, act))
    with pytest.raises(ValueError, match="anchor set has shapes"):
        model.anchor(obs[:1], act[:1])
    with pytest.raises(ValueError, match="channels \\(\\)"):
        small(channels=())
    with pytest.raises(LossError, match="sign"):
        small(loss=pairwise(lambda better, worse: logistic(worse, better)))


def test_without_actions_frames_are_enough():
    model = PixelEnsemble((7, 9, 3), 0, channels=(4,), hidden=8)
    obs, _ = some()
    model.anchor(obs, np.zeros((6, 0)))
    assert np.allclose(model.reward(obs, np.zeros((6, 0))).mean(), 0, atol=1e-5)
