"""What is possible, against optimisation by brute force, many draws, and the closed form of DPO."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from embodied.methods import dpo
from llm_bridge.testbed import optimum

QUESTIONS, ANSWERS = 4, 7
GEN = torch.Generator().manual_seed(0)
LOG_REF = (2 * torch.randn(QUESTIONS, ANSWERS, generator=GEN, dtype=torch.float64)).log_softmax(-1)
GOLD = torch.randint(-2, 6, (QUESTIONS, ANSWERS), generator=GEN).double() / 2  # with equal ones


def minimised(loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The policy that minimises loss(log_pi), by L-BFGS from the reference."""
    logits = LOG_REF.clone().requires_grad_()
    opt = torch.optim.LBFGS(
        [logits], max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        opt.zero_grad()
        value = loss(logits.log_softmax(-1))
        value.backward()
        return value

    for _ in range(2):
        opt.step(closure)
    return logits.detach().log_softmax(-1)


@pytest.mark.parametrize("beta", [0.5, 1.0, 5.0])
def test_the_tilted_reference_maximises_reward_less_kl(beta: float) -> None:
    found = minimised(lambda log_pi: beta * optimum.kl(log_pi, LOG_REF) - optimum.reward(log_pi, GOLD))
    assert torch.allclose(found.exp(), optimum.tilted(LOG_REF, GOLD, beta).exp(), atol=1e-6)


def test_nothing_lies_above_the_frontier() -> None:
    rng = np.random.default_rng(0)
    for concentration in (0.1, 1.0, 10.0):
        for pi in rng.dirichlet(np.full(ANSWERS, concentration), (100, QUESTIONS)):
            log_pi = torch.from_numpy(pi).log()
            nats = optimum.kl(log_pi, LOG_REF).item()
            assert optimum.reward(log_pi, GOLD).item() <= optimum.best_reward(LOG_REF, GOLD, nats) + 1e-9
    near = (LOG_REF + 0.05 * torch.randn(LOG_REF.shape, generator=GEN, dtype=torch.float64)).log_softmax(-1)
    nats = optimum.kl(near, LOG_REF).item()
    assert optimum.reward(near, GOLD).item() <= optimum.best_reward(LOG_REF, GOLD, nats) + 1e-9


def test_rewards_and_kls_are_sums() -> None:
    points = optimum.frontier(LOG_REF, GOLD, (0.1, 0.3, 1.0, 3.0))
    for point in points:
        rewards, kls = [], []
        for ref, gold in zip(LOG_REF.exp().tolist(), GOLD.tolist(), strict=True):
            weights = [p * math.exp(g / point.beta) for p, g in zip(ref, gold, strict=True)]
            pi = [w / sum(weights) for w in weights]
            rewards.append(sum(p * g for p, g in zip(pi, gold, strict=True)))
            kls.append(sum(p * math.log(p / q) for p, q in zip(pi, ref, strict=True)))
        assert point.reward == pytest.approx(np.mean(rewards), abs=1e-12)
        assert point.kl == pytest.approx(np.mean(kls), abs=1e-12)
        assert optimum.best_reward(LOG_REF, GOLD, point.kl) == pytest.approx(point.reward, abs=1e-9)
    assert [p.kl for p in points] == sorted((p.kl for p in points), reverse=True)


def test_the_frontier_ends_at_the_best_answers() -> None:
    best = GOLD.amax(-1).mean().item()
    assert optimum.best_reward(LOG_REF, GOLD, 50.0) == pytest.approx(best, abs=1e-12)
    start = optimum.reward(LOG_REF, GOLD).item()
    assert optimum.best_reward(LOG_REF, GOLD, 0.0) == start
    # Near the reference the gain is sqrt(2 KL Var), the variance a mean over questions.
    var = (LOG_REF.exp() * (GOLD - (LOG_REF.exp() * GOLD).sum(-1, keepdim=True)) ** 2).sum(-1).mean().item()
    for nats in (1e-10, 1e-7, 1e-5):
        gain = optimum.best_reward(LOG_REF, GOLD, nats) - start
        assert gain == pytest.approx(math.sqrt(2 * nats * var), rel=1e-2)


def test_the_share_is_1_on_the_frontier_0_at_the_reference_and_falls_with_drift() -> None:
    def share(log_pi: Tensor) -> float:
        earned, nats = optimum.reward(log_pi, GOLD).item(), optimum.kl(log_pi, LOG_REF).item()
        return optimum.share_of_possible_gain(LOG_REF, GOLD, earned, max(nats, 0.0))

    assert share(LOG_REF) == 0
    for beta in (0.2, 1.0, 5.0):
        assert share(optimum.tilted(LOG_REF, GOLD, beta)) == pytest.approx(1, abs=1e-8)
    # The same preferences, and more and more of an answer that nobody asked for.
    idle = torch.zeros_like(GOLD)
    idle.scatter_(1, LOG_REF.argmin(-1, keepdim=True), 1.0)
    shares = [share((LOG_REF + GOLD + drift * idle).log_softmax(-1)) for drift in (0.0, 1.0, 2.0, 4.0, 8.0)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.5 * shares[0]
    assert share((LOG_REF - GOLD).log_softmax(-1)) < 0


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_best_of_n_is_what_many_draws_show(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = 200_000
    exact = optimum.best_of(LOG_REF, GOLD, n).exp().numpy()
    for ref, gold, law in zip(LOG_REF.exp().numpy(), GOLD.numpy(), exact, strict=True):
        drawn = rng.choice(ANSWERS, (draws, n), p=ref / ref.sum())
        best = np.argmax(gold[drawn] + 1e-6 * rng.random((draws, n)), -1)
        counts = np.bincount(drawn[np.arange(draws), best], minlength=ANSWERS)
        error = np.sqrt(draws * law * (1 - law)) + 1
        assert (np.abs(counts - draws * law) < 4.5 * error).all()
    assert exact.sum(-1) == pytest.approx(1, abs=1e-12)
    log_pi = optimum.best_of(LOG_REF, GOLD, n)
    assert optimum.kl(log_pi, LOG_REF).item() <= math.log(n) - (n - 1) / n + 1e-12
    assert optimum.reward(log_pi, GOLD) <= optimum.best_reward(LOG_REF, GOLD, optimum.kl(log_pi, LOG_REF).item()) + 1e-9


def test_kl_has_a_gradient_where_a_policy_is_zero() -> None:
    logits = torch.tensor([[0.3, -torch.inf, 0.1]], dtype=torch.float64, requires_grad=True)
    optimum.kl(logits.log_softmax(-1), torch.full((1, 3), -math.log(3), dtype=torch.float64)).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_dpo_over_all_pairs_is_the_methods_loss_and_has_its_optimum() -> None:
    beta, temperature = 0.4, 0.5
    log_pi = (LOG_REF + torch.randn(LOG_REF.shape, generator=GEN, dtype=torch.float64)).log_softmax(-1)
    i, j = (x.flatten() for x in torch.meshgrid(torch.arange(ANSWERS), torch.arange(ANSWERS), indexing="ij"))
    ratio, prob = log_pi - LOG_REF, LOG_REF.exp()
    loss = torch.zeros((), dtype=torch.float64)
    for q in range(QUESTIONS):
        first = torch.sigmoid((GOLD[q, i] - GOLD[q, j]) / temperature)
        each = dpo(beta).loss(torch.stack([ratio[q, i], ratio[q, j]], -1), torch.stack([first, 1 - first], -1))
        loss = loss + (prob[q, i] * prob[q, j] * each).sum() / QUESTIONS
    assert optimum.dpo_loss(log_pi, LOG_REF, GOLD, beta, temperature).item() == pytest.approx(loss.item(), abs=1e-12)
    found = minimised(lambda x: optimum.dpo_loss(x, LOG_REF, GOLD, 2.0, temperature))
    assert torch.allclose(found.exp(), optimum.tilted(LOG_REF, GOLD, 2.0 * temperature).exp(), atol=1e-5)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="beta is 0"):
        optimum.tilted(LOG_REF, GOLD, 0.0)
    with pytest.raises(ValueError, match="KL is -0"):
        optimum.best_reward(LOG_REF, GOLD, -0.1)
    with pytest.raises(ValueError, match="n is 0"):
        optimum.best_of(LOG_REF, GOLD, 0)
