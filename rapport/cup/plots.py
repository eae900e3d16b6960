"""The plots of the main job's report. What is seen from above has the robot at the top, as in the clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from embodied.records import Array
from embodied.rewards.additive import Additive
from envs.arm import decode
from envs.arm_control import DT
from envs.arm_task import LAPTOP_HALF, LAPTOP_SHIFT
from rapport.cup.features import CENTRES, GROUPS, bumps, tilt_features
from rapport.cup.measure import Measured
from rapport.cup.pools import Rollouts
from rapport.drawing import themed
from rapport.html import THEME

PATHS = 48  # of each policy that are drawn
Curve = Callable[[Array], Array]
LIKED, DISLIKED = (0.10, 0.62, 0.42), (0.88, 0.27, 0.16)
_LINE: dict[str, Any] = dict(linewidth=1.8, marker="o", markersize=3, clip_on=False)


def progress(rows: Sequence[Mapping[str, Any]], before: Measured, after: Measured) -> tuple[Figure, Figure]:
    """Wishes and task against answers; and the cup's tilt and path. Against training steps where nothing was asked."""
    asked = rows[-1]["answers"] > 0
    unit = 1 if asked else 1e6
    x = np.array([0, *(row["answers" if asked else "steps"] for row in rows)]) / unit
    seen = [before, *(Measured(**{name: row[name] for name in Measured.__dataclass_fields__}) for row in rows)]
    label = "answers" if asked else "million training steps"

    def shares(figure: Figure) -> None:
        axes = figure.add_subplot()
        for name, colour, style in (("task", "before", "-"), ("wishes", "after", "-")):
            share = np.array([getattr(m, name) for m in seen])
            low, high = np.array([m.interval(s) for m, s in zip(seen, share, strict=True)]).T
            axes.fill_between(x, low, high, color=THEME[colour], alpha=0.16, linewidth=0)
            axes.plot(x, share, style, color=THEME[colour], **_LINE)
        axes.plot(x[-1], after.wishes, "o", color=THEME["after"], markersize=8, fillstyle="none", clip_on=False)
        up = next((i for i, m in enumerate(seen) if m.wishes > 0.5), None)
        at, below = (len(x) - 1, False) if up is None else (up, True)
        axes.annotate("wishes met", (x[at], seen[at].wishes), (-8, -4 if below else 5), textcoords="offset points",
                      ha="right", va="top" if below else "bottom", color=THEME["after"], fontweight="bold")  # fmt: skip
        axes.annotate("task done", (x[0], seen[0].task), (2, 6), textcoords="offset points", color=THEME["muted"])
        axes.set(ylim=(-0.03, 1.11), xlim=(x[0], x[-1] * 1.02), xlabel=label, yticks=np.linspace(0, 1, 6))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")

    def manners(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for axes, name, title in ((top, "tilt", "mean tilt of the cup, degrees"), (bottom, "path", "path, m")):
            axes.plot(x, [getattr(m, name) for m in seen], color=THEME["after"], **_LINE)
            axes.set_title(title, loc="left", fontsize=9, color=THEME["muted"])
            axes.set_ylim(0, None)
        bottom.xaxis.set_major_locator(MaxNLocator(5))
        bottom.set(xlabel=label, xlim=(x[0], x[-1] * 1.02))

    return themed(4.8, 3.3, shares), themed(4.8, 3.3, manners)


def place_utility(reward: Additive, xy: Array) -> Array:
    """Mean learned utility of a second at a place relative to the laptop, m [..., 2] -> [...], log-odds."""
    return bumps(xy) @ reward.posterior.mean[GROUPS["place"]] / DT


def cost_map(reward: Additive | None, before: Rollouts, after: Rollouts) -> Figure:
    """The learned utility of places round the laptop, with the laptop's outline and the cup's paths over it."""
    (x0, y0), (x1, y1) = CENTRES.min(0) - 0.02, CENTRES.max(0) + 0.02

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        if reward is not None:
            step = 0.0025
            grid = np.stack(np.meshgrid(np.arange(x0, x1, step), np.arange(y0, y1, step), indexing="ij"), -1)
            value = place_utility(reward, grid)
            top = max(float(np.abs(value).max()), 1e-9)  # all skipped: nothing was learned
            axes.imshow(_tinted(value / top), extent=(y0, y1, x1, x0), interpolation="none")
            _scale(figure, axes, float(top))
        for rollouts, colour, style in ((before, "ink", (0, (3, 2))), (after, "after", "-")):
            path = -decode(rollouts.obs[:PATHS])["laptop_offset"]
            axes.plot(path[..., 1].T, path[..., 0].T, color=THEME[colour], linestyle=style, linewidth=0.8, alpha=0.55)
        _laptop(axes)
        ends = -decode(after.obs[:PATHS, [0, -1]])["laptop_offset"].mean(0)
        for (x, y), name, side in zip(ends, ("start", "goal"), (-1, 1), strict=True):
            axes.annotate(name, (y + 0.01 * side, x + 0.09), ha="center", va="top", color=THEME["muted"])
        axes.annotate(
            "robot", (0, x0), (0, -4), textcoords="offset points", ha="center", va="top", color=THEME["muted"]
        )
        axes.set(xlim=(y0, y1), ylim=(x1, x0), aspect="equal", xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)

    return themed(7.8, 4.15, draw, font=7.5)


def _tinted(value: Array) -> Array:
    """[-1, 1] -> RGBA: the more it is disliked the redder, the more it is liked the greener, clear in between."""
    colour = np.where(value[..., None] < 0, DISLIKED, LIKED)
    return np.concatenate([colour, 0.85 * np.abs(value[..., None])], -1)


def _scale(figure: Figure, axes: Axes, top: float) -> None:
    bar = axes.inset_axes((1.02, 0.15, 0.018, 0.7))
    bar.imshow(_tinted(np.linspace(1, -1, 200))[:, None], extent=(0, 1, -top, top), aspect="auto")
    bar.set(xticks=[], ylabel="liking of a second there, log-odds")
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.grid(False)
    bar.spines[:].set_visible(False)


def _laptop(axes: Axes) -> None:
    x, y = LAPTOP_HALF
    axes.add_patch(
        Rectangle((-y, LAPTOP_SHIFT - x), 2 * y, 2 * x, fill=False, edgecolor=THEME["ink"], linewidth=1.2, zorder=4)
    )
    axes.plot([-y, y], [LAPTOP_SHIFT - x] * 2, color=THEME["ink"], linewidth=3, solid_capstyle="butt", zorder=4)
    axes.text(0, LAPTOP_SHIFT + x - 0.012, "laptop", ha="center", va="bottom", zorder=5)


def tilt_utility(reward: Additive, degrees: Array) -> tuple[Array, Array]:
    """Learned utility of a second at a tilt, against a second upright: mean and sd [N], log-odds."""
    phi = (tilt_features(degrees) - tilt_features(np.zeros(1))) / DT
    columns = GROUPS["tilt"]
    cov = reward.posterior.cov[columns, columns]
    return phi @ reward.posterior.mean[columns], np.sqrt(np.einsum("nd,de,ne->n", phi, cov, phi))


def tilt_curve(reward: Additive, before: float, after: float, hidden: Curve | None) -> Figure:
    """The learned liking of tilts with its 95 % band, the mean tilts before and after, and `hidden(degrees)`, what a
    simulated person really feels."""
    degrees = np.linspace(0, 75, 151)
    mean, sd = tilt_utility(reward, degrees)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.fill_between(degrees, mean - 1.96 * sd, mean + 1.96 * sd, color=THEME["after"], alpha=0.16, linewidth=0)
        axes.plot(degrees, mean, color=THEME["after"], linewidth=2)
        at = 100
        axes.annotate("learned", (degrees[at], mean[at]), (6, 8), textcoords="offset points", color=THEME["after"],
                      fontweight="bold")  # fmt: skip
        if hidden is not None:
            true = hidden(degrees)
            axes.plot(degrees, true, color=THEME["ink"], linewidth=1.4, linestyle=(0, (4, 2.5)))
            axes.annotate("the hidden person\n(never seen by the learner)", (degrees[92], true[92]), (-8, -8),
                          textcoords="offset points", ha="right", va="top", fontsize=8)  # fmt: skip
        for tilt, name, colour in ((before, "before", "muted"), (after, "after", "after")):
            axes.axvline(tilt, color=THEME[colour], linewidth=0.9, linestyle=(0, (1, 2)))
            # Two tilts that are near each other have their labels on their outer sides.
            left = tilt == min(before, after) and tilt > 8 and abs(before - after) < 14
            axes.annotate(f"{name} {tilt:.1f}°", (tilt, 1), (-4 if left else 4, -2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="right" if left else "left", va="top", color=THEME[colour],
                          fontsize=8)  # fmt: skip
        axes.set(xlim=(0, 75), xlabel="tilt of the cup, degrees", ylabel="liking of a second, log-odds")

    return themed(4.8, 3.3, draw)


def importance(parts: Mapping[str, float]) -> Figure:
    """How much each group of features makes of the learned difference between two clips, log-odds."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        names, sizes = list(parts), np.array(list(parts.values()))
        axes.barh(names, sizes, height=0.55, color=[THEME["before" if n == "task" else "after"] for n in names])
        for i, size in enumerate(sizes):
            axes.annotate(
                f"{size:.1f}", (size, i), (5, 0), textcoords="offset points", va="center", color=THEME["muted"]
            )
        axes.set(
            xlabel="part of the difference between two clips, log-odds", xlim=(0, max(1.12 * float(sizes.max()), 1e-9))
        )
        axes.tick_params(axis="y", labelcolor=THEME["ink"])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)

    return themed(4.8, 3.3, draw)
