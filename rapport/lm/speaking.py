"""A model's answers: prompts as tokens, a sampler made once, and words again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embodied.feedback import Segments

if TYPE_CHECKING:
    from llm_bridge.endpoint import Server
    from llm_bridge.external import LogProbs
    from llm_bridge.law import Law
    from llm_bridge.lm import LM
    from llm_bridge.messages import Prompt

SLOTS = 256
Draw = Callable[[int, int, tuple[int, ...]], Any]
"""Tokens of the longest prompt, tokens of an answer at most, those that end one -> what draws answers to ids."""


def own(lm: LM, answers: int) -> Draw:
    """The model itself; `answers`: how many are wanted at once."""
    from llm_bridge.sampler import Sampler

    def made(prompt: int, longest: int, stop: tuple[int, ...]) -> Any:
        slots = max(1, min(SLOTS, answers))
        return Sampler(lm, slots=slots, capacity=prompt + longest, longest=longest, stop=stop)

    return made


def served(server: Server, law: Law, log_probs: LogProbs) -> Draw:
    """A server that has the same model."""
    from llm_bridge.external import external

    return lambda prompt, longest, stop: external(server, longest=longest, stop=stop, law=law, log_probs=log_probs)


class Speaker:
    """Samples to prompts, known by their number, of a model that takes `room` tokens of a prompt with its answer.
    Raises TextError for prompts that cannot be tokens."""

    def __init__(
        self,
        draw: Draw,
        tokenizer: Any,
        prompts: Sequence[Prompt],
        *,
        room: int,
        max_prompt: int,
        max_answer: int,
        plain: bool,
    ) -> None:
        from llm_bridge.style import style
        from llm_bridge.text import encode_prompts

        self.tokenizer, self.plain, self.prompts = tokenizer, plain, list(prompts)
        self.ids, self.long = encode_prompts(tokenizer, prompts, max_prompt=max_prompt, plain=plain)
        self.known: dict[tuple[int, ...], int] = {}
        for n, ids in enumerate(self.ids):
            self.known.setdefault(tuple(ids), n)
        # Of those that become the tokens of an earlier one a judge is shown the earlier one's words.
        self.duplicates = len(self.ids) - len(self.known)
        stop = style(tokenizer, plain=plain).stop
        prompt = max(map(len, self.ids))
        longest = min(max_answer, room - prompt)
        if longest < 1:
            raise ValueError(
                f"the longest prompt has {prompt} tokens, and the model takes {room} with its answer: lower "
                "--max-prompt."
            )
        self.sampler = draw(prompt, longest, () if stop is None else (stop,))

    def __call__(self, which: Any, k: int, rng: np.random.Generator) -> Segments:
        """k answers to each of these prompts, [B,k,T]."""
        return self.sampler([self.ids[int(n)] for n in which], k, rng)

    def number(self, segments: Segments, row: int) -> int:
        """Which prompt a row of samples answers."""
        assert isinstance(segments.obs, dict)
        return self.known[tuple(segments.obs["prompt"][row, 0][segments.obs["prompt_mask"][row, 0]].tolist())]

    def words(self, segments: Segments, row: int) -> list[str]:
        """The answers of a row."""
        from llm_bridge.text import answer_text

        prompt = self.ids[self.number(segments, row)]
        return [
            answer_text(self.tokenizer, act[mask].tolist(), prompt=prompt, plain=self.plain)
            for act, mask in zip(segments.act[row], segments.mask[row], strict=True)
        ]

    def texts(self, segments: Segments) -> list[tuple[Prompt, list[str]]]:
        return [(self.prompts[self.number(segments, b)], self.words(segments, b)) for b in range(len(segments))]

    def few(self, seed: int, done: int, count: int = 3) -> list[dict[str, str]]:
        """Answers to the first few prompts, by a stream of their own."""
        from llm_bridge.messages import transcript

        with torch.no_grad():
            said = self(range(min(count, len(self.ids))), 1, np.random.default_rng([seed, 33, done]))
        return [{"prompt": transcript(prompt), "answer": answers[0].strip()} for prompt, answers in self.texts(said)]


def room(model: Any) -> int:
    """Tokens of a prompt with its answer that the model was made for."""
    from llm_bridge.lm import base

    return room_of(base(model).config)


def room_of(config: Any) -> int:
    from llm_bridge.attention import window_of

    made_for = int(getattr(config, "max_position_embeddings", None) or 1 << 20)
    return min(made_for, window_of(config) or made_for)
