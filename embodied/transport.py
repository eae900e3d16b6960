"""Entropic optimal transport between sequences of vectors: which frame of one answers to which of the other.

For a cost C [...,T,S] and uniform marginals, P* = argmin <P,C> - eps H(P) with P 1 = 1/T, P' 1 = 1/S (Cuturi 2013,
arXiv 1306.0895), found by Sinkhorn's sweeps, on logarithms where eps is so small that numbers would overflow. Masks say
which rows and columns there are; marginals are uniform over those.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Cost = Literal["cosine", "euclidean"]
Gradient = Literal["unrolled", "implicit"]

LOOK = 10  # sweeps between two looks at the marginals
SAFE = 0.9  # of the largest exponent
ROUNDED = 1e4  # of an exponent: float32 rounds a larger one by a thousandth and more


def pair_cost(x: Tensor, y: Tensor, kind: Cost = "cosine") -> Tensor:
    """Cost of each step of x [...,T,D] against each of y [...,S,D], as [...,T,S]: 1 - cos, in [0,2], or the distance.

    The cosine of a vector of length 0 is taken as 0.
    """
    if kind == "cosine":
        return 1 - normalize(x, dim=-1) @ normalize(y, dim=-1).mT
    if kind == "euclidean":
        # Differences, not products, which lose the small distances. Clamped: the root has no gradient at 0.
        return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1).clamp(min=1e-12).sqrt()
    raise ValueError(f"no cost {kind!r}; choose cosine or euclidean")


def plan(
    cost: Tensor,
    eps: float,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    sweeps: int = 1000,
    tolerance: float | None = None,
    gradient: Gradient = "unrolled",
) -> Tensor:
    """The plan P* [...,T,S] of a cost [...,T,S]; rows sum to 1/T exactly, columns to 1/S as far as it has converged.

    rows bool [...,T], columns bool [...,S]: what there is; elsewhere P* is 0. At most `sweeps` sweeps, fewer where both
    marginals are within `tolerance` (default: 1e-6 in float32, 1e-10 in float64; 0: all sweeps) summed over columns.
    gradient: "unrolled" goes back through every sweep, exact for however many there were; "implicit" through the
    optimality conditions at the end, in memory that does not grow with the sweeps, exact once it has converged. Raises
    ValueError for eps that is not above 0, a cost that is not finite, or a sequence without a step.
    """
    if not eps > 0 or sweeps < 1:
        raise ValueError(f"eps is {eps} and sweeps {sweeps}; give eps above 0 and at least one sweep")
    if gradient not in ("unrolled", "implicit"):
        raise ValueError(f"no gradient {gradient!r}; choose unrolled or implicit")
    a, b = _marginal(cost, rows, -1), _marginal(cost, columns, -2)
    cost = torch.where((a[..., :, None] > 0) & (b[..., None, :] > 0), cost, 0.0)
    if not torch.isfinite(cost).all():
        where = torch.nonzero(~torch.isfinite(cost))[0].tolist()
        raise ValueError(f"the cost {where} is not finite; look for NaN in the frames or their features")
    if tolerance is None:
        tolerance = 1e-10 if cost.dtype == torch.float64 else 1e-6
    if gradient == "implicit":
        found: Tensor = _Implicit.apply(cost, a, b, eps, sweeps, tolerance)  # type: ignore[no-untyped-call]
        return found
    return _sweep(cost, a, b, eps, sweeps, tolerance)


def distance(cost: Tensor, eps: float, **settings: Any) -> Tensor:
    """W = <P*, C>, [...]; settings as of `plan`. It is above 0 for a sequence and itself: see `divergence`."""
    given = plan(cost, eps, **settings)
    total: Tensor = (given * torch.where(given > 0, cost, 0.0)).sum((-2, -1))
    return total


def divergence(
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    kind: Cost = "cosine",
    **settings: Any,
) -> Tensor:
    """W(x,y) - W(x,x)/2 - W(y,y)/2, [...]: 0 for a sequence and itself (Genevay et al. 2018, arXiv 1706.00292).

    x [...,T,D], y [...,S,D]; `rows` are the steps of x and `columns` those of y.
    """
    across = distance(pair_cost(x, y, kind), eps, rows=rows, columns=columns, **settings)
    within_x = distance(pair_cost(x, x, kind), eps, rows=rows, columns=rows, **settings)
    within_y = distance(pair_cost(y, y, kind), eps, rows=columns, columns=columns, **settings)
    return across - (within_x + within_y) / 2


def entropy(given: Tensor) -> Tensor:
    """Entropy of a plan [...,T,S] in nats, [...]: log max(T, S) for the sharpest, log(T S) for the most even."""
    total: Tensor = torch.special.entr(given).sum((-2, -1))
    return total


def _marginal(cost: Tensor, mask: Tensor | None, other: int) -> Tensor:
    """Uniform over what there is: [...,T] for other = -1, [...,S] for other = -2."""
    shape = (*cost.shape[:-2], cost.shape[-2 if other == -1 else -1])
    there = torch.ones(shape, dtype=torch.bool, device=cost.device) if mask is None else mask.expand(shape)
    count = there.sum(-1, keepdim=True)
    if not (count > 0).all():
        which = torch.nonzero(count.squeeze(-1) == 0)[0].tolist()
        raise ValueError(f"sequence {which} has no step; give each at least one")
    return there.to(cost.dtype) / count


def _sweep(cost: Tensor, a: Tensor, b: Tensor, eps: float, sweeps: int, tolerance: float) -> Tensor:
    """By products with exp(-C/eps) where nothing can overflow, which is much faster, else by logarithms."""
    kernel = -(cost - cost.detach().amin((-2, -1), keepdim=True)) / eps
    # u and v stay within e^(2 range), where range is that of the exponents.
    largest = float(-kernel.detach().min()) if kernel.numel() else 0.0
    if cost.dtype == torch.float32 and largest > ROUNDED:
        return _sweep(cost.double(), a.double(), b.double(), eps, sweeps, tolerance).to(cost.dtype)
    if 2 * largest < SAFE * math.log(torch.finfo(cost.dtype).max):
        return _scaled(kernel.exp(), a, b, sweeps, tolerance)
    return _logarithms(kernel, a, b, sweeps, tolerance)


def _scaled(kernel: Tensor, a: Tensor, b: Tensor, sweeps: int, tolerance: float) -> Tensor:
    def rows(v: Tensor) -> Tensor:
        return a / (kernel @ v[..., None]).squeeze(-1)

    v = (b > 0).to(kernel.dtype)
    for sweep in range(sweeps):
        u = rows(v)
        sums = (kernel.mT @ u[..., None]).squeeze(-1)
        if _settled(tolerance, sweep, v * sums, b):
            break
        v = b / sums
    return kernel * rows(v)[..., :, None] * v[..., None, :]


def _logarithms(kernel: Tensor, a: Tensor, b: Tensor, sweeps: int, tolerance: float) -> Tensor:
    log_a, log_b = a.log(), b.log()

    def rows(v: Tensor) -> Tensor:
        return log_a - torch.logsumexp(kernel + v[..., None, :], -1)

    v = torch.where(b > 0, 0.0, -torch.inf).to(kernel.dtype)
    for sweep in range(sweeps):
        u = rows(v)
        sums = torch.logsumexp(kernel + u[..., :, None], -2)
        if _settled(tolerance, sweep, (v + sums).exp(), b):
            break
        v = log_b - sums
    return (kernel + rows(v)[..., :, None] + v[..., None, :]).exp()


def _settled(tolerance: float, sweep: int, columns: Tensor, b: Tensor) -> bool:
    """Whether the columns sum to what they should, while the rows do exactly."""
    if not tolerance or not sweep or sweep % LOOK or not columns.numel():
        return False
    return float((columns.detach() - b).abs().sum(-1).max()) <= tolerance


class _Implicit(torch.autograd.Function):
    """P = exp(u + v - C/eps) with both marginals held: dP = P (du + dv - dC/eps), where du and dv keep the sums.

    With r = (G P) 1 and c = (G P)' 1 for a gradient G of P, and M = [[diag a, P], [P', diag b]], the gradient of C is
    P (l + m - G) / eps where M [l; m] = [r; c]. M knows l and m up to a constant that cancels.
    """

    @staticmethod
    def forward(ctx: Any, cost: Tensor, a: Tensor, b: Tensor, eps: float, sweeps: int, tolerance: float) -> Tensor:
        found = _sweep(cost, a, b, eps, sweeps, tolerance)
        ctx.save_for_backward(found, a)
        ctx.eps = eps
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # In double, for the sums of what is nearly nought.
        found, a = (x.double() for x in ctx.saved_tensors)
        grad = grads[0].double()
        weighted = grad * found
        r, c = weighted.sum(-1), weighted.sum(-2)
        per_row = torch.where(a > 0, 1 / a.clamp(min=torch.finfo(a.dtype).tiny), 0.0)
        # The last sweep was of the rows: columns sum to b only as far as it has converged, so take what they do sum to.
        column = found.sum(-2)
        schur = torch.diag_embed(column) - found.mT @ (per_row[..., None] * found)
        # Singular: constants cancel, of the whole and of every block that a sharp plan falls into. What is far below
        # the largest eigenvalue is the rounding of the plan, which looks like a way on which mass might move.
        rounding = 1e-10 if grads[0].dtype == torch.float64 else 1e-6
        m = (
            torch.linalg.pinv(schur, hermitian=True, rtol=rounding)
            @ (c - (found.mT @ (per_row * r)[..., None]).squeeze(-1))[..., None]
        )
        m = m.squeeze(-1)
        l = per_row * (r - (found @ m[..., None]).squeeze(-1))  # noqa: E741
        back = found * (l[..., :, None] + m[..., None, :] - grad) / ctx.eps
        return back.to(grads[0].dtype), None, None, None, None, None
