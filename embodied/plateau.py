"""How many more answers would matter: scores against numbers of answers, as a curve that comes to rest.

P(n) = P_inf - (P_inf - P_0) exp(-n / n_0). Fit it to held-out accuracy or success, never to what is optimised: where
that comes to rest says nothing of the goal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Array = npt.NDArray[np.float64]

SIZES = 4  # least different sizes: the curve has three unknowns
SPAN = 100.0  # n_0 is sought up to so many times the largest size
LINE = 5.0  # with n_0 so many times the largest size, a curve is a straight line to the eye
GRID = 241  # values of log n_0 that are tried, before the best is refined


class CannotTell(ValueError):
    """The scores do not say where the curve comes to rest; the sentence says why, and what would."""


@dataclass(frozen=True)
class Plateau:
    """start: P_0. plateau: P_inf. scale: n_0. needed: n_f, after which `fraction` of the gain P_inf - P_0 is made. The
    intervals are of 95 %."""

    start: float
    plateau: float
    scale: float
    fraction: float
    needed: float
    plateau_interval: tuple[float, float]
    needed_interval: tuple[float, float]

    def at(self, n: float) -> float:
        """The score that is expected after n answers."""
        return self.plateau - (self.plateau - self.start) * math.exp(-n / self.scale)


def fit_plateau(
    n: Sequence[float] | Array,
    score: Sequence[float] | Array,
    weight: Sequence[float] | Array | None = None,
    curve: Sequence[int] | npt.NDArray[np.intp] | None = None,
    *,
    fraction: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> Plateau:
    """The plateau of scores [M] after n [M] answers, by weighted least squares, n_0 > 0 and P_inf >= P_0.

    weight [M]: how much each score counts, such as the answers that it is a mean of. curve [M]: which seed or run each
    score belongs to. Of three curves or more the curves are drawn anew for the intervals (bootstrap), since what one
    run is lucky with it stays lucky with; of fewer, the residuals. Few curves say little of their spread, so intervals
    are Student's with the spread of the draws, on log n_0.

    Raises CannotTell for too few sizes, for scores that do not rise by more than their noise, and where the largest
    size is below 2 n_0: what lies beyond would be guessed. ValueError for numbers that make no sense.
    """
    x, y = np.asarray(n, np.float64), np.asarray(score, np.float64)
    w = np.ones_like(x) if weight is None else np.asarray(weight, np.float64)
    which = np.zeros(len(x), np.intp) if curve is None else np.unique(np.asarray(curve), return_inverse=True)[1]
    _check(x, y, w, which, fraction)
    sizes = np.unique(x[w > 0])
    if len(sizes) < SIZES:
        raise CannotTell(f"cannot tell yet: there are scores of {len(sizes)} sizes; give at least {SIZES}")
    curves = int(which.max()) + 1
    start, gain, scale = (float(found[0]) for found in _fits(x, y[None], w[None]))
    rng = np.random.default_rng(seed)
    if curves >= 3:
        times = rng.multinomial(curves, np.full(curves, 1 / curves), draws)  # how often each curve is drawn
        drawn = _fits(x, y[None], w * times[:, which])
        freedom, widen = curves - 1, math.sqrt(curves / (curves - 1))
    else:
        fitted = start + gain * -np.expm1(-x / scale)
        root = np.sqrt(w)
        rest = np.where(w > 0, (y - fitted) * root, 0.0)[w > 0]  # of equal spread, so any may stand for any
        anew = np.divide(rng.choice(rest, (draws, len(x))), root, out=np.zeros((draws, len(x))), where=root > 0)
        drawn = _fits(x, fitted + anew, w[None])
        freedom = len(rest) - 3
        widen = math.sqrt(len(rest) / freedom)
    starts, gains, scales = drawn
    wide = float(student.ppf(0.975, freedom)) * widen

    first, top = float(sizes[0]), float(sizes[-1])
    rises = gains * (np.exp(-first / scales) - np.exp(-top / scales))
    if gain * (math.exp(-first / scale) - math.exp(-top / scale)) <= max(wide * float(rises.std()), 1e-9):
        raise CannotTell(
            f"cannot tell yet: from {first:g} to {top:g} the scores do not rise by more than their noise; "
            f"either nothing is learned, or all of it before {first:g}"
        )
    if top < 2 * scale:
        further = "nearly along a line" if scale > LINE * top else f"it can be told at about {2 * scale:.0f}"
        raise CannotTell(f"cannot tell yet: the scores still rise at {top:g}, where they end; {further}")
    plateau, many = start + gain, -math.log1p(-fraction)
    margin, ratio = wide * float((starts + gains).std()), math.exp(min(wide * float(np.log(scales).std()), 50.0))
    return Plateau(
        start,
        plateau,
        scale,
        fraction,
        many * scale,
        (plateau - margin, plateau + margin),
        (many * scale / ratio, many * scale * ratio),
    )


def _fits(x: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """P_0, the gain P_inf - P_0 >= 0 and n_0, each [B], of y and w [B or 1, M].

    Given n_0 the other two are those of a straight line in 1 - exp(-n / n_0), in closed form; so only log n_0 is
    searched for, over a grid and then between its neighbours.
    """
    sizes = np.unique(x)
    low, high = np.log(float(np.diff(sizes).min()) / 10), math.log(SPAN * float(sizes[-1]))
    grid = np.linspace(low, high, GRID)
    error = _lines(x, y, w, np.broadcast_to(grid, (1, GRID)))[2]
    best = np.clip(error.argmin(1), 1, GRID - 2)
    left, right = grid[best - 1], grid[best + 1]
    for _ in range(24):  # golden section, all at once
        third = (right - left) * (3 - math.sqrt(5)) / 2
        tried = np.stack([left + third, right - third], 1)
        error = _lines(x, y, w, tried)[2]
        lower = error[:, 0] <= error[:, 1]
        left, right = np.where(lower, left, tried[:, 0]), np.where(lower, tried[:, 1], right)
    middle = (left + right) / 2
    start, gain, _ = _lines(x, y, w, middle[:, None])
    return start[:, 0], gain[:, 0], np.exp(middle)


def _lines(x: Array, y: Array, w: Array, log_scale: Array) -> tuple[Array, Array, Array]:
    """P_0, gain and weighted squared error, [B,G], for log n_0 [B or 1, G]."""
    basis = -np.expm1(-x / np.exp(log_scale)[..., None])  # [B or 1, G, M]
    w, y = w[:, None], y[:, None]
    total = w.sum(-1)
    mean, middle = (w * basis).sum(-1) / total, (w * y).sum(-1) / total
    basis, rest = basis - mean[..., None], y - middle[..., None]
    along, across = (w * basis * rest).sum(-1), (w * basis**2).sum(-1)
    gain = np.maximum(np.divide(along, across, out=np.zeros_like(along + across), where=across > 1e-12 * total), 0.0)
    error = (w * (rest - gain[..., None] * basis) ** 2).sum(-1)
    return middle - gain * mean, gain, error


def _check(x: Array, y: Array, w: Array, which: npt.NDArray[np.intp], fraction: float) -> None:
    if not (x.shape == y.shape == w.shape == which.shape) or x.ndim != 1:
        raise ValueError(
            f"n, score, weight, curve have shapes {x.shape}, {y.shape}, {w.shape}, {which.shape}; give [M]"
        )
    for name, values, least in (("n", x, 0.0), ("score", y, -math.inf), ("weight", w, 0.0)):
        bad = ~np.isfinite(values) | (values < least)
        if bad.any():
            raise ValueError(f"{name}[{bad.argmax()}] is {values[bad.argmax()]}; give finite numbers from {least:g} on")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; give a share of the gain, above 0 and below 1")
