"""trl's GRPO without a paged engine: seconds of each step, of which sampling, in a process of its own.

    python trl_grpo.py MODEL PROMPTS.jsonl K LENGTH BATCH STEPS

Every answer has LENGTH tokens: a random model ends none. The last line it prints is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

begun = time.perf_counter()


class Clock(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.at.append(time.perf_counter())


class Timed(GRPOTrainer):  # type: ignore[misc]
    sampling: list[float]

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        found = super()._generate_single_turn(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.sampling.append(time.perf_counter() - start)
        return found


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The share of even tokens: anything that is cheap and differs."""
    return [sum(token % 2 == 0 for token in ids) / max(len(ids), 1) for ids in completion_ids]


def main(model: str, data: str, k: int, length: int, batch: int, steps: int) -> dict[str, Any]:
    prompts = [json.loads(line)["prompt"] for line in Path(data).read_text().splitlines()]
    vocabulary = AutoConfig.from_pretrained(model).vocab_size
    words = {"<pad>": 0, "<eos>": 1} | {f"t{i}": i for i in range(2, vocabulary)}
    inner = Tokenizer(models.WordLevel(words, "<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    gpu = torch.cuda.is_available()
    args = GRPOConfig(
        output_dir="/tmp/trl-grpo",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=len(prompts) * k // batch,
        num_generations=k,
        max_completion_length=length,
        max_steps=steps,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        beta=0.0,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        bf16=gpu,
        use_cpu=not gpu,
        seed=0,
        generation_kwargs={"min_new_tokens": length},
        shuffle_dataset=False,
    )
    clock = Clock()
    Timed.sampling = []
    trainer = Timed(
        model=model,
        reward_funcs=reward,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": [" ".join(f"t{i}" for i in p) for p in prompts] * steps}),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    return {
        "trl": trl.__version__,
        "seconds": np.diff(clock.at).round(3).tolist(),
        "sampling": [round(x, 3) for x in Timed.sampling],
        "answers": len(prompts) * k,
        "memory": torch.cuda.max_memory_allocated() / 2**30 if gpu else 0.0,
    }


if __name__ == "__main__":
    name, data, *numbers = sys.argv[1:]
    print(json.dumps(main(name, data, *map(int, numbers))))
