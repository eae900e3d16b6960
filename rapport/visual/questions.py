"""What is asked about videos: three each, ranked; and the best of them become demonstrations.

Demonstrations should be few and truly best, and nobody may know them but by asking. So the winners of some of the first
questions meet in a few last ones, and who wins those is the best of nine. What shows a demonstration is not learned
from: a video is no witness for itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from embodied.episodes import Episode, cut
from embodied.feedback import Feedback, by_kind
from embodied.rational import rational
from embodied.records import Answer, Array, Query, Rank, Segment, Skip
from embodied.rows import rows
from embodied.teachers import Teacher, draws, oracle
from rapport.visual.settings import Settings

TOGETHER = 3  # videos of a question
DEMOS = 5
SLIP = 0.1  # of the teacher `mistake`: so many rankings have two neighbours the wrong way round
BETA = 2.0  # of the teacher `noisy`: rationality for a deviation of the own return
Features = Sequence[Array]


class TooFewVideos(ValueError):
    """Videos that make no questions; the sentence says how many there are, and how many are needed."""


def finals(answers: int) -> int:
    """How many of so many questions are asked last, of winners; as many demonstrations come of them."""
    return max(1, min(DEMOS, answers // 6))


def triplets(videos: int, n: int, rng: np.random.Generator) -> Array:
    """n questions about three different videos each, int [n,3], no two about the same three; every video is about as
    often in one as any other. Raises TooFewVideos."""
    if videos < TOGETHER or n > math.comb(videos, TOGETHER):
        possible = math.comb(videos, TOGETHER)
        raise TooFewVideos(
            f"{videos} videos make {possible} questions about {TOGETHER} each, and {n} are to be asked; give more "
            "videos, or ask fewer"
        )
    found: list[tuple[int, ...]] = []
    seen: set[frozenset[int]] = set()
    shown, before = np.zeros(videos, int), -1
    while len(found) < n:
        # Those first that were shown least; where that found nothing new, anyhow.
        order = np.lexsort((rng.random(videos), shown if len(found) > before else np.zeros(videos)))
        order, before = order[: videos // TOGETHER * TOGETHER], len(found)
        for three in order.reshape(-1, TOGETHER).tolist():
            if frozenset(three) not in seen and len(found) < n:
                seen.add(frozenset(three))
                found.append(tuple(three))
                shown[three] += 1
    return np.array(found)


def episode(run: str, name: str, features: Array, own: Array) -> Episode:
    """A video as a question refers to it: what the trunk sees of it. Own reward [T] as info."""
    id = f"{run}-{name}" if run else name
    return Episode(id, features, np.zeros((len(features), 0), np.float32), {"reward": np.asarray(own, np.float64)})


def question(run: str, stage: int, n: int, of: Sequence[Episode]) -> Query:
    prefix = f"{run}:" if run else ""
    return Query(f"{prefix}question-{stage}-{n:04d}", tuple(cut(one, 0, len(one)) for one in of), "rank")


def simulated(settings: Settings, own: Callable[[str], Array], deviation: float) -> Teacher:
    """Ranks by the sum of an episode's own reward [T], with the flaws that its name says; deviation: of those sums
    among all videos."""
    utility = lambda segment: float(own(segment.episode).sum())  # noqa: E731
    if settings.teacher == "noisy":
        scale = BETA / max(deviation, 1e-12)
        return rational(lambda segment: own(segment.episode), seed=settings.seed, beta=scale)
    right = oracle(utility)
    if settings.teacher == "oracle":
        return right

    def slipping(query: Query) -> Rank:
        said = right(query)
        assert isinstance(said, Rank)
        order, rng = list(said.order), draws(settings.seed, query)
        if rng.random() < SLIP:
            k = int(rng.integers(len(order) - 1))
            order[k], order[k + 1] = order[k + 1], order[k]
        return Rank(tuple(order))

    return slipping


def winners(answers: Sequence[Answer], queries: Sequence[Query]) -> dict[str, str]:
    """Query -> the episode that came out best of it, over all answers that stand; without those that nobody ranked."""
    asked = {query.id: query for query in queries}
    replaced = {answer.supersedes for answer in answers}
    sums: dict[str, Array] = defaultdict(lambda: np.zeros(TOGETHER))
    for answer in answers:
        if answer.id not in replaced and answer.query in asked:
            for row in rows(answer, asked[answer.query]):
                sums[row.query.id] = sums[row.query.id] + np.array(row.target)
    return {id: asked[id].segments[int(sums[id].argmax())].episode for id in asked if id in sums}


@dataclass(frozen=True, eq=False)
class Rankings:
    """said: nothing, or one Feedback of all rankings; of: the number of each one's question, int [B], the same where
    several people, or one twice, were asked the same."""

    said: tuple[Feedback, ...]
    of: Array

    def __getitem__(self, rows: Array) -> Rankings:
        """Those of these rows, by their indices."""
        return Rankings(tuple(part[rows] for part in self.said), self.of[rows])


def learned_from(answers: Sequence[Answer], queries: Sequence[Query], demos: Sequence[str]) -> Rankings:
    """What was said of videos of which none is a demonstration (by its episode)."""
    kept = [query for query in queries if not shows(query.segments, demos)]
    shown = {query.id: frozenset(segment.episode for segment in query.segments) for query in kept}
    said = sorted((answer for answer in answers if answer.query in shown), key=lambda answer: answer.seq)
    replaced = {answer.supersedes for answer in said}
    of = [shown[a.query] for a in said if a.id not in replaced and not isinstance(a.value, Skip)]
    numbers = {videos: n for n, videos in enumerate(dict.fromkeys(of))}
    return Rankings(by_kind(said, kept)[0] if said else (), np.array([numbers[videos] for videos in of], np.int64))


def shows(segments: Sequence[Segment], demos: Sequence[str]) -> bool:
    return any(segment.episode in demos for segment in segments)
