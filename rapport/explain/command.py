"""`rapport explain`: reads a store, judges every person, and says what it found."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embodied.explain import CannotJudge, Verdict, check, explain
from embodied.importers import DataError
from embodied.preference_models import within
from embodied.records import Array
from rapport.console import say
from rapport.data_folder import open_folder
from rapport.explain.advice import advice, lines
from rapport.explain.answers import Comparisons, comparisons, models
from rapport.explain.report import write_report

if TYPE_CHECKING:
    from rapport.cli import Explain

EVERYONE = "everyone"


def command(options: Explain) -> int:
    out = options.out or Path("runs") / f"explain-{options.folder.resolve().name}"
    if options.folds < 2:
        raise DataError(f"--folds is {options.folds}: give at least 2, some to learn from and one to predict.")
    with open_folder(options.folder, place=options.store) as store:
        said = comparisons(store)
        people = _people(said, options.annotator)
        reasons = _reasons(said, people, options.folds)
        judged = [name for name in people if name not in reasons]
        if not judged:
            raise DataError("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        say(f"{len(said.first)} comparisons by {len(set(said.annotator))} people; preparing the models")
        candidates = models(store, said.segments)
    verdicts: dict[str, Verdict] = {}
    for name in judged:
        rows = people[name]
        verdicts[name] = explain(
            [within(model, rows) for model in candidates],
            said.first[rows],
            said.question[rows],
            n=options.folds,
            rng=np.random.default_rng(0),
            told=lambda model, name=name: say(f"{name}: {model}"),  # type: ignore[misc]
        )
    report = write_report(out, options.folder.resolve().name, verdicts, reasons, said.left_out)
    if options.json:
        found = {name: {**asdict(verdict), "advice": advice(verdict)} for name, verdict in verdicts.items()}
        print(json.dumps({"people": found, "not_judged": reasons, "left_out": said.left_out, "report": str(report)}))
        return 0
    for name, verdict in verdicts.items():
        print(*lines(name, verdict), "", sep="\n")
    for name, reason in reasons.items():
        print(f"{name}: not judged, since {reason}\n")
    if said.left_out:
        print(f"{said.left_out} answers of other kinds than comparisons are left out.")
    print(f"* clearly worse than the first, or a mixture that is surely hardly better. See {report}.")
    return 0


def _people(said: Comparisons, wanted: tuple[str, ...]) -> dict[str, Array]:
    """Their rows, and those of everyone together where there are several."""
    names = list(dict.fromkeys(said.annotator.tolist()))
    for name in wanted:
        if name not in names:
            raise DataError(f"nobody called {name!r} compared clips; there are {', '.join(names)}")
    chosen = [name for name in names if not wanted or name in wanted]
    people = {name: np.flatnonzero(said.annotator == name) for name in chosen}
    if len(chosen) > 1:
        together = EVERYONE if EVERYONE not in names else f"{EVERYONE} together"
        people[together] = np.flatnonzero(np.isin(said.annotator, chosen))
    return people


def _reasons(said: Comparisons, people: dict[str, Array], folds: int) -> dict[str, str]:
    found = {}
    for name, rows in people.items():
        try:
            check(said.first[rows], said.question[rows], folds)
        except CannotJudge as error:
            found[name] = str(error)
    return found
