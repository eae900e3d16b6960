"""report.html of a run: before and after, every figure on the way, what was said, and the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from embodied import atomic
from rapport.drawing import themed
from rapport.html import THEME, details, escape, facts, figure, grid, note, page, section, svg, table
from rapport.run import RunError, read_json

_TITLES = {
    "sft": "Imitated",
    "reward": "A reward model",
    "align": "Aligned",
    "online": "Learned from its own samples",
}


def write_report(folder: Path) -> Path:
    """Writes report.html into the folder of a finished run. Raises RunError where its files are missing."""
    config, result, rows = (read_json(folder / f"{name}.json") for name in ("config", "result", "rows"))
    said = read_json(folder / "samples.json") if (folder / "samples.json").exists() else []
    before, after = result["before"], result["after"]
    names = [name for name in after if name != "step"]
    cells = [[escape(_label(name)), _number(before.get(name)), _number(after.get(name))] for name in names]
    told = [(escape(k), escape(v if isinstance(v, str) else json.dumps(v))) for k, v in config.items()]
    counted = ", ".join(f"{n} {side.replace('_', ' ')}" for side, n in result["rows"].items())
    lead = result.get("moved") or result["model"]
    parts = [
        f'<p class="eyebrow">rapport lm {escape(config["verb"])} · seed {config["seed"]}</p>',
        f"<h1>{_TITLES[config['verb']]}{' by ' + escape(result['method']) if 'method' in result else ''}</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        f"<p>Rows: {escape(counted)}.</p>",
        *(note(escape(text)) for text in result["notes"]),
        section("Before and after", table(["", "before", "after"], cells, numbers=(1, 2))),
        section("On the way", grid(_curve(rows, name) for name in names if _drawn(rows, name))),
        *([section("What it says", *_samples(said))] if said else []),
        section(
            "Settings and versions", facts([("model", escape(result["model"])), *told, *result["machine"].items()])
        ),
    ]
    target = folder / "report.html"
    try:
        atomic.write(target, page(f"Rapport: {folder.name}", parts).encode())
    except OSError as error:
        raise RunError(atomic.explain(error, target)) from error
    return target


def _drawn(rows: list[dict[str, Any]], name: str) -> bool:
    return sum(row.get(name) is not None for row in rows) > 1


def _curve(rows: list[dict[str, Any]], name: str) -> str:
    seen = [(row["step"], row[name]) for row in rows if row.get(name) is not None]

    def draw(f: Figure) -> None:
        axes = f.add_subplot()
        axes.plot(*zip(*seen, strict=True), color=THEME["after"])
        axes.set(xlabel="steps", ylabel=_label(name))

    return figure(svg(themed(4.2, 2.6, draw), f"{_label(name)} against steps"))


def _samples(said: list[dict[str, Any]]) -> list[str]:
    """The first and the last in sight, the others folded away."""
    blocks = []
    for n, at in enumerate(said):
        lines = [[escape(one["prompt"]), escape(one["answer"])] for one in at["samples"]]
        blocks.append(
            details(f"after {at['step']} steps", table(["prompt", "answer"], lines), shown=n in (0, len(said) - 1))
        )
    return blocks


def _label(name: str) -> str:
    return name.replace("_", " ")


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"
