"""The videos that are asked about: an environment's, filmed here, or a folder of the user's. Each is one file."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied import atomic
from embodied.records import Array
from policies.filmed import Filmed, FilmError, smaller, succeeded
from rapport.run import RunError

NUMBERED = "video-{:05d}"
HOLD = (1, 2, 4, 8)  # steps for which an action drawn at random is held; each episode has its own


class Films(Protocol):
    """Equally long videos of scripted behaviour, of every step: frames uint8 [N,T,H,W,3], act [N,T,A], reward [N,T],
    success [N]; each is what an action led to. An environment whose `films(n, rng)` gives it need not act at random."""

    frames: Array
    act: Array
    reward: Array
    success: Array


@dataclass(frozen=True, eq=False)
class Video:
    """frames uint8 [T,H,W,3]; act float32 [T,A], what was done on average since the picture before (A = 0: not known);
    own [T], the environment's own reward since then (NaN: not known); success 1, 0 or NaN."""

    name: str
    frames: Array
    act: Array
    own: Array
    success: float = float("nan")


def film(
    make: Callable[[], Filmed], limit: int, n: int, seed: int, folder: Path, told: Callable[[int], object]
) -> list[Video]:
    """n videos of an environment, the same for the same seed; those that are in the folder already are not made again.

    limit: steps of an episode; of what its own scripts do no more is used either. told(k): k are there. Raises
    FilmError, RunError.
    """
    names = [NUMBERED.format(i) for i in range(n)]
    missing = [i for i, name in enumerate(names) if not (folder / f"{name}.npz").exists()]
    if missing:
        env = make()
        try:
            if callable(getattr(env.unwrapped, "films", None)):
                films = _asked_for(env.unwrapped, n, np.random.default_rng([seed, 2]))
                for i in missing:
                    keep(folder, _scripted(names[i], films, i, limit, env.every))
            else:
                for i in missing:
                    keep(folder, _at_random(names[i], env, np.random.default_rng([seed, 2, i])))
                    told(i + 1)
        finally:
            env.close()
    told(n)
    return [read(folder, name) for name in names]


def _at_random(name: str, env: Filmed, rng: np.random.Generator) -> Video:
    """Actions drawn evenly, each held for some steps: nobody would see a difference between kinds of trembling."""
    env.reset(seed=int(rng.integers(2**31)))
    env.action_space.seed(int(rng.integers(2**31)))
    hold, acts, own, ends = int(rng.choice(HOLD)), list[Array](), list[float](), list[int]()
    over, action, info = False, env.action_space.sample(), dict[str, Any]()
    while not over:
        if len(acts) % hold == 0:
            action = env.action_space.sample()
        _, _, terminated, truncated, info = env.step(action)
        acts.append(_numbers(env.action_space, action))
        own.append(float(info["own"]))
        if len(env.film) > len(ends):
            ends.append(len(acts))
        over = bool(terminated or truncated)
    return _between(name, np.stack(env.film), np.stack(acts), np.array(own), ends, succeeded(info))


def _asked_for(env: Any, n: int, rng: np.random.Generator) -> Films:
    """The environment's own. Raises FilmError for what is not n videos such as `Films` says."""
    try:
        films: Films = env.films(n, rng)
    except Exception as error:  # of any kind: it is somebody else's code
        told = f"{type(error).__name__}: {error}"
        raise FilmError(f"the environment's films({n}, rng) failed ({told}); mend it") from error
    shapes = {part: np.shape(getattr(films, part, ())) for part in ("frames", "act", "reward", "success")}
    both = shapes["frames"][:2]
    right = (
        len(shapes["frames"]) == 5
        and both[0] == n
        and min(shapes["frames"]) > 0
        and shapes["frames"][4] == 3
        and np.asarray(films.frames).dtype == np.uint8
        and len(shapes["act"]) == 3
        and shapes["act"][:2] == shapes["reward"] == both
        and shapes["success"] == (n,)
    )
    if not right:
        told = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
        raise FilmError(
            f"the environment's films({n}, rng) gave {told}; give frames uint8 [N,T,H,W,3], act [N,T,A], reward [N,T] "
            f"and success [N], N = {n}"
        )
    for part in ("act", "reward"):
        if not np.isfinite(getattr(films, part)).all():
            raise FilmError(f"the environment's films({n}, rng) have a {part} that is not finite; mend it")
    return films


def _scripted(name: str, films: Films, i: int, limit: int, every: int) -> Video:
    """Of every step of a film those pictures that `Filmed` would take; how one ends that is cut, nobody knows."""
    whole = films.frames.shape[1]
    steps = min(whole, limit)
    ends = [*range(every, steps, every), steps]
    frames = np.stack([smaller(films.frames[i, end - 1]) for end in ends])
    success = films.success[i] if steps == whole else np.nan
    return _between(name, frames, films.act[i, :steps], films.reward[i, :steps], ends, success)


def _between(name: str, frames: Array, act: Array, own: Array, ends: Sequence[int], success: Any) -> Video:
    """ends: after how many steps each picture was taken."""
    starts = np.array([0, *ends[:-1]])
    steps = np.diff([0, *ends])[:, None]
    mean = np.add.reduceat(act.astype(np.float32), starts, 0) / steps
    return Video(name, frames, mean, np.add.reduceat(own.astype(np.float64), starts), float(success))


def _numbers(space: spaces.Space[Any], action: Any) -> Array:
    return np.asarray(gymnasium.spaces.flatten(space, action), np.float32)


def keep(folder: Path, video: Video) -> None:
    """Durable when it returns. Raises RunError when the disk refuses."""
    file = io.BytesIO()
    told = {"frames": video.frames, "act": video.act, "own": video.own, "success": np.array(video.success)}
    np.savez_compressed(file, allow_pickle=False, **told)
    path = folder / f"{video.name}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(path, file.getvalue())
    except OSError as error:
        raise RunError(atomic.explain(error, path)) from error


def read(folder: Path, name: str) -> Video:
    """Raises RunError for a file that is missing or damaged."""
    path = folder / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return Video(name, file["frames"], file["act"], file["own"], float(file["success"]))
    except Exception as error:  # zip, zlib and numpy each raise their own
        raise RunError(
            f"{path} is not a whole video ({type(error).__name__}: {error}); delete it, and the same command makes it "
            "again"
        ) from error
