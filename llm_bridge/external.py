"""A server's model as a sampler: answers of vLLM, SGLang or their like, with what each token was drawn with, if known.

sample = external(Server("http://localhost:8000/v1", "my-model"), longest=512, stop=[eos], law=Law(0.7, 0, 0.9),
                  log_probs="processed")               # vllm serve ... --logprobs-mode processed_logprobs
segments = sample(prompts, 4, rng)                     # as llm_bridge.sampler.Sampler
ratios(LM(model, law=Law(0.7, 0, 0.9)), segments)      # near 1, or the server has other weights or another law

Servers are asked for token ids, never for text alone: words do not always become the tokens again that they came from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from embodied.feedback import Segments
from llm_bridge.endpoint import EndpointError, Server, call
from llm_bridge.law import Law
from llm_bridge.lm import LM
from llm_bridge.text import tokens

LogProbs = Literal["model", "tempered", "processed", "unknown"]
"""Which law a server's log-probabilities are of: the model's own, whatever it was told to sample by (vLLM's default,
raw_logprobs; llama.cpp); with the temperature but without top-k and top-p (SGLang's default); the one that it drew by
(vLLM with --logprobs-mode processed_logprobs); or nobody knows."""
ALMOST = 1e-3  # nats that rounding may make of a certainty
Sampled = tuple[list[int], list[float]]

Sample = Callable[[Sequence[Sequence[int]], int, np.random.Generator], Segments]


def knows(log_probs: LogProbs, law: Law) -> bool:
    """Whether log-probabilities of that kind are those of what was drawn by the law."""
    match log_probs:
        case "processed":
            return True
        case "tempered":
            return law.whole
        case "model":
            return law == Law()
        case "unknown":
            return False
        case other:
            raise EndpointError(f"log_probs is {other!r}; give model, tempered, processed or unknown")


def external(
    server: Server, *, longest: int, stop: Collection[int], law: Law | None = None, log_probs: LogProbs = "model"
) -> Sample:
    """Draws k answers of at most `longest` tokens to each prompt (ids), [B,k,T], by the law, each ended by one of the
    `stop` tokens, which belongs to it. Every answer is a request with a seed of its own.

    log_prob is what the server says where that is the law it drew by (see LogProbs), and NaN, unknown, elsewhere, on
    which what takes ratios stops. `processed` under a law of one's own is tried once, before the first answers: of a
    single token in play it must be 0.

    Raises EndpointError as `llm_bridge.endpoint.call` does, when a call failed, and for replies without token ids,
    about another prompt, ended by a stop that is not among the answer's tokens, or with other numbers of tokens and
    log-probabilities, or impossible ones.
    """
    drawn_by, ends = law or Law(), sorted(stop)
    if longest < 1:
        raise EndpointError(f"longest is {longest}; give at least 1 token")
    known = knows(log_probs, drawn_by)
    tried = not known or log_probs != "processed" or drawn_by == Law()

    def sample(prompts: Sequence[Sequence[int]], k: int, rng: np.random.Generator) -> Segments:
        nonlocal tried
        if not prompts or k < 1 or not all(prompts):
            raise ValueError(f"{len(prompts)} prompts and k is {k}; give at least 1 of each, of at least one token")
        if not tried:
            _try(server, prompts[0], drawn_by)
            tried = True
        seeds = rng.integers(2**31, size=len(prompts) * k).tolist()
        bodies = [
            _body(server, list(prompts[n // k]), drawn_by, longest, seed, ends, known) for n, seed in enumerate(seeds)
        ]
        found: dict[int, Sampled] = {}

        def heard(n: int, reply: str) -> None:
            found[n] = _read(json.loads(reply), list(prompts[n // k]), ends, known)

        if failed := call(server, "text", bodies, heard, doing="sampling"):
            first = min(failed)
            raise EndpointError(
                f"{len(failed)} of {len(bodies)} answers are missing, first answer {first % k} to prompt {first // k}: "
                f"{failed[first]}"
            )
        rows = [[found[b * k + i] for i in range(k)] for b in range(len(prompts))]
        segments = tokens(
            prompts, [[ids for ids, _ in row] for row in rows], [[said for _, said in row] for row in rows]
        )
        # Padding has log-probability 0 as everywhere; NaN would spread.
        return Segments(segments.obs, segments.act, segments.mask, torch.where(segments.mask, segments.log_prob, 0.0))

    return sample


@dataclass(frozen=True)
class Ratios:
    """exp(log_prob of a policy - log_prob of who acted) of T tokens: the mean, and the farthest from 1."""

    tokens: int
    mean: float
    farthest: float

    def __str__(self) -> str:
        return f"ratio {self.mean:.5f} on average, {self.farthest:.5f} at worst, of {self.tokens} tokens"


@torch.no_grad()
def ratios(lm: LM, segments: Segments) -> Ratios:
    """Before the first update they are 1, but for rounding. Raises ValueError where log_prob is not known."""
    known = segments.log_prob[segments.mask]
    if not torch.isfinite(known).all():
        raise ValueError("log_prob is not known: the server's is of another law than it drew by; see log_probs")
    found = torch.cat([lm.log_prob(segments[part])[segments.mask[part]].cpu() for part in lm.parts(segments)])
    ratio = (found.double() - known.double()).exp()
    return Ratios(len(ratio), ratio.mean().item(), ratio[(ratio - 1).abs().argmax()].item())


def _body(
    server: Server, prompt: list[int], law: Law, longest: int, seed: int, stop: list[int], known: bool
) -> dict[str, Any]:
    """Everything that shapes the law is written out: a server takes what is missing from the model's own
    generation_config, which may cut tokens off silently."""
    return {
        "model": server.model,
        "prompt": prompt,
        "max_tokens": longest,
        "seed": seed,
        "temperature": law.temperature,
        "top_p": law.top_p,
        "top_k": law.top_k or -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": stop,
        "skip_special_tokens": False,
        "return_token_ids": True,
    } | ({"logprobs": 1} if known else {})


def _read(reply: dict[str, Any], prompt: list[int], stop: list[int], known: bool) -> Sampled:
    choice = reply["choices"][0]
    ids = choice.get("token_ids")
    if not (isinstance(ids, list) and ids and all(type(id) is int and id >= 0 for id in ids)):
        raise EndpointError(
            f"the server's reply has token_ids {str(ids)[:60]}; take one that gives them for return_token_ids, as vLLM "
            "and SGLang do"
        )
    read = choice.get("prompt_token_ids", reply.get("prompt_token_ids"))
    if read is not None and read != prompt:
        raise EndpointError(f"the server read a prompt of {len(read)} tokens where {len(prompt)} others were sent")
    if choice.get("finish_reason") == "stop" and ids[-1] not in stop:
        raise EndpointError(
            f"an answer was ended after token {ids[-1]} by a stop that is not among its tokens; give every token that "
            f"ends an answer as stop, which is {stop}"
        )
    if not known:
        return ids, [math.nan] * len(ids)
    said = (choice.get("logprobs") or {}).get("token_logprobs")
    if not isinstance(said, list) or len(said) != len(ids):
        count = len(said) if isinstance(said, list) else "no"
        raise EndpointError(
            f"{len(ids)} tokens came with {count} log-probabilities; have the server give one each, or take "
            'log_probs="unknown"'
        )
    # -9999 is how some servers write minus infinity: a token that could not be drawn.
    if wrong := [x for x in said if not (isinstance(x, int | float) and -1000 < x <= ALMOST)]:
        raise EndpointError(f"a token that was drawn has log-probability {wrong[0]}; the server's are of another law")
    return ids, [min(0.0, float(x)) for x in said]


def _try(server: Server, prompt: Sequence[int], law: Law) -> None:
    """With one token in play its log-probability under the law is 0; under the model's own it is not."""
    body = _body(server, list(prompt), Law(law.temperature, 1), 8, 0, [], True) | {"ignore_eos": True}
    said: list[float] = []
    if failed := call(server, "text", [body], lambda _, reply: said.extend(_numbers(reply))):
        raise EndpointError(f"the trial of one token in play failed: {failed[0]}")
    if not said or min(said) < -ALMOST:
        raise EndpointError(
            f"the server says {min(said, default=math.nan):.4g} of a token that alone was in play, not 0: its "
            "log-probabilities are not those it draws by. Start vLLM with --logprobs-mode processed_logprobs, or take "
            'log_probs="model"'
        )


def _numbers(reply: str) -> list[float]:
    return [float(x) for x in (json.loads(reply)["choices"][0].get("logprobs") or {}).get("token_logprobs") or []]
