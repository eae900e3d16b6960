"""report.html and calibration.png of `rapport explain`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embodied import atomic
from embodied.explain import Verdict
from rapport.drawing import themed
from rapport.explain.advice import HEADER, advice, count, rows
from rapport.html import THEME, escape, figure, note, page, section, svg, table
from rapport.run import RunError

_COLOURS = {"return": "before", "regret": "after", "cpl": "bad", "mixture": "good"}
_PRINTED = {"before": "#777c86", "after": "#2563c9", "bad": "#c9442f", "good": "#178a5b", "line": "#bbbbbb"}

SHOWN = 5  # answers, fewer of which are no dot

_LEAD = (
    "Each model was fitted to some of the questions and predicted the answers to the others. The log-likelihood of an "
    "answer is in nats; a coin has -0.693. Leads are means with intervals, each at 98.75 % where four models are "
    "judged (bootstrap over questions); * marks a model that is clearly worse than the first, or a mixture that is "
    "surely hardly better."
)
_CAPTION = (
    "Left: how often the first clip was chosen, against how likely that was held to be before. On the diagonal a model "
    f"is as sure as it may be; a larger dot stands for more answers, at least {SHOWN}. Right: leads over a coin, with "
    "intervals."
)


def write_report(
    out: Path, what: str, verdicts: Mapping[str, Verdict], reasons: Mapping[str, str], left_out: int
) -> Path:
    """Writes both into `out`. Raises RunError when the disk refuses."""
    parts = ['<p class="eyebrow">rapport explain</p>', f"<h1>What explains the answers in {escape(what)}</h1>"]
    parts.append(f'<p class="lead">{_LEAD}</p>')
    if left_out:
        parts.append(note(f"{left_out} answers of other kinds than comparisons are left out."))
    for name, verdict in verdicts.items():
        plot = themed(9.2, 3.8, partial(_add, verdict))
        drawn = figure(svg(plot, f"Calibration and leads, {name}"), _CAPTION)
        body = [[escape(cell) for cell in row] for row in rows(verdict)]
        told = f'<p class="muted">{count(verdict)}</p>'
        parts.append(section(name, note(escape(advice(verdict))), told, table(HEADER, body, (1, 2, 3, 4)), drawn))
    parts += [section(name, note(f"Not judged: {escape(reason)}.")) for name, reason in reasons.items()]
    target = out / "report.html"
    try:
        out.mkdir(parents=True, exist_ok=True)
        atomic.write(target, page(f"Rapport: {what} explained", parts).encode())
        _printed(verdicts).savefig(out / "calibration.png", dpi=100)
    except OSError as error:
        raise RunError(atomic.explain(error, target)) from error
    return target


def _add(verdict: Verdict, drawn: Figure) -> None:
    left, right = drawn.subplots(1, 2)
    _draw(left, verdict, THEME)
    right.axvline(0, color=THEME["muted"], linewidth=1)
    for row, held in enumerate(verdict.models):
        colour = THEME[_COLOURS[held.model]]
        right.plot([held.over_coin.low, held.over_coin.high], [row, row], color=colour, linewidth=2)
        right.plot([held.over_coin.mean], [row], "o", color=colour, markersize=5)
    right.set_yticks(range(len(verdict.models)), [held.model for held in verdict.models])
    right.invert_yaxis()
    right.set(xlabel="lead over a coin, nats per answer")


def _draw(axes: Axes, verdict: Verdict, colours: Mapping[str, str]) -> None:
    axes.plot([0, 1], [0, 1], color=colours["line"], linewidth=1)
    for held in verdict.models:
        colour = colours[_COLOURS[held.model]]
        bins = [b for b in held.bins if b.answers >= SHOWN]
        x, y = [b.predicted for b in bins], [b.observed for b in bins]
        size = [4 + 120 * b.answers / verdict.answers for b in bins]
        axes.plot(x, y, color=colour, linewidth=1.2, label=held.model)
        axes.scatter(x, y, s=size, color=colour)
    axes.set(xlabel="predicted: the first is better", ylabel="answered so", xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.legend(frameon=False, loc="upper left")


def _printed(verdicts: Mapping[str, Verdict]) -> Figure:
    drawn = Figure((4.2 * len(verdicts), 4), layout="constrained")
    for axes, (name, verdict) in zip(drawn.subplots(1, len(verdicts), squeeze=False)[0], verdicts.items(), strict=True):
        _draw(axes, verdict, _PRINTED)
        axes.set_title(name, fontsize=10)
    return drawn
