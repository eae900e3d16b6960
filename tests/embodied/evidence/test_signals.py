"""Signals and interventions: credit, means, the policy gradient, and when it is stopped."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from embodied.evidence.interventions import Watched, watch, watched
from embodied.evidence.signals import Signals, coach, credited, signals, tamer

CREDIT = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
W = torch.tensor([0.5, -0.3], dtype=torch.float64)


def steps(n, t=4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (n, t, 2)))


def test_credit_goes_to_the_steps_before():
    each = torch.tensor([[1.0, 0, 0, 10, 0]]).double()
    assert credited(each, CREDIT)[0].tolist() == pytest.approx([0.1, 0.3, 0.6, 1.0, 3.0])


def test_signals_have_the_mean_that_is_regressed_and_tamer_is_least_where_they_come_from():
    n, about = 40_000, steps(1)
    mean = credited(about @ W, CREDIT)
    said = signals((about @ W).expand(n, -1), CREDIT, np.random.default_rng(0))
    for plus, m in zip((said > 0).sum(0).tolist(), mean[0].tolist(), strict=True):
        assert chisquare([plus, n - plus], [n * (1 + m) / 2, n * (1 - m) / 2]).pvalue > 1e-4
    # The expected gradient at the truth, every answer weighed by its probability, is nought.
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4))).double()
    p = ((1 + every * mean) / 2).prod(-1)
    assert p.sum().item() == pytest.approx(1)
    w = W.clone().requires_grad_()
    loss = p @ tamer(Signals(about.expand(16, -1, -1), every, CREDIT), w)
    assert torch.autograd.grad(loss, w)[0].abs().max().item() < 1e-12


def test_where_nothing_was_said_nothing_is_learned():
    about, silent = steps(3), torch.zeros(3, 4).double()
    assert tamer(Signals(about, silent, CREDIT), W).tolist() == [0, 0, 0]
    said = signals(about @ W, CREDIT, np.random.default_rng(0))
    assert torch.autograd.gradcheck(lambda w: tamer(Signals(about, said, CREDIT), w), W.clone().requires_grad_())


def test_coach_by_advantages_is_the_policy_gradient():
    """One state, three actions: the expected update is the gradient of the return by finite differences."""
    logits, pay = torch.tensor([0.3, -0.2, 0.5]).double(), torch.tensor([0.4, -0.1, 0.2]).double()
    now = torch.ones(1).double()

    def earned(x):
        return (x.softmax(-1) @ pay).item()

    x = logits.clone().requires_grad_()
    p = x.detach().softmax(-1)
    advantage = pay - p @ pay
    # Every action and both signals, as often as they come.
    loss = sum(
        p[a]
        * (1 + said * advantage[a])
        / 2
        * coach(x.log_softmax(-1)[a].reshape(1, 1), torch.tensor([[said]]).double(), now)[0]
        for a in range(3)
        for said in (-1.0, 1.0)
    )
    (gradient,) = torch.autograd.grad(loss, x)
    for k, e in enumerate(1e-5 * torch.eye(3).double()):
        assert -gradient[k].item() == pytest.approx((earned(logits + e) - earned(logits - e)) / 2e-5, abs=1e-8)


def test_coach_gives_late_signals_to_earlier_actions():
    log_prob = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    coach(log_prob, torch.tensor([[0, 0, 1.0]]).double(), CREDIT).sum().backward()
    assert log_prob.grad[0].tolist() == pytest.approx([-0.6, -0.3, -0.1])


def test_stops_are_hazards_of_the_last_steps_and_add_up():
    about, t = steps(1), 4
    steps_, stopped = torch.tensor([1, 2, 3, 4, 4]), torch.tensor([True] * 4 + [False])
    data = Watched(about.expand(5, -1, -1), steps_, stopped, window=2, patience=0.5)
    p = (-watched(data, W)).exp()
    assert p.sum().item() == pytest.approx(1)
    each = (about @ W)[0].tolist()
    hazard = [1 / (1 + math.exp(sum(each[max(0, k - 1) : k + 1]) + 0.5)) for k in range(t)]
    going = np.cumprod([1, *(1 - h for h in hazard)])
    assert p.tolist() == pytest.approx([*(going[k] * hazard[k] for k in range(t)), going[t]])
    assert torch.autograd.gradcheck(lambda w: watched(data, w), W.clone().requires_grad_())
    n = 20_000
    seen = watch(about.expand(n, -1, -1), torch.full((n,), t), W, np.random.default_rng(0), 2, 0.5)
    counts = [int(((seen.steps == k) & (seen.stopped == s)).sum()) for k, s in zip(steps_, stopped, strict=True)]
    assert chisquare(counts, p.numpy() * n).pvalue > 1e-4


def test_after_the_end_nothing_is_watched():
    seen = watch(steps(500), torch.full((500,), 2), W, np.random.default_rng(0), patience=-1.0)
    assert int(seen.steps.max()) == 2 and bool(seen.stopped.any())


def test_what_makes_no_sense_is_a_sentence():
    about = steps(2)
    for call, message in (
        (lambda: Signals(about, torch.zeros(2, 3), CREDIT), r"found is \[2, 4, 2\], signal \[2, 3\], credit \[3\]"),
        (lambda: Signals(about, torch.zeros(2, 4), -CREDIT), "signals must be finite, and credit"),
        (lambda: Watched(about, torch.tensor([0, 1]), torch.tensor([True, True]), 1, 0), "watched 0 to 1 of 4 steps"),
        (lambda: Watched(about, torch.tensor([1]), torch.tensor([True]), 1, 0), r"steps are \[1\], stopped \[1\] of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
