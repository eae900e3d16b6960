"""report.html of a comparison: the table, one figure, what was tried to tune each method, and the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from embodied import atomic
from rapport.compare.cells import Cell
from rapport.compare.command import Row
from rapport.compare.statistics import iqm_interval, profile
from rapport.drawing import themed
from rapport.html import THEME, escape, facts, figure, grid, note, page, section, svg, table
from rapport.run import RunError, machine

if TYPE_CHECKING:
    from rapport.cli import Compare

LEVELS = np.linspace(0, 1.2, 61)


def write_report(
    options: Compare,
    trials: Mapping[Cell, dict[str, Any]],
    results: Mapping[Cell, dict[str, Any]],
    found: list[Row],
    failed: Sequence[str],
) -> Path:
    """Writes report.html into the comparison's folder. Raises RunError when the disk refuses."""
    envs = list(dict.fromkeys(options.envs))
    parts = [
        '<p class="eyebrow">rapport compare</p>',
        f"<h1>{len(found)} methods and budgets, {options.seeds} seeds, {len(envs)} environments</h1>",
        f'<p class="lead">{_lead(found)}</p>',
        section("The table", _table(found, envs), *(note(escape(sentence)) for sentence in failed)),
        section("Curves", grid([figure(svg(_curves(results, env), env), escape(env)) for env in envs], 22)),
        section("What was tried to tune each method", _trials(trials)),
        section("Settings and versions", _settings(options)),
    ]
    if all(row.shares for row in found):  # returns of different environments are not drawn on one axis
        parts.insert(4, section("The figure", figure(svg(_figure(found, envs), "Scores of all methods"), _CAPTION)))
    target = options.out / "report.html"
    try:
        atomic.write(target, page("Rapport: a comparison", parts).encode())
    except OSError as error:
        raise RunError(atomic.explain(error, target)) from error
    return target


_CAPTION = (
    "Left: interquartile means with 95 % intervals (stratified bootstrap over seeds). Right: the share of runs that "
    "score above a level."
)


def _lead(found: list[Row]) -> str:
    if all(row.shares for row in found):
        return (
            "Scores are shares of the way from acting at random (0) to training on the true reward (1), with the "
            "same seeds for every method. Interquartile means, 95 % bootstrap intervals over the seeds; 0 and 1 are "
            "taken as known."
        )
    return "Scores are true returns, with the same seeds for every method. Interquartile means, 95 % intervals."


def _table(found: list[Row], envs: list[str]) -> str:
    head = ["method", "answers", *(escape(env) for env in envs), "all", "mean less the first's", "seconds a run"]
    body = [
        [
            escape(row.method),
            str(row.answers),
            *(str(row.each[env]) if env in row.each else "" for env in envs),
            str(row.overall) if row.shares else "",
            "" if row.against_first is None else str(row.against_first),
            f"{row.seconds:.0f}",
        ]
        for row in found
    ]
    return table(head, body, numbers=range(1, len(head)))


def _figure(found: list[Row], envs: list[str]) -> Figure:
    names = [f"{row.method}, {row.answers}" if row.answers else row.method for row in found]
    pooled = [[np.asarray(row.scores[env], float) for env in envs if env in row.scores] for row in found]

    def draw(f: Figure) -> None:
        left, right = f.subplots(1, 2)
        for i, (name, scores) in enumerate(zip(names, pooled, strict=True)):
            interval = iqm_interval(scores)
            low, high = np.nan_to_num([interval.value - interval.low, interval.high - interval.value])
            left.errorbar(interval.value, i, xerr=[[low], [high]], color=f"C{i}", marker="o", capsize=3)
            right.plot(LEVELS, profile(np.concatenate(scores), LEVELS), color=f"C{i}", label=name)
        left.set(yticks=range(len(names)), yticklabels=names, xlabel="score")
        left.invert_yaxis()
        right.set(xlabel="score", ylabel="share of runs above it", ylim=(-0.02, 1.02))
        right.legend(frameon=False, labelcolor=THEME["ink"])

    return themed(9, 0.6 + 0.45 * max(5, len(names)), draw)


def _curves(results: Mapping[Cell, dict[str, Any]], env: str) -> Figure:
    groups: dict[tuple[str, int], list[list[dict[str, Any]]]] = {}
    for cell, result in results.items():
        if cell.env == env:
            groups.setdefault((cell.method, cell.answers), []).append(result["rounds"])

    def draw(f: Figure) -> None:
        axes = f.add_subplot()
        for i, ((method, answers), runs) in enumerate(groups.items()):
            by_round = [{row["round"]: row for row in r} for r in runs]
            shared = sorted(set.intersection(*(set(r) for r in by_round)))
            x = [by_round[0][i]["steps"] for i in shared]
            y = np.array([[r[i]["return"] for i in shared] for r in by_round])
            name = f"{method}, {answers}" if answers else method
            axes.plot(x, y.mean(0), color=f"C{i}", label=name)
            axes.fill_between(x, y.min(0), y.max(0), color=f"C{i}", alpha=0.12, linewidth=0)
        axes.set(xlabel="environment steps", ylabel="true return (mean and range of seeds)")
        axes.legend(frameon=False, labelcolor=THEME["ink"])

    return themed(5.4, 3.6, draw)


def _trials(trials: Mapping[Cell, dict[str, Any]]) -> str:
    if not trials:
        return "<p>Nothing was tuned, for no method: each ran with its own defaults.</p>"
    body = [
        [escape(c.env), escape(c.method), f"{c.rate:g}", str(c.seed), f"{r['return_after']:.4g}"]
        for c, r in trials.items()
    ]
    return table(["environment", "method", "learning rate", "development seed", "true return"], body, numbers=(2, 3, 4))


def _settings(options: Compare) -> str:
    told = {"steps": options.steps, "clip": options.clip, "teacher": options.teacher, "seeds": options.seeds}
    return facts(
        [*((k, escape(str(v))) for k, v in told.items()), *((escape(k), escape(v)) for k, v in machine().items())]
    )
