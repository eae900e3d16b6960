"""A server that samples, by a real model in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from llm_bridge.external import LogProbs
from llm_bridge.law import Law
from llm_bridge.lm import LM
from llm_bridge.sampler import Sampler
from tests.llm_bridge.scripted import Reply, Script

Choice = dict[str, Any]


def modelled(net: Any, kind: LogProbs, change: Callable[[Choice], Choice] = lambda choice: choice) -> Script:
    """Completions by `net`, whose log-probabilities are of that kind; `change` is what is wrong with a reply."""
    lock = threading.Lock()

    def script(number: int, body: dict[str, Any]) -> Reply:
        law = Law(body["temperature"], max(0, body["top_k"]), body["top_p"])
        longest, stop = body["max_tokens"], [] if body.get("ignore_eos") else body["stop_token_ids"]
        with lock:
            size = len(body["prompt"]) + longest
            sampler = Sampler(LM(net, law=law), slots=1, capacity=size, longest=longest, stop=stop)
            drawn = sampler([body["prompt"]], 1, np.random.default_rng(body["seed"]))
            shown = {"model": Law(), "tempered": Law(law.temperature)}.get(kind, law)
            said = LM(net, law=shown).log_prob(drawn).detach()[0, 0]
        ids = drawn.act[0, 0][drawn.mask[0, 0]].tolist()
        choice = {
            "index": 0,
            "text": " ".join(f"w{i}" for i in ids),
            "finish_reason": "stop" if ids[-1] in stop else "length",
            "token_ids": ids,
            "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": said[: len(ids)].tolist()} if "logprobs" in body else None,
        }
        return Reply({"id": "cmpl-1", "object": "text_completion", "model": "tiny", "choices": [change(choice)]})

    return script
