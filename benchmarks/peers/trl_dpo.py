"""trl's DPO on pairs of token ids: seconds of each optimiser step, in a process of its own.

    python trl_dpo.py MODEL STEPS default:8,tuned:8,grouped:8 PAIRS.jsonl...

A variant and the pairs that go through the model together; the variants are lm.py's. The last line printed is JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import DPOConfig, DPOTrainer

EACH = 64  # pairs of an optimiser step
GROUPED = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}


class Tokens(DPOTrainer):  # type: ignore[misc]
    """Takes what is tokenised already."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class Clock(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.at.append(time.perf_counter())


def tokenizer() -> PreTrainedTokenizerFast:
    """trl wants one, also for what is tokenised already."""
    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, "<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")


def main(model: str, data: str, variant: str, batch: int, steps: int) -> dict[str, Any]:
    begun = time.perf_counter()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    columns: dict[str, list[Any]] = {f"{name}_ids": [row[name] for row in rows] for name in rows[0]}
    tuned = variant != "default"
    if variant == "grouped":
        columns["length"] = [len(r["prompt"]) + max(len(r["chosen"]), len(r["rejected"])) for r in rows]
    gpu = torch.cuda.is_available()
    args = DPOConfig(
        output_dir="/tmp/trl-dpo",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=EACH // batch,
        max_steps=steps,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused" if gpu else "adamw_torch",
        beta=0.1,
        max_length=1536,
        save_strategy="no",
        report_to=[],
        logging_steps=50,
        disable_tqdm=True,
        dataloader_num_workers=4 if gpu else 0,
        bf16=gpu,
        use_cpu=not gpu,
        seed=0,
        **({"gradient_checkpointing": False, "precompute_ref_log_probs": True} if tuned else {}),
        **(GROUPED if variant == "grouped" else {}),
    )
    clock = Clock()
    trainer = Tokens(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer(),
        callbacks=[clock],
    )
    ready = time.perf_counter()
    trainer.train()
    seconds = np.diff(clock.at)
    return {
        "trl": trl.__version__,
        "seconds": seconds.round(4).tolist(),
        "pairs": EACH,
        "before": round(clock.at[0] - begun, 1),  # with the reference's numbers, where they are made beforehand
        "made": round(ready - begun, 1),
        "memory": torch.cuda.max_memory_allocated() / 2**30 if gpu else 0.0,
    }


if __name__ == "__main__":
    name, steps, variants, *files = sys.argv[1:]
    found = {}
    for variant in variants.split(","):
        kind, batch = variant.split(":")
        for file in files:
            found[f"{Path(file).stem}, trl {kind}, {batch} at once"] = main(name, file, kind, int(batch), int(steps))
            print(list(found)[-1], list(found.values())[-1], file=sys.stderr, flush=True)
    print(json.dumps(found))
