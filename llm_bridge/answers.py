"""Records and the core: as Feedback about tokens, and to and from the store in which people answer.

In a study a text is the question's segment and the prompt its context, so a conversation is written as a transcript.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from embodied.checks import RecordError
from embodied.feedback import Feedback
from embodied.records import Answer, Choose, Compare, Grade, Marks, Query, Rank, Rate, Skip, Survey, Value
from embodied.store import Store
from embodied.texts import text_of, text_query
from embodied.values import value_to_json
from llm_bridge.messages import Prompt, conversation, transcript
from llm_bridge.records import Record, Said, target
from llm_bridge.text import Counts, NothingLeft, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOBODY = "unknown"  # who answered, where a set does not say


@dataclass(frozen=True, eq=False)
class Told:
    """Feedback by kind and K, comparisons first; for each part, which of the records its rows are; what was truncated
    or left out; the annotators by number."""

    parts: tuple[Feedback, ...]
    records: tuple[tuple[int, ...], ...]
    counts: Counts
    annotators: tuple[str, ...]


def feedback(
    records: Sequence[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_prompt: int = 2048,
    max_answer: int = 2048,
    plain: bool = False,
) -> Told:
    """What was said of the records, as `embodied.rows` has it, about tokens [B,K,T]; records of which nothing is said
    are left. Raises ValueError where nothing is said of any, TextError as `encode` does, NothingLeft where no part has
    a row."""
    groups: dict[tuple[bool, str, int], list[int]] = {}
    for i, record in enumerate(records):
        if record.said is not None:
            groups.setdefault((record.kind != "compare", record.kind, len(record.completions)), []).append(i)
    if not groups:
        raise ValueError(f"nothing is said of any of {len(records)} records; have them answered first")
    names = tuple(dict.fromkeys(r.annotator or NOBODY for r in records if r.said is not None))
    numbers = {name: n for n, name in enumerate(names)}
    parts: list[Feedback] = []
    places, counts = [], Counts()
    for key in sorted(groups):
        group = [records[i] for i in groups[key]]
        prompts, texts = [r.prompt for r in group], [r.completions for r in group]
        try:
            found = encode(tokenizer, prompts, texts, max_prompt=max_prompt, max_answer=max_answer, plain=plain)
        except NothingLeft as nothing:
            if key == max(groups) and not parts:
                raise
            counts += nothing.counts
            continue
        kept = [group[b] for b in found.kept]
        parts.append(
            Feedback(
                found.segments,
                torch.tensor([target(r) for r in kept], dtype=torch.float32),
                torch.tensor([r.weight for r in kept], dtype=torch.float32),
                torch.tensor([numbers[r.annotator or NOBODY] for r in kept], dtype=torch.int64),
                torch.ones(len(kept), dtype=torch.bool),
                key[1],
            )
        )
        places.append(tuple(groups[key][b] for b in found.kept))
        counts += found.counts
    return Told(tuple(parts), tuple(places), counts, names)


@dataclass(frozen=True)
class Heard:
    """What a store holds about texts. passed: answers that are no use here, by reason; `unanswered` questions have a
    record of which nothing is said."""

    records: tuple[Record, ...]
    unanswered: int
    passed: Mapping[str, int]


def from_store(store: Store, *, prefix: str = "") -> Heard:
    """The answers that stand to questions about texts (whose ids begin with `prefix`), one record each in the order of
    the answers, then the questions that nobody has answered."""
    asked = {query.id: query for query in store.queries(prefix=prefix)}
    answers = store.answers(prefix=prefix)
    superseded = {answer.supersedes for answer in answers}
    about: dict[str, tuple[Prompt, tuple[str, ...]]] = {}
    passed = Counter[str]()
    for id, query in asked.items():
        try:
            about[id] = conversation(query.context), tuple(map(text_of, query.segments))
        except RecordError:  # clips, in the same study
            passed["questions that are not about texts"] += 1
    records, answered = [], set()
    for answer in answers:
        if answer.id in superseded or answer.query not in about:
            continue
        answered.add(answer.query)
        said = _said(answer.value, asked[answer.query])
        if isinstance(said, str):
            passed[said] += 1
        else:
            records.append(Record(*about[answer.query], said, answer.annotator))
    left = [Record(*texts) for id, texts in about.items() if id not in answered]
    return Heard((*records, *left), len(left), dict(passed))


def _said(value: Value, query: Query) -> Said | str:
    match value:
        case Compare() | Grade() | Rank() | Choose() | Rate():
            return value
        case Survey(first):
            return Compare(first)
        case Marks([(0, stop, good)]) if stop == len(query.segments[0]):
            return good
        case Skip():
            return "skipped"
        case _:
            return f"answers of kind {query.kind}"


def ask(store: Store, records: Iterable[Record], *, kind: str = "compare") -> list[Query]:
    """Their completions as questions in the store; those that are there already are left. The GUI asks them once they
    are offered (`human_ui.texts.offer`, or `rapport ask --texts` with a file of `write(..., "texts")`).

    kind: what is asked of records of which nothing is said. Raises RecordError for texts that are too long, and for a
    number of completions that the kind does not go with.
    """
    queries = []
    for record in records:
        episodes, query = text_query(transcript(record.prompt), record.completions, record.kind or kind)
        store.episodes.save(episodes)
        queries.append(query)
    store.add_queries(queries)
    return queries


def to_store(store: Store, records: Sequence[Record], *, source: str = "import") -> list[Answer]:
    """What was said of the records as answers, and the questions before them. The same record is the same answer,
    however often. Weights and scores stay behind. Raises RecordError and StoreError."""
    answers = []
    for record, query in zip(records, ask(store, records), strict=True):
        if record.said is None:
            continue
        said = record.said
        value = Marks(((0, len(query.segments[0]), said),)) if isinstance(said, bool) else said
        who = record.annotator or NOBODY
        content = json.dumps([who, source, value_to_json(value)])
        id = f"{query.id}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        answers.append(Answer(id, query.id, who, source, value))
    store.add_answers(answers)
    return answers
