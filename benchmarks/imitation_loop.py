"""imitation's whole loop of preference comparisons on one task: true return and seconds, to set `rapport` beside.

    python benchmarks/imitation_loop.py --env Pendulum-v1 --comparisons 200 --steps 50000

An oracle answers by the true return. Evaluated are 20 deterministic episodes with seeds 1000 to 1019, as for whoever is
compared. imitation gets an environment of its own (--peer-env); benchmarks/peers/imitation_loop.py has the settings.
"""

from __future__ import annotations

import argparse
import json
from statistics import stdev

import peer_env


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--env", default="Pendulum-v1", help="Pendulum-v1 or Reacher-v4 (imitation's gymnasium has no v5)"
    )
    parser.add_argument("--comparisons", type=int, default=200, help="how many answers in all")
    parser.add_argument("--steps", type=int, default=50_000, help="of training; what was taken in all is reported")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--setting", default="rounds", help="tutorial, rounds or zoo")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the line")
    peer_env.add_argument(parser)
    args = parser.parse_args()
    names = ("env", "comparisons", "steps", "seed", "setting")
    options = [item for name in names for item in (f"--{name}", getattr(args, name))]
    result = peer_env.run(args.peer_env, "imitation_loop", *options)
    if args.json:
        print(json.dumps(result))
        return
    print(
        f"imitation {result['versions']['imitation']}, setting {args.setting}, {args.env}, seed {args.seed}, "
        f"{args.comparisons} comparisons: true return {result['return']:.1f} (deviation {stdev(result['returns']):.1f} "
        f"over {len(result['returns'])} episodes) after {result['steps_taken']:,} steps, of which "
        f"{result['steps_trained']:,} of training; {result['seconds']:.0f} s, {result['cpu_seconds']:.0f} s of CPU"
    )


if __name__ == "__main__":
    main()
