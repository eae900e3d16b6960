"""fit: one loop, resumed bit for bit; weights, label models, ensembles; and imitation against a closed form."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from embodied import checkpoint
from embodied.feedback import Feedback, Segments
from embodied.fit import fit, imitate, plus, ranking
from embodied.label_models import smooth
from embodied.losses import logistic, pairwise, plackett_luce
from embodied.scores import Return

LOSS = pairwise(logistic)


def data(rows=40, alternatives=2, seed=0):
    gen = torch.Generator().manual_seed(seed)
    shape = rows, alternatives, 5
    obs, act = torch.randn(*shape, 3, generator=gen), torch.randn(*shape, 2, generator=gen)
    mask = torch.arange(5) < torch.randint(1, 6, (rows, alternatives, 1), generator=gen)
    target = (
        torch.rand(rows, generator=gen).round() if alternatives == 2 else torch.rand(rows, alternatives, generator=gen)
    )
    target = torch.stack([target, 1 - target], -1) if alternatives == 2 else target
    one = torch.ones(rows)
    return Feedback(Segments(obs, act, mask, torch.zeros(shape)), target, one, one.long(), one.bool())


def weighted(feedback, weight):
    return Feedback(feedback.segments, feedback.target, weight, feedback.annotator, feedback.same_context)


class Net(nn.Module):
    def __init__(self, members=0):
        super().__init__()
        gen = torch.Generator().manual_seed(7)
        self.first = nn.Parameter(torch.randn(max(members, 1), 5, 8, generator=gen))
        self.last = nn.Parameter(torch.randn(max(members, 1), 8, generator=gen))
        self.members = members

    def forward(self, obs, act):
        hidden = torch.tanh(torch.einsum("...d,edh->e...h", torch.cat([obs, act], -1), self.first))
        reward = torch.einsum("e...h,eh->e...", hidden, self.last)
        return reward if self.members else reward[0]


def start(rate=1e-2):
    net = Net()
    return net, torch.optim.AdamW(net.parameters(), lr=rate), np.random.default_rng(3)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("batch", [7, 64])
def test_fit_in_parts_equals_fit_at_once_bit_for_bit_also_through_a_checkpoint(batch, tmp_path):
    feedback = data()
    net, opt, rng = start()
    whole = fit(ranking(Return(net), LOSS), feedback, opt, steps=30, batch=batch, rng=rng)

    half, half_opt, half_rng = start()
    first = fit(ranking(Return(half), LOSS), feedback, half_opt, steps=11, batch=batch, rng=half_rng)
    checkpoint.save(tmp_path, 11, net=half, opt=half_opt, rng=half_rng)
    fresh = Net()
    fresh_opt, fresh_rng = torch.optim.AdamW(fresh.parameters()), np.random.default_rng(99)
    assert checkpoint.load(tmp_path, net=fresh, opt=fresh_opt, rng=fresh_rng) == 11

    for model, optimiser, stream in ((half, half_opt, half_rng), (fresh, fresh_opt, fresh_rng)):
        second = fit(ranking(Return(model), LOSS), feedback, optimiser, steps=19, batch=batch, rng=stream)
        assert first.losses + second.losses == whole.losses
        assert same(model, net)
        assert stream.bit_generator.state == rng.bit_generator.state


def test_the_loss_falls_and_progress_tells_every_step():
    net, opt, rng = start()
    told = []
    report = fit(
        ranking(Return(net), LOSS), data(), opt, steps=60, batch=64, rng=rng, progress=lambda *x: told.append(x)
    )
    assert report.losses[-1] < 0.7 * report.losses[0]
    assert told == list(enumerate(report.losses, 1))


def test_a_row_twice_is_a_row_of_weight_two():
    feedback = data(rows=6)
    index = torch.tensor([0, 1, 2, 2, 3, 4, 5])
    results = []
    for rows in (feedback[index], weighted(feedback, torch.tensor([1.0, 1, 2, 1, 1, 1]))):
        net, _, rng = start()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        results.append((net, fit(ranking(Return(net), LOSS), rows, opt, steps=3, batch=64, rng=rng).losses))
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    for a, b in zip(results[0][0].parameters(), results[1][0].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_rows_of_weight_zero_are_not_there():
    feedback = data(rows=8)
    weight = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1])
    losses = []
    for rows in (weighted(feedback, weight), feedback[weight > 0]):
        net, opt, rng = start()
        losses.append(fit(ranking(Return(net), LOSS), rows, opt, steps=5, batch=3, rng=rng).losses)
    assert losses[0] == losses[1]


def test_weights_and_targets_get_no_gradient():
    feedback = data()
    weight = torch.full((40,), 0.5, requires_grad=True)
    target = feedback.target.clone().requires_grad_()
    tracked = Feedback(feedback.segments, target, weight, feedback.annotator, feedback.same_context)
    net, opt, rng = start()
    fit(ranking(Return(net), LOSS), tracked, opt, steps=1, batch=64, rng=rng)
    assert weight.grad is None and target.grad is None
    for objective in (ranking(Return(net), LOSS), imitate(Gaussian())):
        assert torch.autograd.grad(objective(tracked).sum(), [target, weight], allow_unused=True) == (None, None)


def test_the_label_model_is_applied_and_sees_a_detached_score():
    net, _, _ = start()
    feedback, seen = data(), []

    def spy(loss, score, feedback):
        seen.append(score.requires_grad)
        return smooth(0.2)(loss, score, feedback)

    score = Return(net)(feedback.segments)
    expected = LOSS(score, 0.8 * feedback.target + 0.2 * feedback.target.flip(-1))
    assert torch.allclose(ranking(Return(net), LOSS, spy)(feedback), expected)
    assert seen == [False]


@pytest.mark.parametrize(("loss", "alternatives"), [(LOSS, 2), (plackett_luce, 4)])
def test_an_ensemble_sums_over_its_members_and_each_learns_as_if_alone(loss, alternatives):
    feedback = data(alternatives=alternatives)
    net = Net(members=3)
    per_member = loss(Return(net)(feedback.segments), feedback.target)
    assert per_member.shape == (3, 40)
    objective = ranking(Return(net), loss)
    assert torch.allclose(objective(feedback), per_member.sum(0))
    (together,) = torch.autograd.grad(objective(feedback).sum(), net.last)
    (alone,) = torch.autograd.grad(per_member[1].sum(), net.last)
    assert torch.allclose(together[1], alone[1])


class Gaussian(nn.Module):
    """An action of fixed mean and deviation, whatever is seen."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))
        self.log_std = nn.Parameter(torch.zeros(2))

    def log_prob(self, segments):
        z = (segments.act - self.mean) / self.log_std.exp()
        return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def test_imitation_finds_the_maximum_likelihood():
    """One step per demonstration: the optimum is the sample mean and deviation."""
    gen = torch.Generator().manual_seed(0)
    act = torch.randn(50, 1, 1, 2, generator=gen) * torch.tensor([0.5, 2.0]) + torch.tensor([1.0, -1.0])
    segments = Segments(torch.zeros(50, 1, 1, 1), act, torch.ones(50, 1, 1, dtype=torch.bool), torch.zeros(50, 1, 1))
    one = torch.ones(50)
    policy = Gaussian()
    opt = torch.optim.Adam(policy.parameters(), lr=0.05)
    demos = Feedback(segments, torch.ones(50, 1), one, one.long(), one.bool())
    fit(imitate(policy), demos, opt, steps=600, batch=64, rng=np.random.default_rng(0))
    assert policy.mean.tolist() == pytest.approx(act.mean((0, 1, 2)).tolist(), abs=1e-3)
    assert policy.log_std.exp().tolist() == pytest.approx(act.std((0, 1, 2), correction=0).tolist(), abs=1e-3)


def test_of_pairs_the_preferred_one_is_imitated():
    feedback = data(rows=3)
    policy = Gaussian()
    logp = policy.log_prob(feedback.segments)
    mask = feedback.segments.mask
    best = feedback.target.argmax(-1)
    mean = (logp * mask).sum(-1) / mask.sum(-1)
    assert torch.allclose(imitate(policy)(feedback), -mean[torch.arange(3), best])


def test_plus_adds_terms_with_their_coefficients():
    feedback, policy = data(), Gaussian()
    net, _, _ = start()
    both = plus(ranking(Return(net), LOSS), (0.3, imitate(policy)), (-1.0, imitate(policy)))
    expected = ranking(Return(net), LOSS)(feedback) - 0.7 * imitate(policy)(feedback)
    assert torch.allclose(both(feedback), expected, atol=1e-6)


def test_an_objective_of_ones_own_need_not_be_hashable():
    @dataclass
    class Own:
        net: Net

        def __call__(self, feedback):
            return ranking(Return(self.net), LOSS)(feedback)

    ours, theirs = start(), start()
    fit(Own(ours[0]), data(), ours[1], steps=2, batch=8, rng=ours[2])
    fit(ranking(Return(theirs[0]), LOSS), data(), theirs[1], steps=2, batch=8, rng=theirs[2])
    assert same(ours[0], theirs[0])


def test_impossible_sizes_empty_data_and_bad_losses_are_refused_before_anything_changes():
    net, opt, rng = start()
    objective, feedback = ranking(Return(net), LOSS), data()
    for steps, batch in ((-1, 4), (4, 0)):
        with pytest.raises(ValueError, match=f"steps is {steps} and batch {batch}"):
            fit(objective, feedback, opt, steps=steps, batch=batch, rng=rng)
    for empty in (feedback[:0], weighted(feedback, torch.zeros(40))):
        with pytest.raises(ValueError, match="weight above 0"):
            fit(objective, empty, opt, steps=1, batch=4, rng=rng)
    with pytest.raises(ValueError, match=r"loss is nan at step 0.*check_loss"):
        fit(lambda f: objective(f) * math.nan, feedback, opt, steps=1, batch=4, rng=rng)
    assert same(net, Net()) and not opt.state
    assert fit(objective, feedback, opt, steps=0, batch=4, rng=np.random.default_rng(0)).losses == ()
