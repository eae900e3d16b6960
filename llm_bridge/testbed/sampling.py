"""Answers drawn from a model, by transformers' own cache and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm_bridge.testbed import tutor
from llm_bridge.testbed.enumeration import Model

MAX_TOKENS = tutor.LONGEST + 2  # an answer that goes on after that is no answer
ROWS = 1024  # at a time, to bound memory


@torch.no_grad()
def sample(
    model: Model, prompts: Tensor, k: int, rng: np.random.Generator, *, greedy: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """k answers to each prompt: act int64 [B,k,T], 0 after <eos>; mask bool; log_prob under the model, 0 after <eos>.

    prompts int64 [B,P] without padding. Answers are cut after MAX_TOKENS. The same rng gives the same answers. greedy:
    the likeliest token each time. Raises ValueError for no answer, or prompts with padding.
    """
    if k < 1 or (prompts == tutor.PAD).any():
        raise ValueError(f"k is {k}, and prompts may hold no padding; give k of at least 1 and prompts of one length")
    gen = torch.Generator().manual_seed(int(rng.integers(2**63)))
    model.eval()
    parts = [_draw(model, part, k, gen, greedy) for part in torch.split(prompts, max(1, ROWS // k))]
    act, mask, log_prob = (torch.cat(tensors).reshape(-1, k, MAX_TOKENS) for tensors in zip(*parts, strict=True))
    return act, mask, log_prob


def _draw(model: Model, prompts: Tensor, k: int, gen: torch.Generator, greedy: bool) -> tuple[Tensor, Tensor, Tensor]:
    act = torch.full((len(prompts) * k, MAX_TOKENS), tutor.PAD)
    mask, log_prob = torch.zeros(act.shape).bool(), torch.zeros(act.shape)
    out = model(input_ids=prompts, use_cache=True)  # the prompt once, however many answers
    out.past_key_values.batch_repeat_interleave(k)
    logits = out.logits[:, -1].repeat_interleave(k, 0)
    going = torch.arange(len(act))  # rows whose answer has not ended
    for t in range(MAX_TOKENS):
        law = logits.log_softmax(-1)
        token = law.argmax(-1) if greedy else torch.multinomial(law.exp(), 1, generator=gen)[:, 0]
        act[going, t], mask[going, t], log_prob[going, t] = token, True, law.gather(-1, token[:, None])[:, 0]
        more = token != tutor.EOS
        going = going[more]
        if not len(going) or t == MAX_TOKENS - 1:
            break
        out.past_key_values.batch_select_indices(more.nonzero()[:, 0])
        out = model(input_ids=token[more, None], past_key_values=out.past_key_values, use_cache=True)
        logits = out.logits[:, -1]
    return act, mask, log_prob
