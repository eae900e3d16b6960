"""Somebody stopped a clip: fresh attempts from there, of which they choose the best; what went on before is among them.

An attempt is the present policy with something added to what it does: an offset of its own, which stays for a while, so
that attempts differ in what they do and not only in how they tremble. The choice is stored as better than the rest.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied.episodes import Episode, cut
from embodied.records import Answer, Array, Query, Stop
from embodied.store import Store
from human_ui import desk
from human_ui.clips import encode
from human_ui.overview import standing
from human_ui.site import Site
from policies.recorder import Trajectory
from rapport.train.learner import Actor
from rapport.train.pictures import Walk, drawing, frames
from rapport.train.questions import episode_id
from rapport.train.spaces import World

ATTEMPTS = 3
SPREAD = 0.4  # of half an action's range: deviation of the offset
LASTS = 15  # steps, on average, until another offset is drawn
LEAST = 3  # steps after the stop; of fewer there is nothing to see
ASKED = "Stopped here. Which goes on best?"


def fix_id(run: str, answer: str) -> str:
    """Of the choice that follows upon this answer."""
    return f"{run}:fix-{hashlib.sha256(answer.encode()).hexdigest()[:24]}"


def withdraw(store: Store, run: str) -> None:
    """Choices that nobody has made yet are asked of nobody any more."""
    desk.withdraw(store, [query.id for query in store.queries(prefix=f"{run}:fix-")])


def follow(site: Site, run: str, actor: Actor, world: World) -> list[Query]:
    """Offers a choice for every stop that has none yet; those of episodes that the actor no longer remembers have none.

    What is drawn depends on the answer alone, so nothing of the run changes by it, and a run that is played again finds
    them all there.
    """
    store, known = site.store, {episode_id(run, t.number): t for t in actor.trajectories()}
    prefix = f"{run}:"
    stops = [a for a in standing(store.answers(prefix=prefix)) if isinstance(a.value, Stop)]
    there = {query.id for query in store.queries(prefix=f"{prefix}fix-")}
    new = [a for a in stops if fix_id(run, a.id) not in there]
    asked = {query.id: query for query in store.queries({a.query for a in new})} if new else {}
    made = []
    for answer in new:
        (whole,) = asked[answer.query].segments
        assert isinstance(answer.value, Stop)
        if whole.episode in known and len(whole) - answer.value.after >= LEAST:
            stop = whole.start + answer.value.after
            made.append(_offer(site, run, actor, world, answer, known[whole.episode], stop, whole.stop))
    return made


def _offer(
    site: Site, run: str, actor: Actor, world: World, answer: Answer, t: Trajectory, start: int, stop: int
) -> Query:
    """A choice between steps [start, stop) of an episode as they were and ATTEMPTS other ways to go on."""
    id, rng = fix_id(run, answer.id), np.random.default_rng(list(hashlib.sha256(answer.id.encode()).digest()[:16]))
    fps, clips = site.study().fps, []
    with drawing(world) as env:
        clips.append(site.clips.put(encode(frames(world, env, t, start, stop), fps=fps)).sha256)
        attempts = []
        for j in range(ATTEMPTS):
            with Walk(world, env, t, start) as walk:
                obs, act, shown = attempt(world, walk, actor, stop - start, rng)
            name = f"{id.replace(':', '-')}-{j}"
            attempts.append(Episode(name, obs, world.encode(act), terminated=walk.terminated))
            clips.append(site.clips.put(encode(shown, fps=fps)).sha256)
    site.store.episodes.save(attempts)
    was = cut(site.store.episodes.load(episode_id(run, t.number)), start, stop)
    query = Query(id, (was, *(cut(e, 0, len(e)) for e in attempts)), "choose", ASKED)
    desk.offer(site.store, [query], {id: clips}, want=1, priority=1.0)
    return query


def attempt(world: World, walk: Walk, actor: Actor, steps: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """obs [T,*O], act [T,*A] and frames [T,H,W,3] of up to so many steps from where the walk stands."""
    seen, acts, shown = [], [], []
    offset: Array | None = None
    for _ in range(steps):
        meant = actor.act(walk.obs[None])[0]
        if offset is None or rng.random() < 1 / LASTS:
            offset = rng.normal(size=np.shape(meant))
        act = other(world.actions, meant, offset, rng)
        seen.append(walk.obs)
        acts.append(act)
        shown.append(walk.picture())
        if walk.step(act):
            break
    return np.stack(seen), np.stack(acts), np.stack(shown)


def other(actions: spaces.Space[Any], meant: Array, offset: Array, rng: np.random.Generator) -> Array:
    """What was meant, and the offset; of choices, now and then another."""
    if isinstance(actions, spaces.Box):
        half = np.where(np.isfinite(actions.high - actions.low), (actions.high - actions.low) / 2, 1.0)
        moved: Array = np.clip(meant + SPREAD * half * offset, actions.low, actions.high).astype(actions.dtype)
        return moved
    most = actions.n if isinstance(actions, spaces.Discrete) else actions.nvec  # type: ignore[attr-defined]
    return np.where(rng.random() < SPREAD, rng.integers(most), meant).astype(np.asarray(meant).dtype)
