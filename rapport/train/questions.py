"""What is asked in a training run, and the simulated teacher who answers from the environment's own reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from embodied.batches import dpp, medoids
from embodied.criteria import expected_information
from embodied.episodes import Episode, Episodes, cut
from embodied.feedback import Segments
from embodied.loop import Ask, Propose
from embodied.queries import Select, disagreement, entropy, information_gain, k_centre, narrowed, uniform
from embodied.records import Array, Query, Segment
from embodied.rewards.semi import Unlabelled
from embodied.store import Store
from embodied.teachers import answer, bpref, threshold
from policies.recorder import Trajectory
from rapport.train.learner import Actor
from rapport.train.methods import Choice
from rapport.train.settings import Settings
from rapport.train.spaces import World

POOL = 10  # candidates for each question
TRIES = 50  # to draw as many pairs as are wanted
RECENT = 10  # episodes whose mean return the teacher's thresholds follow
TOGETHER = {"rank": 4, "choose": 4, "rate": 1, "mark": 1, "stop": 1, "write": 1}  # segments in a query
_MEMBERS = {"disagreement": disagreement, "entropy": entropy, "information": information_gain, "uniform": uniform}


def groups(
    trajectories: Sequence[Trajectory], n: int, k: int, clip: int, rng: np.random.Generator, equal: bool = False
) -> Array:
    """n groups of k stretches, [n,k,3] of (index of the trajectory, start, stop): each any episode, any start.

    A stretch has `clip` steps, or the whole of an episode that is shorter; where they are to be `equal`, all of a group
    are as long as its shortest.
    """
    length = np.array([len(t) for t in trajectories])
    found = np.empty((0, k, 3), int)
    first, second = np.triu_indices(k, 1)
    for _ in range(TRIES):
        which = rng.integers(len(trajectories), size=(n, k))
        steps = np.minimum(clip, length[which])
        steps = np.broadcast_to(steps.min(1, keepdims=True), steps.shape) if equal else steps
        start = rng.integers(0, length[which] - steps + 1)
        drawn = np.stack([which, start, start + steps], -1)
        # A clip says nothing when it is held against itself.
        found = np.concatenate([found, drawn[(drawn[:, first] != drawn[:, second]).any(-1).all(-1)]])[:n]
        if len(found) == n:
            return found
    raise ValueError(
        f"{len(trajectories)} episodes of {length.min()} to {length.max()} steps hold no {k} clips of {clip} steps "
        "that differ; give shorter clips, or more steps before the first question"
    )


def segments(trajectories: Sequence[Trajectory], world: World, where: Array) -> Segments:
    """The stretches [n,2,3] as one batch, padded to the longest."""
    n = len(where)
    longest = int((where[..., 2] - where[..., 1]).max())
    first = trajectories[0]
    obs = np.zeros((n, 2, longest, *first.obs.shape[1:]), first.obs.dtype)
    act = np.zeros((n, 2, longest, world.act_size), np.float32)
    mask = np.zeros((n, 2, longest), bool)
    acts = {int(i): world.encode(trajectories[i].act) for i in np.unique(where[..., 0])}
    for b, k in np.ndindex(n, 2):
        i, start, stop = (int(x) for x in where[b, k])
        steps = stop - start
        obs[b, k, :steps], act[b, k, :steps] = trajectories[i].obs[start:stop], acts[i][start:stop]
        mask[b, k, :steps] = True
    seen = torch.from_numpy(obs)
    return Segments(seen, torch.from_numpy(act), torch.from_numpy(mask), torch.full(mask.shape, torch.nan))


def features(batch: Segments) -> Array:
    """[n,F] of a pair: what both clips show, side by side; the distance between pairs is taken in it."""
    assert isinstance(batch.obs, torch.Tensor)
    flat: Array = batch.obs.flatten(1).float().numpy()
    return flat


def episode_id(run: str, number: int) -> str:
    """Of the episode of this number in a run; several runs of one study have names, a run by itself has none."""
    return f"{run}-episode-{number:06d}" if run else f"episode-{number:06d}"


def proposer(
    actor: Actor,
    world: World,
    settings: Settings,
    reward: Any,
    episodes: Episodes,
    store: Store,
    run: str = "",
    kind: str = "compare",
) -> Propose:
    """Stretches of what the agent lately did, paired at random and chosen from by the method's `select`.

    kind: of the queries; where they are about another number than two, they are drawn evenly.
    """
    prefix = f"{run}:" if run else ""
    size = TOGETHER.get(kind, 2)

    def propose(index: int, k: int, rng: np.random.Generator) -> list[Query]:
        trajectories = actor.trajectories()
        trajectories = trajectories[-math.ceil(settings.recent * len(trajectories)) :]
        if not trajectories:
            raise ValueError(
                f"no episode of {world.name} has ended yet, and questions are cut from whole ones; set a horizon"
            )
        # Sums of log-probabilities are fair between equal lengths alone.
        equal = settings.method.preference == "cpl"
        where = groups(trajectories, POOL * k if size == 2 else k, size, settings.clip, rng, equal)
        # A run that was killed in this very round has its questions in the store already.
        before = store.queries(prefix=f"{prefix}question-")
        asked = [q for q in before if int(q.id.removeprefix(prefix).split("-")[1]) < index]
        select = settings.method.select if size == 2 else "uniform"
        chosen = where[_choose(select, trajectories, world, where, k, reward, asked, rng)]
        kept = {int(i): _episode(run, trajectories[i], world) for i in np.unique(chosen[..., 0])}
        episodes.save(kept.values())
        return [
            Query(
                f"{prefix}question-{index:03d}-{n:03d}",
                tuple(cut(kept[int(i)], int(a), int(b)) for i, a, b in group),
                kind,
            )
            for n, group in enumerate(chosen)
        ]

    return propose


def _choose(
    choice: Choice,
    trajectories: Sequence[Trajectory],
    world: World,
    where: Array,
    k: int,
    reward: Any,
    asked: Sequence[Query],
    rng: np.random.Generator,
) -> Array:
    # Before the first answer the members differ by their first weights alone: nothing to choose by.
    if choice == "uniform" or (not asked and choice != "k-centre"):
        return uniform(np.zeros((1, len(where))), k, rng)
    batch = segments(trajectories, world, where)
    if choice == "k-centre":
        return k_centre(features(batch), k, rng, _taken(asked, batch))
    utility = reward.utilities(batch).double().numpy()
    by, _, over = choice.partition("+")
    select: Select = _MEMBERS[by]
    if over == "k-centre":
        select = narrowed(select, features(batch), _taken(asked, batch))
    elif over:
        select = {"dpp": dpp, "medoids": medoids}[over](expected_information, features(batch))
    return select(utility[..., 0] - utility[..., 1], k, rng)


def _taken(asked: Sequence[Query], batch: Segments) -> Array | None:
    """The features of the pairs asked so far that are as long as those of the batch."""
    assert isinstance(batch.obs, torch.Tensor)
    steps = batch.obs.shape[2]
    rows = [q for q in asked if all(len(s) == steps for s in q.segments)]
    return np.stack([np.stack([s.obs for s in q.segments]).ravel() for q in rows]) if rows else None


def _episode(run: str, t: Trajectory, world: World) -> Episode:
    return Episode(episode_id(run, t.number), t.obs, world.encode(t.act), {"reward": t.own}, t.terminated)


Judged = Callable[[Episode], Array]
"""[T], what a teacher thinks of each step of an episode."""


def own_reward(episode: Episode) -> Array:
    """[T], of the environment."""
    return np.asarray(episode.info["reward"], np.float64)


def simulated(actor: Actor, settings: Settings, episodes: Episodes, store: Store, judged: Judged = own_reward) -> Ask:
    """One of B-Pref's teachers, who judges by the environment's own reward, or something made of it, which nothing else
    sees."""
    known: dict[str, Array] = {}

    def reward(segment: Segment) -> Array:
        if segment.episode not in known:
            known[segment.episode] = judged(episodes.load(segment.episode))
        return known[segment.episode][segment.start : segment.stop]

    def limits() -> Any:
        recent = actor.trajectories()[-RECENT:]
        length = max(1, round(float(np.mean([len(t) for t in recent]))))
        return threshold(float(np.mean([t.own.sum() for t in recent])), min(settings.clip, length), length)

    teacher = bpref(settings.teacher, reward, seed=settings.seed, threshold=limits, tie=settings.tie_rate)

    def ask(batch: Sequence[Query]) -> None:
        store.add_answers([answer(teacher, query, settings.teacher) for query in batch])

    return ask


def unlabelled(actor: Actor, world: World, settings: Settings) -> Unlabelled:
    """Pairs of what the agent lately did that nobody is asked about."""
    return lambda n, rng: segments(actor.trajectories(), world, groups(actor.trajectories(), n, 2, settings.clip, rng))
