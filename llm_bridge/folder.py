"""A trained model as a folder that transformers, peft and servers read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from llm_bridge.lm import base


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
    if config is not None and tokenizer.eos_token_id is not None:
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    if merged:
        if not hasattr(model, "merge_and_unload"):
            raise ValueError(f"{type(model).__name__} has no adapter to merge; leave merged out")
        was = base(model).dtype
        model = copy.deepcopy(model).float().merge_and_unload().to(dtype or was)
    elif dtype is not None:
        model = copy.deepcopy(model).to(dtype)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
