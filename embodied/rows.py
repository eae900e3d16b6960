"""What an answer is to a learner: rows of alternatives, with one number for each. One answer may be no row, or several.

| said | a row | its target |
| --- | --- | --- |
| Compare, Survey | the pair | P(first better), P(second better) |
| Grade | the pair | level, -level |
| Rank | the K | the share of the others that each beats |
| Choose | the K | 1 for the best, else 0 |
| Rate | the K | the rating |
| Marks | each stretch by itself, K = 1 | 1 good, 0 bad |
| Stop | the T steps, one by one, K = T | 1 for the last that was let pass, else 0 |
| Written, Skip | none | |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embodied.records import (
    Answer,
    Choose,
    Compare,
    Grade,
    Marks,
    Query,
    Rank,
    Rate,
    Segment,
    Skip,
    Stop,
    Survey,
    Value,
    Written,
)


@dataclass(frozen=True, eq=False)
class Row:
    """`query`: what the K targets are about; `kind`: by which likelihood they are held against its scores."""

    answer: Answer
    query: Query
    kind: str
    target: tuple[float, ...]
    weight: float = 1.0  # an answer of many marks counts as one answer


def rows(answer: Answer, query: Query) -> list[Row]:
    """The rows of one answer, which fits its query."""

    def part(kind: str, target: Sequence[float], segments: Sequence[Segment] = query.segments) -> Row:
        # Only a rating may be of any number of segments.
        about = query if segments is query.segments else Query(query.id, tuple(segments), "rate", query.context)
        return Row(answer, about, kind, tuple(map(float, target)))

    match answer.value:
        case Compare(first) | Survey(first):
            return [part("compare", (first, 1 - first))]
        case Grade(level):
            return [part("grade", (level, -level))]
        case Rank(order):
            return [part("rank", [1 - order.index(k) / (len(order) - 1) for k in range(len(order))])]
        case Choose(best):
            return [part("choose", [k == best for k in range(len(query.segments))])]
        case Rate(values):
            return [part("rate", values)]
        case Marks(spans):
            (whole,) = query.segments
            marks = [part("mark", (good,), (_cut(whole, start, stop),)) for start, stop, good in spans]
            return [replace(mark, weight=1 / len(spans)) for mark in marks]
        case Stop(after):
            (whole,) = query.segments
            steps = [_cut(whole, t, t + 1) for t in range(len(whole))]
            return [part("stop", [t == after - 1 for t in range(len(steps))], steps)]
        case Written() | Skip():
            return []


def _cut(segment: Segment, start: int, stop: int) -> Segment:
    first = segment.start
    return Segment(segment.episode, first + start, first + stop, segment.obs[start:stop], segment.act[start:stop])


def about(answers: Sequence[Answer], item: str) -> list[Answer]:
    """Surveys as answers to one of their questions alone: about both as a Compare, about each as one where the answers
    differ and a tie where they do not; a Skip where it was not asked or does not apply. For a reward of that question.
    """

    def value(said: Value) -> Value:
        if not isinstance(said, Survey):
            return said
        match dict(said.items).get(item):
            case None:
                return Skip(f"{item} does not apply")
            case (bool(first), bool(second)):
                return Compare(0.5 * (1 + first - second))
            case (_, _):
                return Skip(f"{item} does not apply to both")
            case first:
                return Compare(first)

    return [replace(answer, value=value(answer.value)) for answer in answers]
