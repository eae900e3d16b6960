"""report.html of a training run: the curve, where the questions went, what to know, and the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from embodied import atomic
from rapport.drawing import themed
from rapport.html import THEME, escape, facts, figure, grid, note, page, section, svg, table
from rapport.run import RunError, read_json

BUDGET = {
    "asked": "questions asked",
    "answered": "answered",
    "ties": "of these, ties",
    "skipped": "skipped",
    "duplicates": "second answers to a question",
    "revised": "revised",
    "repeated": "questions about clips that were asked about before",
}


def write_report(folder: Path) -> Path:
    """Writes report.html into the folder of a finished run. Raises RunError where its files are missing or damaged."""
    config, result, rows = (read_json(folder / f"{name}.json") for name in ("config", "result", "rounds"))
    parts = [
        f'<p class="eyebrow">{escape(config["env"])} · {escape(result["method"])} · seed {result["seed"]}</p>',
        f"<h1>True return {result['return_before']:.4g} before, {result['return_after']:.4g} after</h1>",
        f'<p class="lead">{_lead(config, result)}</p>',
        *(note(escape(warning)) for warning in result["warnings"]),
        section("How it went", *_curves(rows)),
    ]
    if result["budget"]["asked"]:
        spent = [(BUDGET[k], str(result["budget"][k])) for k in BUDGET]
        parts.append(section("Where the questions went", facts(spent)))
    parts += [section("Round by round", _rounds(rows)), section("Settings and versions", settings_told(config, result))]
    target = folder / "report.html"
    try:
        atomic.write(target, page(f"Rapport: {folder.name}", parts).encode())
    except OSError as error:
        raise RunError(atomic.explain(error, target)) from error
    return target


def _lead(config: dict[str, Any], result: dict[str, Any]) -> str:
    n = len(result["returns_after"])
    if not result["budget"]["asked"]:
        return f"Trained on the environment's own reward for {result['steps']:,} steps; judged on {n} fixed episodes."
    resume = "goes on exactly" if result["exact"] else "begins new episodes"
    if "asked" in config:
        return (
            f"People gave {result['budget']['answered']} answers to {result['budget']['asked']} questions about clips "
            f"of {config['clip']} steps, while training went on. The agent saw nothing of the environment's reward, "
            f"and people may want something else. {result['steps']:,} steps, judged by that reward on {n} fixed "
            f"episodes by which nothing is chosen. A run that is stopped {resume}."
        )
    return (
        f"A simulated teacher ({escape(config['teacher'])}) answered {result['budget']['answered']} questions about "
        f"clips of {config['clip']} steps; the agent saw nothing else of the environment's own reward. "
        f"{result['steps']:,} steps, judged on {n} fixed episodes by which nothing is chosen. "
        f"A run that is stopped {resume}."
    )


def _curves(rows: list[dict[str, Any]]) -> list[str]:
    def against(key: str, label: str) -> Figure:
        def draw(f: Figure) -> None:
            axes = f.add_subplot()
            x = [row[key] for row in rows]
            spread = [sorted(row["returns"]) for row in rows]
            low, high = ([r[round(q * (len(r) - 1))] for r in spread] for q in (0.1, 0.9))
            axes.fill_between(x, low, high, color=THEME["after"], alpha=0.15, linewidth=0)
            axes.plot(x, [row["return"] for row in rows], color=THEME["after"], marker="o", markersize=3)
            axes.set(xlabel=label, ylabel="true return of an episode")

        return themed(5.2, 3.2, draw)

    drawn = [figure(svg(against("steps", "environment steps"), "True return against steps"))]
    if rows[-1]["asked"]:
        drawn.append(figure(svg(against("answers", "answers"), "True return against answers")))
    return [grid(drawn, 22), "<p class='muted'>The line is the mean, the band holds 80 % of the episodes.</p>"]


def _rounds(rows: list[dict[str, Any]]) -> str:
    def cell(row: dict[str, Any], name: str) -> str:
        value = row["metrics"].get(name)
        return "" if value is None else f"{value:.3g}"

    shown = ["accuracy", "agreement", "loss", "pseudo_share", "own_return"]
    kept = [name for name in shown if any(name in row["metrics"] for row in rows)]
    body = [
        [str(r["round"]), f"{r['steps']:,}", str(r["answers"]), f"{r['return']:.4g}", *(cell(r, k) for k in kept)]
        for r in rows
    ]
    names = [name.replace("_", " ") for name in kept]
    return table(["round", "steps", "answers", "true return", *names], body, numbers=range(4 + len(names)))


def settings_told(config: dict[str, Any], result: dict[str, Any]) -> str:
    told = [(escape(k), escape(v if isinstance(v, str) else json.dumps(v))) for k, v in config.items()]
    return facts(
        [
            *told,
            ("seconds", f"{result['seconds']:.0f}"),
            *((escape(k), escape(v)) for k, v in result["machine"].items()),
        ]
    )
