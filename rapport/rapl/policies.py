"""What policies learn that are paid by a reward of videos, on a body that nobody labelled, as lines of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from policies.film_reward import ABOUT, FilmReward
from rapport.rapl.ground import WORLDS, ground, trunk_of
from rapport.rapl.lines import add_line, lines
from rapport.rapl.plans import ANSWERS, JUDGED
from rapport.rapl.rivals import WITH, WITHOUT, labels
from rapport.visual import rewards
from rapport.visual.settings import Settings
from rapport.visual.training import Show, learn_from_videos


@dataclass(frozen=True)
class Policy:
    """One run of PPO: success and true return over twenty episodes that nothing was learned from."""

    world: str
    nuisance: str
    body: str
    seed: int
    reward: str
    steps: int
    success: float
    true: float
    before: float


def policies(path: Path) -> list[Policy]:
    """Those that are in a file."""
    return [Policy(**row) for row in lines(path)]


def fill_policies(
    path: Path,
    seeds: Iterable[int],
    cache: Path,
    *,
    world: str,
    steps: int,
    nuisance: str = "heavy",
    told: Callable[[str], object] = lambda line: None,
) -> None:
    """Trains whatever is missing, on the first body that nothing was learned from, each in a folder beside `path`."""
    place = WORLDS[world]
    body = place.unseen[0]
    for seed in seeds:
        there = {
            p.reward for p in policies(path) if (p.world, p.nuisance, p.seed, p.steps) == (world, nuisance, seed, steps)
        }
        for name in (name for name in JUDGED if name not in there):
            told(f"{world}, {body}, seed {seed}: {name}")
            folder = path.parent / f"{world}-{nuisance}-{seed}-{steps}-{name.replace(', ', '-').replace(' ', '-')}"
            made = ground(place, nuisance, seed, cache)
            frames = made.pool.shape[1]
            if name != "true reward" and not (folder / "reward" / ABOUT).exists():
                model = (WITH.get(name) or WITHOUT[name])(made, labels(made, ANSWERS, seed))
                trunk, scale = trunk_of(place, nuisance, seed, cache), rewards.scale(model, list(made.pool))  # type: ignore[arg-type]
                FilmReward(trunk, model, name, frames, scale).save(folder / "reward")  # type: ignore[arg-type]
            settings = Settings(
                env=f"envs.pixels.{place.kind}:{'SweepEnv' if place.kind == 'sweep' else 'TableEnv'}",
                env_kwargs={"task": place.task, "body" if place.kind == "sweep" else "arm": body, "nuisance": nuisance},
                reward="true" if name == "true reward" else "rapl",
                reward_from="" if name == "true reward" else str(folder / "reward"),
                frames=frames,
                steps=steps,
                sessions=4,
                seed=seed,
            )
            done = learn_from_videos(settings, folder / "run", show=Show(says=told))
            found = Policy(
                world,
                nuisance,
                body,
                seed,
                name,
                steps,
                done["success_after"],
                done["return_after"],
                done["return_before"],
            )
            add_line(path, asdict(found))


def policy_table(found: Sequence[Policy], world: str) -> Iterator[str]:
    """Rows of a Markdown table: mean over seeds and the range."""
    yield "| PPO paid by | success | range | true return | seeds |"
    yield "| --- | --- | --- | --- | --- |"
    for name in JUDGED:
        if rows := [p for p in found if p.reward == name and p.world == world]:
            success = [p.success for p in rows]
            true = np.mean([p.true for p in rows])
            spread = f"{min(success):.0%} to {max(success):.0%}"
            yield f"| {name} | {np.mean(success):.0%} | {spread} | {true:.3f} | {len(rows)} |"
