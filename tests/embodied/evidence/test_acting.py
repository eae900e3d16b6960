"""Somebody acts: soft policies against enumeration, gradients, feature expectations, and who acts as is said."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from embodied.evidence.acting import (
    Demonstrations,
    Sighting,
    demonstrate,
    demonstrated,
    presence,
    sight,
    sighted,
    soft_policy,
)
from embodied.evidence.learning import learn
from embodied.evidence.plans import all_plans, found
from embodied.evidence.traces import trace, traced
from envs.delivery import CHANCES, board

WORLD = board()
W = torch.tensor([-0.5, 1.5, -1.5, 0.5, -0.5, -1.0], dtype=torch.float64)
START, T = 68, 4  # two steps from the goal
UNIFORM = torch.full((4,), 0.25, dtype=torch.float64)


def walked(actions):
    """The demonstrations of plans [K,T] from START."""
    state, states = np.full(len(actions), START), []
    for action in actions.T:
        states.append(state)
        state = np.where(WORLD.terminal[state], state, WORLD.next[state, action, 0])
    return Demonstrations(torch.from_numpy(np.stack(states, 1)), torch.from_numpy(actions)), state


def plans():
    actions = all_plans(WORLD, T)
    finds = found(WORLD, np.array([START]), actions)[0]
    return actions, finds, torch.softmax(finds @ W, 0)


def test_a_demonstration_has_probability_e_to_the_u_among_all_plans():
    actions, finds, p = plans()
    data, _ = walked(actions)
    log_p = -demonstrated(WORLD, data, W)
    free = torch.from_numpy(WORLD.terminal)[data.state].sum(1)  # steps after the end, each of 4 kinds
    assert free.max() >= 1 and torch.allclose(log_p - free * math.log(4), p.log())
    assert (log_p - free * math.log(4)).exp().sum().item() == pytest.approx(1)
    assert torch.allclose(log_p - free * math.log(4), finds @ W - (finds @ W).logsumexp(0))


def test_the_gradient_is_what_was_expected_less_what_was_found():
    actions, finds, p = plans()
    data, _ = walked(actions[[7]])
    w = W.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(demonstrated(WORLD, data, w).sum(), w)
    assert torch.allclose(gradient, p @ finds - finds[7])
    assert torch.autograd.gradcheck(lambda w: demonstrated(WORLD, data, w), W.clone().requires_grad_())


def test_who_demonstrates_does_so_with_that_probability():
    actions, _, p = plans()
    n = 20_000
    data = demonstrate(WORLD, 0.5 * W, np.full(n, START), T, np.random.default_rng(0))
    p = torch.softmax(found(WORLD, np.array([START]), actions)[0] @ (0.5 * W), 0).numpy()
    counts = np.bincount((data.action @ torch.tensor([64, 16, 4, 1])).numpy(), minlength=len(p))
    assert chisquare(counts, p * n).pvalue > 1e-4


def test_the_world_afterwards_is_where_plans_lead_and_adds_up():
    actions, _, p = plans()
    _, end = walked(actions)
    start = torch.eye(100, dtype=torch.float64)[[START]]
    got = presence(WORLD, W, start, T)[0]
    assert got.numpy() == pytest.approx(np.bincount(end, p.numpy(), 100)) and got.sum().item() == pytest.approx(1)
    counts = np.bincount(
        sight(WORLD, W, start.expand(20_000, -1), T, np.random.default_rng(0)).state.numpy(), minlength=100
    )
    can = got.numpy() > 1e-3
    assert chisquare(counts[can], got.numpy()[can] / got.numpy()[can].sum() * counts[can].sum()).pvalue > 1e-4
    seen = Sighting(torch.tensor([69]), start, T)
    assert torch.autograd.gradcheck(lambda w: sighted(WORLD, seen, w), W.clone().requires_grad_())


def test_with_chance_the_expectation_is_taken_and_presence_still_adds_up():
    chancy = board(chances=CHANCES)
    p = soft_policy(chancy, W, 3).exp()
    assert torch.allclose(p.sum(-1), torch.ones(3, 100).double())
    # One step before the end, an action counts what it is expected to find.
    expected = torch.from_numpy((chancy.prob[..., None] * chancy.features).sum(2)[START]) @ W
    assert torch.allclose(p[-1, START], expected.softmax(-1))
    got = presence(chancy, W, torch.eye(100, dtype=torch.float64)[[START]], 3)
    assert got.sum().item() == pytest.approx(1)


def test_an_unwanted_thing_that_still_stands_says_that_it_was_avoided():
    """Simulating the past: the cell beside a sheep, after many steps, is likelier the more sheep are minded."""
    seen = Sighting(torch.tensor([64]), torch.eye(100, dtype=torch.float64)[[64]], 6)  # sheep at (6,3), (3,5), (3,6)
    minds, does_not = W, W * torch.tensor([1, 1, 0, 1, 1, 1])
    assert sighted(WORLD, seen, minds).item() < sighted(WORLD, seen, does_not).item()


def test_a_trace_is_normalised_and_falls_and_the_feature_is_learned():
    rng = np.random.default_rng(0)
    cells = np.stack(np.divmod(np.arange(100), 10), 1)
    far = torch.from_numpy(np.abs(cells - [8, 9]).sum(1).astype(float))
    actions = all_plans(WORLD, T)
    data, _ = walked(actions)
    free = torch.from_numpy(WORLD.terminal)[data.state].sum(1)
    assert (-traced(WORLD, data, far) - free * math.log(4)).exp().sum().item() == pytest.approx(1)
    assert torch.autograd.gradcheck(
        lambda f: traced(WORLD, Demonstrations(data.state[:3], data.action[:3]), f),
        far.clone().requires_grad_(),
        fast_mode=True,
    )
    led = trace(WORLD, 3 * far, rng.choice(WORLD.starts, 300), 8, rng)
    steps = far[led.state].diff(dim=1)
    assert (steps <= 0).double().mean().item() > 0.9
    led = trace(WORLD, far, rng.choice(WORLD.starts, 500), 8, rng)
    got = learn([lambda f: traced(WORLD, led, f)], 100).weights[WORLD.starts]
    assert np.corrcoef(got, far[WORLD.starts])[0, 1] > 0.95


def test_a_trace_is_led_with_the_probability_of_its_steps():
    feature = torch.from_numpy(np.random.default_rng(1).normal(size=100))
    led = trace(WORLD, feature, np.full(20_000, START), 1, np.random.default_rng(0))
    p = torch.softmax(-feature[torch.from_numpy(WORLD.next[START, :, 0])], 0).numpy()
    assert chisquare(np.bincount(led.action[:, 0].numpy(), minlength=4), p * 20_000).pvalue > 1e-4


def test_what_makes_no_sense_is_a_sentence():
    start = torch.eye(100, dtype=torch.float64)
    for call, message in (
        (lambda: Demonstrations(torch.zeros(2, 3), torch.zeros(2, 4)), r"state is \[2, 3\], action \[2, 4\]"),
        (lambda: Sighting(torch.tensor([1]), start, 2), r"state is \[1\], start \[100, 100\], length 2"),
        (lambda: Sighting(torch.tensor([1]), 2 * start[:1], 2), "start must be at least 0 and add up to 1"),
        (lambda: sighted(WORLD, Sighting(torch.tensor([99]), start[:1], 2), W), "state 99 of row 0 cannot be reached"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
