"""Sinkhorn against POT, closed forms, finite differences, and the laws that any transport keeps."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from embodied import transport


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("eps", [10.0, 1.0, 0.1, 0.02])
@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_plans_and_distances_are_those_of_pot(eps: float, kind: transport.Cost) -> None:
    cost = transport.pair_cost(drawn(0, 4, 7, 3), drawn(1, 4, 9, 3), kind)
    found = transport.plan(cost, eps, sweeps=100_000)
    for ours, c in zip(found, cost.numpy(), strict=True):
        theirs = ot.sinkhorn(
            np.full(7, 1 / 7), np.full(9, 1 / 9), c, eps, method="sinkhorn_log", numItermax=100_000, stopThr=1e-12
        )
        assert np.abs(ours.numpy() - theirs).max() < 1e-6
        assert float((ours * torch.as_tensor(c)).sum()) == pytest.approx(float((theirs * c).sum()), abs=1e-6)


def test_a_vanishing_eps_gives_the_exact_transport() -> None:
    cost = transport.pair_cost(drawn(2, 6, 2), drawn(3, 6, 2), "euclidean")
    exact = ot.emd2(np.full(6, 1 / 6), np.full(6, 1 / 6), cost.numpy())
    assert float(transport.distance(cost, 3e-3, sweeps=20_000)) == pytest.approx(exact, abs=1e-4)


def test_a_vast_eps_gives_the_mean_cost_and_the_most_even_plan() -> None:
    cost = transport.pair_cost(drawn(4, 5, 3), drawn(5, 8, 3))
    even = transport.plan(cost, 1e6)
    assert torch.allclose(even, torch.full_like(even, 1 / 40), atol=1e-8)
    assert float(transport.distance(cost, 1e6)) == pytest.approx(float(cost.mean()), abs=1e-5)
    assert float(transport.entropy(even)) == pytest.approx(math.log(40), abs=1e-6)


def test_two_by_two_has_a_closed_form() -> None:
    """P = [[p, 1/2-p], [1/2-p, p]] with odds p/(1/2-p) = exp((c12 + c21 - c11 - c22) / (2 eps))."""
    cost, eps = torch.tensor([[0.1, 0.9], [0.7, 0.2]], dtype=torch.float64), 0.3
    odds = math.exp((0.9 + 0.7 - 0.1 - 0.2) / (2 * eps))
    assert float(transport.plan(cost, eps)[0, 0]) == pytest.approx(odds / (1 + odds) / 2, abs=1e-10)


@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
def test_gradients_are_those_of_finite_differences_also_of_what_is_masked(gradient: transport.Gradient) -> None:
    rows = torch.tensor([[True, True, True, False], [True] * 4])
    columns = torch.tensor([[True] * 5, [True, False, True, True, False]])
    weight, cost = drawn(6, 2, 4, 5), transport.pair_cost(drawn(7, 2, 4, 3), drawn(8, 2, 5, 3)).requires_grad_()

    def loss(c: Tensor) -> Tensor:
        found = transport.plan(c, 0.1, rows=rows, columns=columns, sweeps=3000, tolerance=1e-14, gradient=gradient)
        return (weight * found).sum() + transport.distance(
            c, 0.1, rows=rows, columns=columns, sweeps=3000, tolerance=1e-14, gradient=gradient
        ).sum()

    assert torch.autograd.gradcheck(loss, (cost,))


def test_unrolled_gradients_are_right_for_a_few_sweeps_too() -> None:
    """Where the plan is far from converged; a detached plan would fail here."""
    cost = transport.pair_cost(drawn(9, 3, 4, 2), drawn(10, 3, 6, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: transport.distance(c, 0.05, sweeps=3, tolerance=0.0), (cost,))


# With a smaller eps some costs need more sweeps than anybody has: the worst rate is tanh(2 / 4 eps) squared, of costs
# that lie within 2 of each other.
@given(st.integers(0, 10_000), st.floats(0.2, 5.0), st.integers(1, 6), st.integers(1, 6))
def test_marginals_hold_and_order_is_nothing(seed: int, eps: float, t: int, s: int) -> None:
    cost = transport.pair_cost(drawn(seed, 2, t, 3), drawn(seed + 1, 2, s, 3))
    found = transport.plan(cost, eps, sweeps=20_000)
    assert torch.allclose(found.sum(-1), torch.full((2, t), 1 / t, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found.sum(-2), torch.full((2, s), 1 / s, dtype=torch.float64), atol=1e-7)
    mixed = torch.randperm(t, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(transport.plan(cost[:, mixed], eps, sweeps=20_000), found[:, mixed], atol=1e-7)
    assert torch.allclose(transport.plan(cost.mT, eps, sweeps=20_000).mT, found, atol=1e-7)


def test_padding_changes_nothing_even_where_it_is_nan() -> None:
    x, y = drawn(11, 5, 3), drawn(12, 4, 3)
    cost = transport.pair_cost(x, y)
    padded = torch.full((7, 9), torch.nan, dtype=torch.float64)
    padded[:5, :4] = cost
    padded.requires_grad_()
    rows, columns = torch.arange(7) < 5, torch.arange(9) < 4
    found = transport.plan(padded, 0.1, rows=rows, columns=columns)
    assert torch.allclose(found[:5, :4], transport.plan(cost, 0.1), atol=1e-9)
    assert found[5:].abs().sum() == 0 and found[:, 4:].abs().sum() == 0
    distance = transport.distance(padded, 0.1, rows=rows, columns=columns)
    (gradient,) = torch.autograd.grad(distance, padded)
    assert torch.isfinite(gradient).all() and gradient[5:].abs().sum() == 0


def test_a_sequence_is_near_itself_as_eps_vanishes_and_at_once_by_divergence() -> None:
    x = drawn(13, 20, 16)
    far = [float(transport.distance(transport.pair_cost(x, x), eps, sweeps=20_000)) for eps in (1.0, 0.1, 0.01)]
    assert far[0] > far[1] > far[2] and far[2] < 1e-6
    assert abs(float(transport.divergence(x, x, 0.1))) < 1e-9
    y = drawn(14, 12, 16)
    assert float(transport.divergence(x, y, 0.1)) > 0


def test_the_divergence_is_that_of_pot() -> None:
    x, y = drawn(15, 6, 2), drawn(16, 8, 2)
    theirs = ot.bregman.empirical_sinkhorn_divergence(x.numpy(), y.numpy(), 0.5, metric="euclidean", stopThr=1e-12)
    ours = float(transport.divergence(x, y, 0.5, kind="euclidean"))
    assert ours == pytest.approx(float(np.squeeze(theirs)), abs=1e-5)


def test_equal_frames_have_gradients() -> None:
    x = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    for kind in ("cosine", "euclidean"):
        (gradient,) = torch.autograd.grad(transport.distance(transport.pair_cost(x, x, kind), 0.1), x)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("eps", [0.03, 0.005])
def test_implicit_gradients_are_finite_where_the_plan_falls_into_blocks(eps: float) -> None:
    """A sequence and itself: each frame goes to itself, and constants of every block cancel, not of the whole alone."""
    x = drawn(17, 2, 16, 64).float().requires_grad_()
    for y in (x, x.detach()):
        worth = transport.distance(transport.pair_cost(x, y), eps, gradient="implicit").sum()
        (gradient,) = torch.autograd.grad(worth, x)
        assert torch.isfinite(gradient).all() and gradient.abs().max() < 1


@pytest.mark.parametrize(
    ("eps", "dtype", "off"), [(0.01, torch.float64, 1e-3), (0.005, torch.float64, 1e-3), (0.01, torch.float32, 0.03)]
)
def test_implicit_gradients_of_sharp_plans_are_those_through_every_sweep(
    eps: float, dtype: torch.dtype, off: float
) -> None:
    x, y = drawn(20, 4, 20, 8), drawn(21, 4, 16, 8)
    rows, columns = torch.arange(20) < torch.tensor([[20], [17], [9], [20]]), torch.ones(4, 16, dtype=torch.bool)
    columns[1, ::3] = False

    def gradient(x: Tensor, y: Tensor, kind: transport.Gradient) -> Tensor:
        x = x.clone().requires_grad_()
        cost = transport.pair_cost(x, y, "euclidean")
        worth = transport.distance(cost, eps, rows=rows, columns=columns, sweeps=20_000, gradient=kind).sum()
        return torch.autograd.grad(worth, x)[0].double()

    right = gradient(x, y, "unrolled")
    found = gradient(x.to(dtype), y.to(dtype), "implicit")
    # Where the pseudo-inverse inverts rounding too they are off by .04 and .05; float32 is as near as its plan.
    assert float((found - right).norm() / right.norm()) < off


@pytest.mark.parametrize("eps", [1e-5, 1e-8, 1e-12])
def test_marginals_hold_in_float32_however_small_eps_is(eps: float) -> None:
    cost = 2 * torch.rand(4, 20, 20, generator=torch.Generator().manual_seed(0))
    found = transport.plan(cost, eps, sweeps=50)
    assert found.dtype == torch.float32 and (found.sum(-1) - 1 / 20).abs().max() < 1e-4 / 20
    assert transport.plan(cost[:0], eps).shape == (0, 20, 20)


def test_small_distances_survive_far_from_nought() -> None:
    x = drawn(18, 5, 160).float() + 100
    far = transport.pair_cost(x, x, "euclidean")
    assert far.diagonal().abs().max() < 1e-5 and float(far[0, 1]) > 10


def test_what_cannot_be_is_said() -> None:
    cost = torch.ones(2, 3, 4)
    with pytest.raises(ValueError, match="eps is 0"):
        transport.plan(cost, 0)
    with pytest.raises(ValueError, match="implicit"):
        transport.plan(cost, 0.1, gradient="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no cost"):
        transport.pair_cost(cost, cost, "l1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sequence \[1\] has no step"):
        transport.plan(cost, 0.1, rows=torch.tensor([[True] * 3, [False] * 3]))
    cost[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match=r"\[1, 2, 0\] is not finite"):
        transport.plan(cost, 0.1)
