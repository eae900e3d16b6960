"""Verdicts on pairs of answers, each judged in both orders: what they say, how far to trust them, and as records and
answers of the core. No torch."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from embodied.records import Answer, Compare, Query, Skip
from embodied.texts import text_of
from embodied.values import value_to_json
from llm_bridge.messages import Prompt, conversation
from llm_bridge.records import Record

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Asked = Prompt | str  # messages; or a text, which is a transcript or one turn of the user
Inconsistent = Literal["keep", "tie", "skip"]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What a judge said of N pairs (a, b), each shown twice: a first, then b first.

    shown [N,2]: P(the one shown first is better) in either order, NaN where the reply was none. hard bool [N,2]: said
    without a probability. why: for each pair why there is no verdict, or empty. raw: the replies as they came, those
    with a first before the others. Raises ValueError for shapes that disagree.
    """

    shown: Floats
    hard: Bools
    why: tuple[str, ...]
    raw: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.why)
        if self.shown.shape != (n, 2) or self.hard.shape != (n, 2) or len(self.raw) != n:
            raise ValueError(
                f"shown is {self.shown.shape}, hard {self.hard.shape}, {n} reasons, {len(self.raw)} replies; give "
                "[N,2], [N,2], N and N"
            )
        if ((self.shown < 0) | (self.shown > 1)).any():
            raise ValueError(f"shown holds {self.shown[(self.shown < 0) | (self.shown > 1)][0]}; give probabilities")

    def __len__(self) -> int:
        return len(self.why)

    @property
    def valid(self) -> Bools:
        """[N]: both orders were answered."""
        return np.asarray(np.isfinite(self.shown).all(1))

    @property
    def p_first(self) -> Floats:
        """[N]: P(a is better), 1/2 (p_ab + 1 - p_ba), so that a liking for the place cancels; NaN where not valid."""
        return (self.shown[:, 0] + 1 - self.shown[:, 1]) / 2

    @property
    def consistent(self) -> Bools:
        """[N]: both orders were answered, and name the same answer (or both none)."""
        sides = np.sign(self.shown - 0.5)
        return self.valid & (sides[:, 0] == -sides[:, 1])


Pairwise = Callable[[Sequence[Asked], Sequence[str], Sequence[str]], Verdicts]
"""What every judge is: prompts, answers a and answers b, N of each -> Verdicts."""


def symmetric(p_first: Floats, raw: Sequence[str], why: str = "the judge has no number") -> Verdicts:
    """Of a judge that does not see the order: P(a is better) [N]. NaN is no verdict."""
    reasons = tuple("" if known else why for known in np.isfinite(p_first))
    shown = np.stack([p_first, 1 - p_first], 1)
    return Verdicts(shown, np.zeros(shown.shape, np.bool_), reasons, tuple((one,) for one in raw))


@dataclass(frozen=True)
class Report:
    """How far to trust a judge. Shares are of what is valid, NaN where there is nothing.

    consistent: pairs where both orders agree. first: the mean probability of whichever was shown first; .5 has no
    liking for a place. certainty: the mean of the larger chance, .5 to 1; of several samples, the share that agrees.
    length: correlation of P(a) with how much longer a is. hard: replies without a probability.
    """

    pairs: int
    invalid: Mapping[str, int]
    consistent: float
    first: float
    certainty: float
    length: float
    hard: float

    def __str__(self) -> str:
        lines = [
            f"{self.pairs - sum(self.invalid.values())} of {self.pairs} pairs have a verdict",
            *(f"  {count} without: {why}" for why, count in self.invalid.items()),
            f"both orders agree         {self.consistent:.3f}",
            f"mean for the first place  {self.first:.3f}",
            f"mean certainty            {self.certainty:.3f}",
            f"correlation with length   {self.length:.3f}",
            f"without a probability     {self.hard:.3f}",
        ]
        return "\n".join(lines)


def report(verdicts: Verdicts, a: Sequence[str], b: Sequence[str]) -> Report:
    """Raises ValueError for answers of another number than the verdicts."""
    if not len(a) == len(b) == len(verdicts):
        raise ValueError(f"{len(a)} and {len(b)} answers to {len(verdicts)} verdicts; give those that were judged")
    valid = verdicts.valid
    shown, p = verdicts.shown[valid], verdicts.p_first[valid]
    longer = np.array([len(x) - len(y) for x, y in zip(a, b, strict=True)], float)[valid]
    varies = len(p) > 1 and np.ptp(p) > 0 and np.ptp(longer) > 0
    return Report(
        len(verdicts),
        dict(Counter(why for why, known in zip(verdicts.why, valid, strict=True) if not known)),
        _mean(verdicts.consistent[valid]),
        _mean(shown),
        _mean(np.maximum(shown, 1 - shown)),
        float(np.corrcoef(p, longer)[0, 1]) if varies else float("nan"),
        _mean(verdicts.hard[valid]),
    )


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if values.size else float("nan")


@dataclass(frozen=True)
class Said:
    """Records with what the judge said of them; how many are left unsaid, and how many became ties, by the rule."""

    records: tuple[Record, ...]
    unsaid: int
    ties: int


def judged(
    judge: Pairwise, records: Sequence[Record], *, annotator: str = "judge", inconsistent: Inconsistent = "keep"
) -> Said:
    """The records, whose pairs of completions the judge compares; whatever was said of them before is replaced.

    inconsistent: where the two orders name different answers, `keep` the mean of both, or `tie`, or `skip`. What has no
    verdict is said nothing of. Raises ValueError for a record of another number of completions than two.
    """
    for i, record in enumerate(records):
        if len(record.completions) != 2:
            raise ValueError(f"record {i} has {len(record.completions)} completions; make pairs of it with `pairs`")
    a, b = ([record.completions[side] for record in records] for side in (0, 1))
    values = _values(judge([r.prompt for r in records], a, b), inconsistent) if records else []
    told = tuple(
        replace(record, said=value if isinstance(value, Compare) else None, annotator=annotator)
        for record, value in zip(records, values, strict=True)
    )
    ties = sum(value == Compare(0.5) for value in values)
    return Said(told, sum(r.said is None for r in told), ties)


def answers(
    judge: Pairwise, queries: Sequence[Query], *, annotator: str = "judge", inconsistent: Inconsistent = "keep"
) -> list[Answer]:
    """The judge's answers to a store's questions about texts, for `store.add_answers`; of source judge, and a Skip with
    the reason where there is no verdict. The same verdict has the same id, however often it is asked for.

    Raises ValueError for a question that does not compare, RecordError for one that is not about texts.
    """
    for query in queries:
        if query.kind != "compare":
            raise ValueError(f"query {query.id} is of kind {query.kind}; a judge of pairs answers compare")
    if not queries:
        return []
    a, b = ([text_of(query.segments[side]) for query in queries] for side in (0, 1))
    found = judge([conversation(query.context) for query in queries], a, b)
    told = []
    for query, value in zip(queries, _values(found, inconsistent), strict=True):
        content = json.dumps([annotator, "judge", value_to_json(value)])
        id = f"{query.id}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        told.append(Answer(id, query.id, annotator, "judge", value))
    return told


def _values(found: Verdicts, inconsistent: Inconsistent) -> list[Compare | Skip]:
    if inconsistent not in ("keep", "tie", "skip"):
        raise ValueError(f"inconsistent is {inconsistent!r}; give keep, tie or skip")
    values: list[Compare | Skip] = []
    rows = zip(found.p_first.tolist(), found.valid, found.consistent, found.why, strict=True)
    for p, valid, consistent, why in rows:
        if not valid:
            values.append(Skip(why[:500]))
        elif consistent or inconsistent == "keep":
            values.append(Compare(p))
        else:
            values.append(Compare(0.5) if inconsistent == "tie" else Skip("the judge's two orders disagree"))
    return values


def as_prompt(asked: Asked) -> Prompt:
    return conversation(asked) if isinstance(asked, str) else asked


def check_pairs(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> None:
    """Raises ValueError for lists of different lengths."""
    if not len(prompts) == len(a) == len(b):
        raise ValueError(f"{len(prompts)} prompts, {len(a)} answers a and {len(b)} answers b; give as many of each")
