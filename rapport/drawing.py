"""Figures of matplotlib in the manner of the reports: the colours are stand-ins that `rapport.html.svg` replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from rapport.html import THEME

_RC: dict[Any, Any] = {
    "text.color": THEME["ink"],
    "axes.edgecolor": THEME["line"],
    "axes.labelcolor": THEME["muted"],
    "xtick.color": THEME["muted"],
    "ytick.color": THEME["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": THEME["line"],
    "grid.linewidth": 0.7,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.axisbelow": True,
}


def themed(width: float, height: float, draw: Callable[[Figure], None], font: float = 9) -> Figure:
    """A figure of this size in inches, on which `draw` has drawn under the style."""
    with matplotlib.rc_context({**_RC, "font.size": font}):
        figure = Figure((width, height), layout="constrained")
        draw(figure)
        return figure
