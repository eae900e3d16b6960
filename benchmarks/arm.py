"""Control steps per second: the batched arm against the same arm in Gymnasium's own vector environments.

    python benchmarks/arm.py

Ratios are taken side by side in one run, the contenders in turn, so that they hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import gymnasium
import numpy as np

from envs.arm import CupArms


def rate(env: Any, actions: np.ndarray, steps: int) -> float:
    """Control steps of single arms per second."""
    start = time.perf_counter()
    for t in range(steps):
        env.step(actions[t % len(actions)])
    return steps * len(actions[0]) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=64)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    actions = np.random.default_rng(0).uniform(-1, 1, (80, args.arms, 5)).astype(np.float32)
    single = [lambda: gymnasium.make("rapport/CupArm-v0")] * args.arms
    contenders = {
        "CupArms, batched": CupArms(args.arms, seed=0),
        "gymnasium SyncVectorEnv": gymnasium.vector.SyncVectorEnv(single),
        "gymnasium AsyncVectorEnv": gymnasium.vector.AsyncVectorEnv(single),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for env in contenders.values():
        env.reset(seed=0)
    for _ in range(args.rounds):
        for name, env in contenders.items():
            rates[name].append(rate(env, actions, args.steps))
    ours = rates["CupArms, batched"]
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(ours, values, strict=True)]
        print(
            f"{name:26} {median(values):>9,.0f} steps/s    ours is {median(ratios):5.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    for env in contenders.values():
        env.close()


if __name__ == "__main__":
    main()
