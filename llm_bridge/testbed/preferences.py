"""Preferences about what a model says to the questions that are learned from, as Feedback."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from llm_bridge.testbed import tutor
from llm_bridge.testbed.enumeration import Model
from llm_bridge.testbed.sampling import sample


def preferences(
    model: Model,
    numbers: Tensor,
    rng: np.random.Generator,
    *,
    k: int = 2,
    temperature: float = 0.5,
    flips: float = 0.0,
) -> Feedback:
    """k answers of the model to each question about numbers [Q,2], put in order by gold.

    The order is that of Plackett and Luce with utilities gold / temperature, which for two answers is Bradley and
    Terry's; temperature 0 is without error, equals by chance. With probability `flips` it is then turned round. Two
    answers are a comparison, [1,0] or [0,1]; more are a ranking, the target the share of the others that each beats.
    Questions whose answers are all the same tell nothing and are left out. Raises ValueError for settings out of range,
    or when no question is left.

    obs: prompt int64 [B,1,P] and prompt_mask bool [B,1,P]; act int64 [B,k,T], 0 on padding; log_prob under the model.
    """
    if k < 2 or not (0 <= temperature < math.inf and 0 <= flips <= 1):
        raise ValueError(
            f"k {k}, temperature {temperature}, flips {flips}; give k of at least 2, temperature >= 0, flips in [0,1]"
        )
    prompts = tutor.prompts(numbers)
    act, mask, log_prob = sample(model, prompts, k, rng)
    kept = (act != act[:, :1]).flatten(1).any(1)
    if not kept.any():
        raise ValueError(f"all {k} answers are the same to each of {len(numbers)} questions; ask more")
    prompts, act, mask, log_prob = (x[kept] for x in (prompts, act, mask, log_prob))
    gold = tutor.marks(prompts[:, None], act, mask).gold.numpy()
    luck = rng.gumbel(size=gold.shape)
    # Highest utility + Gumbel noise first is a draw from Plackett and Luce (Yellott 1977).
    worst_first = np.lexsort((luck, gold)) if temperature == 0 else np.argsort(gold / temperature + luck)
    beats = np.argsort(worst_first) / (k - 1)
    target = np.where(rng.random((len(gold), 1)) < flips, 1 - beats, beats)
    rows = len(gold)
    return Feedback(
        Segments(
            {"prompt": prompts[:, None], "prompt_mask": torch.ones_like(prompts[:, None]).bool()}, act, mask, log_prob
        ),
        torch.from_numpy(target).float(),
        torch.ones(rows),
        torch.zeros(rows, dtype=torch.int64),
        torch.ones(rows, dtype=torch.bool),
        "compare" if k == 2 else "rank",
    )
