"""The test-bed's gold as a judge of pairs: exact, or as unsure as told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit
from transformers import PreTrainedTokenizerFast

from llm_bridge.messages import transcript
from llm_bridge.testbed import tutor
from llm_bridge.verdicts import Asked, Pairwise, Verdicts, check_pairs, symmetric


def by_gold(*, temperature: float = 0.0, lapse: float = 0.0) -> Pairwise:
    """P(a is better) = (1 - lapse) sigmoid((gold_a - gold_b) / temperature) + lapse / 2; temperature 0 always takes the
    better, and equal ones tie. Prompts and answers are the tutor's words. A prompt that is no question of the tutor has
    no verdict. Raises ValueError for settings out of range."""
    if not (0 <= temperature < math.inf and 0 <= lapse <= 1):
        raise ValueError(f"temperature is {temperature}, lapse {lapse}; give at least 0, and a share in [0,1]")

    def judge(prompts: Sequence[Asked], a: Sequence[str], b: Sequence[str]) -> Verdicts:
        check_pairs(prompts, a, b)
        words = tutor.tokenizer()
        gold = np.array(
            [
                [_gold(words, prompt if isinstance(prompt, str) else transcript(prompt), answer) for answer in pair]
                for prompt, *pair in zip(prompts, a, b, strict=True)
            ]
        ).reshape(-1, 2)
        gap = gold[:, 0] - gold[:, 1]
        sure = expit(gap / temperature) if temperature else 0.5 * (1 + np.sign(gap))
        p = (1 - lapse) * sure + lapse / 2
        return symmetric(p, [f"gold {x:g} and {y:g}" for x, y in gold], "the prompt is no question of the tutor")

    return judge


def _gold(words: PreTrainedTokenizerFast, prompt: str, answer: str) -> float:
    asked = torch.tensor([words(prompt)["input_ids"]])
    said = torch.tensor([[*words(answer, add_special_tokens=False)["input_ids"], tutor.EOS]])
    try:
        return float(tutor.marks(asked, said, torch.ones_like(said).bool()).gold)
    except ValueError:
        return math.nan
