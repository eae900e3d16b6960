"""A trained model as a folder that transformers, peft and servers read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from llm_bridge.lm import base
from llm_bridge.style import TextError, style


def export(model: Any, tokenizer: Any, folder: Path, *, dtype: torch.dtype | None = None, merged: bool = False) -> None:
    """Write safetensors, configuration, tokenizer with its chat template, and how to generate; nothing is pickled.

    A model with an adapter writes the adapter alone (the base model stays where it was), or, merged, one model of both,
    added up in float32. dtype: that of the written weights, as they are by default. Raises ValueError for a folder
    that holds something.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")
    config = getattr(base(model), "generation_config", None)  # a classifier has none
    if config is not None and (stops := _stops(config, tokenizer)):
        config.eos_token_id, config.pad_token_id = stops, tokenizer.pad_token_id
    if merged:
        if not hasattr(model, "merge_and_unload"):
            raise ValueError(f"{type(model).__name__} has no adapter to merge; leave merged out")
        was = base(model).dtype
        model = copy.deepcopy(model).float().merge_and_unload().to(dtype or was)
    elif dtype is not None:
        model = copy.deepcopy(model).to(dtype)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _stops(config: Any, tokenizer: Any) -> list[int]:
    """All that may end an answer: what did before, the tokenizer's own, and what was learned to end one, its template's
    end of turn. Without that one generation would run on into a next turn."""
    had = config.eos_token_id
    before = had if isinstance(had, list) else [had]
    try:
        learned = style(tokenizer).stop
    except TextError:  # a template that nothing was learned in
        learned = None
    return sorted({id for id in (*before, tokenizer.eos_token_id, learned) if id is not None})
