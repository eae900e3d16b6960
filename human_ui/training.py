"""What the owner sees of the trainings that learn from the study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embodied.store import Store
from human_ui.curves import Curve, curve, thinned
from human_ui.progress import Round, held_out, outlook, progress

RUNS, ROWS = 8, 40  # at most, on the page
NAMES = {
    "answers": "answers read",
    "steps": "steps of the environment",
    "accuracy": "new answers foretold",
    "return": "return",
    "decided": "new decided answers",
}


@dataclass(frozen=True)
class Training:
    """minutes: since it was heard of. latest: its figures, named for people. rows: the table behind the curves."""

    name: str
    minutes: float
    latest: Mapping[str, str]
    outlook: str
    curves: tuple[Curve, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def training(store: Store) -> list[Training]:
    """The runs that were heard of last, first."""
    return [_training(name, rounds) for name, rounds in list(progress(store).items())[:RUNS]]


def _training(name: str, rounds: Sequence[Round]) -> Training:
    last = rounds[-1]
    columns = [name for name in ("answers", "steps", "accuracy", "return") if any(name in r.figures for r in rounds)]
    own = sorted((one.figures["answers"], one.figures["return"]) for one in rounds if "return" in one.figures)
    drawn = (
        curve("Share of new answers foretold", [(n, score) for n, score, _ in held_out(rounds)]),
        curve("Return", own),
    )
    return Training(
        name,
        (time.time() - last.at) / 60,
        {NAMES.get(key, key): _shown(key, value) for key, value in last.figures.items()},
        outlook(rounds),
        tuple(one for one in drawn if one is not None),
        tuple(NAMES[key] for key in columns),
        tuple(tuple(_shown(key, one.figures.get(key)) for key in columns) for one in thinned(rounds, ROWS)),
    )


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.0f} %" if key == "accuracy" else f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
