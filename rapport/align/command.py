"""`rapport align`: from the flags to the folder, and what is said at the end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.stats import binomtest
from tqdm import tqdm

from rapport.align.aligning import Settings, align, mend
from rapport.align.report import write_report
from rapport.console import say

if TYPE_CHECKING:
    from rapport.align.verb import Align


def command(options: Align) -> int:
    if options.policy is not None and options.bounds != (-1.0, 1.0):
        raise ValueError("--bounds are of a new policy, and --policy has its own: leave one of them out.")
    settings = Settings(
        method=options.method,
        set=options.set,
        steps=options.steps,
        rate=options.rate,
        seed=options.seed,
        imitate=options.imitate,
        log_std=options.log_std,
        bounds=options.bounds,
        any_start=options.any_start,
    )
    name = f"align-{options.data.resolve().name}-{options.method}-seed{options.seed}"
    out = options.out or Path("runs") / name
    with tqdm(total=settings.steps, unit=" steps", file=sys.stderr, dynamic_ncols=True) as bar:
        try:
            result = align(
                options.data,
                out,
                settings,
                options.policy,
                place=options.store,
                progress=lambda done: bar.update(done - bar.n),
            )
        except ValueError as error:
            raise (mended := mend(error, options.method)) from (None if mended is error else error)
    write_report(out)
    if options.json:
        print(json.dumps(result))
        return 0
    for note in result["notes"]:
        say(f"Note: {note}")
    print(*lines(result), f"The policy is in {out / 'policy'}, the report in {out / 'report.html'}.", sep="\n")
    return 0


def lines(result: dict[str, Any]) -> list[str]:
    """The table for the eye."""
    rows = result["rows"]
    out = [f"{result['method']} on {rows['learned']} comparisons, {rows.get('held_out', 0)} held out."]
    out += [f"{'':47}{'before':>9}{'after':>9}"]
    for side, where in (("learned", ""), ("held_out", ", held out")):
        if side in rows:
            was, now = result["before"][side], result["after"][side]
            named = (("loss", "loss"), ("preferred, log-probability of a step", "chosen"), ("the other", "rejected"))
            out += [f"{label + where:47}{was[key]:>9.3f}{now[key]:>9.3f}" for label, key in named]
            if now["kl"] is not None:
                out += [f"{'KL from before, nats a step' + where:47}{was['kl']:>9.3f}{now['kl']:>9.3f}"]
            if now["decided"]:
                out += [f"{'agreement with the answers' + where:47}{'':9}{now['agreement']:>9.1%}   {interval(now)}"]
    out += [result["moved"]]
    out += [f"{who} is right in {eta:.0%}" for who, eta in result["reliability"].items()]
    return out


def interval(seen: dict[str, Any]) -> str:
    """Clopper-Pearson of the agreement."""
    n = seen["decided"]
    ci = binomtest(round(seen["agreement"] * n), n).proportion_ci(0.95, method="exact")
    return f"95 %: {ci.low:.1%} to {ci.high:.1%}, {n} decided"
