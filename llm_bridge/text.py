"""Conversations as tokens, once: a chat template, the boundary between prompt and answer, one BOS, one stop token.

A prompt is written with the template's generation prompt, an answer as the template writes that turn. Where the tokens
of the first do not begin those of the second, both are cut at their common beginning, and a warning says so. An answer
ends with the stop token, which is scored with it: the template's end of turn, or the tokenizer's EOS.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from embodied.feedback import Encode, Segments
from embodied.records import Query
from embodied.texts import text_of
from llm_bridge.messages import Prompt, blank_after, conversation
from llm_bridge.style import Ids, Style, TextError, begins, closed_text, ids_of, one_bos, open_text, style

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Counts:
    """What was done to make texts fit.

    cut: prompts whose tokens did not begin those of prompt and answer. long_prompts, long_answers: truncated, prompts
    from the left, answers without a stop token. empty: rows left out for an answer of no token, where the tokenizer has
    no stop. special: rows left out whose words hold a special token, which would read as the end of a turn, say.
    """

    cut: int = 0
    long_prompts: int = 0
    long_answers: int = 0
    empty: int = 0
    special: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class NothingLeft(TextError):
    """Every row had to be left out, for what `counts` says."""

    def __init__(self, sentence: str, counts: Counts) -> None:
        super().__init__(sentence)
        self.counts = counts


@dataclass(frozen=True, eq=False)
class Encoded:
    """kept: which of the given rows the B rows of `segments` are."""

    segments: Segments
    kept: tuple[int, ...]
    counts: Counts


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], *, max_prompt: int = 2048, plain: bool = False
) -> tuple[list[Ids], int]:
    """The ids that a model goes on from, and how many prompts were truncated from the left. Raises TextError."""
    how = style(tokenizer, plain=plain)
    _check_limits(max_prompt=max_prompt)
    raw = ids_of(how, [open_text(how, prompt, f"prompt {i}") for i, prompt in enumerate(prompts)])
    ids = [one_bos(how, one, begins(how, one)) for one in raw]
    for i, one in enumerate(ids):
        if not one:
            raise _nothing(i)
    return [_left(how, one, max_prompt) for one in ids], sum(len(one) > max_prompt for one in ids)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[str]],
    *,
    max_prompt: int = 2048,
    max_answer: int = 2048,
    plain: bool = False,
) -> Encoded:
    """B prompts, and K answers to each, as tokens. plain: as `style` has it.

    Raises TextError when the rows differ in K, for a prompt that the template refuses or that has no token, and
    NothingLeft where no row is left.
    """
    _check_limits(max_prompt=max_prompt, max_answer=max_answer)
    how, counts = style(tokenizer, plain=plain), Counts()
    texts: list[str] = []
    kept: list[int] = []
    for b, (prompt, given) in enumerate(zip(prompts, answers, strict=True)):
        if how.plain and how.stop is not None:  # what ends with the stop's text ends with one stop
            given = [answer.removesuffix(tokenizer.eos_token) for answer in given]
        words = [*given, *([] if how.plain else [message.content for message in prompt])]
        if any(token in text for text in words for token in how.special):
            counts += Counts(special=1)
            continue
        kept.append(b)
        texts += [
            open_text(how, prompt, f"row {b}"),
            *(closed_text(how, prompt, answer, f"row {b}") for answer in given),
        ]
    encoded = iter(ids_of(how, texts))
    rows: list[tuple[int, Ids, list[Ids]]] = []
    told = ""
    for b in kept:
        group = [next(encoded) for _ in range(1 + len(answers[b]))]
        prompt_ids, *full = (one_bos(how, one, begins(how, group[0])) for one in group)
        common = min([len(prompt_ids), *(_common(prompt_ids, one) for one in full)])
        if common < len(prompt_ids):
            counts += Counts(cut=1)
            told = told or _merged(how, b, prompt_ids, full, common)
        parts = [one[common:] + ([] if how.stop is None else [how.stop]) for one in full]
        if not all(parts):
            counts += Counts(empty=1)
            continue
        if not common:
            raise _nothing(b)
        counts += Counts(long_prompts=int(common > max_prompt), long_answers=sum(len(p) > max_answer for p in parts))
        rows.append((b, _left(how, prompt_ids[:common], max_prompt), [part[:max_answer] for part in parts]))
    if told:
        warnings.warn(
            f"{counts.cut} of {len(prompts)} prompts do not begin their answers' tokens. {told}", stacklevel=2
        )
    if not rows:
        raise NothingLeft(
            f"none of {len(prompts)} rows is left: {counts.special} hold special tokens such as {how.special[:3]} (are "
            f"they written in a template already? then take plain=True), {counts.empty} have an answer of no token",
            counts,
        )
    return Encoded(tokens([r[1] for r in rows], [r[2] for r in rows]), tuple(r[0] for r in rows), counts)


def tokens(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
    log_prob: Sequence[Sequence[Sequence[float]]] | None = None,
) -> Segments:
    """Ids of B prompts and of K answers to each, the stop token included, as Segments: obs prompt int64 [B,1,P] and
    prompt_mask bool [B,1,P], act int64 [B,K,T], padded on the right with 0; log_prob [B,K,T] under whoever sampled
    them, NaN where not given. Raises TextError for rows of different K, and for a prompt or an answer of no token."""
    if not prompts or len(prompts) != len(answers):
        raise TextError(
            f"{len(prompts)} prompts and {len(answers)} rows of answers; give as many of both, at least one"
        )
    for b, given in enumerate(answers):
        if not prompts[b]:
            raise _nothing(b)
        if len(given) != len(answers[0]) or not given or not all(given):
            raise TextError(
                f"row {b} has answers of {[len(a) for a in given]} tokens, row 0 has {len(answers[0])} answers; give "
                "as many to each prompt, of at least one token"
            )
    shape = len(prompts), len(answers[0]), max(len(a) for row in answers for a in row)
    prompt = torch.zeros(shape[0], 1, max(map(len, prompts)), dtype=torch.int64)
    prompt_mask = torch.zeros(prompt.shape, dtype=torch.bool)
    act, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    logp = torch.full(shape, torch.nan)
    for b, (ids, row) in enumerate(zip(prompts, answers, strict=True)):
        prompt[b, 0, : len(ids)], prompt_mask[b, 0, : len(ids)] = torch.as_tensor(ids), True
        for k, answer in enumerate(row):
            act[b, k, : len(answer)], mask[b, k, : len(answer)] = torch.as_tensor(answer), True
            if log_prob is not None:
                if len(log_prob[b][k]) != len(answer):
                    raise TextError(
                        f"row {b}: {len(log_prob[b][k])} log-probabilities of {len(answer)} tokens; give one each"
                    )
                logp[b, k, : len(answer)] = torch.as_tensor(log_prob[b][k])
    return Segments({"prompt": prompt, "prompt_mask": prompt_mask}, act, mask, logp)


def encoder(
    tokenizer: PreTrainedTokenizerBase, *, max_prompt: int = 2048, max_answer: int = 2048, plain: bool = False
) -> Encode:
    """What `feedback(answers, queries, encode=...)` takes, so that what people say of texts in a study is Feedback
    about tokens. Raises TextError for a question that cannot be encoded."""

    def encode_queries(queries: Sequence[Query]) -> Segments:
        prompts = [conversation(query.context) for query in queries]
        texts = [[text_of(segment) for segment in query.segments] for query in queries]
        found = encode(tokenizer, prompts, texts, max_prompt=max_prompt, max_answer=max_answer, plain=plain)
        if len(found.kept) < len(queries):
            lost = next(query.id for b, query in enumerate(queries) if b not in found.kept)
            raise TextError(
                f"query {lost} holds special tokens, or an answer of no token; leave it out ({found.counts.special} of "
                f"the first, {found.counts.empty} of the second)"
            )
        return found.segments

    return encode_queries


def answer_text(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, prompt: Sequence[int] = (), plain: bool = False
) -> str:
    """The words of an answer's ids, without the stop token, of which `encode` makes the same ids again (behind a
    transcript only if the answer began with the blank that transcripts have there).

    prompt: the ids before it. Without a template an answer may begin with a blank, and tokenizers that write blanks
    into words (Llama 2's, or any that cuts at blanks) drop the first one of what they decode.
    """
    how = style(tokenizer, plain=plain)
    words = list(ids[:-1] if ids and ids[-1] == how.stop else ids)

    def decoded(some: Sequence[int]) -> str:
        return str(tokenizer.decode(list(some), clean_up_tokenization_spaces=False))

    if how.plain and prompt:
        last = prompt[-32:]  # enough to end with a turn's name
        before, whole = decoded(last), decoded([*last, *words])
        if whole.startswith(before):  # else a character is made of the last bytes of one and the first of the other
            return whole.removeprefix(before).removeprefix(blank_after(before))
    return decoded(words)


def shown(tokenizer: PreTrainedTokenizerBase, segments: Segments, row: int = 0, *, colour: bool | None = None) -> str:
    """One row to look at before training: the prompt, then each answer with every token that is scored in colour, or
    in [brackets] where there is none. colour: as told, or whether this is a terminal that has any."""
    if not isinstance(segments.obs, dict):
        raise TypeError("these segments have no prompt; give what `tokens` or `encode` made")
    in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ if colour is None else colour
    prompt = segments.obs["prompt"][row, 0][segments.obs["prompt_mask"][row, 0]].tolist()
    lines = [f"prompt, {len(prompt)} tokens: {_printable(str(tokenizer.decode(prompt)))}"]
    for k in range(segments.mask.shape[1]):
        ids = segments.act[row, k][segments.mask[row, k]].tolist()
        parts = [_printable(_token(tokenizer, one)) for one in ids]
        # Two shades in turn, so that one sees where a token ends.
        marked = [
            f"\033[{30 + 12 * (i % 2)};{42 + i % 2}m{p}\033[0m" if in_colour else f"[{p}]" for i, p in enumerate(parts)
        ]
        lines.append(f"answer {k}, {len(ids)} scored: {''.join(marked)}")
    return "\n".join(lines)


def _token(tokenizer: PreTrainedTokenizerBase, id: int) -> str:
    text = str(tokenizer.decode([id], clean_up_tokenization_spaces=False))
    return str(tokenizer.convert_ids_to_tokens(id)) if "\ufffd" in text else text


def _printable(text: str) -> str:
    # Whatever a text holds, it must not steer the terminal.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _left(how: Style, ids: Ids, most: int) -> Ids:
    if len(ids) <= most:
        return ids
    return [ids[0], *ids[len(ids) - most + 1 :]] if ids[0] == how.tokenizer.bos_token_id else ids[len(ids) - most :]


def _common(a: Ids, b: Ids) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _merged(how: Style, row: int, prompt: Ids, full: list[Ids], common: int) -> str:
    other = next(one for one in full if _common(prompt, one) == common)
    names = [how.tokenizer.convert_ids_to_tokens(ids[common : common + 4]) for ids in (prompt, other)]
    return (
        f"In row {row} the prompt alone goes on with {names[0]} where prompt and answer have {names[1]}, so the answer "
        "is scored from there on; if that is not meant, change what the template writes before an answer"
    )


def _check_limits(**limits: int) -> None:
    for name, limit in limits.items():
        if limit < 1:
            raise TextError(f"{name} is {limit}; give at least 1 token")


def _nothing(row: int) -> TextError:
    return TextError(
        f"prompt {row} has no token, so that nothing predicts its answer's first; give it words, or a tokenizer "
        "with a BOS"
    )
