"""Scores against their closed forms, on padding, far out, and what they must not differentiate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embodied.feedback import Segments
from embodied.scores import (
    Return,
    discounted_log_prob,
    f_divergence,
    log_odds,
    log_prob,
    log_ratio,
    mean_log_prob,
    mean_log_ratio,
)

ALL = [
    log_prob,
    mean_log_prob,
    log_ratio,
    mean_log_ratio,
    log_odds,
    discounted_log_prob(0.9),
    *(f_divergence(kind) for kind in ("reverse_kl", "forward_kl", "js", "alpha")),
]


def draw(seed, steps=6):
    gen = torch.Generator().manual_seed(seed)
    logp, ref = -torch.rand(2, 3, 2, steps, generator=gen, dtype=torch.float64) - 0.01
    mask = torch.arange(steps) < torch.randint(1, steps + 1, (3, 2, 1), generator=gen)
    return logp, ref, mask


@pytest.mark.parametrize("score", ALL)
@given(seed=st.integers(0, 10**6))
def test_padding_changes_nothing_even_if_it_is_nan(score, seed):
    logp, ref, mask = draw(seed)
    pad = torch.full((3, 2, 4), torch.nan, dtype=torch.float64)
    longer = torch.cat([logp, pad], -1).requires_grad_()
    padded = score(longer, torch.cat([ref, pad], -1), torch.cat([mask, torch.zeros_like(pad).bool()], -1))
    assert torch.allclose(padded, score(logp, ref, mask), rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(padded.sum(), longer)
    assert torch.isfinite(gradient).all() and gradient[..., 6:].abs().sum() == 0


@pytest.mark.parametrize("score", ALL)
def test_the_reference_and_the_mask_carry_no_gradient(score):
    logp, ref, mask = draw(0)
    ref.requires_grad_()
    value = score(logp.requires_grad_(), ref, mask)
    assert torch.autograd.grad(value.sum(), ref, allow_unused=True) == (None,)


@pytest.mark.parametrize("score", ALL)
def test_gradients_agree_with_finite_differences(score):
    logp, ref, mask = draw(1)
    assert torch.autograd.gradcheck(lambda x: score(x, ref, mask), logp.requires_grad_(), atol=1e-6, rtol=1e-6)


def test_closed_forms():
    logp, ref = torch.tensor([[[-1.0, -3.0]]]).double(), torch.tensor([[[-2.0, -1.5]]]).double()
    mask = torch.ones(1, 1, 2, dtype=torch.bool)
    u = -4.0 + 3.5
    p = math.exp(-2)
    plain = [-4, -2, u, u / 2, math.log(p / (1 - p)), -1 - 0.9 * 3]
    divergences = [u, -math.exp(-u), -math.log1p(math.exp(-u)), -2 * math.exp(-u / 2)]
    assert [s(logp, ref, mask).item() for s in ALL] == pytest.approx(plain + divergences, rel=1e-14)


def test_doubling_a_segment_by_repetition_leaves_means_alone_and_doubles_sums():
    logp, ref, mask = draw(2)
    twice = [torch.cat([x, x], -1) for x in (logp, ref, mask)]
    assert torch.allclose(mean_log_prob(*twice), mean_log_prob(logp, ref, mask))
    assert torch.allclose(mean_log_ratio(*twice), mean_log_ratio(logp, ref, mask))
    assert torch.allclose(log_prob(*twice), 2 * log_prob(logp, ref, mask))


def test_units_of_the_action_cancel_in_ratios():
    """Rescaling a continuous action shifts every log-density by one constant."""
    logp, ref, mask = draw(3)
    for score in (log_ratio, mean_log_ratio):
        assert torch.allclose(score(logp + 2.3, ref + 2.3, mask), score(logp, ref, mask))


def test_log_odds_refuses_densities_and_survives_certainty():
    mask = torch.ones(1, 2, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"0\.7.*mean_log_prob"):
        log_odds(torch.tensor([[[0.7], [-1.0]]]), torch.zeros(1, 2, 1), mask)
    certain = torch.tensor([[[0.0], [-1e4]]], requires_grad=True)
    odds = log_odds(certain, torch.zeros(1, 2, 1), mask)
    (gradient,) = torch.autograd.grad(odds.sum(), certain)
    assert torch.isfinite(odds).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("score", ALL)
def test_far_out_everything_is_finite(score, dtype):
    logp = torch.tensor([[[-1e4, -1.0], [-1.0, -1.0]]], dtype=dtype, requires_grad=True)
    ref = torch.tensor([[[-1.0, -1.0], [-1e4, -1.0]]], dtype=dtype)
    value = score(logp, ref, torch.ones(1, 2, 2, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value.sum(), logp)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


def test_alpha_tends_to_the_log_ratio():
    logp, ref, mask = draw(4)
    near = torch.diff(f_divergence("alpha", 1 - 1e-6)(logp, ref, mask))
    assert torch.allclose(near, torch.diff(log_ratio(logp, ref, mask)), atol=1e-4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: discounted_log_prob(0.0), "gamma is 0.0"),
        (lambda: discounted_log_prob(1.1), "gamma is 1.1"),
        (lambda: f_divergence("total_variation"), "total_variation"),
        (lambda: f_divergence("alpha", 1.0), "reverse_kl"),
    ],
)
def test_impossible_settings_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_return_sums_over_real_steps_with_and_without_an_ensemble():
    mask = torch.tensor([[[True, True, False], [True, False, False]]])
    segments = Segments(torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 2), mask, torch.zeros(1, 2, 3))
    one = Return(lambda obs, act: obs[..., 0] + act[..., 1])
    step = segments.obs[..., 0] + segments.act[..., 1]
    assert torch.allclose(one(segments), torch.stack([step[0, 0, :2].sum(), step[0, 1, 0]])[None])
    three = Return(lambda obs, act: torch.stack([obs[..., 0]] * 3))
    assert three(segments).shape == (3, 1, 2)
