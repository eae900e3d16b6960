"""trl's DPO, step by step: what each batch held and what its loss was, in float32 on a CPU. Run by
tests/llm_bridge/test_trl.py, in trl's own environment.

    python trl_trajectory.py MODEL PAIRS.jsonl STEPS

The last line it prints is JSON: [{"ids": [2B,T], "answer": [2B,T], "mask": [2B,T], "loss": x}], chosen rows first.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig
from trl_dpo import Tokens, tokenizer


class Watched(Tokens):
    """Writes down what it is given."""

    seen: list[dict[str, Any]]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        batch = {
            "ids": inputs["input_ids"].tolist(),
            "answer": inputs["completion_mask"].tolist(),
            "mask": inputs["attention_mask"].tolist(),
        }
        found = super().compute_loss(model, inputs, *args, **kwargs)
        self.seen.append({**batch, "loss": float(found[0] if isinstance(found, tuple) else found)})
        return found


def main(folder: str, data: str, steps: int) -> list[dict[str, Any]]:
    with open(data) as file:
        rows = [json.loads(line) for line in file]
    args = DPOConfig(
        output_dir="/tmp/trl-trajectory",
        per_device_train_batch_size=8,
        max_steps=steps,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        beta=0.1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        seed=0,
    )
    Watched.seen = []
    Watched(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=args,
        train_dataset=Dataset.from_dict({f"{name}_ids": [row[name] for row in rows] for name in rows[0]}),
        processing_class=tokenizer(),
    ).train()
    return Watched.seen


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
