"""The loop that all verbs which train share: chunks, each followed by a look, a few samples, and a checkpoint."""

from __future__ import annotations

import importlib.metadata
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm import tqdm

from embodied import checkpoint
from rapport.console import say
from rapport.lm.models import ADAPTER, MODEL, RESULT, SMALL, Loaded, ModelError, memory
from rapport.lm.together import add_gradients, first, wait
from rapport.run import RunError, machine, read_json, run_folder, write_json

if TYPE_CHECKING:
    from rapport.lm.verb import Learning

CHECKPOINTS, ROWS, SAMPLES = "checkpoints", "rows.json", "samples.json"
FREE = ("out", "json", "row", "checkpointing", "every", "device", "per_minute", "timeout", "most_calls")
"""What may change while a run goes on."""
SECRET = ("store",)
"""What no file of a run holds, since a database's address has its password; what was read there is in rows_digest."""

Row = dict[str, Any]
Samples = list[dict[str, str]]


@dataclass(eq=False)
class Work:
    """What is trained and how: `advance(n, progress)` takes n steps and says what came of them; `look` measures;
    `speak` samples. `parts` is all that is carried."""

    steps: int
    every: int
    row: int
    parts: Mapping[str, Any]
    advance: Callable[[int, Callable[[int, float], None]], Row]
    look: Callable[[], Row] = field(default=dict)
    speak: Callable[[int], Samples] = field(default=lambda done: [])


def optimiser(
    module: nn.Module, rate: float, clip: float, more: tuple[nn.Parameter, ...] = ()
) -> torch.optim.Optimizer:
    """AdamW on what learns, without decay, each step's gradient cut to a length; `more`, a new head, learns faster."""
    learns = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": learns, "lr": rate}]
    if more:
        groups.append({"params": list(more), "lr": max(rate, 1e-3)})
    opt = torch.optim.AdamW(groups, weight_decay=0.0, fused=learns[0].is_cuda)

    def before(*_: Any) -> None:
        add_gradients(learns)
        if clip:
            torch.nn.utils.clip_grad_norm_([*learns, *more], clip)

    opt.register_step_pre_hook(before)
    return opt


def rate_of(options: Learning, loaded: Loaded) -> float:
    if options.rate is not None:
        return options.rate
    return 3e-4 if loaded.weights() < SMALL else 2e-4 if loaded.adapter else 1e-5


def check(options: Learning) -> None:
    least = min(options.seed, options.lora, options.steps - 1, options.batch - 1, options.every - 1)
    rate = 1.0 if options.rate is None else options.rate
    if least < 0 or (options.row or 1) < 1 or not (0 < rate < math.inf and 0 <= options.clip < math.inf):
        raise ModelError(
            f"--steps {options.steps}, --batch {options.batch}, --every {options.every}, --lora {options.lora}, --rate "
            f"{options.rate}, --clip {options.clip}: give at least one step, row and token, and a rate above 0."
        )


@contextmanager
def opened(out: Path, options: Learning, more: Mapping[str, Any]) -> Iterator[Path]:
    """The run's folder, which refuses other settings than it was begun with."""
    settings = {k: v for k, v in vars(options).items() if k not in (*FREE, *SECRET)}
    with run_folder(out, {**settings, **more}) as folder:
        yield folder


def run(work: Work, out: Path) -> list[Row]:
    """All steps, from the last checkpoint on; returns a row of each chunk, the first being what was before."""
    from torch.utils.tensorboard import SummaryWriter

    done = checkpoint.load(out / CHECKPOINTS, **work.parts)
    wait()  # nothing is written before all have read
    if not first():
        while done < work.steps:
            steps = min(work.every, work.steps - done)
            work.advance(steps, lambda *_: None)
            done += steps
        return []
    rows: list[Row] = [r for r in _read(out / ROWS) if r["step"] <= done]
    said: list[Row] = [r for r in _read(out / SAMPLES) if r["step"] <= done]
    if done:
        say(f"{out}: going on after step {done} of {work.steps}.")
    with (
        SummaryWriter(out / "tensorboard", purge_step=done + 1) as writer,
        tqdm(total=work.steps, initial=done, unit=" steps", file=sys.stderr, dynamic_ncols=True) as bar,
    ):

        def note(row: Row) -> None:
            rows.append(row)
            write_json(out / ROWS, rows)
            for name, value in row.items():
                if name != "step" and value is not None:
                    writer.add_scalar(name, value, row["step"])
            writer.flush()
            with memory(work.row, "sampling"):
                spoken = work.speak(row["step"])
            if spoken:
                said.append({"step": row["step"], "samples": spoken})
                write_json(out / SAMPLES, said)
                for one in spoken[:2]:
                    bar.write(f"{row['step']:>6}  {_line(one)}", file=sys.stderr)
            bar.set_postfix_str(brief(row))

        if not rows:
            with memory(work.row):
                note({"step": 0, **work.look()})
        # A row before its checkpoint: a kill between the two costs the chunk again, never the row.
        while done < work.steps:
            start, steps = done, min(work.every, work.steps - done)

            def moved(n: int, loss: float, start: int = start) -> None:
                bar.update(start + n - bar.n)
                bar.set_description_str(f"loss {loss:.4g}")

            with memory(work.row):
                row = work.advance(steps, moved)
                done += steps
                note({"step": done, **row, **work.look()})
            checkpoint.save(out / CHECKPOINTS, done, **work.parts)
    return rows


def write(loaded: Loaded, out: Path) -> None:
    """`out/model`, which plain transformers loads; of an adapter also the adapter alone. Whole or not at all."""
    from llm_bridge.folder import export

    model = loaded.model
    if loaded.adapter:
        for name in [n for n in model.peft_config if n != model.active_adapter]:
            model.delete_adapter(name)
        _once(out / ADAPTER, lambda folder: export(model, loaded.tokenizer, folder))
    _once(out / MODEL, lambda folder: export(model, loaded.tokenizer, folder, merged=loaded.adapter))


def finish(out: Path, result: Row) -> Row:
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "peft")}
    result = {**result, "machine": {**machine(), **versions}}
    write_json(out / RESULT, result)
    from rapport.lm.report import write_report

    write_report(out)
    return result


BRIEF = ("accuracy", "margin", "held_out_accuracy", "held_out_loss", "reward", "wins", "kl", "length")


def brief(row: Row) -> str:
    """What fits beside the bar."""
    return ", ".join(f"{k.replace('_', ' ')} {row[k]:.3g}" for k in BRIEF if row.get(k) is not None)


def default_out(options: Learning, verb: str, *names: str) -> Path:
    model = Path(options.model.rstrip("/")).name
    lora = f"lora{options.lora}" if options.lora else ""
    return options.out or Path("runs") / "-".join(
        filter(None, ["lm", verb, model, *names, lora, f"seed{options.seed}"])
    )


def _once(folder: Path, write_to: Callable[[Path], object]) -> None:
    import shutil

    if folder.exists():
        shutil.rmtree(folder)  # of an earlier call of a finished run: the same
    half = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(half, ignore_errors=True)
    try:
        write_to(half)
        half.rename(folder)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        raise RunError(f"{folder} cannot be written ({error}): make room, and run the same again.") from error


def _read(path: Path) -> list[Row]:
    return read_json(path) if path.exists() else []


def _line(one: Mapping[str, str]) -> str:
    prompt, answer = (" ".join(one[key].split()) for key in ("prompt", "answer"))
    return f"{prompt[-60:]} → {answer[:100]}"
