"""The map of docs/rapl.md: rewards of videos side by side over worlds, nuisance, answers and seeds, and plans on them.

    python examples/rapl_map.py                                     # ten seeds: some eleven hours of one core
    python examples/rapl_map.py --seeds 0 1 --worlds covering       # a part; run again, it makes what is missing
    python examples/rapl_map.py --plans                             # what the rewards make a body do, on true positions
    python examples/rapl_map.py --policies covering --seeds 0 1 2 3 4   # what PPO learns on them, on a body never seen
    python examples/rapl_map.py --moments                           # frame by frame, as the paper measures
    python examples/rapl_map.py --tables                            # what is known so far, and the picture

Cells are lines of OUT/cells.jsonl and OUT/plans.jsonl; what is there is not made again, so it may be killed whenever.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from rapport.rapl.map import Setting, cells, fill
from rapport.rapl.map_report import criteria, needed, picture, plan_table, table, wins
from rapport.rapl.moments import ANSWERS, JUDGED, moment_table, over
from rapport.rapl.plans import fill_plans, plans
from rapport.rapl.policies import fill_policies, policies, policy_table

SETTINGS = (
    Setting("covering"),
    Setting("grouping"),
    Setting("avoiding"),
    Setting("wipe"),
    Setting("group"),
    Setting("group", "none"),
    Setting("covering", "none", "positions"),
    Setting("grouping", "none", "positions"),
    Setting("covering", "none"),
    Setting("covering", "light"),
    Setting("grouping", "none"),
    Setting("covering", "heavy", "pixels"),
    Setting("grouping", "heavy", "pixels"),
)
NETS = ("frame net, released recipe", "frame net, rankings and demos", "video net, rankings and demos")
MOMENTS = (Setting("group", "none"), Setting("grouping", "none"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--worlds", nargs="+", default=None, help="only these")
    parser.add_argument("--out", type=Path, default=Path("runs/rapl-map"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="videos' features and trunks")
    parser.add_argument("--device", default="cpu", help="where trunks learn and look: cuda, where there is one")
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--tries", type=int, default=6, help="starts planned from, for each seed")
    parser.add_argument("--moments", action="store_true")
    parser.add_argument("--policies", metavar="WORLD", default=None)
    parser.add_argument("--steps", type=int, default=30_720, help="of each policy")
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [s for s in SETTINGS if args.worlds is None or s.world in args.worlds]
    where, planned = args.out / "cells.jsonl", args.out / "plans.jsonl"
    trained, framed = args.out / "policies.jsonl", args.out / "moments.jsonl"
    if args.policies:
        world = args.policies
        fill_policies(
            trained, args.seeds, args.cache, world=world, steps=args.steps, told=lambda x: print(x, flush=True)
        )
    elif args.plans:
        fill_plans(planned, args.seeds, args.cache, tries=args.tries, told=lambda line: print(line, flush=True))
    elif args.moments:
        fill(
            framed,
            MOMENTS,
            args.seeds,
            args.cache,
            answers=(0, ANSWERS),
            names=JUDGED,
            measure=over,
            device=args.device,
            told=lambda line: print(line, flush=True),
        )
    elif not args.tables:
        fill(
            where,
            chosen,
            args.seeds,
            args.cache,
            device=args.device,
            told=lambda line: print(line, flush=True),
        )
    found = cells(where)
    for setting in chosen:
        for bodies, told in (("unseen", "bodies never seen"), ("seen", "bodies learned from")):
            if lines := list(table(found, setting, bodies)):
                print(f"\n{setting.world}, nuisance {setting.nuisance}, eyes {setting.eyes}: {told}\n")
                print("\n".join(lines))
    if found:
        print("\nRAPL less the best rival, bodies never seen\n\n" + "\n".join(wins(found)))
        print("\nanswers a rival needs for what RAPL has from | 10 | 25 | 50")
        for setting in (Setting("covering"), Setting("wipe")):
            print("\n".join(needed(found, setting, NETS, (10, 25, 50))))
    print("\n" + "\n".join(criteria(found, plans(planned))))
    if done := plans(planned):
        print("\n" + "\n".join(plan_table(done)))
    for world in dict.fromkeys(p.world for p in policies(trained)):
        print(f"\n{world}\n" + "\n".join(policy_table(policies(trained), world)))
    if by_frame := cells(framed):
        print("\n" + "\n".join(moment_table(by_frame)))
    if found:
        picture(found, args.out / "map.png")
        print(f"\nthe picture: {args.out / 'map.png'}")


if __name__ == "__main__":
    main()
