"""What rewards from fifty rankings make a body do, try by try, as lines of a file that only grows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rapport.rapl.ground import WORLDS, ground
from rapport.rapl.lines import add_line, lines
from rapport.rapl.planning import Judge, by_reward, by_truth, plan
from rapport.rapl.rivals import WITH, WITHOUT, labels

ANSWERS = 50
BODY = "long"  # never seen
JUDGED = (
    "true reward",
    "raw transport",
    "RAPL",
    "RAPL, shuffled ranks",
    "frame net, rankings and demos",
    "video net, rankings and demos",
)


@dataclass(frozen=True)
class Try:
    """One start, planned from by one reward: the true return, and whether it is a success."""

    world: str
    seed: int
    start: int
    reward: str
    true: float
    success: bool


def plans(path: Path) -> list[Try]:
    """Those that are in a file."""
    return [Try(**row) for row in lines(path)]


def fill_plans(
    path: Path,
    seeds: Iterable[int],
    cache: Path,
    *,
    tries: int,
    worlds: Iterable[str] = ("covering",),
    told: Callable[[str], object] = lambda line: None,
) -> None:
    """Plans whatever is missing. Rewards read true positions, and starts are no one's that was learned from."""
    for seed in seeds:
        for world in worlds:
            there = {(t.start, t.reward) for t in plans(path) if (t.world, t.seed) == (world, seed)}
            missing = [(start, name) for name in JUDGED for start in range(tries) if (start, name) not in there]
            if not missing:
                continue
            told(f"plans in {world}, seed {seed}: {len(missing)} tries")
            made = ground(WORLDS[world], "none", seed, cache, eyes="positions")
            judges: dict[str, Judge] = {"true reward": by_truth}
            for start, name in missing:
                if name not in judges:
                    make = WITH.get(name) or WITHOUT[name]
                    judges[name] = by_reward(make(made, labels(made, ANSWERS, seed)))
                found = plan(WORLDS[world], BODY, judges[name], 1000 * seed + start)
                add_line(path, asdict(Try(world, seed, start, name, round(found.true, 4), found.success)))
