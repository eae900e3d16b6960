"""Judges that need no server: a causal model by the probability of a letter, a reward model; and any judge of pairs as
what `embodied.online` asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Segments
from embodied.online import Prefer
from llm_bridge.attention import window_of
from llm_bridge.judge import LEAST, RUBRIC, question
from llm_bridge.law import Law
from llm_bridge.lm import LM, base
from llm_bridge.messages import Prompt
from llm_bridge.reward import RewardLM
from llm_bridge.style import style
from llm_bridge.text import Encoded, NothingLeft, answer_text, encode
from llm_bridge.verdicts import Asked, Pairwise, Verdicts, as_prompt, check_pairs, symmetric

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONG = 1 << 30  # nothing is truncated: half a question would get a verdict all the same
_SPECIAL = "the texts hold a special token of the judge's tokenizer"
_FEW = "A and B together have less than half of the probability"


def letters(lm: LM, tokenizer: PreTrainedTokenizerBase, *, rubric: str = RUBRIC, plain: bool = False) -> Pairwise:
    """A causal model that is asked for A or B, as `llm_bridge.judge` asks a server: P(A) / (P(A) + P(B)) of what it
    would say next, and no verdict where both together have less than half, or where a question is longer than the
    model was made for.

    Each question is read once for its two letters, several questions in a row of `lm.row` tokens. Raises ValueError for
    a model with a law that is not its own, and where the tokenizer writes both letters alike.
    """
    if lm.law != Law():
        raise ValueError(f"the judge's law is {lm.law}; give LM(model), whose log-probabilities are the model's own")

    config = base(lm.model).config
    most = min(int(getattr(config, "max_position_embeddings", None) or LONG), window_of(config) or LONG)

    def judge(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
        check_pairs(prompts, a, b)
        asked = [
            question(as_prompt(prompt), *order, rubric)
            for prompt, x, y in zip(prompts, a, b, strict=True)
            for order in ((x, y), (y, x))
        ]
        found = _encoded(tokenizer, asked, [["A", "B"]] * len(asked), plain)
        chance = np.full((len(asked), 2), np.nan)
        why = np.full(len(asked), _SPECIAL, object)
        if found is not None:
            segments = _without_stop(tokenizer, found.segments, plain)
            if torch.equal(segments.act[0, 0], segments.act[0, 1]):
                raise ValueError("the tokenizer writes A and B alike, as if unknown; take a model that knows letters")
            fits = (_prompts(segments)[1].sum(-1) < most).cpu()
            kept = np.array(found.kept)
            why[kept[~fits.numpy()]] = f"the question is longer than the {most} tokens that the judge takes"
            if fits.any():
                segments, kept = segments[fits.nonzero()[:, 0]], kept[fits.numpy()]
                log_prob = _each(lm, lm.parts(segments), segments, lambda part: lm.log_prob(part).double().sum(-1))
                chance[kept], why[kept] = log_prob.exp().numpy(), _FEW
        both = chance.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            p = np.where(both >= LEAST, chance[:, 0] / both, np.nan)
        shown = p.reshape(-1, 2)
        reasons = [
            next((reason for x, reason in zip(pair, its, strict=True) if np.isnan(x)), "")
            for pair, its in zip(shown, why.reshape(-1, 2), strict=True)
        ]
        raw = tuple(tuple(f"P(A) {x:.6g}, P(B) {y:.6g}" for x, y in pair) for pair in chance.reshape(-1, 2, 2))
        return Verdicts(shown, np.zeros(shown.shape, np.bool_), tuple(reasons), raw)

    return judge


def by_reward(reward: RewardLM, tokenizer: PreTrainedTokenizerBase, *, plain: bool = False) -> Pairwise:
    """A reward model: P(a is better) = sigmoid(r_a - r_b) (Bradley and Terry 1952). It sees no order."""

    def judge(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
        check_pairs(prompts, a, b)
        worth = np.full((len(prompts), 2), np.nan)
        found = _encoded(tokenizer, list(map(as_prompt, prompts)), list(zip(a, b, strict=True)), plain)
        if found is not None:
            scores = _each(reward, reward.parts(found.segments), found.segments, lambda part: reward(part).double())
            worth[list(found.kept)] = scores.numpy()
        p = torch.from_numpy(worth[:, 0] - worth[:, 1]).sigmoid().numpy()
        return symmetric(p, [f"rewards {x:.6g} and {y:.6g}" for x, y in worth], _SPECIAL)

    return judge


def prefer(
    judge: Pairwise,
    tokenizer: PreTrainedTokenizerBase,
    *,
    read: Callable[[list[int]], Asked] | None = None,
    plain: bool = False,
    invalid: Literal["stop", "tie"] = "stop",
    heard: Callable[[Verdicts, Sequence[tuple[int, int, int]]], object] = lambda verdicts, asked: None,
) -> Prefer:
    """A judge of pairs as what `embodied.online.win_rate` takes: of K answers to each of B prompts, [B,K,K].

    All pairs of a row are judged, answers of the same words are equal without. read: a prompt's ids -> what the judge
    is shown; by default their words, without special tokens. heard: is given the verdicts, and of which rows and
    alternatives each is. invalid: where there is no verdict, stop, or take the pair for a tie. Raises ValueError, with
    what the first such pair lacks.
    """

    def said(ids: list[int]) -> Asked:
        return str(tokenizer.decode(ids, skip_special_tokens=True)) if read is None else read(ids)

    def chances(segments: Segments) -> Tensor:
        if not isinstance(segments.obs, dict):
            raise TypeError("these segments have no prompt; give what a language model's sampler made")
        rows, k = segments.mask.shape[:2]
        prompts = [ids[mask].tolist() for ids, mask in zip(*_prompts(segments), strict=True)]
        shown = [said(prompt) for prompt in prompts]
        texts = [
            [
                answer_text(tokenizer, act[mask].tolist(), prompt=prompt, plain=plain)
                for act, mask in zip(segments.act[b], segments.mask[b], strict=True)
            ]
            for b, prompt in enumerate(prompts)
        ]
        asked = [(b, i, j) for b in range(rows) for i, j in combinations(range(k), 2) if texts[b][i] != texts[b][j]]
        chance = torch.full((rows, k, k), 0.5)
        if asked:
            first, second = [texts[b][i] for b, i, _ in asked], [texts[b][j] for b, _, j in asked]
            verdicts = judge([shown[b] for b, _, _ in asked], first, second)
            heard(verdicts, asked)
            lost = [n for n, valid in enumerate(verdicts.valid) if not valid]
            if lost and invalid == "stop":
                b, i, j = asked[lost[0]]
                raise ValueError(
                    f"{len(lost)} of {len(asked)} pairs have no verdict, first alternatives {i} and {j} of row {b}: "
                    f"{verdicts.why[lost[0]]}; mend the judge, or take invalid='tie'"
                )
            for (b, i, j), p in zip(asked, np.nan_to_num(verdicts.p_first, nan=0.5).tolist(), strict=True):
                chance[b, i, j], chance[b, j, i] = p, 1 - p
        return chance.to(segments.mask.device)

    return chances


def _prompts(segments: Segments) -> tuple[Tensor, Tensor]:
    assert isinstance(segments.obs, dict)
    return segments.obs["prompt"][:, 0], segments.obs["prompt_mask"][:, 0]


def _encoded(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]], plain: bool
) -> Encoded | None:
    """None where every row had to be left out."""
    try:
        return encode(tokenizer, prompts, answers, max_prompt=LONG, max_answer=LONG, plain=plain) if prompts else None
    except NothingLeft:
        return None


def _without_stop(tokenizer: PreTrainedTokenizerBase, segments: Segments, plain: bool) -> Segments:
    """The answers without the token that ends them, which a letter need not be followed by."""
    if style(tokenizer, plain=plain).stop is None:
        return segments
    last = segments.mask.sum(-1, keepdim=True) - 1
    mask = segments.mask.scatter(-1, last, False)
    return Segments(segments.obs, segments.act * mask, mask, segments.log_prob)


@torch.no_grad()
def _each(module: Any, parts: Sequence[slice], segments: Segments, value: Callable[[Segments], Tensor]) -> Tensor:
    """The values of all rows, a part at a time, by the module as it evaluates."""
    training = module.training
    module.eval()
    try:
        return torch.cat([value(segments[part]).cpu() for part in parts])
    finally:
        module.train(training)
