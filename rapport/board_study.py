"""A ready study about the delivery board: which pairs of walks, how they are drawn, and what people are told of it.

Half of the questions are about walks at random. Nearly as many are picked because whoever counts what was earned says
one thing, and whoever looks at how far each falls short of the best says the other, so that answers tell which it is.
A tenth have a known answer: both say the same, and by far.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
from sqlalchemy import select

from embodied.episodes import Episode
from embodied.feedback import Segments
from embodied.planning import expected_features, uniform_policy
from embodied.records import Array, Compare, Value
from embodied.regret import regret
from embodied.walks import NEXT, STATE, partial_return, walks
from envs.delivery import ACTIONS as MOVES
from envs.delivery import BLOCK, BRICK, COIN, HOUSE, SHEEP, Board, BoardError, driven, picture
from human_ui import desk
from human_ui.clips import encode
from human_ui.site import Site
from human_ui.study import StudyError
from human_ui.tables import OFFER
from rapport.boards import check_board, question, walk

STEPS = 3
POOL = 6000  # pairs, of which the questions are picked
GOLD = 0.1
VISIBLY, CLEARLY = 0.5, 20.0  # how far apart two walks are, earned and regretted, so as to oppose; to be known
FPS, PER_STEP, STILL = 12, 6, 6  # frames a second, for each step, and before and after them


@dataclass(frozen=True)
class Pick:
    """A pair to be asked about. kind: at random, opposed, or known, and then the answer."""

    first: Episode
    second: Episode
    kind: str
    known: Compare | None = None


def pool(world: Board) -> tuple[Segments, Array, Array]:
    """Pairs of walks at random, and by how much the first is better, [B]: in what it earns, and in what is regretted.

    The same for the same board, so that who asks for more questions later has those from before among them.
    """
    rng = np.random.default_rng(0)
    try:
        pairs = walks(world, uniform_policy(world), (POOL, 2), STEPS, rng, "refuse")
    except ValueError as error:
        raise BoardError(f"trips on the board hardly ever last {STEPS} steps; give one with more road") from error
    earned = partial_return(world.weights, pairs)
    fall = regret(world, expected_features(world) @ world.weights, pairs)
    return pairs, np.round(earned[:, 0] - earned[:, 1], 2), np.round(fall[:, 1] - fall[:, 0], 2)


def picks(world: Board) -> Iterator[Pick]:
    """In the order in which they are asked: no two alike, and no walk against itself."""
    pairs, earned, fell = pool(world)
    least, most = np.minimum(earned, fell), np.maximum(earned, fell)
    kinds = {
        "at random": np.ones(POOL, bool),
        "opposed": (least <= -VISIBLY) & (most >= VISIBLY),
        "known": (least > CLEARLY) | (most < -CLEARLY),
    }
    rows = {kind: iter(np.flatnonzero(which).tolist()) for kind, which in kinds.items()}
    seen = set()
    for place in range(POOL):
        kind = "known" if place % 10 == 9 else ("at random", "opposed")[place % 2]
        for row in rows[kind]:
            first, second = (_episode(world, pairs, row, k) for k in range(2))
            both = frozenset((first.id, second.id))
            if len(both) == 2 and both not in seen:
                seen.add(both)
                yield Pick(first, second, kind, Compare(float(earned[row] > 0)) if kind == "known" else None)
                break


def _episode(world: Board, pairs: Segments, row: int, k: int) -> Episode:
    assert isinstance(pairs.obs, torch.Tensor)
    start = divmod(int(pairs.obs[row, k, 0, STATE]), world.codes.shape[1])
    return walk(world, start, pairs.act[row, k, :, 0].int().tolist())


def offer(site: Site, world: Board, n: int) -> list[Pick]:
    """The first n questions about a board, put into a study; those that are asked already stay as they are.

    Raises DataError where the study holds anything but walks on this board, StudyError where there are not so many.
    """
    check_board(site.store, world)
    if n < 1:
        raise StudyError(f"{n} questions about walks: give at least 1")
    chosen = list(islice(picks(world), n))
    if len(chosen) < n:
        raise StudyError(f"the board is good for {len(chosen)} questions, not for {n}; ask fewer, or take a larger one")
    cell = max(8, 400 // max(world.codes.shape))
    with site.store.read() as connection:
        there = set(connection.execute(select(OFFER.c.query)).scalars())
    queries, clips, truth = [], {}, dict[str, Value]()
    for pick in chosen:
        walked = (pick.first, pick.second)
        query = question(*walked)
        if query.id in there:
            continue
        site.store.episodes.save(walked)
        queries.append(query)
        clips[query.id] = [site.clips.put(encode(frames(world, w, cell), fps=FPS)).sha256 for w in walked]
        if pick.known is not None:
            truth[query.id] = pick.known
    desk.offer(site.store, queries, clips, want=site.study().want, truth=truth)
    return chosen


def frames(world: Board, walk: Episode, cell: int) -> Iterator[Array]:
    """A walk as people see it, uint8 [H*cell,W*cell,3] each: the car drives, and leaves its way behind. Where it cannot
    go on it tries to, and comes back."""
    width = world.codes.shape[1]
    places = [np.array(divmod(int(walk.obs[0, STATE]), width), float)]
    for (state, after), action in zip(walk.obs[:, [STATE, NEXT]].astype(int), walk.act[:, 0].astype(int), strict=True):
        if state == after:
            places.append(places[-1] + 0.45 * MOVES[action])
        places.append(np.array(divmod(int(after), width), float))
    ground, bumps = picture(world, cell=cell), {i for i, place in enumerate(places) if (place % 1).any()}
    yield from [driven(ground, np.array(places[:1]), cell)] * STILL
    for i, (a, b) in enumerate(pairwise(places)):
        count = PER_STEP // 2 if {i, i + 1} & bumps else PER_STEP
        for t in range(1, count + 1):
            yield driven(ground, np.array([*places[: i + 1], a + (b - a) * t / count]), cell)
    yield from [driven(ground, np.array(places), cell)] * STILL


def terms(name: str, world: Board) -> str:
    """The study.toml of such a study; what it says of the game is what the board holds and pays."""
    gas, goal, sheep, coin, block, brick = (f"{pay:+g}".replace("-", "−") for pay in world.weights)
    there = set((world.codes % BRICK).ravel().tolist())
    things = [f"Green square {goal} and the trip ends"]
    things += [f"sheep (white) {sheep} and the trip ends"] * (SHEEP in there)
    things += [f"coin (yellow) {coin}"] * (COIN in there) + [f"roadblock (red) {block}"] * (BLOCK in there)
    things += [f"road (grey) {gas}"] + [f"brick (reddish) {brick}"] * bool((world.codes >= BRICK).any())
    things += ["houses (dark) cannot be entered"] * (HOUSE in there)
    legend, house = "; ".join(things), "a house or " * (HOUSE in there)
    to_sheep, at_sheep = (f" or {word} a sheep" * (SHEEP in there) for word in ("to", "at"))
    return f"""# What people are asked, and on what terms. A change is a new version, from the next question on.
name = {json.dumps(name)}
question = "Which is better?"
want = 10        # people per question: up to so many are each asked everything
gold = {GOLD}       # share of questions whose answer is known
rest = 40        # a break is offered after so many answers
consent = ""
goal = "the highest score by the end of the trip. {legend}."
instructions = \"\"\"
A blue car delivers parcels in a small town. Every step takes it to the next cell, up, down, left or right, and \\
changes the score by the cell it enters. {legend}.

A coin or a roadblock counts on top of the road or brick it lies on, each time its cell is entered. Where the car \\
cannot go on, at {house}the edge, it stays where it is, and that step costs what the road or brick under it costs.

The trip goes on until the car comes to the green square{to_sheep}. What counts is the whole score of the trip.

Two clips show a few steps of two trips each. The dot is where a clip begins; the line is the way. Say which is better.
\"\"\"

[[quiz]]
question = "When does a trip end?"
choices = ["After three steps", "At the green square{at_sheep}", "At the edge of the town"]
right = 1

[[quiz]]
question = "What happens where the car cannot go on?"
choices = ["It stays and pays for the step", "It stays, and that costs nothing", "The trip ends"]
right = 0
"""
