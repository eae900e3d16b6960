"""`rapport compare`: from the plan to the table."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from rapport.compare.cells import DEVELOPMENT, FILMED, RATES, Cell, chosen_rates, run_cells
from rapport.compare.statistics import Interval, iqm_interval, paired_difference, scaled
from rapport.console import say
from rapport.train.learner import at_random
from rapport.train.spaces import world
from rapport.visual.command import given
from rapport.visual.settings import FEWEST, TEACHERS

if TYPE_CHECKING:
    from rapport.cli import Compare


EPISODES = 50  # of acting at random
PASSED_ON = ("trunk", "pay", "frames", "pool", "demos")  # flags of rewards of videos


@dataclass(frozen=True)
class Row:
    """One method at one budget: a score per environment, over all, and against the first method, seed by seed."""

    method: str
    answers: int
    each: dict[str, Interval]
    overall: Interval
    against_first: Interval | None
    scores: dict[str, list[float]]
    seconds: float

    @property
    def shares(self) -> bool:
        """Whether scores are shares of the way from chance to the true reward's, or else returns."""
        return self.overall.value == self.overall.value


def plan(options: Compare) -> tuple[list[Cell], list[Cell]]:
    """(trials, cells of the comparison at the first rate). Raises ValueError for a plan without sense."""
    if not options.envs or not options.methods or not options.budgets or options.seeds < 1 or options.workers < 1:
        raise ValueError(
            f"{len(options.envs)} environments, {len(options.methods)} methods, {len(options.budgets)} budgets, "
            f"{options.seeds} seeds, {options.workers} workers: give at least one of each."
        )
    if options.trials not in (0, *range(2, len(RATES) + 1)):
        raise ValueError(f"{options.trials} trials: give 0 (nothing is tuned), or 2 to {len(RATES)} to choose between.")
    shared = options.steps, options.clip, options.teacher, 0.0, options.sessions, options.copies, options.horizon
    filmed = [method for method in options.methods if method in FILMED]
    if filmed and (other := [m for m in options.methods if m not in (*FILMED, "true")]):
        raise ValueError(
            f"{', '.join(filmed)} are rewards of whole videos, paid to PPO, and {', '.join(other)} of clips, paid to "
            "another agent: compare them apart."
        )
    if filmed and options.clip != 50:
        raise ValueError(f"--clip is {options.clip}, and {', '.join(filmed)} see whole videos: leave it out.")
    if filmed and options.teacher not in TEACHERS:
        raise ValueError(
            f"--teacher {options.teacher} does not rank videos, which {', '.join(filmed)} learn from: take "
            f"{', '.join(TEACHERS)}."
        )
    least = 2 * FEWEST if "cycles" in filmed else FEWEST  # which lead from one demonstration to another
    least = 1 if options.demos else least
    if filmed and (few := [n for n in options.budgets if n < least]):
        raise ValueError(
            f"A budget of {few[0]} answers: {', '.join(filmed)} take their demonstrations from them too; give at least "
            f"{least}."
        )
    changed = tuple((name, str(getattr(options, name))) for name in given(options) if name in PASSED_ON)
    if changed and not filmed:
        flags = ", ".join(f"--{name}" for name, _ in changed)
        raise ValueError(f"{flags}: of rewards of videos, and none is compared; leave it out.")
    if options.demos and "cloning" in filmed:
        raise ValueError("cloning needs what was done in the demonstrations, and --demos does not tell: leave one out.")
    base = Cell("", "", 0, 0, *shared, filmed=bool(filmed))
    cells, trials = [], []
    for env in dict.fromkeys(options.envs):
        for method in dict.fromkeys(options.methods):
            budgets = sorted(set(options.budgets)) if method != "true" else [0]
            each = replace(base, env=env, method=method, flags=() if method == "true" else changed)
            for rate in RATES[: options.trials]:
                trials.append(replace(each, answers=budgets[-1], seed=DEVELOPMENT, rate=rate, trial=True))
            for answers in budgets:
                cells += [replace(each, answers=answers, seed=seed) for seed in range(options.seeds)]
    return trials, cells


def command(options: Compare) -> int:
    trials, cells = plan(options)
    options.out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(trials) + len(cells), unit=" runs", file=sys.stderr, dynamic_ncols=True) as bar:

        def told(cell: Cell, result: dict[str, Any]) -> None:
            bar.update()
            bar.set_postfix_str(f"{cell.method} on {cell.env}, seed {cell.seed}: {result['return_after']:.4g}")

        tried, untried = run_cells(trials, options.out, options.workers, told)
        rates = chosen_rates(tried)
        cells = [replace(cell, rate=rates.get((cell.env, cell.method), cell.rate)) for cell in cells]
        results, failed = run_cells(cells, options.out, options.workers, told)
    failed |= untried
    found = rows(results, floors(results))
    from rapport.compare.report import write_report

    report = write_report(options, tried, results, found, list(failed.values()))
    print("\n".join(markdown(found, list(dict.fromkeys(options.envs)))))
    say(f"Look at it: {report}")
    for sentence in failed.values():
        say(f"Not run: {sentence}")
    if options.json:
        print(json.dumps({**summary(found, rates), "failed": list(failed.values())}))
    return 1 if failed else 0


def floors(results: dict[Cell, dict[str, Any]]) -> dict[str, float]:
    """The mean return of acting at random in each environment."""
    horizons = {cell.env: cell.horizon for cell in results}
    return {env: float(at_random(world(env, {}, h, 0), EPISODES).mean()) for env, h in horizons.items()}


def rows(results: dict[Cell, dict[str, Any]], floors: Mapping[str, float]) -> list[Row]:
    """Scores are shares of the way from acting at random (0) to training on the true reward (1, the mean over the
    seeds). Where the method `true` was not run everywhere, or is somewhere no better than chance, they are returns, and
    there is no figure over all environments."""
    true = {
        env: [r["return_after"] for c, r in results.items() if c.env == env and c.method == "true"]
        for env in _envs(results)
    }
    ceilings = {env: _mean(returns) for env, returns in true.items() if returns}
    shares = all(env in ceilings and ceilings[env] > floors[env] for env in true)

    def score(cell: Cell, result: dict[str, Any]) -> float:
        after = float(result["return_after"])
        return scaled(after, floors[cell.env], ceilings[cell.env]) if shares else after

    groups: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    seconds: dict[tuple[str, int], list[float]] = {}
    for cell, result in results.items():
        key = cell.method, cell.answers
        groups.setdefault(key, {}).setdefault(cell.env, {})[cell.seed] = score(cell, result)
        seconds.setdefault(key, []).append(result["seconds"])
    found: list[Row] = []
    first: dict[int, dict[str, dict[int, float]]] = {}
    for (method, answers), by_env in groups.items():
        opponent = first.setdefault(answers, by_env)
        against = None
        if opponent is not by_env and shares:
            gaps = [
                [x - opponent[e][s] for s, x in by_env[e].items() if s in opponent[e]] for e in by_env if e in opponent
            ]
            against = paired_difference([row for row in gaps if row])
        scores = {env: list(by_seed.values()) for env, by_seed in by_env.items()}
        each = {env: iqm_interval([values]) for env, values in scores.items()}
        overall = iqm_interval(list(scores.values())) if shares else Interval(*[float("nan")] * 3)
        found.append(Row(method, answers, each, overall, against, scores, _mean(seconds[method, answers])))
    return found


def _envs(results: dict[Cell, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(cell.env for cell in results))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def markdown(found: list[Row], envs: list[str]) -> list[str]:
    """The table, to be put into a paper."""
    head = ["method", "answers", *envs, "all", "mean less the first's, seed by seed", "seconds a run"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in found:
        against = "" if row.against_first is None else str(row.against_first)
        overall = str(row.overall) if row.shares else ""
        cells = [str(row.each[env]) if env in row.each else "" for env in envs]
        parts = [row.method, str(row.answers), *cells, overall, against, f"{row.seconds:.0f}"]
        lines.append(f"| {' | '.join(parts)} |")
    return lines


def summary(found: list[Row], rates: dict[tuple[str, str], float]) -> dict[str, Any]:
    def told(i: Interval | None) -> list[float | None] | None:
        return None if i is None else [None if x != x else x for x in (i.value, i.low, i.high)]

    return {
        "rows": [
            {
                "method": row.method,
                "answers": row.answers,
                "each": {env: told(i) for env, i in row.each.items()},
                "all": told(row.overall),
                "against_first": told(row.against_first),
                "scores": row.scores,
                "seconds": row.seconds,
            }
            for row in found
        ],
        "rates": [{"env": env, "method": method, "rate": rate} for (env, method), rate in rates.items()],
    }
