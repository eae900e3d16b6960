"""transformers' generate() on prompts of token ids: seconds, in a process of its own.

    python hf_generate.py MODEL PROMPTS.jsonl K LENGTH CACHE

CACHE: dynamic | static. Every answer has LENGTH tokens. The last line it prints is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig


def main(model: str, data: str, k: int, length: int, cache: str) -> dict[str, Any]:
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16 if gpu else torch.float32).to(device).eval()
    prompts = [json.loads(line)["prompt"] for line in Path(data).read_text().splitlines() for _ in range(k)]
    wide = max(map(len, prompts))
    ids = torch.tensor([[0] * (wide - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (wide - len(p)) + [1] * len(p) for p in prompts], device=device)
    config = GenerationConfig(
        do_sample=True,
        top_k=0,
        max_new_tokens=length,
        min_new_tokens=length,
        pad_token_id=0,
        eos_token_id=1,
        **({"cache_implementation": "static"} if cache == "static" else {}),
    )
    seconds = []
    for _ in range(2):
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        found = lm.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        if gpu:
            torch.cuda.synchronize()
        seconds.append(round(time.perf_counter() - start, 3))
        assert found.shape == (len(prompts), wide + length), found.shape
    return {"transformers": transformers.__version__, "seconds": seconds, "answers": len(prompts), "tokens": length}


if __name__ == "__main__":
    name, data, k, length, cache = sys.argv[1:]
    with torch.inference_mode():
        print(json.dumps(main(name, data, int(k), int(length), cache)))
