"""How a training that learns from the study goes, round by round, as the training tells it; and what follows from that:
how many more answers would matter."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, and_, delete, insert, select

from embodied.database import StoreError
from embodied.plateau import SIZES, CannotTell, fit_plateau
from embodied.records import check_name
from embodied.store import Store
from human_ui.tables import PROGRESS

MOST = 50  # figures in a row
LOOSE = 10.0  # an interval from n to more than so many times n tells nothing
BINS = 12  # most points that the curve is fitted to: a few answers each would be noise


@dataclass(frozen=True)
class Round:
    """One row, at seconds since the epoch. Of the figures the owner's page knows `answers`, read so far; `steps` of the
    environment; `return`, the mean own return; `accuracy`, the share of the new decided answers that the reward had
    foretold before it was fitted to them, and `decided`, how many those were."""

    step: int
    at: float
    figures: Mapping[str, float]


def put_progress(store: Store, run: str, step: int, row: Mapping[str, float | None]) -> None:
    """What a run can tell after a round; durable when it returns. The same step again replaces what was told of it.

    row: figures by name, `answers` among them; None where one is not known. Raises StoreError for a step that is no
    whole number from 0 on, more than MOST figures, and numbers that cannot be; RecordError for names.
    """
    text = json.dumps(checked(run, step, row), ensure_ascii=False)
    values = {"run": run, "step": step, "row": text, "at": time.time()}

    def work(connection: Connection) -> None:
        connection.execute(delete(PROGRESS).where(and_(PROGRESS.c.run == run, PROGRESS.c.step == step)))
        connection.execute(insert(PROGRESS).values(**values))

    store.write(work)


def checked(run: str, step: int, row: Mapping[str, float | None]) -> dict[str, float]:
    """The figures that are known. Raises as `put_progress` does."""
    check_name("name of a run", run)
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**63:
        raise StoreError(f"step of run {run!r} is {step!r}; give a whole number, 0 or more")
    if len(row) > MOST:
        raise StoreError(f"run {run!r} tells {len(row)} figures of step {step}; give at most {MOST}")
    known = {}
    for name, value in row.items():
        check_name(f"name of a figure of run {run!r}", name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise StoreError(
                f"{name} of run {run!r} at step {step} is {value!r}; give a finite number, or leave it out"
            )
        known[name] = float(value)
    if "answers" not in known:
        raise StoreError(f"run {run!r} tells no answers at step {step}; give how many it has read so far")
    for name, most in (("answers", 2**53), ("decided", 2**53), ("accuracy", 1)):
        if not 0 <= known.get(name, 0) <= most:
            raise StoreError(f"{name} of run {run!r} at step {step} is {known[name]}; give 0 to {most}")
    return known


def progress(store: Store) -> dict[str, list[Round]]:
    """Every run's rounds in order; the run that was heard of last is first."""
    with store.read() as connection:
        rows = connection.execute(select(PROGRESS).order_by(PROGRESS.c.step)).all()
    runs: dict[str, list[Round]] = {}
    for row in rows:
        runs.setdefault(row.run, []).append(Round(row.step, row.at, json.loads(row.row)))
    return dict(sorted(runs.items(), key=lambda run: -max(one.at for one in run[1])))


def held_out(rounds: Sequence[Round]) -> list[tuple[float, float, float]]:
    """(answers that the reward was fitted to, its accuracy on those that came next, how many those were), in at most
    BINS parts of about as many answers each."""
    before, points = 0.0, []
    for one in rounds:
        new = one.figures.get("decided", one.figures["answers"] - before)
        if "accuracy" in one.figures and new > 0:
            points.append((before, one.figures["accuracy"], new))
        before = one.figures["answers"]
    if not points:
        return []
    table = np.array(points)
    many = table[:, 2].cumsum()
    part = np.minimum((BINS * (many - table[:, 2] / 2) / many[-1]).astype(int), BINS - 1)
    parts = [table[part == i] for i in np.unique(part)]
    middles = [np.average(p[:, :2], axis=0, weights=p[:, 2]) for p in parts]
    return [(float(n), float(score), float(p[:, 2].sum())) for (n, score), p in zip(middles, parts, strict=True)]


def outlook(rounds: Sequence[Round]) -> str:
    """One sentence: how many more answers would matter, or why that cannot be told yet."""
    points = held_out(rounds)
    if len(points) < SIZES:
        return f"Cannot tell yet: the reward was tried on new answers {len(points)} times; {SIZES} are the least."
    n, score, weight = zip(*points, strict=True)
    try:
        found = fit_plateau(n, score, weight)
    except CannotTell as error:
        return f"{str(error).capitalize()}."
    now = rounds[-1].figures["answers"]
    most, (low, high) = _percent(found.fraction), found.needed_interval
    if high > LOOSE * low:
        return f"Cannot tell yet: with so much scatter, {most} of the gain may take {low:.0f} answers or {high:.0f}."
    foretold = f"{_percent(found.plateau)} [{', '.join(_percent(edge) for edge in found.plateau_interval)}]"
    if found.needed <= now:
        return (
            f"More answers like these would change little: {most} of the gain was made after about "
            f"{found.needed:.0f} [{low:.0f}, {high:.0f}] of {now:.0f}. The reward foretells {foretold} of new answers."
        )
    more, least, most_of_all = (max(edge - now, 0.0) for edge in (found.needed, low, high))
    return (
        f"About {more:.0f} more answers [{least:.0f}, {most_of_all:.0f}] would make {most} of what can be gained from "
        f"answers like these; the reward would come to foretell {foretold} of new ones."
    )


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.0f} %"
