"""Who judges answers at once: a reward run, the tutor's gold, or a function of yours that reads words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from embodied.feedback import Segments
from embodied.online import Judge, Prefer
from rapport.lm.data import need_tutor
from rapport.lm.models import ModelError, memory, reward_of
from rapport.train.spaces import import_module

if TYPE_CHECKING:
    from llm_bridge.messages import Prompt
    from llm_bridge.reward import RewardLM
    from rapport.lm.verb import Speaking

    Texts = Callable[[Segments], list[tuple[Prompt, list[str]]]]

GOLD = "gold"


def judge_of(name: str, options: Speaking, tokenizer: Any, texts: Texts) -> Judge:
    """What `--reward` names, as a judge of samples [B,K]; `texts` are their words. Raises ModelError."""
    if name == GOLD:
        need_tutor(tokenizer, "gold")
        return gold
    if _is_function(name):
        return points(_function(name), name, texts)
    reward, theirs = reward_of(name, options)
    if theirs.get_vocab() == tokenizer.get_vocab() and theirs.chat_template == tokenizer.chat_template:
        return _by_tokens(reward)
    return _by_words(reward, theirs, texts, options)


@torch.no_grad()
def gold(segments: Segments) -> Tensor:
    """The tutor's."""
    from llm_bridge.testbed import tutor

    assert isinstance(segments.obs, dict)
    return tutor.marks(segments.obs["prompt"], segments.act, segments.mask).gold.float()


def points(function: Callable[..., Any], name: str, texts: Texts) -> Judge:
    """A function (prompt, answers) -> one number each, both words."""
    from llm_bridge.messages import transcript

    def judge(segments: Segments) -> Tensor:
        rows = []
        for b, (prompt, answers) in enumerate(texts(segments)):
            found = _called(function, name, transcript(prompt), answers)
            try:
                rows.append([float(x) for x in found])
            except (TypeError, ValueError):
                raise ModelError(f"{name} gave {found!r:.60} for row {b}: give one number for each answer.") from None
            if len(rows[-1]) != len(answers):
                raise ModelError(
                    f"{name} gave {len(rows[-1])} numbers for {len(answers)} answers of row {b}: give one each."
                )
        return torch.tensor(rows)

    return judge


def chances(name: str, texts: Texts) -> Prefer:
    """A function (prompt, first, second) -> the chance that the first is better, asked both ways round, so that whom it
    names first does not matter. Raises ModelError."""
    from llm_bridge.messages import transcript

    function = _function(name)

    def asked(prompt: str, first: str, second: str) -> float:
        found = _called(function, name, prompt, first, second)
        if not isinstance(found, int | float) or not 0 <= found <= 1 or math.isnan(found):
            raise ModelError(f"{name} gave {found!r:.60}: give the chance that the first is better, from 0 to 1.")
        return float(found)

    def prefer(segments: Segments) -> Tensor:
        rows, k = segments.mask.shape[:2]
        out = torch.full((rows, k, k), 0.5)
        for b, (prompt, answers) in enumerate(texts(segments)):
            for i in range(k):
                for j in range(i):
                    both = [asked(transcript(prompt), answers[m], answers[n]) for m, n in ((i, j), (j, i))]
                    out[b, i, j] = (1 + both[0] - both[1]) / 2
                    out[b, j, i] = 1 - out[b, i, j]
        return out

    return prefer


def by_reward(judge: Judge) -> Prefer:
    """Bradley and Terry's chances of rewards, [B,K,K]."""

    def prefer(segments: Segments) -> Tensor:
        reward = judge(segments)
        return torch.sigmoid(reward[:, :, None] - reward[:, None, :])

    return prefer


def _by_tokens(reward: RewardLM) -> Judge:
    @torch.no_grad()
    def judge(segments: Segments) -> Tensor:
        with memory(reward.body.row, "judging"):
            return torch.cat([reward(segments[rows]) for rows in reward.parts(segments)])

    return judge


def _by_words(reward: RewardLM, tokenizer: Any, texts: Texts, options: Speaking) -> Judge:
    """The words once more, as tokens of the reward's own."""
    from llm_bridge.text import encode

    by_tokens = _by_tokens(reward)

    def judge(segments: Segments) -> Tensor:
        found = texts(segments)
        limits: dict[str, Any] = {"max_prompt": options.max_prompt, "max_answer": options.max_answer}
        told = encode(tokenizer, [prompt for prompt, _ in found], [answers for _, answers in found], **limits)
        # What cannot be written as its tokens is worth what the least of the others is.
        worth = by_tokens(told.segments)
        out = worth.min().expand(segments.mask.shape[:2]).clone()
        out[list(told.kept)] = worth
        return out

    return judge


def _is_function(name: str) -> bool:
    return ":" in name and not Path(name).exists()


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(":")
    found = getattr(import_module(module), function, None)
    if not callable(found):
        raise ModelError(f"{module} has no function {function}: name one, as in judge.py:{function}.")
    return found


def _called(function: Callable[..., Any], name: str, *given: str | Sequence[str]) -> Any:
    try:
        return function(*given)
    except Exception as error:  # of any kind: it is somebody else's code
        raise ModelError(f"{name} failed on {given[0]!r:.60} ({type(error).__name__}: {error}): mend it.") from error
