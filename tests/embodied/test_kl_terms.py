"""KL terms: values and gradients against the KL itself, worked out from the tables."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from embodied.advantages import leave_one_out
from embodied.feedback import Segments
from embodied.fit import fit, plus
from embodied.kl_terms import forward_kl, kl_term
from embodied.policy_gradient import clipped, policy_gradient
from embodied.reference import Reference
from policies.gaussian import GaussianPolicy
from policies.table import SoftmaxTable
from tests.embodied.bandits import LAW, REWARD, chain, every, feedback, gradient, near, policy, reference, slope


def reverse(logp: Tensor) -> Tensor:
    return (logp.exp() * (logp - LAW.log())).sum(-1).mean()


def forward(logp: Tensor) -> Tensor:
    return (LAW * (LAW.log() - logp)).sum(-1).mean()


class Silent:
    """A table that does not know its KL."""

    density = False

    def __init__(self, table: SoftmaxTable) -> None:
        self.table = table

    def log_prob(self, segments: Segments) -> Tensor:
        return self.table.log_prob(segments)


@pytest.mark.parametrize(
    ("estimator", "value", "direction"),
    [("exact", reverse, reverse), ("k2", None, reverse), ("k3", reverse, forward)],
)
def test_which_kl_the_value_is_and_which_the_gradient_descends(estimator, value, direction) -> None:  # type: ignore[no-untyped-def]
    table = policy()
    data = every(table, 2)
    term = kl_term(table, Reference(reference()), estimator)
    mean = (data.weight * term(data)).sum() / data.weight.sum()
    if value is not None:
        assert mean.item() == pytest.approx(value(table.logits.log_softmax(-1)).item(), abs=1e-12)
    found, other = gradient(term, data, table), forward if direction is reverse else reverse
    assert near(found, slope(direction, table), 1e-12)
    assert not near(found, slope(other, table), 1e-2)


def test_the_forward_kl_is_the_same_exactly_and_from_samples_also_when_the_policy_has_moved() -> None:
    table, acted = policy(), policy(5)
    data = every(acted, 2)
    exact = gradient(forward_kl(table, reference()), data, table)
    sampled = forward_kl(Silent(table), Silent(reference()))
    assert near(exact, slope(forward, table), 1e-12)
    assert near(gradient(sampled, data, table), slope(forward, table), 1e-12)
    mean = (data.weight * sampled(data)).sum() / data.weight.sum()
    assert mean.item() == pytest.approx(forward(table.logits.log_softmax(-1)).item(), abs=1e-12)
    assert (sampled(data) >= 0).all()
    same = forward_kl(Silent(table), Silent(copy.deepcopy(table)))
    assert same(data).abs().max() < 1e-12


def test_only_the_policy_moves_toward_the_reference() -> None:
    table, held = policy(), Reference(reference())
    data = every(table, 1)
    for term in (forward_kl(table, held), kl_term(table, held), kl_term(table, held, "k2")):
        term(data).sum().backward()
    assert held.policy.logits.grad is None  # type: ignore[attr-defined]
    opt = torch.optim.SGD(table.parameters(), lr=1.0)
    fit(forward_kl(table, held), data, opt, steps=800, batch=99, rng=np.random.default_rng(0))
    assert near(torch.from_numpy(table.probabilities()), LAW, 1e-8)


def test_for_arms_the_forward_kl_is_that_of_gaussians() -> None:
    ours, theirs = (GaussianPolicy(3, 2, seed=seed, hidden=(8,)) for seed in (0, 1))
    gen = torch.Generator().manual_seed(0)
    obs, mask = torch.randn(4, 1, 5, 3, generator=gen), torch.arange(5) < torch.tensor([5, 3, 1, 4])[:, None, None]
    data = feedback(Segments(obs, obs[..., :2], mask, torch.zeros(4, 1, 5)), torch.ones(4, 1), torch.ones(4))
    (m1, s1), (m2, s2) = theirs(obs), ours(obs)
    normal = torch.distributions.Normal
    each = torch.distributions.kl_divergence(normal(m1, s1.exp()), normal(m2, s2.exp().expand_as(m2))).sum(-1)
    wanted = (each * mask).sum(-1) / mask.sum(-1)
    assert near(forward_kl(ours, theirs)(data), wanted[:, 0], 1e-6)


def test_steps_are_summed_or_averaged() -> None:
    table = SoftmaxTable(torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    segments, chance = chain(table, 1)
    data = feedback(segments, chance[:, None], chance)
    anchor = SoftmaxTable(torch.zeros(3, 2, dtype=torch.float64))
    for estimator in ("exact", "k2", "k3"):
        total, mean = (kl_term(table, anchor, estimator, mean=m)(data) for m in (False, True))  # type: ignore[arg-type]
        assert torch.allclose(total, 2 * mean)


def test_grpo_s_k3_has_an_optimum_of_its_own() -> None:
    """Reward less beta KL(reference, policy): pi = beta ref / (beta + mean reward - reward), which k3 finds."""
    table, beta = policy(), 0.8
    objective = plus(policy_gradient(table, clipped(), leave_one_out()), (beta, kl_term(table, reference(), "k3")))
    opt = torch.optim.SGD(table.parameters(), lr=1.0)
    for _ in range(400):
        fit(objective, every(table, 2), opt, steps=1, batch=99, rng=np.random.default_rng(0))
    law = torch.from_numpy(table.probabilities())
    expected = beta * LAW / (beta + (law * REWARD).sum(-1, keepdim=True) - REWARD)
    assert near(law, expected, 1e-6)


def test_what_has_no_meaning_is_refused() -> None:
    table = policy()
    with pytest.raises(ValueError, match=r"no estimator 'k1'.*belongs into the reward.*leave_one_out\(kl"):
        kl_term(table, reference(), "k1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Silent has no kl\(reference, segments\).*take the estimator k2"):
        kl_term(Silent(table), reference())
    data = every(table, 1)
    old = torch.full_like(data.segments.log_prob, torch.nan)
    unknown = replace(data, segments=replace(data.segments, log_prob=old))
    with pytest.raises(ValueError, match="row 0 is not known, and the forward KL from samples asks"):
        forward_kl(table, Silent(reference()))(unknown)
