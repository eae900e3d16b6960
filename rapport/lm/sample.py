"""`rapport lm sample`: a model's answers, printed or as JSON lines.

So many at a time, each time from a stream of its own: what is told or written goes on where it was stopped, and comes
to the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embodied import atomic
from embodied.remembered import weights_fingerprint
from rapport.console import say
from rapport.lm.data import prompts_of
from rapport.lm.judges import judge_of, server_of
from rapport.lm.models import ModelError, limits_of, load, memory, words_of
from rapport.lm.speaking import Speaker, own, room, room_of, served
from rapport.run import RunError

if TYPE_CHECKING:
    from rapport.lm.verb import Sample

AT_ONCE = 1024  # answers


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
    together = max(1, AT_ONCE // options.k)  # prompts
    if options.server is None:
        loaded = load(options)
        say(f"{loaded.says()}.")
        lm, identity = loaded.lm(options.row, law), weights_fingerprint(loaded.model)
        draw = own(lm, min(together, len(asked)) * options.k)
        tokenizer, most, size = loaded.tokenizer, room(loaded.model), lm.row
    else:
        tokenizer, config = words_of(options)
        # What is printed needs no log-probabilities, so any will do.
        most, size, draw = room_of(config), 0, served(server_of(options.server), law, "unknown")
        identity = options.server
    speaker = Speaker(draw, tokenizer, asked, room=most, **limits_of(options))
    worth = None if options.best_of is None else judge_of(options.best_of, options, tokenizer, speaker.texts)

    def answers(start: int) -> list[dict[str, Any]]:
        which = range(start, min(start + together, len(asked)))
        with memory(size, "sampling"):
            segments = speaker(which, options.k, np.random.default_rng([options.seed, start]))
        rows: list[dict[str, Any]] = [{"prompt": transcript(p), "answers": said} for p, said in speaker.texts(segments)]
        if worth is not None:
            for row, of in zip(rows, worth(segments).tolist(), strict=True):
                row |= {"answers": [row["answers"][int(np.argmax(of))]], "reward": max(of)}
        return rows

    starts = range(0, len(asked), together)
    if options.out is None:
        for start in starts:
            for row in answers(start):
                if options.json:
                    print(json.dumps(row, ensure_ascii=False))
                else:
                    print(f"> {row['prompt']}", *map(str.strip, row["answers"]), sep="\n  ")
        return 0
    # Whatever changes an answer.
    told = {name: str(value) for name, value in asdict(options).items() if name not in ("out", "json", "row")}
    told |= {"identity": identity, "asked": hashlib.sha256(json.dumps(speaker.ids).encode()).hexdigest()}
    written = Written(options.out, told)
    for start in starts[written.done :]:
        written.add(answers(start))
        if len(starts) > 1:
            say(f"{min(start + together, len(asked))} of {len(asked)} prompts are answered")
    rows = written.finish()
    print(f"{len(rows)} prompts and {sum(len(r['answers']) for r in rows)} answers in {options.out}")
    return 0


class Written:
    """Rows that are in a file beside `out` until they are all there; `done` groups of them are from before. The first
    line says what they answer. Raises RunError where that is something else."""

    def __init__(self, out: Path, told: dict[str, str]) -> None:
        self.out, self.part = out, out.with_name(f"{out.name}.part")
        self.groups: list[list[dict[str, Any]]]
        out.parent.mkdir(parents=True, exist_ok=True)
        data = self.part.read_bytes() if self.part.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be torn
        try:
            head, *self.groups = [json.loads(line) for line in whole.splitlines()] or [told]
            other = sorted(name for name in told if head.get(name) != told[name])
        except (ValueError, AttributeError) as error:
            raise RunError(f"{self.part} is damaged ({error}): remove it, and all is asked again.") from error
        if other:
            raise RunError(
                f"{self.part} has answers of another command ({', '.join(other)} differ): give that one, another name "
                "than its --out, or remove the file."
            )
        if whole:
            os.truncate(self.part, len(whole))
        else:
            self.part.write_bytes(_line(told))

    @property
    def done(self) -> int:
        return len(self.groups)

    def add(self, rows: list[dict[str, Any]]) -> None:
        self.groups.append(rows)
        with self.part.open("ab") as file:
            file.write(_line(rows))

    def finish(self) -> list[dict[str, Any]]:
        rows = [row for group in self.groups for row in group]
        atomic.write(self.out, b"".join(map(_line, rows)), replace=False)
        self.part.unlink()
        return rows


def _line(row: Any) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()
