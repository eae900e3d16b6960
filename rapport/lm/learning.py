"""What sft, reward and align do alike: model and data brought together, shown, learned from, written out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from embodied.feedback import Feedback
from embodied.fit import Objective, Split, fit_all
from embodied.remembered import weights_fingerprint
from rapport.console import say
from rapport.lm.data import Fed, Found, feed, find
from rapport.lm.models import Learned, Loaded, ModelError, limits_of, load
from rapport.lm.running import Row, Samples, Work, check, default_out, finish, opened, optimiser, rate_of, run, write
from rapport.lm.speaking import Speaker, own, room
from rapport.lm.together import added, first, share

if TYPE_CHECKING:
    from llm_bridge.records import Record
    from rapport.lm.verb import Align, Reward, Sft

    Options: TypeAlias = Sft | Reward | Align

LOOKED = 256  # rows of each side at most


@dataclass(frozen=True, eq=False)
class Begun:
    """A model and what it learns from, before the first step."""

    loaded: Loaded
    found: Found
    fed: Fed
    rate: float
    identity: str


def begin(
    options: Options, use: Callable[[Sequence[Record]], tuple[list[Record], dict[str, int]]], *, outputs: int = 0
) -> Begun:
    """Loads, reads, and says what was chosen, found, left out and is scored."""
    from llm_bridge.text import shown

    check(options)
    loaded = load(options, lora=options.lora, learns=True, outputs=outputs, checkpointing=options.checkpointing)
    found = find(options.data, split=options.split, store=options.store)
    fed = feed(found, use, loaded.tokenizer, seed=options.seed, **limits_of(options))
    _check_room(fed, loaded.tokenizer, room(loaded.model))
    rate = rate_of(options, loaded)
    say(f"{loaded.says()}, at a rate of {rate:g}.")
    rows = fed.rows()
    say(f"{found.place}: {found.told}. {rows['learned']} rows to learn from, {rows['held_out']} held out.")
    for note in (*loaded.notes, *fed.notes):
        say(f"Note: {note}.")
    say(shown(loaded.tokenizer, fed.learned[0].segments))
    return Begun(loaded, found, fed, rate, weights_fingerprint(loaded.model)[:16])


def _check_room(fed: Fed, tokenizer: Any, most: int) -> None:
    for part in (*fed.learned, *fed.held_out):
        obs: Any = part.segments.obs
        size = obs["prompt_mask"][:, 0].sum(-1) + part.segments.mask.sum(-1).amax(-1)
        if (size > most).any():
            row = int(size.argmax())
            words = str(tokenizer.decode(obs["prompt"][row, 0, :20]))
            raise ModelError(
                f"The row that begins {words[:40]!r} has {int(size[row])} tokens with its answer, and the model takes "
                f"{most}: set --max-prompt and --max-answer to that together."
            )


def learn(
    options: Options,
    verb: str,
    begun: Begun,
    module: Any,
    objectives: Sequence[tuple[Objective, Feedback]],
    look: Callable[[Path], Callable[[], Row]],
    *,
    speaks: bool = True,
    after: Callable[[int, Row], None] = lambda steps, row: None,
    carried: dict[str, Any] | None = None,
    every: int | None = None,
    more: Row | None = None,
    sum_up: Callable[[Row, Row], Row] = lambda before, after: {},
    names: Sequence[str] = (),
) -> Row:
    """All steps of the objectives in the run's folder; the model is written out, the report too. `look` is made once
    the folder is open; `after` is told when a chunk is over. Returns result.json."""
    loaded, fed = begun.loaded, begun.fed
    out = default_out(options, verb, *names)
    split = share(getattr(module, "body", module), module.parts)
    row = options.row or getattr(module, "body", module).row
    config = {"verb": verb, "weights": begun.identity, "rows_digest": fed.digest(), "rate": begun.rate}
    with opened(out, options, config) if first() else nullcontext():
        opt = optimiser(module, begun.rate, options.clip)
        rng = np.random.default_rng([options.seed, 31])
        parts = {"model": Learned(module, begun.identity), "opt": opt, "rng": rng, **(carried or {})}

        def advance(steps: int, moved: Callable[[int, float], None]) -> Row:
            fitted = fit_all(objectives, opt, steps=steps, batch=options.batch, rng=rng, split=split, progress=moved)
            found: Row = {"loss": float(np.mean(added(list(fitted.losses))))}
            after(steps, found)
            return found

        def speak(done: int) -> Samples:
            few = fed.prompts[:3]
            speaker = Speaker(
                own(module, len(few)), loaded.tokenizer, few, room=room(loaded.model), **limits_of(options)
            )
            return speaker.few(options.seed, done)

        looks = look(out) if first() else dict
        work = Work(options.steps, every or options.every, row, parts, advance, looks, *([speak] if speaks else []))
        rows = run(work, out)
        if not first():
            return {}
        write(loaded, out)
        found = {
            "verb": verb,
            "rows": fed.rows(),
            "before": rows[0],
            "after": rows[-1],
            "notes": [begun.found.told, *loaded.notes, *fed.notes],
            "model": loaded.says(),
            **(more or {}),
            **sum_up(rows[0], rows[-1]),
        }
        result = finish(out, found)
    tell(result, out, as_json=options.json)
    return result


def tell(result: Row, out: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    before, after = result["before"], result["after"]
    width = max(map(len, after))
    print(f"{'':{width}} {'before':>10} {'after':>10}")
    for name in (n for n in after if n != "step"):
        cells = ["" if side.get(name) is None else f"{side[name]:.4g}" for side in (before, after)]
        print(f"{name.replace('_', ' '):{width}} {cells[0]:>10} {cells[1]:>10}")
    if "moved" in result:
        print(result["moved"])
    print(f"The model is in {out / 'model'}, the report in {out / 'report.html'}.")


def some(parts: Sequence[Feedback], split: Split) -> list[Feedback]:
    """The first rows of each part, cut as the model takes them."""
    return [part[rows] for part in (p[:LOOKED] for p in parts) for rows in split(part.segments)]


@torch.no_grad()
def mean_loss(objective: Objective, parts: Sequence[Feedback]) -> float | None:
    """The weighted mean over all rows; None without any."""
    if not parts:
        return None
    losses = torch.stack([(part.weight * objective(part)).sum() for part in parts]).sum()
    return float(losses / torch.stack([part.weight.sum() for part in parts]).sum())
