"""Label models: cDPO and robust DPO from any pair loss, and the identity that makes the robust one unbiased."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import softplus

from embodied.feedback import Feedback, Segments
from embodied.label_models import as_given, smooth, unbias
from embodied.losses import bt_ties, hinge, logistic, pairwise, square


def told(q: float) -> Feedback:
    mask = torch.ones(1, 2, 1, dtype=torch.bool)
    segments = Segments(torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1), mask, torch.zeros(1, 2, 1))
    one = torch.ones(1)
    return Feedback(segments, torch.tensor([[q, 1 - q]], dtype=torch.float64), one, one.long(), one.bool())


gaps, shares = st.floats(-10, 10), st.floats(0, 0.49)


@given(gap=gaps, eps=shares)
def test_smoothing_is_conservative_dpo_and_unbiasing_is_robust_dpo(gap, eps):
    loss = pairwise(logistic, beta=0.3)
    score = torch.tensor([[gap, 0.0]], dtype=torch.float64)
    right, wrong = softplus(-0.3 * score[:, 0]), softplus(0.3 * score[:, 0])
    conservative = loss(score, smooth(eps)(loss, score, told(1.0)))
    assert torch.allclose(conservative, (1 - eps) * right + eps * wrong, rtol=1e-13, atol=1e-13)
    robust = loss(score, unbias(eps)(loss, score, told(1.0)))
    assert torch.allclose(robust, ((1 - eps) * right - eps * wrong) / (1 - 2 * eps), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("loss", [pairwise(logistic), pairwise(square), pairwise(hinge), bt_ties(1.5)])
@given(gap=gaps, eps=shares, q=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_mean_over_flipped_labels_is_the_loss_of_the_true_label(loss, gap, eps, q):
    score = torch.tensor([[gap, 0.5]], dtype=torch.float64)
    model = unbias(eps)
    kept, flipped = (loss(score, model(loss, score, told(label))) for label in (q, 1 - q))
    assert torch.allclose((1 - eps) * kept + eps * flipped, loss(score, told(q).target), rtol=1e-9, atol=1e-9)


@given(eps=shares, q=st.floats(0, 1))
def test_unbias_undoes_smooth_and_both_sum_to_one(eps, q):
    loss, score = pairwise(logistic), torch.zeros(1, 2)
    target = smooth(eps)(loss, score, told(q))
    assert target.sum().item() == pytest.approx(1)
    assert unbias(eps)(loss, score, told(target[0, 0].item()))[0, 0].item() == pytest.approx(q, abs=1e-10)


def test_as_given_and_zero_noise_change_nothing():
    loss, score, feedback = pairwise(logistic), torch.zeros(1, 2), told(0.8)
    for model in (as_given, smooth(0.0), unbias(0.0)):
        assert torch.equal(model(loss, score, feedback), feedback.target)


@pytest.mark.parametrize(("make", "eps"), [(smooth, -0.1), (smooth, 0.6), (unbias, 0.5), (unbias, -0.1)])
def test_impossible_shares_are_refused(make, eps):
    with pytest.raises(ValueError, match=f"eps is {eps}"):
        make(eps)


def test_lists_are_refused():
    three = told(1.0)
    mask = torch.ones(1, 3, 1, dtype=torch.bool)
    segments = Segments(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1), mask, torch.zeros(1, 3, 1))
    ranking = Feedback(segments, torch.zeros(1, 3), three.weight, three.annotator, three.same_context)
    for model in (smooth(0.1), unbias(0.1)):
        with pytest.raises(ValueError, match=r"K = 3.*all_pairs"):
            model(pairwise(logistic), torch.zeros(1, 3), ranking)
