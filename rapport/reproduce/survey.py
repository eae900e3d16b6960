"""The survey's types of feedback, each on the delivery board: do they tell the reward, and two more than either? And
its ways to choose questions: how many answers does each need?

After Kaufmann et al. (2023, arXiv 2312.14925), whose types are listed in `rapport.survey.types`. A simulated person
answers as the likelihood of a type says, under weights near the board's own; from nothing but these answers the weights
are learned, up to their length. The same answers under a wrong likelihood are the control. What there is of the rest of
the survey is written beside the figures, item by item (`rapport.survey.checklist`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from embodied.evidence.acting import Sighting, sighted
from embodied.evidence.learning import Evidence, Learned, learn
from embodied.evidence.options import Chosen, choose, chosen, options
from embodied.evidence.signals import Signals, tamer
from embodied.planning import expected_features, scaled_return
from embodied.records import Array
from envs.delivery import BRICK, GOAL, board
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.survey.checklist import lines
from rapport.survey.people import (
    CARE,
    CREDIT,
    PAST,
    PEOPLE,
    Place,
    called_out,
    coached,
    criticised,
    driven,
    gone,
    led,
    left_so,
    proxies,
    tried,
)
from rapport.survey.strategies import strategies

Sense = Literal["at most", "at least"]

DOMAINS = ("delivery",)
ALONE, TOGETHER, DRAWS = 2000, 100, 5
PAIRS = (
    *(("compare", key) for key in PEOPLE if key != "compare"),
    ("tamer", "demonstration"),
    ("correction", "critique"),
    ("state", "feature query"),
)


def place(rng: np.random.Generator) -> Place:
    """The board, with its weights up to a third more or less, and goal and sheep within reach of doubt: where they
    weigh fifty times what the rest does, nobody errs about them, and nothing else is ever seen."""
    weights = np.array([-0.5, 1.5, -1.5, 0.5, -0.5, -1.0]) * np.exp(rng.normal(0, 0.3, 6))
    return Place(board(), torch.from_numpy(weights))


def cosine(found: Array, where: Place) -> float:
    true = where.weights.numpy()
    return float(found @ true / (np.linalg.norm(found) * np.linalg.norm(true)))


def learned(where: Place, *evidence: Evidence) -> float:
    """Cosine between what is learned and what is wanted."""
    return cosine(learn(evidence, len(where.weights)).weights, where)


def controls(where: Place, rng: np.random.Generator) -> dict[tuple[str, str], float]:
    """(type, what is believed wrongly) -> the cosine that comes of it."""
    n, found = ALONE, {}
    heard = called_out(where, n, rng).args[0]
    now = torch.ones(1, dtype=torch.float64)
    found["tamer", "taken to come at once"] = learned(where, partial(tamer, Signals(heard.found, heard.signal, now)))
    seen = left_so(where, n, rng).args[1]
    longer = Sighting(seen.state, seen.start, 5 * PAST)
    found["state", "taken for one of five times as long"] = learned(where, partial(sighted, where.board, longer))
    said = choose(criticised(where, n, rng), where.weights, rng)
    free = Chosen(options(said.options.features), said.index)
    found["critique", "as if less could be said of what was not there"] = learned(where, partial(chosen, free))
    written = choose(tried(where, n, rng), where.weights, rng).index.numpy()
    found["proxy", "taken literally"] = cosine(proxies()[written].mean(0), where)
    counts = gone(where, driven(where, n, rng)).mean(0)
    found["demonstration", "what was found most taken for what is wanted most"] = cosine(counts.numpy(), where)
    return found


def together(where: Place, kinds: Sequence[str], counts: Sequence[int], rng: np.random.Generator) -> Learned:
    return learn([PEOPLE[kind](where, n, rng) for kind, n in zip(kinds, counts, strict=True)], len(where.weights))


def errors(seed: int, progress: Progress) -> dict[tuple[str, ...], list[float]]:
    """1 - cosine of each draw, for (a,) TOGETHER answers of one type, (a, b) those of two, ("half", a, b) half as many
    of each. A type says the same alone and beside another."""
    found: dict[tuple[str, ...], list[float]] = {}
    for draw in range(DRAWS):
        where = place(np.random.default_rng([seed, 2, draw]))
        said, half = (
            {
                kind: person(where, n, np.random.default_rng([seed, 3, draw, i]))
                for i, (kind, person) in enumerate(PEOPLE.items())
            }
            for n in (TOGETHER, TOGETHER // 2)
        )
        asked: dict[tuple[str, ...], list[Evidence]] = {(kind,): [said[kind]] for kind in PEOPLE}
        asked |= {pair: [said[kind] for kind in pair] for pair in PAIRS}
        asked |= {("half", *pair): [half[kind] for kind in pair] for pair in PAIRS}
        for i, (name, evidence) in enumerate(asked.items()):
            # A copy, since thresholds are learned too and would begin where they ended before.
            found.setdefault(name, []).append(1 - learned(where, *deepcopy(evidence)))
            progress((draw + i / len(asked)) / DRAWS)
    return found


def better(found: Mapping[tuple[str, ...], list[float]], pair: tuple[str, str]) -> list[float]:
    """The errors of the type of a pair that tells more alone."""
    return min((found[kind,] for kind in pair), key=lambda draws: float(np.mean(draws)))


def policy_and_feature(where: Place, seed: int) -> dict[str, float]:
    """What is taught besides weights: a policy by COACH (with delays known, and not known), a feature by traces."""
    near = Place(board(gamma=0.9), where.weights)  # what an action leads to in ten steps or so
    reward = expected_features(near.board) @ near.weights.numpy()
    found = {}
    for name, credit in (("coach", CREDIT), ("coach, taken to come at once", torch.ones(1, dtype=torch.float64))):
        policy = coached(near, credit, 100, 200, np.random.default_rng([seed, 5]))
        found[name] = float(scaled_return(near.board, policy, reward))
    cells = np.stack(np.divmod(np.arange(where.board.codes.size), where.board.codes.shape[1]), 1)
    far = np.abs(cells - cells[where.board.codes.ravel() % BRICK == GOAL]).sum(1).astype(float)  # from the goal
    traces = led(where, torch.from_numpy(far), 500, np.random.default_rng([seed, 6]))
    starts = where.board.starts
    found["trace"] = float(np.corrcoef(learn([traces], len(far)).weights[starts], far[starts])[0, 1])
    return found


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """About two CPU-minutes; with `full`, every way to choose questions."""
    (out / "said.txt").write_text("\n".join(lines()), encoding="utf-8")
    where = place(np.random.default_rng([seed, 1]))
    alone = {}
    for i, (kind, person) in enumerate(PEOPLE.items()):
        alone[kind] = learned(where, person(where, ALONE, np.random.default_rng([seed, 1, i])))
        progress(0.1 * i / len(PEOPLE))
    wrong = controls(where, np.random.default_rng([seed, 4]))
    beside = policy_and_feature(where, seed)
    both = together(where, ("compare", "demonstration"), (ALONE, ALONE), np.random.default_rng([seed, 7]))
    every = together(where, tuple(PEOPLE), (TOGETHER,) * len(PEOPLE), np.random.default_rng([seed, 8]))
    progress(0.25)
    found = errors(seed, lambda share: progress(0.25 + 0.4 * share))
    chosen, beside_chance = strategies(seed, full, lambda share: progress(0.65 + 0.35 * share))
    plot(out / "types.png", found)

    def check(name: str, value: float, threshold: float, sense: Sense = "at least") -> Mechanism:
        return Mechanism(name, value, threshold, sense, DEVELOPMENT[name])

    def worse(kind: str, cosine: float) -> float:
        return float(np.log10((1 - cosine) / (1 - alone[kind])))

    literal = "proxy", "taken literally"
    mechanism = [
        *(check(f"{kind}: cosine", alone[kind], 0.9) for kind in PEOPLE),
        *(
            check(f"{kind}, {what}: log10 of error to the right one's", worse(kind, value), 0.3)
            for (kind, what), value in wrong.items()
            if (kind, what) != literal
        ),
        check("coach: scaled return of the policy", beside["coach"], 0.8),
        check("coach, taken to come at once: scaled return", beside["coach, taken to come at once"], 0.5, "at most"),
        check("trace: correlation with the feature", beside["trace"], 0.95),
        check(
            "demonstrations and comparisons: log of rationality to the planted, size",
            abs(float(np.log(both.rationality[1] / CARE))),
            0.3,
            "at most",
        ),
        check("all types at once: cosine", cosine(every.weights, where), 0.98),
        *chosen,
    ]
    pooled = np.mean([found[pair] for pair in PAIRS]) / np.mean([better(found, pair) for pair in PAIRS])
    comparisons = [
        Comparison(
            "proxy, taken literally: log10 of error to that of inverse reward design",
            (worse("proxy", wrong[literal]),),
            "no figure; what was written is not to be taken literally",
            (0.0, np.inf),
        ),
        Comparison(
            "all pairs of types, as many of each: error, in errors of the better alone",
            (float(pooled),),
            "no figure; two types together should beat either",
            (0.0, 1.0),
        ),
    ]
    for name, key in (("as many of each", ()), ("half as many of each", ("half",))):
        comparisons += [
            Comparison(
                f"{' and '.join(pair)}, {name}: error less that of the better alone",
                tuple(float(a - b) for a, b in zip(found[*key, *pair], better(found, pair), strict=True)),
                "no figure; two types together should beat either",
                (-np.inf, 0.0),
            )
            for pair in PAIRS
        ]
    return mechanism, [*comparisons, *beside_chance]


# Mean and sd of the development seeds 1000 to 1009.
DEVELOPMENT: Mapping[str, tuple[float, float]] = {
    "compare: cosine": (0.9913, 0.0107),
    "tie: cosine": (0.9936, 0.0042),
    "thurstone: cosine": (0.9938, 0.0066),
    "grade: cosine": (0.9959, 0.0031),
    "rank: cosine": (0.9974, 0.0023),
    "choose: cosine": (0.9964, 0.0040),
    "rate: cosine": (0.9986, 0.0012),
    "mark: cosine": (0.9950, 0.0031),
    "stop: cosine": (0.9909, 0.0072),
    "tamer: cosine": (0.9941, 0.0037),
    "intervention: cosine": (0.9887, 0.0123),
    "correction: cosine": (0.9972, 0.0024),
    "demonstration: cosine": (0.9979, 0.0021),
    "samples: cosine": (0.9967, 0.0029),
    "state: cosine": (0.9976, 0.0017),
    "critique: cosine": (0.9987, 0.0007),
    "feature query: cosine": (0.9982, 0.0010),
    "reason: cosine": (0.9974, 0.0045),
    "proxy: cosine": (0.9882, 0.0129),
    "tamer, taken to come at once: log10 of error to the right one's": (2.2445, 0.2971),
    "state, taken for one of five times as long: log10 of error to the right one's": (2.7234, 0.4247),
    "critique, as if less could be said of what was not there: log10 of error to the right one's": (2.2164, 0.3354),
    "demonstration, what was found most taken for what is wanted most: log10 of error to the right one's": (
        3.0453,
        0.5626,
    ),
    "coach: scaled return of the policy": (0.9394, 0.0169),
    "coach, taken to come at once: scaled return": (-0.1124, 0.1192),
    "trace: correlation with the feature": (0.9957, 0.0021),
    "demonstrations and comparisons: log of rationality to the planted, size": (0.0474, 0.0290),
    "all types at once: cosine": (0.9982, 0.0018),
}


def plot(path: Path, found: Mapping[tuple[str, ...], list[float]]) -> None:
    """Error of each type alone, and of comparisons with it, at the same total and at twice as many answers."""
    kinds = sorted((kind for kind in PEOPLE if kind != "compare"), key=lambda kind: float(np.mean(found[kind,])))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    where = np.arange(len(kinds))
    for mark, label, before in (
        ("o", f"{TOGETHER} alone", ()),
        ("s", f"{TOGETHER // 2}, and {TOGETHER // 2} comparisons", ("half", "compare")),
        ("^", f"{TOGETHER}, and {TOGETHER} comparisons", ("compare",)),
    ):
        axes.plot(where, [float(np.mean(found[*before, kind])) for kind in kinds], mark, label=label)
    axes.axhline(float(np.mean(found["compare",])), color="grey", lw=1, label=f"{TOGETHER} comparisons alone")
    axes.set(yscale="log", ylabel="1 - cosine to what is wanted")
    axes.set_xticks(where, kinds, rotation=45, ha="right")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=140)
