"""What was answered, as a policy is fitted to it: comparisons and rankings, a fifth of the questions held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from embodied.feedback import Budget, Feedback, all_pairs, by_kind, spent
from embodied.records import Answer, Array, Query
from rapport.data_folder import doubts, open_folder

PAIRED = ("compare", "grade", "choose")
LISTED = ("rank", "rate")
HELD_OUT = 5  # one question of so many


@dataclass(frozen=True, eq=False)
class Told:
    """Answers as parts of one kind and size each; `notes` are sentences about what was left out or is doubtful."""

    learned: tuple[Feedback, ...]
    held_out: tuple[Feedback, ...]
    budget: Budget
    notes: tuple[str, ...]
    annotators: tuple[str, ...]
    """Names, as the learned parts number them."""

    def segments(self) -> tuple[Array, Array]:
        """obs [N,O] and act [N,A] of all steps that are learned from."""
        parts = [(p.segments.obs[p.segments.mask], p.segments.act[p.segments.mask]) for p in self.learned]  # type: ignore[index]
        obs, act = (torch.cat(x).numpy() for x in zip(*parts, strict=True))
        return obs, act


def read(folder: Path, seed: int, *, listwise: bool, place: str | None = None) -> Told:
    """The answers of a data folder or study that stand. `listwise`: rankings stay whole, else they become pairs.

    Questions that show the same clips are held out together. Raises ValueError where nothing can be learned, and what
    a damaged folder raises.
    """
    with open_folder(folder, place=place) as store:
        answers, queries = store.answers(), store.queries()
    if not answers:
        raise ValueError(f"{folder} holds {len(queries)} questions and no answer: ask, or import labels.")
    for query in queries:
        if query.segments[0].obs.ndim != 2 or query.segments[0].act.ndim != 2:
            raise ValueError(
                f"Question {query.id!r} shows steps with observations {query.segments[0].obs.shape[1:]} and actions "
                f"{query.segments[0].act.shape[1:]}: a policy is aligned on vectors; encode them first."
            )
    rng = np.random.default_rng([seed, 20])
    shown = {query.id: str(sorted((s.episode, s.start, s.stop) for s in query.segments)) for query in queries}
    clips = sorted({shown[answer.query] for answer in answers})
    kept_back = {clips[i] for i in rng.permutation(len(clips))[: len(clips) // HELD_OUT]}
    sides = [[a for a in answers if (shown[a.query] in kept_back) == side] for side in (False, True)]
    (learned, other), (held_out, more) = (_usable(side, queries, listwise) for side in sides)
    notes = list(doubts(answers, queries))
    if other | more:
        notes.append(f"answers of the kinds {', '.join(sorted(other | more))} rank nothing, and are left out")
    decided = sum(int((p.target != p.target[:, :1]).any(-1).sum()) for p in learned)
    if not decided:
        total = sum(map(len, learned))
        what = f"all {total} comparisons to learn from are ties" if total else "no comparison or ranking was answered"
        raise ValueError(f"{folder}: {what}, so nothing is better than anything; ask for decided ones.")
    if not held_out:
        notes.append("too few questions to hold any out: nothing says how well others are foretold")
    annotators = tuple(dict.fromkeys(a.annotator for a in sorted(sides[0], key=lambda a: a.seq)))
    return Told(learned, held_out, spent(answers, queries), tuple(notes), annotators)


def _usable(
    answers: Sequence[Answer], queries: Sequence[Query], listwise: bool
) -> tuple[tuple[Feedback, ...], set[str]]:
    """The parts that have a row, and what other kinds of answers there are."""
    parts, other = [], set()
    for part in by_kind(answers, queries)[0]:
        alternatives = part.target.shape[1]
        if part.kind not in (*PAIRED, *LISTED) or alternatives < 2:
            other.add(part.kind)
        elif part.kind == "compare" or (listwise and part.kind in LISTED):
            parts.append(part)
        else:
            pairs = all_pairs(part)
            # Of what was not chosen nothing is known.
            parts.append(pairs if part.kind != "choose" else pairs[torch.nonzero(pairs.target[:, 0] != 0.5)[:, 0]])
    return tuple(part for part in parts if len(part)), other
