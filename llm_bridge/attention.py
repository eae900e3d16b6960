"""Attention of packed rows in unmodified transformers models: blocks on a GPU, a dense mask elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from llm_bridge.packing import Pack, block_mask, dense_mask

NAME = "rapport"
_flex = torch.compile(flex_attention, dynamic=True)


def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
    """As transformers calls it: FlexAttention where the mask is one of blocks, otherwise PyTorch's own."""
    if isinstance(mask, Tensor) or mask is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    if kwargs.get("softcap") is not None:
        raise ValueError("this model caps its attention scores, which blocks do not do here; run it on CPU")
    query, key = query.to(value.dtype), key.to(value.dtype)  # turned in float32 under autocast, which knows no blocks
    out = _flex(query, key, value, block_mask=mask, scale=kwargs.get("scaling"), enable_gqa=True)
    return out.transpose(1, 2).contiguous(), None


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
        model.set_attn_implementation(NAME)


def mask_of(pack: Pack, model: Any) -> Any:
    """Who sees whom, in the form that the model takes.

    Raises ValueError where a sequence is longer than a window that the model's layers look back.
    """
    window = getattr(model.config, "sliding_window", None)
    if window is not None and getattr(model.config, "use_sliding_window", True):
        longest = int(pack.position.max()) + 1
        if longest > window:
            raise ValueError(
                f"a prompt with its answer has {longest} tokens, more than the {window} that {type(model).__name__} "
                "looks back; cut texts to that length"
            )
    return block_mask(pack) if pack.ids.device.type == "cuda" else dense_mask(pack)
