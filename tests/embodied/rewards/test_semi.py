"""Semi-supervised rewards: the crop's laws, one step against plain loops, and what is left when nothing is sure."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from embodied import checkpoint
from embodied.feedback import Feedback, Segments
from embodied.rewards.ensemble import RewardEnsemble
from embodied.rewards.semi import SemiSupervised, cropped

TRUE = torch.tensor([1.0, -0.5, 0.7])
STEPS = 12


def segments(rows, seed, steps=STEPS, lengths=None):
    gen = torch.Generator().manual_seed(seed)
    obs, act = torch.randn(rows, 2, steps, 2, generator=gen), torch.randn(rows, 2, steps, 1, generator=gen)
    lengths = torch.full((rows, 2), steps) if lengths is None else lengths
    mask = torch.arange(steps) < lengths[..., None]
    return Segments(obs, act, mask, torch.zeros(mask.shape))


def answered(rows, seed, **kwargs):
    pairs = segments(rows, seed, **kwargs)
    utility = torch.where(pairs.mask, torch.cat([pairs.obs, pairs.act], -1) @ TRUE, 0.0).sum(-1)
    first = (utility[:, 0] > utility[:, 1]).float()
    one = torch.ones(rows)
    return Feedback(pairs, torch.stack([first, 1 - first], -1), one, one.long(), one.bool())


def unlabelled(n, rng):
    return segments(n, int(rng.integers(1 << 30)))


def accuracy(model, feedback):
    gap = torch.diff(model.utilities(feedback.segments).mean(0)).squeeze(-1)
    return ((gap < 0) == (feedback.target[:, 0] == 1)).float().mean().item()


def gaps_allowed(seed):
    """A mask with holes, at least one step each."""
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((6, 3, 10)) < 0.7)
    mask[..., 4] = True
    shape = (*mask.shape, 1)
    return Segments(torch.zeros(shape), torch.zeros(shape), mask, torch.zeros(mask.shape))


@given(seed=st.integers(0, 10**6), crop=st.integers(0, 15))
def test_a_crop_is_a_stretch_of_each_segment_as_much_shorter_for_all_of_a_row(seed, crop):
    whole = gaps_allowed(seed)
    part = cropped(whole, crop, np.random.default_rng(seed)).mask
    fewer = whole.mask.sum(-1) - part.sum(-1)
    assert not (part & ~whole.mask).any() and part.any(-1).all()
    assert (fewer == fewer[:, :1]).all() and (fewer >= 0).all() and (fewer <= crop).all()
    for before, after in zip(whole.mask.flatten(0, 1), part.flatten(0, 1), strict=True):
        kept = after[before].int()  # in the order of the steps that were there
        assert (torch.diff(kept) == 1).sum() <= 1 and (kept[0] == 1 or (torch.diff(kept) == 1).sum() == 1)
        assert kept[kept.argmax() :][: int(kept.sum())].all()


def test_crops_and_offsets_are_even_and_the_offsets_of_a_pair_independent():
    """Ten steps, up to 3 fewer: each number in a quarter of 8,000 rows (deviation 39), all pairs of offsets alike."""
    part = cropped(segments(8000, 0, steps=10), 3, np.random.default_rng(0)).mask
    fewer, start = 10 - part.sum(-1)[:, 0], part.int().argmax(-1)
    assert (torch.bincount(fewer) - 2000).abs().max() < 150
    three = start[fewer == 3]
    both = torch.bincount(three[:, 0] * 4 + three[:, 1], minlength=16)  # deviation 11
    assert (both - len(three) / 16).abs().max() < 50


def test_a_single_step_stays_and_padding_never_comes_in():
    lengths = torch.tensor([[1, 5], [2, 12]])
    for seed in range(30):
        part = cropped(segments(2, 0, lengths=lengths), 5, np.random.default_rng(seed)).mask
        assert part.sum(-1)[0].tolist() == [1, 5]
        assert part.sum(-1)[1].tolist() in ([2, 12], [1, 11])
        assert not part[0, 1, 5:].any()


def test_one_step_is_the_loss_written_with_plain_loops():
    """Opinions of whole segments under each member, learning on cropped ones, sum over members, mean over all pairs."""
    told, tau, weight = answered(6, seed=1), 0.7, 2.0
    ours, plain = (RewardEnsemble(2, 1, hidden=(8,), steps=1, seed=4) for _ in range(2))
    for model in (ours, plain):
        model.prepare(told.segments)
    report = SemiSupervised(ours, unlabelled, tau=tau, weight=weight, ratio=3, crop=4).fit(
        told, np.random.default_rng(0)
    )

    rng = np.random.default_rng(0)
    pairs = unlabelled(18, rng)
    short = cropped(pairs, 4, rng)
    short_told = cropped(told.segments, 4, rng)

    def total(segments, member, row, k):
        steps = torch.cat([segments.obs, segments.act], -1)[row, k][segments.mask[row, k]]
        return plain(steps[:, :2], steps[:, 2:])[member].sum()

    loss, accepted = torch.zeros(()), 0
    for member in range(3):
        for row in range(6):
            first, second = (total(short_told, member, row, k) for k in (0, 1))
            sign = 2 * told.target[row, 0] - 1
            loss = loss - logsigmoid(sign * (first - second)) / 6
        for row in range(18):
            gap = (total(pairs, member, row, 0) - total(pairs, member, row, 1)).item()
            if 1 / (1 + math.exp(-abs(gap))) > tau:
                accepted += 1
                first, second = (total(short, member, row, k) for k in (0, 1))
                loss = loss - weight * logsigmoid(math.copysign(1, gap) * (first - second)) / 18
    assert 0 < accepted < 54
    assert report["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert report["pseudo_share"] == pytest.approx(accepted / 54)
    assert report["pseudo_labels"] == pytest.approx(accepted / 3)
    loss.backward()
    opt = torch.optim.Adam(plain.parameters(), lr=plain.rate)
    opt.step()
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        # The last constant cancels between segments of one length: its gradient is rounding, which Adam enlarges.
        assert name == "biases.1" or torch.allclose(a, b, atol=1e-5)


def test_sure_of_nothing_and_uncropped_it_is_the_plain_ensemble_bit_for_bit():
    told = answered(20, seed=1)
    plain, inner = (RewardEnsemble(2, 1, hidden=(16,), steps=5) for _ in range(2))
    semi = SemiSupervised(inner, unlabelled, tau=1 - 1e-12, crop=0)
    expected, report = plain.fit(told, np.random.default_rng(0)), semi.fit(told, np.random.default_rng(0))
    assert report == expected | {"pseudo_share": 0.0, "pseudo_labels": 0.0}
    obs, act = np.ones((3, 2)), np.ones((3, 1))
    assert np.array_equal(plain.reward(obs, act), semi.reward(obs, act))
    assert np.array_equal(plain.spread(obs, act), semi.spread(obs, act))
    assert torch.equal(plain.utilities(told.segments), semi.utilities(told.segments))


def test_it_learns_and_becomes_surer():
    semi = SemiSupervised(RewardEnsemble(2, 1, hidden=(32,), steps=60), unlabelled)
    shares = [semi.fit(answered(60, seed=1), np.random.default_rng(0))["pseudo_share"] for _ in range(2)]
    assert accuracy(semi, answered(1000, seed=2)) > 0.85
    assert shares[0] < shares[1]


def test_saved_and_restored_it_goes_on_bit_for_bit(tmp_path):
    def make(**settings):
        return SemiSupervised(RewardEnsemble(2, 1, hidden=(8,), steps=5, batch=8), unlabelled, **settings)

    semi, rng, told = make(), np.random.default_rng(0), answered(20, seed=1)
    semi.fit(told, rng)
    checkpoint.save(tmp_path, 1, reward=semi, rng=rng)
    restored, stream = make(), np.random.default_rng(1)
    checkpoint.load(tmp_path, reward=restored, rng=stream)
    assert semi.fit(told, rng) == restored.fit(told, stream)
    assert all(torch.equal(a, b) for a, b in zip(semi.model.parameters(), restored.model.parameters(), strict=True))
    with pytest.raises(checkpoint.CheckpointError, match=r"semi-supervised with tau 0\.95"):
        checkpoint.load(tmp_path, reward=make(tau=0.9))


def test_bad_settings_and_pairs_are_refused():
    reward = RewardEnsemble(2, 1)
    for settings in (dict(tau=0.4), dict(tau=1.0), dict(weight=-1), dict(ratio=0), dict(crop=-1)):
        ((name, value),) = settings.items()
        with pytest.raises(ValueError, match=f"{name} {value}"):
            SemiSupervised(reward, unlabelled, **settings)
    few = SemiSupervised(reward, lambda n, rng: segments(3, 0))
    with pytest.raises(ValueError, match=r"segments \[3, 2, 12\] when asked for 5 pairs"):
        few.fit(answered(5, seed=0), np.random.default_rng(0))
