"""One alignment in one folder: stored answers, a policy, a method; resumed exactly, measured, written out."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied import checkpoint
from embodied.direct import Direct, MixedContexts, direct
from embodied.feedback import Feedback
from embodied.fit import fit_all, imitate
from embodied.label_models import EM
from rapport.align import policies
from rapport.align.answers import Told, read
from rapport.align.looks import look, moved
from rapport.align.methods import LISTWISE, method_of
from rapport.run import machine, read_json, run_folder, write_json

CHECKPOINTS, BEFORE, LOSSES, RESULT = "checkpoints", "before", "losses.json", "result.json"


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on, beside data and policy. `imitate`: so many steps of copying all segments,
    preferred or not, come first; None is 1000 for a new policy and none for one that is given."""

    method: str = "dpo"
    set: tuple[str, ...] = ()
    steps: int = 300
    rate: float = 3e-4
    batch: int = 64
    seed: int = 0
    imitate: int | None = None
    log_std: float | None = None
    bounds: tuple[float, float] = (-1.0, 1.0)
    any_start: bool = False
    chunk: int = 50

    def __post_init__(self) -> None:
        least = min(self.seed, (self.imitate or 0), self.steps - 1, self.batch - 1, self.chunk - 1)
        if least < 0 or not 0 < self.rate < math.inf:
            raise ValueError(
                f"The seed is {self.seed}, steps are {self.steps}, of imitation {self.imitate}, the batch is "
                f"{self.batch} and the rate {self.rate}: give at least one step and row, and a rate above 0."
            )


def align(
    data: Path,
    out: Path,
    settings: Settings,
    policy: str | None = None,
    *,
    place: str | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, Any]:
    """Aligns the policy (see `policies.start`) with the answers in `data`, in the run's folder `out`, and returns what
    `result.json` says; killed, the same call goes on and ends the same. The aligned policy is left in `out/policy`.
    `progress` is told how many steps are done. Torch is set to one thread for the whole process.

    Raises ValueError in a sentence for answers, policies and methods that do not go together, and what the data and
    the run's folder raise.
    """
    torch.set_num_threads(1)  # networks this small are slower on two
    method, em = method_of(settings.method, settings.set)
    told = read(data, settings.seed, listwise=settings.method in LISTWISE, place=place)
    if em is not None and len(told.learned) > 1:
        raise ValueError(f"em_preference hears one kind of answer, and {data} has {len(told.learned)}: take another.")
    if settings.any_start:
        method = replace(method, same_context=False)
    start = policies.start(policy, told, settings.bounds, settings.log_std, settings.seed)
    policies.tried(start.policy, policy or "the new policy", told.learned[0].segments[:2])
    config = {**asdict(settings), "data": _digest(told), "policy": start.identity}
    with run_folder(out, config):
        before = _before(start, told, settings, out)
        try:
            objective = direct(start.policy, method, before)
        except TypeError as error:  # the policy lacks what the method asks of it
            raise ValueError(str(error)) from error
        untrained = {k: look(objective, before, parts) for k, parts in _sides(told)}
        _train(objective, em, told, settings, out, progress)
        trained = {k: look(objective, before, parts) for k, parts in _sides(told)}
        answers = f"{told.budget.answered} answers"
        start.write(out / policies.FOLDER, f"aligned by {method.name} with {answers}")
        result = {
            "method": method.name,
            "rows": {k: sum(map(len, parts)) for k, parts in _sides(told)},
            "budget": asdict(told.budget),
            "before": {k: asdict(seen) for k, seen in untrained.items()},
            "after": {k: asdict(seen) for k, seen in trained.items()},
            "moved": moved(untrained["learned"], trained["learned"]),
            "reliability": {} if em is None else dict(zip(told.annotators, em.eta.tolist(), strict=False)),
            "notes": list(told.notes),
            "machine": machine(),
        }
        write_json(out / RESULT, result)
    return result


def mend(error: ValueError, method: str) -> ValueError:
    """A refusal of the method's, as one who sits at the command line can mend it."""
    if isinstance(error, MixedContexts):
        count = str(error).partition(" compare")[0]
        return ValueError(
            f"{count} compare segments from different starts, and {method} is for one start: what it drops of each "
            "does not cancel. Take --method cpl (or cpl_kl, kto, apo_zero, bco), ask about clips from one start, or "
            "insist with --any-start."
        )
    return error


def _before(start: policies.Start, told: Told, settings: Settings, out: Path) -> Any:
    """A copy of the policy before it is aligned; it has imitated by then."""
    reference = copy.deepcopy(start.policy)
    if checkpoint.latest(out / BEFORE) is None:
        steps = (1000 if start.new else 0) if settings.imitate is None else settings.imitate
        if steps:
            parts = [replace(part, target=torch.ones_like(part.target)) for part in told.learned]
            opt = torch.optim.Adam(_learned(start.policy), lr=1e-3)
            rng = np.random.default_rng([settings.seed, 21])
            objective = imitate(start.policy)
            fit_all([(objective, p) for p in parts], opt, steps=steps, batch=settings.batch, rng=rng)
        checkpoint.save(out / BEFORE, 0, policy=start.policy)
    for policy in (reference, start.policy):
        checkpoint.load(out / BEFORE, policy=policy)
    return reference.requires_grad_(False)


def _train(
    objective: Direct, em: EM | None, told: Told, settings: Settings, out: Path, progress: Callable[[int], object]
) -> None:
    opt, rng = (
        torch.optim.Adam(_learned(objective.policy), lr=settings.rate),
        np.random.default_rng([settings.seed, 22]),
    )
    carried = {"policy": objective.policy, "opt": opt, "rng": rng} | ({} if em is None else {"em": em})
    done = checkpoint.load(out / CHECKPOINTS, **carried)  # type: ignore[arg-type]
    kept = out / LOSSES
    rows = [row for row in read_json(kept) if row["step"] <= done] if kept.exists() else []
    progress(done)
    # A row before its checkpoint: a kill between the two costs the chunk again, never the row.
    while done < settings.steps:
        steps = min(settings.chunk if em is None else em.every, settings.steps - done)
        parts = [(objective, part) for part in told.learned]
        losses = fit_all(parts, opt, steps=steps, batch=settings.batch, rng=rng).losses
        if em is not None:
            (data,) = told.learned
            em.update(objective.method.loss, objective.score(data.segments).detach(), data)
        done += steps
        rows.append({"step": done, "loss": float(np.mean(losses))})
        write_json(kept, rows)
        checkpoint.save(out / CHECKPOINTS, done, **carried)  # type: ignore[arg-type]
        progress(done)


def _learned(policy: Any) -> list[torch.nn.Parameter]:
    return [p for p in policy.parameters() if p.requires_grad]


def _sides(told: Told) -> list[tuple[str, tuple[Feedback, ...]]]:
    sides = [("learned", told.learned), ("held_out", told.held_out)]
    return [(name, parts) for name, parts in sides if parts]


def _digest(told: Told) -> str:
    """Of all that is learned from and held out, so that a run never goes on with other data."""
    digest = hashlib.sha256()
    for part in (*told.learned, *told.held_out):
        segments = part.segments
        for tensor in (segments.obs, segments.act, segments.mask, part.target, part.weight, part.annotator):
            digest.update(f"{list(tensor.shape)}".encode() + tensor.numpy().tobytes())  # type: ignore[union-attr]
    return digest.hexdigest()
