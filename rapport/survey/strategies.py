"""How many labels each way to choose questions needs, against asking at random; and where choosing loses.

Nothing here was tuned for any strategy: all see the same posterior, pools, batches and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from embodied.criteria import expected_information, predictive_entropy, removed_volume
from embodied.planning import uniform_policy
from embodied.queries import entropy, volume_removal
from embodied.schedule import Schedule, shares
from embodied.walks import steps, walks
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.survey.asking import BUDGET, LENGTH, SESSIONS, STRATEGIES, Place, generated, joined, labels_needed, place
from rapport.survey.posterior import SPREAD, posterior, summary, utility
from rapport.survey.seconds import By, seconds_needed

REPEATS = {"uniform": 24, "k-centre": 24, "information": 8, "volume removal": 8}
OTHERS, TIMED = 3, 8  # repeats of the other strategies, and where seconds are counted

# Where choosing may lose: in a small pool, and where answers are wrong; and where it need not choose a whole batch.
CELLS: Mapping[str, Mapping[str, Any]] = {
    "two candidates a question": {"pool": 10},
    "a fifth of the answers wrong": {"mistakes": 0.2},
    "one question at a time": {"sessions": (1,) * BUDGET},
}
TRIED = ("uniform", "information", "k-centre", "information+k-centre")
SCHEDULES: tuple[Schedule, ...] = ("constant", "decaying", "growing")


def needed(where: Place, name: str, seed: int, repeats: int, **cell: Any) -> list[int]:
    """Labels until near-optimal, once for each repeat; the same repeat of another strategy begins alike."""
    streams = (np.random.default_rng([seed, 4, n]) for n in range(repeats))
    return [labels_needed(where, STRATEGIES[name], rng, **cell) for rng in streams]


def exact(where: Place, seed: int) -> list[Mechanism]:
    """What holds for any posterior and pool."""
    made, rng = where.board, np.random.default_rng([seed, 5])
    weights = rng.normal(0, SPREAD, (51, len(made.weights)))  # odd: no quarrel ends half and half
    one = walks(made, uniform_policy(made), (100, 1), LENGTH, rng)
    twins = joined([one, one], 1)  # a hundred segments, each against itself
    met = joined([twins, walks(made, uniform_policy(made), (3900, 2), LENGTH, rng)])
    seen = summary(met, made.gamma)
    value = utility(weights, where.psi, seen)
    diff = value[..., 0] - value[..., 1]
    alike = (diff == 0).all(0)

    # The same walkers and the same random numbers: told that the first of two copies is better, and told nothing.
    told, nothing = (
        posterior(weights, where.psi, seen[:n], np.ones(n), 10, np.random.default_rng(0)) for n in (100, 0)
    )
    order = np.argsort(removed_volume(diff[:, ~alike]))
    start = steps(met).state[..., 0].numpy()
    fair = diff[:, start[:, 0] == start[:, 1]]  # from one state, as the generated ones are
    made_up = utility(weights, where.psi, summary(generated(where, weights, weights, 0, 1, rng), made.gamma))
    gain = expected_information(made_up[..., 0] - made_up[..., 1])[0] - expected_information(fair).max()
    return [
        Mechanism(
            "a hundred answers about a segment and itself: change of the posterior's samples",
            float(np.abs(told - nothing).max()),
            0.0,
        ),
        Mechanism(
            "of entropy's ten questions about a pool with a hundred such pairs, those that no member tells apart",
            float(alike[entropy(diff, 10, rng)].sum()),
            10,
            "at least",
        ),
        Mechanism("the same, volume removal's", float(alike[volume_removal(diff, 10, rng)].sum()), 0),
        Mechanism(
            "of the others, in the order of volume removal: the most by which entropy falls, in nats",
            float(-np.diff(predictive_entropy(diff[:, ~alike])[order]).min()),
            1e-9,
        ),
        Mechanism(
            "information of the best generated question, less that of the best one met from one state, in nats",
            float(gain),
            -1e-9,
            "at least",
        ),
    ]


def strategies(seed: int, full: bool, progress: Progress) -> tuple[list[Mechanism], list[Comparison]]:
    """Every strategy in batches of five, and with `full` a few of them where choosing may lose, and the schedules."""
    where = place(np.random.default_rng([seed, 3]))
    cells = [(cell, name) for cell in CELLS for name in TRIED] if full else []
    total, done = len(STRATEGIES) + 1 + len(cells) + (len(SCHEDULES) if full else 0), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done / total)

    found: dict[str, list[int]] = {}
    for name in STRATEGIES:
        found[name] = needed(where, name, seed, REPEATS.get(name, OTHERS))
        tick()

    def fewer(name: str, title: str, few: list[int], many: list[int], claim: str) -> Comparison:
        """Seed by seed."""
        less = tuple(float(a - b) for a, b in zip(few, many, strict=False))
        return Comparison(f"{title}: labels that {name} needs, less uniform's", less, claim, (-np.inf, 0.0))

    meant = "what it is for: fewer than at random"
    comparisons = [
        Comparison("labels that uniform needs", tuple(map(float, found["uniform"])), "no figure", (np.nan, np.nan)),
        *(fewer(n, "batches of five", found[n], found["uniform"], meant) for n in STRATEGIES if n != "uniform"),
    ]
    timed = {
        by: [seconds_needed(where, by, np.random.default_rng([seed, 6, n])) for n in range(TIMED)]
        for by in get_args(By)
    }
    tick()
    for by in ("information", "information per second"):
        less = tuple(a - b for a, b in zip(timed[by], timed["uniform"], strict=True))
        comparisons.append(Comparison(f"seconds that {by} needs, less uniform's", less, "no figure", (-np.inf, 0.0)))
    others: dict[tuple[str, str], list[int]] = {}
    for cell, name in cells:
        others[cell, name] = needed(where, name, seed, OTHERS, **CELLS[cell])
        tick()
    for cell, name in cells:
        if name != "uniform":
            comparisons.append(fewer(name, cell, others[cell, name], others[cell, "uniform"], meant))
    for schedule in SCHEDULES if full else ():
        sessions = tuple(int(k) for k in shares(schedule, BUDGET, len(SESSIONS)))
        labels = tuple(float(n) for n in needed(where, "information", seed, OTHERS, sessions=sessions))
        comparisons.append(Comparison(f"labels that information needs, {schedule}", labels, "no figure", (np.nan,) * 2))
        tick()

    # A run that never gets there counts as the budget and a session, so means of labels say less than how often one is
    # ahead. Last, the mean and sd of the development seeds 1000 to 1009.
    few, many = np.array(found["k-centre"]), np.array(found["uniform"])[:, None]
    mechanism = [
        *exact(where, seed),
        Mechanism(
            "chance that k-centre needs fewer labels than uniform, half of the ties counted",
            float(((few < many) + 0.5 * (few == many)).mean()),
            0.55,
            "at least",
            (0.803, 0.055),
        ),
        Mechanism(
            "labels that volume removal needs, less those that information needs",
            float(np.mean(found["volume removal"]) - np.mean(found["information"])),
            10.0,
            "at least",
            (39.8, 6.9),
        ),
    ]
    return mechanism, comparisons
