"""How a tokenizer writes conversations: its chat template, what ends an answer, whether a row begins with BOS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_bridge.messages import Message, Prompt, blank_after, transcript

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = list[int]
_MARK = "Qx7Zq"  # an answer that no template changes


class TextError(ValueError):
    """What cannot be written as tokens; the sentence names the row, the value and the mend."""


@dataclass(frozen=True, eq=False)
class Style:
    """How one tokenizer writes conversations: `style` finds it out.

    stop: the id that ends an answer, or None. before, after: what the template writes between an answer and its stop,
    and from the stop on. special: the texts that are no words. bos: the id that begins every row, or None.
    """

    tokenizer: PreTrainedTokenizerBase
    plain: bool
    stop: int | None
    before: str
    after: str
    special: tuple[str, ...]
    bos: int | None


def style(tokenizer: PreTrainedTokenizerBase, *, plain: bool = False) -> Style:
    """plain: leave its chat template; without a template that is how it is. Raises TextError for a template that does
    not write the assistant's words."""
    tokens = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special] + tokenizer.all_special_tokens
    special = tuple(sorted(set(tokens), key=len, reverse=True))
    bos: int | None = tokenizer.bos_token_id
    eos: int | None = tokenizer.eos_token_id
    starts = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    found = Style(tokenizer, plain or not tokenizer.chat_template, eos, "", "", special, bos if starts else None)
    if found.plain:
        return found
    whole = _write(found, (Message("user", "a"), Message("assistant", _MARK)), False, "its own example")
    head, mark, tail = whole.rpartition(_MARK)
    if not mark:
        raise TextError(
            f"the chat template writes the assistant's words as {whole[-60:]!r}, without them; give the tokenizer "
            "another, or take plain=True"
        )
    if bos is not None and head.startswith(tokenizer.bos_token):
        starts = True
    ends = [s for s in special if s != tokenizer.bos_token or bos == eos]
    first = min(((tail.find(s), -len(s), s) for s in ends if s in tail), default=None)
    if first is None:  # nothing that is written after an answer is part of it, and EOS ends it
        before, stop = "", eos
    else:
        id = tokenizer.convert_tokens_to_ids(first[2])
        before, stop = tail[: first[0]], id if isinstance(id, int) else id[0]
    return Style(tokenizer, False, stop, before, tail[len(before) :], special, bos if starts else None)


def _write(how: Style, messages: Sequence[Message], more: bool, where: str) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(how.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=more))
    except Exception as error:  # jinja's own, of many kinds, from a template of anybody's
        raise TextError(
            f"{where}: the chat template refuses the roles {[message.role for message in messages]} ({error}); change "
            "these turns, or take plain=True"
        ) from error


def open_text(how: Style, prompt: Prompt, where: str) -> str:
    """A prompt, up to where the answer begins. Raises TextError that names `where`."""
    return transcript(prompt) if how.plain else _write(how, prompt, True, where)


def closed_text(how: Style, prompt: Prompt, answer: str, where: str) -> str:
    """A prompt and its answer, up to the stop token. Raises TextError that names `where`."""
    if how.plain:
        text = transcript(prompt)
        return text + blank_after(text) + answer
    whole = _write(how, (*prompt, Message("assistant", answer)), False, where)
    tail = how.before + how.after
    if not whole.endswith(tail):
        raise TextError(f"{where}: the chat template ends with {whole[-40:]!r}, not with {tail!r} as it does elsewhere")
    return whole[: len(whole) - len(tail)] + how.before


def ids_of(how: Style, texts: list[str]) -> list[Ids]:
    found: list[Ids] = how.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return found


def begins(how: Style, prompt: Ids) -> bool:
    """Whether a row begins with BOS: where the tokenizer or the template has it so, or the text does, or it would begin
    with nothing, and nothing would predict its first token."""
    return how.bos is not None or prompt[:1] == [how.tokenizer.bos_token_id] or not prompt


def one_bos(how: Style, ids: Ids, begins: bool) -> Ids:
    """Templates write a BOS, tokenizers add one, and texts that were made with either hold one already."""
    bos = how.tokenizer.bos_token_id
    if bos is None or not begins:
        return ids
    return [bos, *ids[next((i for i, id in enumerate(ids) if id != bos), len(ids)) :]]
