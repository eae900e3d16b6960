"""Small random models and random texts, to hold what is fast against what is plain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied.feedback import Segments
from llm_bridge.lm import LM
from policies.cpu_torchvision import ensure_torchvision

VOCABULARY = 97


def model(kind: str = "llama", seed: int = 0, **more: Any) -> Any:
    """A model of 3 layers whose answers vary; float32, evaluating."""
    ensure_torchvision()
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = dict(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=True,
        head_dim=8,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(sizes | more))).float().eval()


def texts(rows: int, k: int, prompt: int, answer: int, seed: int = 0) -> Segments:
    """Prompts and answers of random lengths up to these, at least one token each."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, prompt + 1, (rows,), generator=draw)
    answers = torch.randint(1, answer + 1, (rows, k), generator=draw)
    prompt_mask = torch.arange(prompt) < lengths[:, None]
    mask = torch.arange(answer) < answers[..., None]
    ids = torch.randint(1, VOCABULARY, (rows, prompt), generator=draw) * prompt_mask
    act = torch.randint(1, VOCABULARY, (rows, k, answer), generator=draw) * mask
    return Segments(
        {"prompt": ids[:, None], "prompt_mask": prompt_mask[:, None]}, act, mask, torch.full(mask.shape, torch.nan)
    )


def plain(lm: Any, segments: Segments) -> Tensor:
    """log p [B,K,T] of every token by a forward pass of its own text, 0 on padding."""
    assert isinstance(segments.obs, dict)
    net = lm.model if isinstance(lm, LM) else lm
    rows = []
    for b in range(len(segments)):
        prompt = segments.obs["prompt"][b, 0][segments.obs["prompt_mask"][b, 0]]
        for k in range(segments.mask.shape[1]):
            answer = segments.act[b, k][segments.mask[b, k]]
            logits = net(input_ids=torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1]
            found = logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]
            rows.append(torch.nn.functional.pad(found, (0, segments.mask.shape[2] - len(answer))))
    return torch.stack(rows).view(segments.mask.shape)


def tokenizer() -> Any:
    """A word for each token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<pad>": 0} | {f"w{i}": i for i in range(1, VOCABULARY)}, "<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="w5")
