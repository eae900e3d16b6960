"""Gradient entanglement: the published example, predictions against what really happens, and both cures."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from embodied import methods as m
from embodied.direct import direct
from embodied.entangle import entanglement, normalised
from embodied.feedback import Feedback, Segments
from policies.gaussian import GaussianPolicy


class Linear(nn.Module):
    """Log-probabilities (or what plays their part) linear in the action: their gradients are the actions."""

    density = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def log_prob(self, segments: Segments) -> Tensor:
        return segments.act @ self.theta


def pair(better: list[float], worse: list[float], better_first: bool = True) -> Feedback:
    act = torch.tensor([[[better], [worse]]], dtype=torch.float64)
    act = act if better_first else act.flip(1)
    segments = Segments(torch.zeros(1, 2, 1, 1), act, torch.ones(1, 2, 1).bool(), torch.zeros(1, 2, 1))
    target = torch.tensor([[1.0, 0.0]]) if better_first else torch.tensor([[0.0, 1.0]])
    return Feedback(segments, target, torch.ones(1), torch.zeros(1).long(), torch.ones(1).bool())


def deltas(policy, objective, feedback, rate):
    """How much a step of plain descent really moves both sums, [2], better first."""

    def sums():
        with torch.no_grad():
            return policy.log_prob(feedback.segments).sum(-1)[0]

    before, kept = sums(), copy.deepcopy(policy.state_dict())
    gradient = torch.autograd.grad(objective(feedback).sum(), list(policy.parameters()))
    with torch.no_grad():
        for parameter, slope in zip(policy.parameters(), gradient, strict=True):
            parameter -= rate * slope
    moved = (sums() - before) / rate
    policy.load_state_dict(kept)
    return moved if feedback.target[0, 0] > feedback.target[0, 1] else moved.flip(0)


@pytest.mark.parametrize("better_first", [True, False])
def test_the_example_of_the_specification(better_first):
    """Gradients (1, .2) and (2, .5): a margin step lowers both; of equal length, it parts them."""
    policy, feedback = Linear(2), pair([1, 0.2], [2, 0.5], better_first)
    objective = direct(policy, m.dpo(2.0))  # at no margin the pull is 2 sigmoid(0) = 1
    seen = entanglement(objective, policy.parameters(), feedback)
    assert [x.item() for x in (seen.better, seen.worse, seen.inner)] == pytest.approx([1.04, 4.25, 2.1])
    assert seen.change[0].tolist() == pytest.approx([-1.06, -2.15])
    assert seen.cases == ("both down",) and not seen.separable.item() and seen.cosine.item() > 0.99
    parted = deltas(policy, normalised(objective, policy.parameters()), feedback, 1e-6)
    length = (1.04**0.5 + 4.25**0.5) / 2
    assert (parted / length).tolist() == pytest.approx([0.0012, -0.0023], abs=1e-4)


def test_what_a_margin_does_follows_from_the_gradients():
    policy = Linear(2)
    for better, worse, case in [
        ([1, 0], [0, 1], "better up, worse down"),
        ([2, 0.5], [1, 0.2], "both up"),
        ([1, 0.2], [2, 0.5], "both down"),
    ]:
        feedback = pair(better, worse)
        seen = entanglement(direct(policy, m.dpo()), policy.parameters(), feedback)
        assert seen.cases == (case,) and seen.separable.item() == (case == "better up, worse down")
    wrong = replace(m.dpo(), loss=lambda score, target: m.dpo().loss(score, target.flip(-1)))
    seen = entanglement(direct(policy, wrong), policy.parameters(), pair([1, 0], [0, 1]))
    assert seen.cases == ("better down, worse up",)


def arm(seed: int, rows: int = 6) -> tuple[GaussianPolicy, Feedback]:
    """A policy, and pairs that share their first steps."""
    gen = torch.Generator().manual_seed(seed)
    obs, act = torch.randn(rows, 2, 5, 3, generator=gen), torch.randn(rows, 2, 5, 2, generator=gen)
    obs[:, 1, :3], act[:, 1, :3] = obs[:, 0, :3], act[:, 0, :3]
    segments = Segments(obs, act, torch.ones(rows, 2, 5).bool(), torch.zeros(rows, 2, 5))
    first = (torch.rand(rows, generator=gen) > 0.5).float()
    one = torch.ones(rows)
    return GaussianPolicy(3, 2, seed=seed, hidden=(8,)).double(), Feedback(
        replace(segments, obs=obs.double(), act=act.double()),
        torch.stack([first, 1 - first], -1),
        one,
        one.long(),
        one.bool(),
    )


METHODS = [m.dpo(), m.ipo(), m.cpo(), m.simpo(), m.kto(), m.apo_zero(), m.cpl(), m.sppo(1.0), m.dense_dpo()]


@pytest.mark.parametrize("method", METHODS, ids=lambda x: x.name)
def test_what_is_predicted_happens(method):
    policy, feedback = arm(0)
    reference = GaussianPolicy(3, 2, seed=5, hidden=(8,)).double()
    objective = direct(policy, method, reference)
    seen = entanglement(objective, policy.parameters(), feedback)
    for row in range(len(feedback)):
        real = deltas(policy, objective, feedback[row], 1e-7)
        assert torch.allclose(real, seen.change[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=lambda x: x.name)
def test_of_one_length_the_better_never_falls_and_the_worse_never_rises(method):
    """Contrasts only: a pointwise loss may want both to move one way, and a weighted one moves weighted sums."""
    policy, feedback = arm(1)
    objective = direct(policy, replace(method, likelihood=0.0), GaussianPolicy(3, 2, seed=5, hidden=(8,)).double())
    cure = normalised(objective, policy.parameters())
    assert torch.allclose(cure(feedback), objective(feedback))
    if method.name in ("sppo", "dense_dpo"):
        return
    for row in range(len(feedback)):
        better, worse = deltas(policy, cure, feedback[row], 1e-7).tolist()
        assert better > -1e-6 and worse < 1e-6


def test_steps_that_both_share_entangle_and_leaving_them_out_helps():
    policy, feedback = arm(2)
    whole = entanglement(direct(policy, m.dpo()), policy.parameters(), feedback)
    shared = torch.arange(5) >= 3
    parts = replace(feedback.segments, mask=feedback.segments.mask & shared)
    alone = entanglement(direct(policy, m.dpo()), policy.parameters(), replace(feedback, segments=parts))
    assert whole.cosine.mean() > alone.cosine.mean() + 0.1


def test_the_reference_does_not_change_the_inner_product_and_nothing_is_changed():
    policy, feedback = arm(3)
    before = copy.deepcopy(policy.state_dict())
    seen = entanglement(direct(policy, m.dpo()), policy.parameters(), feedback)
    assert all(p.grad is None for p in policy.parameters())
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items() if k != "_extra_state")
    assert torch.equal(seen.inner, entanglement(direct(policy, m.cpo()), policy.parameters(), feedback).inner)


def test_ties_and_rankings_have_no_better_side():
    policy = Linear(2)
    feedback = pair([1, 0], [0, 1])
    tie = replace(feedback, target=torch.full((1, 2), 0.5))
    for look in (
        lambda f: entanglement(direct(policy, m.dpo()), policy.parameters(), f),
        normalised(direct(policy, m.dpo()), policy.parameters()),
    ):
        with pytest.raises(ValueError, match=r"row 0 is a tie, \[0.5, 0.5\]"):
            look(tie)
    act = torch.zeros(1, 3, 1, 2)
    three = Segments(act, act, torch.ones(1, 3, 1).bool(), torch.zeros(1, 3, 1))
    ranked = replace(feedback, segments=three, target=torch.tensor([[1.0, 0.5, 0.0]]))
    with pytest.raises(ValueError, match="K = 3"):
        entanglement(direct(policy, m.rankings()), policy.parameters(), ranked)
