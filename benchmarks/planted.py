"""How often `rapport explain` names how a simulated person answers, by kind of person and number of answers.

.venv/bin/python benchmarks/planted.py

Of each person and size, the number of seeds for which the right one is named, for which it cannot be told (or nothing
beats a coin), and for which another one is named.
"""

from __future__ import annotations

import argparse

import numpy as np

from embodied.explain import explain
from envs.delivery import board
from rapport.explain import boards, planted_point, recordings
from rapport.explain.planted import PEOPLE, Person, person

HOME = board()
FOLDS = 5


def named(where: str, kind: Person, n: int, seed: int, errors: bool) -> str | None:
    if where == "point":
        episodes, data = planted_point.person(kind, n, seed)
        models = recordings.models(episodes, data.segments)
    else:
        data = person(HOME, kind, n, seed, errors)
        models = boards.models(HOME, data.segments)
    first = data.target[:, 0].double().numpy()
    return explain(models, first, np.arange(n), n=FOLDS, rng=np.random.default_rng(0)).named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", choices=["board", "point"], default="board", help="whose clips are shown")
    parser.add_argument("--answers", type=int, nargs="+", default=[300, 2000])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=4000, help="the first seed")
    parser.add_argument("--no-errors", action="store_true", help="on the board: the better one every time")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    kinds = [kind for kind in PEOPLE if kind != "random"] if args.no_errors else PEOPLE
    for n in args.answers:
        for kind in kinds:
            right = "coin" if kind == "random" else kind
            found = [named(args.where, kind, n, seed, not args.no_errors) for seed in seeds]
            told, open_ = found.count(right), sum(name in (None, "coin") for name in found if name != right)
            print(
                f"{kind:8} {n:5} answers: right {told}, cannot tell {open_}, wrong {len(found) - told - open_}",
                flush=True,
            )


if __name__ == "__main__":
    main()
