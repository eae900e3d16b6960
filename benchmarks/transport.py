"""Sinkhorn on a batch of costs against POT's, pair after pair, on the same work.

.venv/bin/python benchmarks/transport.py

Seconds are CPU time of one thread. `fixed`: as many sweeps as training makes, forward alone, POT told to make as many.
`converged`: until the marginals hold within 1e-6, in double precision on both sides.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import ot
import torch

from embodied import transport


def seconds(work: Callable[[], Any], rounds: int) -> list[float]:
    work()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--frames", type=int, default=45)
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--sweeps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # POT warns where it was told to stop early
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(args.batch, args.frames, 32, generator=draw, dtype=torch.float64) for _ in range(2))
    cost = transport.pair_cost(x, y)
    each, even = list(cost.numpy()), np.full(args.frames, 1 / args.frames)

    def peer(method: str, sweeps: int, tolerance: float) -> list[Any]:
        return [ot.sinkhorn(even, even, c, args.eps, method=method, numItermax=sweeps, stopThr=tolerance) for c in each]

    single = cost.float()
    cases: dict[str, tuple[Callable[[], Any], dict[str, Callable[[], Any]]]] = {
        "fixed": (
            lambda: transport.plan(single, args.eps, sweeps=args.sweeps, tolerance=0.0),
            {method: lambda m=method: peer(m, args.sweeps, 0.0) for method in ("sinkhorn_log", "sinkhorn")},  # type: ignore[misc]
        ),
        "converged": (
            lambda: transport.plan(cost, args.eps, tolerance=1e-6),
            {method: lambda m=method: peer(m, 1000, 1e-6) for method in ("sinkhorn_log", "sinkhorn")},  # type: ignore[misc]
        ),
    }
    apart = np.abs(transport.plan(cost, args.eps).numpy() - np.stack(peer("sinkhorn_log", 10_000, 1e-10))).max()
    print(f"{args.batch} pairs of {args.frames} frames, eps {args.eps}; plans agree to {apart:.1e}")
    for name, (ours, peers) in cases.items():
        mine = seconds(ours, args.rounds)
        for method, work in peers.items():
            theirs = seconds(work, args.rounds)
            ratios = np.array(theirs) / np.array(mine)
            print(
                f"{name:9s} ours {np.median(mine) * 1e3:5.1f} ms  POT {method:12} {np.median(theirs) * 1e3:7.1f} ms   "
                f"{np.median(ratios):.1f} times ({ratios.min():.1f}-{ratios.max():.1f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
