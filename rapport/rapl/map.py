"""The map: every reward on every world, nuisance, number of answers and seed, as lines of a file that only grows.

A cell that is in the file is not made again, so a run that was stopped goes on. Two at once need files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from embodied.videos import VideoReward
from rapport.rapl.ground import USUAL, WORLDS, Eyes, Ground, Size, ground
from rapport.rapl.lines import add_line, lines
from rapport.rapl.rivals import WITH, WITHOUT, labels

ANSWERS = (0, 10, 20, 25, 50, 150)


@dataclass(frozen=True)
class Setting:
    world: str
    nuisance: str = "heavy"
    eyes: Eyes = "trunk"


@dataclass(frozen=True)
class Cell:
    """One reward's correlation with what is true: over bodies learned from, and over those never seen."""

    world: str
    nuisance: str
    eyes: str
    seed: int
    answers: int
    reward: str
    seen: float
    unseen: float


def cells(path: Path) -> list[Cell]:
    """Those that are in a file."""
    return [Cell(**row) for row in lines(path)]


Measure = Callable[[Ground, VideoReward, Sequence[str]], float]
"""How well a reward tells what is true of the test videos of some bodies."""


def fill(
    path: Path,
    settings: Sequence[Setting],
    seeds: Iterable[int],
    cache: Path,
    *,
    answers: Sequence[int] = ANSWERS,
    names: Collection[str] = (*WITHOUT, *WITH),
    measure: Measure = Ground.over,
    size: Size = USUAL,
    device: str = "cpu",
    told: Callable[[str], object] = lambda line: None,
) -> None:
    """Makes the cells that are missing, a seed at a time over all settings, and writes each as it is known.

    answers: 0 makes the rewards that need none. names: of the rewards. measure: of whole videos, unless another is
    given.
    """
    for seed in seeds:
        for setting in settings:
            there = {(c.answers, c.reward) for c in cells(path) if setting_of(c) == setting and c.seed == seed}
            kinds = [(n, name) for n in answers for name in (WITH if n else WITHOUT) if name in names]
            wanted = [kind for kind in kinds if kind not in there]
            if not wanted:
                continue
            told(f"{setting.world}, {setting.nuisance}, {setting.eyes}, seed {seed}: {len(wanted)} cells")
            made = ground(
                WORLDS[setting.world], setting.nuisance, seed, cache, eyes=setting.eyes, size=size, device=device
            )
            for n, name in wanted:
                reward = (WITH if n else WITHOUT)[name](made, labels(made, n, seed))
                cell = Cell(
                    **asdict(setting),
                    seed=seed,
                    answers=n,
                    reward=name,
                    seen=round(measure(made, reward, made.world.bodies), 4),
                    unseen=round(measure(made, reward, made.world.unseen), 4),
                )
                add_line(path, asdict(cell))


def setting_of(cell: Cell) -> Setting:
    return Setting(cell.world, cell.nuisance, cell.eyes)  # type: ignore[arg-type]
