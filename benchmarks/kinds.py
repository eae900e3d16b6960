"""How much each kind of answer tells: the error of a linear reward learned from a few, alone and beside comparisons.

.venv/bin/python benchmarks/kinds.py

1 - cosine between the learned and the true direction, the mean over draws, with a simulated person who answers exactly
as the likelihoods say.
"""

from __future__ import annotations

import argparse

import numpy as np

from embodied.feedback import by_kind
from embodied.rational import rational
from embodied.records import Array, Query, Segment
from embodied.rewards.ensemble import RewardEnsemble
from embodied.teachers import answer

TRUE, STEPS = np.array([1.0, -0.6, 0.3, 0.0]), 10
SIZES = {"compare": 2, "rank": 4, "rate": 2, "grade": 2, "choose": 4, "mark": 1, "stop": 1}


def reward(segment: Segment) -> Array:
    value: Array = segment.obs @ TRUE
    return value


def questions(kind: str, n: int, seed: int) -> list[Query]:
    rng, k = np.random.default_rng([seed, n]), SIZES[kind]
    found = []
    for i in range(n):
        obs = 0.5 * (0.6 * rng.normal(size=(k, 1, len(TRUE))) + rng.normal(size=(k, STEPS, len(TRUE))))
        parts = tuple(Segment(f"{kind}{i}-{j}", 0, STEPS, each, np.zeros((STEPS, 0))) for j, each in enumerate(obs))
        found.append(Query(f"{kind}{i}", parts, kind))
    return found


def error(kinds: tuple[str, ...], n: int, seed: int) -> float:
    asked = [query for kind in kinds for query in questions(kind, n, seed)]
    parts, _ = by_kind([answer(rational(reward, seed=seed), query, "person") for query in asked], asked)
    model = RewardEnsemble(len(TRUE), 0, members=1, hidden=(), steps=300, batch=10_000, rate=0.02)
    model.fit(parts, np.random.default_rng(0))
    found = (model.weights[0][0, :, 0] / model.obs_std).detach().numpy()
    return float(1 - found @ TRUE / np.linalg.norm(found) / np.linalg.norm(TRUE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=30)
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()

    def mean(*kinds: str) -> float:
        return float(np.mean([error(kinds, args.answers, seed) for seed in range(args.draws)]))

    for kind in SIZES:
        beside = "" if kind == "compare" else f"  with as many comparisons {mean('compare', kind):.3f}"
        print(f"{kind:8s} {mean(kind):.3f}{beside}", flush=True)


if __name__ == "__main__":
    main()
