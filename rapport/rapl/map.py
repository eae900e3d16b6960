"""The map: every reward on every world, nuisance, number of answers and seed, as lines of a file that only grows.

A cell that is in the file is not made again, so a run that was stopped goes on, and two may share the work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from rapport.rapl.ground import WORLDS, Eyes, Size, ground
from rapport.rapl.rivals import WITH, WITHOUT, labels

ANSWERS = (0, 10, 20, 25, 50, 150)
USUAL = Size()


@dataclass(frozen=True)
class Setting:
    world: str
    nuisance: str = "heavy"
    eyes: Eyes = "trunk"


@dataclass(frozen=True)
class Cell:
    """One reward's correlation with the true return: over bodies learned from, and over those never seen."""

    world: str
    nuisance: str
    eyes: str
    seed: int
    answers: int
    reward: str
    seen: float
    unseen: float


def cells(path: Path) -> list[Cell]:
    """Those in a file; the last line may be half written by a run that was killed, and is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [Cell(**json.loads(line)) for line in lines]


def fill(
    path: Path,
    settings: Sequence[Setting],
    seeds: Iterable[int],
    cache: Path,
    *,
    answers: Sequence[int] = ANSWERS,
    size: Size = USUAL,
    told: Callable[[str], object] = lambda line: None,
) -> None:
    """Makes the cells that are missing, a seed at a time over all settings, and writes each as it is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _whole_lines(path)
    for seed in seeds:
        for setting in settings:
            there = {(c.answers, c.reward) for c in cells(path) if _setting(c) == setting and c.seed == seed}
            wanted = [(n, name) for n in answers for name in (WITH if n else WITHOUT) if (n, name) not in there]
            if not wanted:
                continue
            told(f"{setting.world}, {setting.nuisance}, {setting.eyes}, seed {seed}: {len(wanted)} cells")
            made = ground(WORLDS[setting.world], setting.nuisance, seed, cache, eyes=setting.eyes, size=size)
            for n, name in wanted:
                reward = (WITH if n else WITHOUT)[name](made, labels(made, n, seed))
                cell = Cell(
                    **asdict(setting),
                    seed=seed,
                    answers=n,
                    reward=name,
                    seen=round(made.seen(reward), 4),
                    unseen=round(made.unseen(reward), 4),
                )
                with path.open("a") as file:
                    file.write(json.dumps(asdict(cell)) + "\n")
                    file.flush()
                    os.fsync(file.fileno())


def _setting(cell: Cell) -> Setting:
    return Setting(cell.world, cell.nuisance, cell.eyes)  # type: ignore[arg-type]


def _whole_lines(path: Path) -> None:
    """Ends the file at its last whole line."""
    if path.exists() and (text := path.read_text()) and not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1])


@dataclass(frozen=True)
class Figure:
    """Mean over seeds with its 95 % t interval as +- half."""

    mean: float
    half: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}".replace("0.", ".")


def figure(values: Sequence[float]) -> Figure:
    n = len(values)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Figure(float(np.mean(values)), half, n)


def over_seeds(
    found: Sequence[Cell], setting: Setting, reward: str, answers: int, bodies: str = "unseen"
) -> dict[int, float]:
    """One reward's correlation by seed."""
    return {
        c.seed: getattr(c, bodies)
        for c in found
        if _setting(c) == setting and c.reward == reward and c.answers == answers
    }


def difference(
    found: Sequence[Cell], setting: Setting, first: str, second: str, answers: int, without: bool = False
) -> Figure:
    """First less second over the seeds that both have; without: the second looked at no answer."""
    a = over_seeds(found, setting, first, answers)
    b = over_seeds(found, setting, second, 0 if without else answers)
    both = sorted(a.keys() & b.keys())
    return figure([a[s] - b[s] for s in both])


def table(found: Sequence[Cell], setting: Setting, bodies: str = "unseen") -> Iterator[str]:
    """Rows of a Markdown table: rewards down, answers across."""
    counts = sorted({c.answers for c in found if _setting(c) == setting})
    yield "| reward | " + " | ".join(map(str, counts)) + " |"
    yield "|" + " --- |" * (len(counts) + 1)
    for name in (*WITHOUT, *WITH):
        row = [over_seeds(found, setting, name, n, bodies) for n in counts]
        if any(row):
            yield f"| {name} | " + " | ".join(str(figure(list(r.values()))) if r else "" for r in row) + " |"
