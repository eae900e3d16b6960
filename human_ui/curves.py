"""Curves for a page without a script: points within a box, and what a reader who cannot see them is told instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")
WIDTH, HEIGHT, MOST = 320.0, 96.0, 200


@dataclass(frozen=True)
class Curve:
    """name: of y. points: of an SVG polyline in a box of WIDTH x HEIGHT, y downwards. low, high: of y; first, last: of
    x. told: the curve in words."""

    name: str
    points: str
    low: float
    high: float
    first: float
    last: float
    told: str


def curve(name: str, xy: Sequence[tuple[float, float]]) -> Curve | None:
    """y over x, in the order of x; None where there are fewer than two points. Of many, MOST are drawn."""
    if len(xy) < 2:
        return None
    some = thinned(xy, MOST)
    xs, ys = zip(*some, strict=True)
    left, wide, low, tall = xs[0], (xs[-1] - xs[0]) or 1.0, min(ys), (max(ys) - min(ys)) or 1.0
    points = [(WIDTH * (x - left) / wide, HEIGHT * (1 - (y - low) / tall)) for x, y in some]
    told = f"{name} from {ys[0]:.3g} at {xs[0]:.0f} answers to {ys[-1]:.3g} at {xs[-1]:.0f}"
    told += f"; lowest {min(ys):.3g}, highest {max(ys):.3g}"
    return Curve(name, " ".join(f"{x:.1f},{y:.1f}" for x, y in points), min(ys), max(ys), xs[0], xs[-1], told)


def thinned(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
