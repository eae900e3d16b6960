"""Attention of packed rows in unmodified transformers models: blocks on a GPU, a dense mask elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from llm_bridge.packing import Pack, block_mask, dense_mask

NAME = "rapport"
_flex = torch.compile(flex_attention, dynamic=True)


def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
    """As transformers calls it: FlexAttention where the mask is one of blocks, otherwise PyTorch's own, or ours where
    scores are capped. Raises ValueError for attention with sinks, and for capped scores under a mask of blocks."""
    if kwargs.get("s_aux") is not None:
        raise ValueError("this model's attention has sinks, which are not here; take a model without (not GPT-OSS)")
    if isinstance(attention_mask, Tensor) or attention_mask is None:
        if kwargs.get("softcap") is not None:
            return _capped(query, key, value, attention_mask, kwargs["scaling"], kwargs["softcap"]), None
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if kwargs.get("softcap") is not None:
        raise ValueError("this model caps its attention scores, which blocks do not do here; run it on CPU")
    query, key = query.to(value.dtype), key.to(value.dtype)  # turned in float32 under autocast, which knows no blocks
    out = _flex(query, key, value, block_mask=attention_mask, scale=kwargs.get("scaling"), enable_gqa=True)
    return out.transpose(1, 2).contiguous(), None


def _capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, cap: float) -> Tensor:
    """[B,T,H,D] of query [B,H,T,D], key and value [B,H/n,S,D]: scores are cap tanh(scores / cap) (Gemma 2, arXiv
    2408.00118, 2), where the mask is true. Without dropout."""
    times = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    scores = cap * torch.tanh(query @ key.transpose(2, 3) * scale / cap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(
            scores.shape[-1] - scores.shape[-2]
        )
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    return (scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value).transpose(1, 2).contiguous()


def packed(model: Any) -> None:
    """Have the model attend so from now on; everything else that is done with it goes on as before.

    Raises ValueError for a model in which one token reaches others by other ways than attention over a whole sequence.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if other := kinds - {"full_attention", "sliding_attention"}:
        raise ValueError(
            f"{type(model).__name__} has layers of {', '.join(sorted(other))}, in which answers in one row would see "
            "each other; take a model all of whose layers attend"
        )
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    if model.config._attn_implementation != NAME:
        with _unwarned():
            model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME or getattr(model.config, "alibi", False):
        raise ValueError(
            f"{type(model).__name__} attends in a way of its own, to which answers in one row are not apart; take a "
            "model that takes transformers' attention interface, such as Llama, Qwen, Mistral or GPT-2"
        )


def mask_of(pack: Pack, model: Any) -> Any:
    """Who sees whom, in the form that the model takes.

    Raises ValueError where a sequence is longer than a window that the model's layers look back.
    """
    check_window(model, int(pack.position.max()) + 1)
    return block_mask(pack) if pack.ids.device.type == "cuda" else dense_mask(pack)


def window_of(config: Any) -> int | None:
    """How many tokens layers look back, if not all."""
    window = getattr(config, "sliding_window", None)
    return int(window) if window is not None and getattr(config, "use_sliding_window", True) else None


def check_window(model: Any, longest: int, what: str = "a prompt with its answer has") -> None:
    """Raises ValueError where so many tokens are more than that."""
    window = window_of(model.config)
    if window is not None and longest > window:
        raise ValueError(
            f"{what} {longest} tokens, more than the {window} that {type(model).__name__} looks back; give at most "
            f"{window}"
        )


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """transformers warns of a model that stays as it was, which is refused here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
