"""`rapport lm sample`: a model's answers, printed or as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embodied import atomic
from rapport.console import say
from rapport.lm.data import prompts_of
from rapport.lm.judges import judge_of, server_of
from rapport.lm.models import ModelError, limits_of, load, memory, words_of
from rapport.lm.speaking import Speaker, own, room, room_of, served
from rapport.run import RunError

if TYPE_CHECKING:
    from rapport.lm.verb import Sample


@torch.no_grad()
def command(options: Sample) -> int:
    from llm_bridge.law import Law
    from llm_bridge.messages import conversation, transcript

    if min(options.k, options.limit) < 1 or (options.best_of and options.k < 2):
        raise ModelError(
            f"--k {options.k}, --limit {options.limit}: give at least 1, and with --best-of at least 2 answers."
        )
    if options.out is not None and options.out.exists():
        raise RunError(f"{options.out} is there already: give another name, or remove it.")
    law = Law(options.temperature, options.top_k, options.top_p)
    asked = [conversation(text) for text in options.ask]
    if options.prompts is not None:
        asked += prompts_of(options.prompts, held_out=True)
    if not asked:
        raise ModelError("Nothing is asked: give --prompts FILE or --ask TEXT.")
    asked = asked[: options.limit]
    if options.server is None:
        loaded = load(options)
        say(f"{loaded.says()}.")
        lm = loaded.lm(options.row, law)
        tokenizer, most, size, draw = loaded.tokenizer, room(loaded.model), lm.row, own(lm, len(asked) * options.k)
    else:
        tokenizer, config = words_of(options)
        # What is printed needs no log-probabilities, so any will do.
        most, size, draw = room_of(config), 0, served(server_of(options.server), law, "unknown")
    speaker = Speaker(draw, tokenizer, asked, room=most, **limits_of(options))
    with memory(size, "sampling"):
        segments = speaker(range(len(asked)), options.k, np.random.default_rng(options.seed))
    rows: list[dict[str, Any]] = [{"prompt": transcript(p), "answers": words} for p, words in speaker.texts(segments)]
    if options.best_of is not None:
        worth = judge_of(options.best_of, options, tokenizer, speaker.texts)(segments)
        for row, of in zip(rows, worth.tolist(), strict=True):
            row |= {"answers": [row["answers"][int(np.argmax(of))]], "reward": max(of)}
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        atomic.write(options.out, data.encode(), replace=False)
        print(f"{len(rows)} prompts and {sum(len(r['answers']) for r in rows)} answers in {options.out}")
        return 0
    for row in rows:
        if options.json:
            print(json.dumps(row, ensure_ascii=False))
        else:
            print(f"> {row['prompt']}", *row["answers"], sep="\n  ")
    return 0
