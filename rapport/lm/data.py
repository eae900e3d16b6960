"""What is learned from: records of a file, a folder or a study; a fifth of the prompts held out; as tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from embodied import atomic
from embodied.feedback import Feedback
from rapport.data_folder import ANSWERS, open_folder
from rapport.lm.models import CACHE, TUTOR, ModelError, place_of
from rapport.run import RunError

if TYPE_CHECKING:
    from llm_bridge.messages import Prompt
    from llm_bridge.records import Record
    from llm_bridge.text import Counts

HELD_OUT = 5  # one prompt of so many
MARKS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "[INST]", "<|user|>", "<|turn|>")
TUTORED = 2000  # questions, of which some are answered twice alike


@dataclass(frozen=True, eq=False)
class Found:
    """`place`: the file or folder, beside which caches lie; `told`: what was found, in a sentence."""

    records: tuple[Record, ...]
    place: Path
    told: str


@dataclass(frozen=True, eq=False)
class Fed:
    """Records as tokens: parts of one kind and size each, and sentences about what was left out."""

    learned: tuple[Feedback, ...]
    held_out: tuple[Feedback, ...]
    notes: tuple[str, ...]
    annotators: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    """The held-out ones, or where there are none those that are learned from."""

    def rows(self) -> dict[str, int]:
        return {"learned": sum(map(len, self.learned)), "held_out": sum(map(len, self.held_out))}

    def digest(self) -> str:
        """Of all that is learned from and held out, so that a run never goes on with other data."""
        digest = hashlib.sha256()
        for part in (*self.learned, *self.held_out):
            segments = part.segments
            obs: Any = segments.obs
            tensors: list[Tensor] = [
                obs["prompt"],
                segments.act,
                segments.mask,
                part.target,
                part.weight,
                part.annotator,
            ]
            for tensor in tensors:
                digest.update(f"{list(tensor.shape)}".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]


def find(source: str, *, split: str | None = None, store: str | None = None) -> Found:
    """The records of `--data`. Raises DataError, RecordError or StoreError for what cannot be read."""
    from llm_bridge.answers import from_store
    from llm_bridge.datasets import load

    path = tutored() if source == TUTOR else Path(source)
    if store or _is_study(path):
        with open_folder(path, place=store) as opened:
            heard = from_store(opened)
        passed = "".join(f"; {n} {why}, left out" for why, n in heard.passed.items())
        return Found(heard.records, path, f"{len(heard.records)} records, {heard.unanswered} unanswered{passed}")
    found = load(path, split=split)
    return Found(found.records, path, f"{found.counts} (shape {found.shape})")


def _is_study(path: Path) -> bool:
    return (path / ANSWERS).exists() or (path / "study.toml").exists()


def tutored(cache: Path = CACHE) -> Path:
    """Comparisons of the tutor's answers to the questions that are learned from, as records beside the model."""
    folder = Path(place_of(TUTOR))
    path = folder.with_name(f"{folder.name}-{TUTORED}.jsonl")
    if not path.exists():
        from transformers import LlamaForCausalLM

        from llm_bridge.testbed import tutor

        model = LlamaForCausalLM.from_pretrained(folder)
        lines = [json.dumps(row) for row in comparisons(model, tutor.split()[0][:TUTORED], np.random.default_rng(0))]
        atomic.write(path, ("\n".join(lines) + "\n").encode())
    return path


def comparisons(model: Any, numbers: Tensor, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Pairs of a tutor's whole answers, which of them is better being drawn by gold, as rows of the shape `records`."""
    from embodied.records import Compare
    from llm_bridge.messages import user
    from llm_bridge.records import Record, to_json
    from llm_bridge.testbed import tutor
    from llm_bridge.testbed.preferences import preferences

    told = preferences(model, numbers, rng)
    words, obs = tutor.tokenizer(), told.segments.obs
    assert isinstance(obs, dict)
    rows = []
    for prompt, act, mask, target in zip(
        obs["prompt"][:, 0], told.segments.act, told.segments.mask, told.target, strict=True
    ):
        ends = [ids[m].tolist() for ids, m in zip(act, mask, strict=True)]
        if all(one[-1] == tutor.EOS and min(one[:-1], default=0) > tutor.UNK for one in ends):
            # A blank begins an answer: the tokenizer cuts at blanks.
            texts = tuple(" " + str(words.decode(one[:-1])) for one in ends)
            rows.append(to_json(Record(user(str(words.decode(prompt[1:]))), texts, Compare(float(target[0])), "gold")))
    return rows


def hold_out(records: Sequence[Record], seed: int) -> tuple[list[Record], list[Record]]:
    """Learned from, held out: all records about a prompt are on one side."""
    names = {r.prompt: json.dumps([[m.role, m.content] for m in r.prompt]) for r in records}
    order = sorted(set(names.values()))
    back = {order[i] for i in np.random.default_rng([seed, 30]).permutation(len(order))[: len(order) // HELD_OUT]}
    sides: tuple[list[Record], list[Record]] = ([], [])
    for record in records:
        sides[names[record.prompt] in back].append(record)
    return sides


def feed(
    found: Found,
    use: Callable[[Sequence[Record]], tuple[list[Record], dict[str, int]]],
    tokenizer: Any,
    *,
    seed: int,
    max_prompt: int,
    max_answer: int,
    plain: bool,
) -> Fed:
    """`use` makes of records those that a verb learns from, and counts what it has no use for. Raises ValueError where
    nothing is left, TextError for texts that cannot be tokens."""
    from llm_bridge.answers import feedback
    from llm_bridge.text import NothingLeft

    records, empty = without_empty(found.records)
    sides = [use(side) for side in hold_out(records, seed)]
    left: dict[str, int] = {}
    for _, counted in sides:
        left = {why: left.get(why, 0) + counted.get(why, 0) for why in {**left, **counted}}
    notes = [*empty, *(f"{n} {why}, left out" for why, n in left.items() if n)]
    learned, held_out = (records for records, _ in sides)
    if not learned:
        raise RunError(
            f"{found.place} holds nothing to learn from ({'; '.join([found.told, *notes])}): give another --data."
        )
    limits: dict[str, Any] = {"max_prompt": max_prompt, "max_answer": max_answer, "plain": plain}
    told = feedback(learned, tokenizer, **limits)
    counts = told.counts
    kept: tuple[Feedback, ...] = ()
    try:
        if held_out:
            other = feedback(held_out, tokenizer, **limits)
            counts, kept = counts + other.counts, other.parts
    except NothingLeft as nothing:
        counts += nothing.counts
    if not kept:
        notes.append("too few prompts to hold any out: nothing says how well others are foretold")
    notes += [*sentences(counts, found.records, tokenizer), *foreign(found.records, tokenizer)]
    asked = dict.fromkeys(r.prompt for r in held_out or learned)
    return Fed(told.parts, kept, tuple(notes), told.annotators, tuple(asked))


def without_empty(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Those without an empty answer, from which one would learn to end at once; and a sentence about the others."""
    kept = [r for r in records if all(map(str.strip, r.completions))]
    if len(kept) == len(records):
        return kept, []
    where = first_with(records, lambda text: not text.strip(), answers=True)
    return kept, [f"{len(records) - len(kept)} records with an empty answer, left out: {where}"]


def sentences(counts: Counts, records: Sequence[Record], tokenizer: Any) -> Iterable[str]:
    """What was done to make texts fit."""
    from llm_bridge.style import style

    special = style(tokenizer).special
    odd = first_with(records, lambda text: any(token in text for token in special)) if counts.special else ""
    said = {
        f"rows hold special tokens (written in a template already? then --plain), left out: {odd}": counts.special,
        "prompts are longer than --max-prompt, and lost their beginning": counts.long_prompts,
        "answers are longer than --max-answer, and were cut without an end": counts.long_answers,
        "prompts do not begin their answers' tokens, and were cut where they part": counts.cut,
    }
    return (f"{n} {what}" for what, n in said.items() if n)


def foreign(records: Sequence[Record], tokenizer: Any) -> Iterable[str]:
    """Marks of a template that this tokenizer does not have: to it they are words."""
    from llm_bridge.style import style

    own = (*style(tokenizer).special, tokenizer.chat_template or "")
    marks = [mark for mark in MARKS if not any(mark in text for text in own)]
    count = sum(bool(first_with([record], lambda text: any(mark in text for mark in marks))) for record in records)
    if count:
        where = first_with(records, lambda text: any(mark in text for mark in marks))
        yield f"{count} records are written in another model's chat template, whose marks are learned as words: {where}"


def first_with(records: Sequence[Record], odd: Callable[[str], bool], *, answers: bool = False) -> str:
    """Which record has such a text, counted from 1; `answers`: among its answers."""
    for n, record in enumerate(records, 1):
        asked = () if answers else (message.content for message in record.prompt)
        if any(map(odd, (*record.completions, *asked))):
            return f"the first is record {n}, {record.prompt[-1].content[:40] if record.prompt else ''!r}"
    return ""


def demonstrations(records: Sequence[Record]) -> tuple[list[Record], dict[str, int]]:
    """What is imitated: demonstrations, what was marked good, and the best of what was compared."""
    from llm_bridge.records import best

    kept, left = [], {"ties": 0, "marked bad": 0, "prompts without an answer": 0, "answers of which nothing is said": 0}
    for record in records:
        if record.said is None and len(record.completions) == 1:
            top: str | None = record.completions[0]
        elif isinstance(record.said, bool):
            top = record.completions[0] if record.said else None
        else:
            top = best(record)
        if top is not None:
            kept.append(replace(record, completions=(top,), said=True, scores=()))
        elif record.said is False:
            left["marked bad"] += 1
        elif record.said is None:
            left["answers of which nothing is said" if record.completions else "prompts without an answer"] += 1
        else:
            left["ties"] += 1
    return kept, left


def told(records: Sequence[Record], *, listwise: bool, marks: bool) -> tuple[list[Record], dict[str, int]]:
    """What was said, as a loss hears it. listwise: rankings and ratings stay whole, otherwise they become pairs; marks:
    good and bad of one answer too."""
    from llm_bridge.records import pairs

    said = [r for r in records if r.said is not None]
    some = said if listwise else pairs(said)
    kept = [r for r in some if len(r.completions) > 1 or (marks and isinstance(r.said, bool))]
    return kept, {
        "records of which nothing is said": len(records) - len(said),
        "judgements of one answer, which this does not compare": len(some) - len(kept),
    }


def prompts_of(source: str, *, held_out: bool = False) -> list[Prompt]:
    """Of any data the prompts, each once. held_out: of the tutor those that nothing is learned from."""
    from llm_bridge.datasets import load
    from llm_bridge.messages import user

    if source == TUTOR:
        from llm_bridge.testbed import tutor

        words, numbers = tutor.tokenizer(), tutor.split()[held_out]
        return [user(str(words.decode(ids[1:]))) for ids in tutor.prompts(numbers)]
    path = Path(source)
    if _is_study(path):
        return list(dict.fromkeys(r.prompt for r in find(source).records))
    return list(dict.fromkeys(r.prompt for r in load(path).records))


def is_tutor(tokenizer: Any) -> bool:
    from llm_bridge.testbed import tutor

    return bool(tokenizer.get_vocab() == tutor.tokenizer().get_vocab())


def need_tutor(tokenizer: Any, what: str) -> None:
    if not is_tutor(tokenizer):
        raise ModelError(f"{what} is of the tutor's language, which this model does not speak: take --model tutor.")
