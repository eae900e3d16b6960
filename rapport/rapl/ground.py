"""What one seed of a comparison is made on: videos to learn from, demonstrations, and videos of bodies never seen."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from embodied import atomic
from embodied.records import Array
from embodied.videos import VideoReward
from envs.pixels.films import Films
from policies.encoders import FrozenTrunk, cached_trunk, resized
from policies.soft_argmax import RECIPE, pretrain

Eyes = Literal["trunk", "positions", "pixels"]
TRUNK_STEPS = 1500
RAW_SIDE = 8  # pixels of the features that nothing has looked at


@dataclass(frozen=True)
class World:
    """A task and the bodies it is done by: some that are learned from, others that are not.

    positions: the numbers of a state that a perfect trunk would tell: where things are, neither time nor what was done.
    """

    kind: Literal["sweep", "table"]
    task: str
    bodies: tuple[str, ...]
    unseen: tuple[str, ...]
    positions: int

    def films(self, body: str, n: int, rng: np.random.Generator, nuisance: str) -> Films:
        if self.kind == "sweep":
            from envs.pixels.sweep_scripts import films as sweep

            return sweep(self.task, body, n, rng, nuisance=nuisance)  # type: ignore[arg-type]
        from envs.pixels.table_scripts import films as table

        return table(self.task, body, n, rng, nuisance=nuisance)  # type: ignore[arg-type]


SWEPT = {"bodies": ("short", "medium"), "unseen": ("long", "gripper")}
WORLDS: Mapping[str, World] = {
    "covering": World("sweep", "covering", **SWEPT, positions=2),
    "grouping": World("sweep", "grouping", **SWEPT, positions=6),
    "avoiding": World("sweep", "avoiding", **SWEPT, positions=4),
    "wipe": World("table", "wipe", ("franka",), ("kuka",), positions=2),
    "group": World("table", "group", ("franka",), ("kuka",), positions=6),
    "clutter": World("table", "clutter", ("franka",), ("kuka",), positions=14),
}


@dataclass(frozen=True)
class Size:
    """How many videos there are; the defaults are those of every published figure."""

    pool: int = 600
    demos: int = 5
    demos_of: int = 120
    test: int = 120
    trunk_steps: int = TRUNK_STEPS


USUAL = Size()


@dataclass(frozen=True, eq=False)
class Ground:
    """Features float32: pool [N,T,F], demos [M,T,F] with the actions that made them [M,T,A], and of each body those of
    its test videos [n,T,F]; what the videos are worth in truth: value [N], true [n] of each body, of which step by step
    `steps` [n,T]."""

    world: World
    pool: Array
    value: Array
    demos: Array
    demo_acts: Array
    tests: Mapping[str, tuple[Array, Array]]
    steps: Mapping[str, Array]

    def score(self, reward: VideoReward, body: str) -> float:
        """Spearman's correlation of a reward with the true return over the test videos of a body."""
        from scipy.stats import spearmanr

        features, true = self.tests[body]
        found = reward.worth(torch.from_numpy(features), everywhere(features)).numpy()
        if not np.isfinite(found).all():
            raise ValueError(
                f"a reward of {self.world.task} videos is not finite; it has learned nothing that can be used"
            )
        # A reward that says the same of all says nothing.
        return float(spearmanr(found, true)[0]) if np.ptp(found) > 0 else 0.0

    def over(self, reward: VideoReward, bodies: Sequence[str]) -> float:
        """The mean of `score` over bodies."""
        return float(np.mean([self.score(reward, body) for body in bodies]))

    def unseen(self, reward: VideoReward) -> float:
        """The mean over the bodies that nothing was learned from."""
        return self.over(reward, self.world.unseen)

    def seen(self, reward: VideoReward) -> float:
        return self.over(reward, self.world.bodies)


def everywhere(features: Array) -> Tensor:
    """The mask of videos that are all equally long, bool [N,T]."""
    return torch.ones(features.shape[:2], dtype=torch.bool)


def ground(
    world: World,
    nuisance: str,
    seed: int,
    cache: Path,
    *,
    eyes: Eyes = "trunk",
    size: Size = USUAL,
    device: str = "cpu",
    doing: Callable[[str], object] = lambda what: None,
) -> Ground:
    """Films videos, pre-trains a trunk on the pool without a label, and embeds them; or takes all that from `cache`.

    eyes: the trunk, the true positions in its place (what a perfect one would give), or the pixels of a thumbnail. The
    best of other videos of the same bodies are the demonstrations; no question is about them. device: where the trunk
    learns and looks.
    """
    name = _name(world, nuisance, seed, eyes, size)
    path = cache / f"films-{name}.npz"
    if path.exists():
        return _read(world, path)
    doing("filming")
    rng = np.random.default_rng([seed, 100])
    pool = _many(world, world.bodies, size.pool, rng, nuisance)
    others = _many(world, world.bodies, size.demos_of, rng, nuisance)
    tests = {body: world.films(body, size.test, rng, nuisance) for body in (*world.bodies, *world.unseen)}
    look = _eyes(world, pool, name, seed, cache, eyes, size, device, doing)
    doing("embedding")
    best = np.argsort(-_worth(others), kind="stable")[: size.demos]
    arrays = {
        "pool": look(pool),
        "value": _worth(pool),
        "demos": look(others[best]),
        "demo_acts": others[best].act,
    }
    for body, films in tests.items():
        arrays |= {f"features/{body}": look(films), f"steps/{body}": films.reward}
    cache.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    atomic.write(path, file.getvalue())
    return _read(world, path)


def _eyes(
    world: World,
    pool: Films,
    name: str,
    seed: int,
    cache: Path,
    eyes: Eyes,
    size: Size,
    device: str,
    doing: Callable[[str], object],
) -> Callable[[Films], Array]:
    if eyes == "positions":
        return lambda films: films.state[..., : world.positions].astype(np.float32)
    if eyes == "pixels":

        def thumbnail(films: Films) -> Array:
            flat = resized(films.frames.reshape(-1, *films.frames.shape[2:]), RAW_SIDE).flatten(1).numpy()
            return (flat.astype(np.float32) / 255).reshape(*films.frames.shape[:2], -1)

        return thumbnail
    doing("pre-training a trunk")
    trunk = _trunk(name, cache, lambda: pool, size.trunk_steps, seed, device)
    trunk.net.to(device)
    return lambda films: trunk(films.frames)


def _trunk(
    name: str, cache: Path, pool: Callable[[], Films], steps: int, seed: int, device: str = "cpu"
) -> FrozenTrunk:
    def make() -> FrozenTrunk:
        films = pool()
        return pretrain(films.frames, films.act, steps=steps, seed=seed, device=device)

    return cached_trunk(cache, {"ground": name}, make)


def trunk_of(world: World, nuisance: str, seed: int, cache: Path, size: Size = USUAL) -> FrozenTrunk:
    """The trunk of the ground of the same arguments."""
    rng = np.random.default_rng([seed, 100])
    films = lambda: _many(world, world.bodies, size.pool, rng, nuisance)  # noqa: E731
    return _trunk(_name(world, nuisance, seed, "trunk", size), cache, films, size.trunk_steps, seed)


def _name(world: World, nuisance: str, seed: int, eyes: Eyes, size: Size) -> str:
    recipe = f"trunk{RECIPE}" if eyes == "trunk" else eyes
    return f"{world.kind}-{world.task}-{nuisance}-{seed}-{recipe}-{'-'.join(map(str, asdict(size).values()))}"


def _many(world: World, bodies: Sequence[str], n: int, rng: np.random.Generator, nuisance: str) -> Films:
    """As many of each body, one after the other. The actions of a gripper are those it shares with a stick."""
    each = [world.films(body, n // len(bodies), rng, nuisance) for body in bodies]
    parts: dict[str, Any] = {
        key: np.concatenate([getattr(films, key) for films in each])
        for key in ("frames", "act", "state", "reward", "success")
    }
    return Films(**parts)


def _worth(films: Films) -> Array:
    """The true return [N]."""
    return films.reward.sum(1)


def _read(world: World, path: Path) -> Ground:
    with np.load(path, allow_pickle=False) as kept:
        steps = {body: kept[f"steps/{body}"] for body in (*world.bodies, *world.unseen)}
        tests = {body: (kept[f"features/{body}"], paid.sum(1)) for body, paid in steps.items()}
        return Ground(
            world,
            kept["pool"],
            kept["value"],
            kept["demos"],
            kept["demo_acts"],
            tests,
            steps,
        )
