"""A policy on a reward of videos: the environment filmed and paid, an agent of stable-baselines3, and how it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embodied import atomic, checkpoint
from embodied.records import Array
from envs.state import check
from human_ui.clips import encode
from policies.film_reward import FilmReward
from policies.filmed import Filmed, FilmError, Timed, succeeded
from policies.sb3 import NotFinite
from rapport.run import read_json, write_json
from rapport.train.learner import EVALUATION, Learner
from rapport.train.methods import METHODS
from rapport.train.pictures import find_opengl
from rapport.train.settings import Settings as TrainSettings
from rapport.train.spaces import SpaceError, World, world
from rapport.visual.asking import shown
from rapport.visual.settings import Settings

TRIED = 3  # episodes, to see how long they are
CLIPS, FPS = 3, 10


@dataclass(frozen=True, eq=False)
class Place:
    """`plain`: the environment as it is, its clock told. limit: steps of an episode. filmed(reward): a copy that is
    filmed, and paid by it."""

    plain: World
    limit: int
    filmed: Callable[[FilmReward | None], Filmed]


def place(settings: Settings) -> Place:
    """Raises SpaceError for an environment that cannot be trained on, or does not draw itself."""
    found = world(settings.env, settings.env_kwargs, settings.horizon, settings.seed)
    if found.frames:
        raise SpaceError(
            f"{settings.env} shows frames, and the policy here acts on numbers, while the reward alone sees frames; "
            "wrap it so that its observations are its state"
        )
    limit = found.limit or _length(found, settings.seed)
    every = -(-limit // settings.frames)
    if settings.reward != "true":
        find_opengl(found)
        _try(found)

    def filmed(reward: FilmReward | None) -> Filmed:
        env = Timed(found.drawn(), limit)
        if reward is None:
            return Filmed(env, every)
        paid = lambda r: r * reward.scale  # noqa: E731
        return Filmed(env, every, reward.trunk, reward.worth, pay=settings.pay, transform=paid)

    return Place(_seen_as(found, lambda: Timed(found.make(), limit)), limit, filmed)


def _length(found: World, seed: int) -> int:
    """Of the episodes of an environment that ends them by itself, if they are all as long as those that are tried."""
    env, lengths = found.make(), []
    env.action_space.seed(seed)
    for i in range(TRIED):
        env.reset(seed=seed + i)
        over, steps = False, 0
        while not over:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over, steps = bool(terminated or truncated), steps + 1
        lengths.append(steps)
    env.close()
    if len(set(lengths)) > 1:
        raise SpaceError(
            f"{found.name} has no time limit, and its episodes have {min(lengths)} to {max(lengths)} steps; say how "
            "long one may be with --horizon"
        )
    return lengths[0]


def _seen_as(found: World, make: Callable[[], Any]) -> World:
    env = make()
    seen = env.observation_space
    env.close()
    return replace(found, make=make, drawn=make, observations=seen)


def _try(found: World) -> None:
    """Whether there is a picture at all, before anything long begins."""
    env: Filmed | None = None
    try:
        env = Filmed(found.drawn(), 1)
        env.reset(seed=0)
        env.step(env.action_space.sample())
    except FilmError as error:
        raise SpaceError(f"{found.name}: {error}") from error
    except Exception as error:  # of any kind: it is somebody else's code
        raise SpaceError(
            f"{found.name} cannot be drawn ({type(error).__name__}: {error}), and its reward is to be of its pictures; "
            'let it take render_mode="rgb_array", and install what it draws with'
        ) from error
    finally:
        if env is not None:
            env.close()


def paid_world(where: Place, settings: Settings, reward: FilmReward | None) -> World:
    """As the agent is trained in it. Whether its state is the whole one, film included, is tried."""
    if reward is None:
        return replace(where.plain, checked=check(where.plain.make, seed=settings.seed))
    make = partial(where.filmed, reward)
    return replace(_seen_as(where.plain, make), checked=check(make, seed=settings.seed))


def learner(paid: World, settings: Settings, progress: Callable[[int], object]) -> Learner:
    return Learner(
        paid,
        TrainSettings(
            env=settings.env,
            method=METHODS["true"](),  # nothing is asked any more: what the environment pays is the reward
            answers=0,
            steps=settings.steps,
            seed=settings.seed,
            sessions=settings.sessions,
            copies=settings.copies,
            horizon=settings.horizon,
            algorithm=settings.algorithm,
            rate=settings.rate,
        ),
        progress=progress,
    )


def act(
    where: Place,
    settings: Settings,
    reward: FilmReward | None,
    folder: Path,
    *,
    progress: Callable[[int], object],
    told: Callable[[dict[str, Any]], object],
    total: Callable[[int], object],
) -> tuple[Learner, list[dict[str, Any]], World]:
    """Advances the agent by what the folder has not finished, saved after every session. Raises NotFinite.

    total: told how many steps there are in all, sessions of whole rollouts, which may be more than was asked for.
    """
    paid = paid_world(where, settings, reward)
    agent = learner(paid, settings, progress)
    each = -(-settings.steps // settings.sessions // agent.chunk) * agent.chunk
    total(each * settings.sessions)
    kept = folder / "rounds.json"
    rows = read_json(kept) if kept.exists() else []
    done = checkpoint.latest(folder / "checkpoints") or 0
    if done:
        checkpoint.load(folder / "checkpoints", agent=agent)
        progress(done * each)
    for session in range(done, settings.sessions + 1):
        if session > done:
            agent.advance(each)
            checkpoint.save(folder / "checkpoints", session, agent=agent)
        if session >= len(rows):
            row = {"round": session, "steps": session * each, **looked_at(agent.act, where, settings, reward)}
            rows = [*rows, row]
            write_json(kept, rows)
            told(row)
    return agent, rows, paid


def looked_at(
    policy: Callable[[Array], Array], where: Place, settings: Settings, reward: FilmReward | None
) -> dict[str, Any]:
    """Whole episodes from fixed starts: their own return, whether they succeed, and what their films are worth. A mean
    is None where the environment tells of no success, or nothing is filmed."""
    env: Any = where.plain.make() if reward is None else where.filmed(reward)
    own, success, worth = (np.full(settings.episodes, np.nan) for _ in range(3))
    try:
        for i in range(settings.episodes):
            obs, _ = env.reset(seed=EVALUATION + i)
            over, total, info = False, 0.0, dict[str, Any]()
            while not over:
                obs, paid, terminated, truncated, info = env.step(policy(np.asarray(obs)[None])[0])
                total += float(info.get("own", paid))
                over = bool(terminated or truncated)
            own[i], success[i] = total, succeeded(info)
            worth[i] = np.nan if reward is None else env.worth
    finally:
        env.close()
    if not np.isfinite(own).all():
        raise NotFinite(f"the own return of {settings.env} is {own} while the policy was looked at; mend it")
    mean = lambda x: float(x.mean()) if np.isfinite(x).all() else None  # noqa: E731
    return {"return": mean(own), "returns": own.tolist(), "success": mean(success), "worth": mean(worth)}


def keep_clips(policy: Callable[[Array], Array], where: Place, folder: Path) -> None:
    """What the policy does in the first of those episodes, to be looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    env = where.filmed(None)
    for i in range(CLIPS):
        obs, over = env.reset(seed=EVALUATION + i)[0], False
        while not over:
            obs, _, terminated, truncated, _ = env.step(policy(np.asarray(obs)[None])[0])
            over = bool(terminated or truncated)
        atomic.write(folder / f"policy-{i}.mp4", encode(shown(np.stack(env.film)), fps=FPS))
    env.close()


def at_random(where: Place, settings: Settings) -> Callable[[Array], Array]:
    """A policy that knows nothing, to be looked at beside the one that learned."""
    where.plain.actions.seed(EVALUATION)
    return lambda obs: np.stack([where.plain.actions.sample() for _ in obs])
