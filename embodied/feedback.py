"""From stored answers to tensors: the one batch type that every loss and every policy sees."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embodied.records import Answer, Array, Query, Segment, Skip, check_answer
from embodied.rows import Row, rows
from embodied.values import first_better

Index = int | slice | Tensor | Array | Sequence[int]


@dataclass(frozen=True, eq=False)
class Segments:
    """B groups of K alternatives, padded to T steps.

    obs [B,K,T,*O], or a dict of such tensors (a language model: prompt ids [B,1,P], shared by the K answers);
    act [B,K,T,*A]; mask bool [B,K,T], false on padding; log_prob [B,K,T] under the policy that acted, NaN = unknown.
    Raises ValueError when shapes disagree, a number is not finite, or an alternative has no step.
    """

    obs: Tensor | dict[str, Tensor]
    act: Tensor
    mask: Tensor
    log_prob: Tensor

    def __post_init__(self) -> None:
        if self.mask.dtype != torch.bool or self.mask.ndim != 3:
            raise ValueError(
                f"mask must be bool [B,K,T], got {self.mask.dtype} {list(self.mask.shape)}; compare it with 0"
            )
        steps = {"act": self.act, "log_prob": self.log_prob}
        for name, tensor in (steps if isinstance(self.obs, dict) else {"obs": self.obs, **steps}).items():
            if tensor.shape[:3] != self.mask.shape:
                raise ValueError(
                    f"{name} has shape {list(tensor.shape)}, the mask {list(self.mask.shape)}; make them agree"
                )
        for name, tensor in (*self._observations().items(), ("act", self.act)):
            if len(tensor) != len(self):
                raise ValueError(
                    f"{name} has {len(tensor)} rows, the mask {len(self)}; stack them from the same queries"
                )
            if not torch.isfinite(tensor).all():
                row = int(torch.nonzero(~torch.isfinite(tensor))[0, 0])
                raise ValueError(f"{name} of row {row} holds NaN or infinity; drop that segment or mend its source")
        if not self.mask.any(-1).all():
            row, alternative = torch.nonzero(~self.mask.any(-1))[0].tolist()
            raise ValueError(f"alternative {alternative} of row {row} has no step; give every segment at least one")

    def _observations(self) -> dict[str, Tensor]:
        return self.obs if isinstance(self.obs, dict) else {"obs": self.obs}

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, index: Index) -> "Segments":
        """The chosen rows; the batch dimension stays, also for a single integer."""
        rows = _rows(index)
        obs = {k: v[rows] for k, v in self.obs.items()} if isinstance(self.obs, dict) else self.obs[rows]
        return Segments(obs, self.act[rows], self.mask[rows], self.log_prob[rows])


@dataclass(frozen=True, eq=False)
class Feedback:
    """What annotators said about B groups of K alternatives.

    target [B,K], one number per alternative: for a pair [P(first better), P(second better)], a tie is .5/.5; for others
    see `embodied.rows`. weight [B] >= 0, annotator int [B], same_context bool [B]: all alternatives start in the same
    state. kind: which likelihood the target is meant for. Raises ValueError when a field does not fit.
    """

    segments: Segments
    target: Tensor
    weight: Tensor
    annotator: Tensor
    same_context: Tensor
    kind: str = "compare"

    def __post_init__(self) -> None:
        rows, alternatives = self.segments.mask.shape[:2]
        if list(self.target.shape) != [rows, alternatives]:
            raise ValueError(
                f"target has shape {list(self.target.shape)}, the segments ask for {[rows, alternatives]}; give [B,K]"
            )
        for name in ("weight", "annotator", "same_context"):
            shape = list(getattr(self, name).shape)
            if shape != [rows]:
                raise ValueError(f"{name} has shape {shape}, not {[rows]}; give one entry per row")
        if not torch.isfinite(self.target).all():
            row = int(torch.nonzero(~torch.isfinite(self.target))[0, 0])
            raise ValueError(f"target of row {row} is not finite; give a missing label weight 0 and any finite target")
        if not (torch.isfinite(self.weight) & (self.weight >= 0)).all():
            raise ValueError(
                f"a weight is {self.weight.min().item()}; give finite weights of at least 0, and swap targets to negate"
            )

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: Index) -> "Feedback":
        """The chosen rows; the batch dimension stays, also for a single integer."""
        rows = _rows(index)
        target, weight, annotator = self.target[rows], self.weight[rows], self.annotator[rows]
        return Feedback(self.segments[rows], target, weight, annotator, self.same_context[rows], self.kind)


@dataclass(frozen=True)
class Budget:
    """Where the questions went. Answers that stand were answered or skipped; ties and duplicates are among them.

    `repeated`: questions that show the same clips as an earlier one, in whatever order.
    """

    asked: int = 0
    answered: int = 0
    skipped: int = 0
    ties: int = 0
    duplicates: int = 0
    revised: int = 0
    repeated: int = 0


Encode = Callable[[Sequence[Query]], Segments]


def stack(queries: Sequence[Query]) -> Segments:
    """Observations and actions of the queries as float32 tensors, padded with zeros to the longest segment.

    Images of bytes stay bytes, at a quarter of the size. Raises ValueError when the queries differ in K, or the
    segments in their observation or action shape.
    """
    if not queries:
        raise ValueError("no query to stack; give at least one")
    first = queries[0].segments[0]
    alternatives = len(queries[0].segments)
    for query in queries:
        if len(query.segments) != alternatives:
            raise ValueError(
                f"query {query.id} has {len(query.segments)} segments, query {queries[0].id} has {alternatives}; "
                "stack queries of one size at a time"
            )
        for segment in query.segments:
            if segment.obs.shape[1:] != first.obs.shape[1:] or segment.act.shape[1:] != first.act.shape[1:]:
                raise ValueError(
                    f"query {query.id}: observation and action of a step have shapes {segment.obs.shape[1:]} and "
                    f"{segment.act.shape[1:]}, in {queries[0].id} {first.obs.shape[1:]} and {first.act.shape[1:]}; "
                    "take one environment at a time"
                )
    shape = len(queries), alternatives, max(len(s.act) for q in queries for s in q.segments)
    images = first.obs.ndim > 2 and all(s.obs.dtype == np.uint8 for q in queries for s in q.segments)
    obs = np.zeros((*shape, *first.obs.shape[1:]), np.uint8 if images else np.float32)
    act = np.zeros((*shape, *first.act.shape[1:]), np.float32)
    mask = np.zeros(shape, np.bool_)
    for b, query in enumerate(queries):
        for k, segment in enumerate(query.segments):
            steps = len(segment.act)
            obs[b, k, :steps], act[b, k, :steps], mask[b, k, :steps] = segment.obs, segment.act, True
    return Segments(torch.from_numpy(obs), torch.from_numpy(act), torch.from_numpy(mask), torch.full(shape, torch.nan))


def feedback(answers: Iterable[Answer], queries: Iterable[Query], *, encode: Encode = stack) -> tuple[Feedback, Budget]:
    """The answers that stand, their rows in log order, and the account of all questions.

    A revision replaces the answer it supersedes, a skip is no row. Annotators are numbered by first appearance. A
    second answer of one annotator to one query, not marked as a revision, counts as a duplicate and is kept: it is a
    second look. Where all were skipped, the Feedback has no row. Raises ValueError when there is no answer at all, for
    an answer to an unknown query, a value that does not fit, a revision of nothing, mixed kinds or sizes.
    """
    parts, budget, asked = _collated(answers, queries, encode)
    if not asked:
        raise ValueError(f"no answer to any of {budget.asked} queries; ask first")
    if len(parts) > 1:
        kinds = ", ".join(sorted(f"{part.kind} of {part.target.shape[1]}" for part in parts))
        raise ValueError(f"the answers mix {kinds}; make one Feedback of each, or take by_kind")
    return (parts[0] if parts else _none(encode([asked[0]]))), budget


def by_kind(
    answers: Iterable[Answer], queries: Iterable[Query], *, encode: Encode = stack
) -> tuple[tuple[Feedback, ...], Budget]:
    """The same of all kinds of answers: one Feedback for each kind and size that has a row, comparisons first."""
    parts, budget, _ = _collated(answers, queries, encode)
    return parts, budget


def spent(answers: Iterable[Answer], queries: Iterable[Query]) -> Budget:
    """The account of all questions alone; there need be no answer. Raises ValueError as `feedback` does."""
    asked = {query.id: query for query in queries}
    return _budget(*_log(answers, asked), asked)


def _collated(
    answers: Iterable[Answer], queries: Iterable[Query], encode: Encode
) -> tuple[tuple[Feedback, ...], Budget, list[Query]]:
    """Also the queries that were answered."""
    asked = {query.id: query for query in queries}
    log, superseded = _log(answers, asked)
    numbers = {name: n for n, name in enumerate(dict.fromkeys(a.annotator for a in log))}
    standing = [a for a in log if a.id not in superseded]
    groups: dict[tuple[bool, str, int], list[Row]] = {}
    if len({asked[a.query].anchor is None for a in standing if not isinstance(a.value, Skip)}) > 1:
        raise ValueError(
            "the answers mix questions with an anchor, which ask what is more like it, and without, which ask what is "
            "better; make one Feedback of each"
        )
    for answer in standing:
        for row in rows(answer, asked[answer.query]):
            groups.setdefault((row.kind != "compare", row.kind, len(row.target)), []).append(row)
    parts = tuple(_feedback(groups[key], numbers, encode) for key in sorted(groups))
    return parts, _budget(log, superseded, asked), [asked[a.query] for a in standing]


def _budget(log: Sequence[Answer], superseded: Collection[str], asked: Mapping[str, Query]) -> Budget:
    standing = [a for a in log if a.id not in superseded]
    usable = [a for a in standing if not isinstance(a.value, Skip)]
    return Budget(
        asked=len(asked),
        answered=len(usable),
        skipped=len(standing) - len(usable),
        ties=sum(first_better(a.value) == 0.5 for a in usable),
        duplicates=len(standing) - len({(a.query, a.annotator) for a in standing}),
        revised=len(superseded),
        repeated=len(asked) - len({_shown(query) for query in asked.values()}),
    )


def _log(answers: Iterable[Answer], asked: Mapping[str, Query]) -> tuple[list[Answer], set[str]]:
    """The answers in order, each once and looked at, and the ids of those that were revised."""
    log: dict[str, Answer] = {}
    superseded: set[str] = set()
    for answer in sorted(answers, key=lambda a: a.seq):
        if answer.query not in asked:
            raise ValueError(
                f"answer {answer.id} is about query {answer.query}, which is not among the queries; give it too"
            )
        if log.get(answer.id, answer) != answer:
            raise ValueError(f"answer id {answer.id} occurs twice with different contents; give each its own id")
        check_answer(answer, asked[answer.query])
        if answer.supersedes:
            old = log.get(answer.supersedes)
            if old is None or (old.query, old.annotator) != (answer.query, answer.annotator):
                raise ValueError(
                    f"answer {answer.id} supersedes {answer.supersedes}, no earlier answer of {answer.annotator} "
                    f"to query {answer.query}; give the whole log"
                )
            superseded.add(old.id)
        log[answer.id] = answer
    return list(log.values()), superseded


def _feedback(group: Sequence[Row], numbers: Mapping[str, int], encode: Encode) -> Feedback:
    return Feedback(
        encode([row.query for row in group]),
        torch.tensor([row.target for row in group], dtype=torch.float32),
        torch.tensor([row.weight for row in group]),
        torch.tensor([numbers[row.answer.annotator] for row in group], dtype=torch.int64),
        torch.tensor([_same_start(row.query.segments) for row in group], dtype=torch.bool),
        group[0].kind,
    )


def _none(segments: Segments) -> Feedback:
    """No row, of this shape."""
    empty = segments[:0]
    return Feedback(
        empty, torch.zeros(empty.mask.shape[:2]), torch.ones(0), torch.zeros(0, dtype=torch.int64), empty.mask[:, 0, 0]
    )


def all_pairs(feedback: Feedback) -> Feedback:
    """Every ranking or rating of K as its K(K-1)/2 pairs, each with the weight of its row; equal targets become ties.

    Only the order of the targets is used, so a soft comparison would lose its strength: leave pairs as they are.
    """
    alternatives = feedback.target.shape[1]
    if alternatives < 2:
        raise ValueError(f"all_pairs needs at least 2 alternatives per row, got {alternatives}; compare or rank more")
    pairs = torch.triu_indices(alternatives, alternatives, 1).T  # [P,2]

    def spread(tensor: Tensor) -> Tensor:
        """[B,K,...] -> [B*P,2,...]; [B,1,...], shared by the alternatives, stays shared."""
        if tensor.shape[1] == 1:
            return tensor.repeat_interleave(len(pairs), 0)
        return tensor[:, pairs].flatten(0, 1)

    segments = feedback.segments
    obs = {k: spread(v) for k, v in segments.obs.items()} if isinstance(segments.obs, dict) else spread(segments.obs)
    gap = torch.sign(torch.diff(spread(feedback.target), dim=1))  # second - first
    return Feedback(
        Segments(obs, spread(segments.act), spread(segments.mask), spread(segments.log_prob)),
        torch.cat([1 - gap, 1 + gap], 1) / 2,
        feedback.weight.repeat_interleave(len(pairs), 0),
        feedback.annotator.repeat_interleave(len(pairs), 0),
        feedback.same_context.repeat_interleave(len(pairs), 0),
    )


def _rows(index: Index) -> slice | Tensor:
    if isinstance(index, int):
        return slice(index, index + 1 or None)
    return index if isinstance(index, slice) else torch.as_tensor(index)


def _shown(query: Query) -> tuple[tuple[str, int, int], ...]:
    return tuple(sorted((s.episode, s.start, s.stop) for s in query.segments))


def _same_start(segments: Sequence[Segment]) -> bool:
    return all(np.array_equal(segment.obs[0], segments[0].obs[0]) for segment in segments[1:])
