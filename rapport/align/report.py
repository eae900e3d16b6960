"""report.html of an alignment: before and after, the loss, what to know, and the settings."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from embodied import atomic
from rapport.drawing import themed
from rapport.html import THEME, escape, facts, figure, note, page, section, svg, table
from rapport.run import RunError, read_json

_ROWS = {
    "loss": "loss",
    "agreement": "agreement with the answers",
    "chosen": "log-probability of a step of what was preferred",
    "rejected": "of the other",
    "kl": "KL of a step from the policy before, nats",
}


def write_report(folder: Path) -> Path:
    """Writes report.html into the folder of a finished alignment. Raises RunError where its files are missing."""
    config, result, losses = (read_json(folder / f"{name}.json") for name in ("config", "result", "losses"))

    def draw(f: Figure) -> None:
        axes = f.add_subplot()
        axes.plot([r["step"] for r in losses], [r["loss"] for r in losses], color=THEME["after"])
        axes.set(xlabel="steps", ylabel="loss")

    rows = result["rows"]
    sides = [side for side in ("learned", "held_out") if side in rows]
    header = ["", *(f"{side.replace('_', ' ')}, {when}" for side in sides for when in ("before", "after"))]
    looks = [result[when][side] for side in sides for when in ("before", "after")]
    cells = [
        [label, *("" if seen[key] is None else f"{seen[key]:.4g}" for seen in looks)] for key, label in _ROWS.items()
    ]
    told = [(escape(k), escape(v if isinstance(v, str) else json.dumps(v))) for k, v in config.items()]
    parts = [
        f'<p class="eyebrow">{escape(result["method"])} · seed {config["seed"]}</p>',
        f"<h1>Aligned with {result['budget']['answered']} answers</h1>",
        f'<p class="lead">{escape(result["moved"])}</p>',
        *(note(escape(text)) for text in result["notes"]),
        section("Before and after", table(header, cells, numbers=range(1, len(header)))),
        section("The loss on the way", figure(svg(themed(5.2, 3.2, draw), "Loss against steps"))),
        section("Settings and versions", facts([*told, *result["machine"].items()])),
    ]
    target = folder / "report.html"
    try:
        atomic.write(target, page(f"Rapport: {folder.name}", parts).encode())
    except OSError as error:
        raise RunError(atomic.explain(error, target)) from error
    return target
