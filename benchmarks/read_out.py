"""What can be read from a trunk: R² of positions told linearly from its features, on videos that it has not seen.

.venv/bin/python benchmarks/read_out.py

The sweeping world under heavy nuisance; grouping. Trunks and read-outs learn from 600 videos of the short and the
medium stick; the test is 120 other videos of these, and 120 of the long stick and the gripper. Minutes for each trunk.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from envs.pixels.films import Films
from envs.pixels.sweep_scripts import films
from policies.encoders import FrozenTrunk
from policies.soft_argmax import CHANNELS, SIDE, Streams, pretrain

Array = npt.NDArray[Any]
See = Callable[[Array], Array]


def shown(bodies: tuple[str, str], n: int, seed: int) -> list[Films]:
    rng = np.random.default_rng(seed)
    return [films("grouping", body, n // 2, rng, nuisance="heavy") for body in bodies]  # type: ignore[arg-type]


def truth(of: list[Films]) -> dict[str, Array]:
    """What is to be told, [M,k] each. The objects look alike, so of them what does not depend on which is which."""
    state = np.concatenate([some.state.reshape(-1, some.state.shape[-1])[:, :6] for some in of]).astype(np.float64)
    objects = state[:, 2:].reshape(-1, 2, 2)
    apart = np.linalg.norm(objects[:, 0] - objects[:, 1], axis=-1, keepdims=True)
    return {
        "body": state[:, :2],
        "mean of objects": objects.mean(1),
        "objects, sorted x": np.sort(objects[..., 0], 1),
        "gap": apart,
    }


def told(see: See, of: list[Films]) -> Array:
    return np.concatenate([see(some.frames).reshape(some.frames.shape[0] * some.frames.shape[1], -1) for some in of])


def unexplained(known: Array, wanted: Array, seen: Array, there: Array) -> Array:
    """The share [k] of the variance of there [M,k] that a ridge from known to wanted leaves, its strength chosen on a
    fifth of what is known."""
    middle, spread = known.mean(0), known.std(0) + 1e-6
    a, b, c = (known - middle) / spread, (seen - middle) / spread, wanted - wanted.mean(0)
    cut = len(a) * 4 // 5 // 20 * 20  # whole videos

    def ridge(x: Array, y: Array, strength: float) -> Array:
        return np.linalg.solve(x.T @ x + strength * len(x) * np.eye(x.shape[1]), x.T @ y)

    strengths = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    errors = [np.square(c[cut:] - a[cut:] @ ridge(a[:cut], c[:cut], s)).sum() for s in strengths]
    wrong = there - wanted.mean(0) - b @ ridge(a, c, strengths[int(np.argmin(errors))])
    left: Array = np.square(wrong).sum(0) / np.square(there - there.mean(0)).sum(0)
    return left


def pixels(frames: Array) -> Array:
    """The means of 8 x 8 blocks, [N,T,192]."""
    n, t, height, width, _ = frames.shape
    found: Array = frames.reshape(n, t, 8, height // 8, 8, width // 8, 3).mean((3, 5)).reshape(n, t, -1)
    return found


def trunks(frames: Array, act: Array, steps: int, seed: int) -> dict[str, Callable[[], See]]:
    def untrained() -> See:
        torch.manual_seed(seed)
        return FrozenTrunk(Streams(), 10 * CHANNELS[-1], SIDE, {})

    return {
        "8 x 8 pixels": lambda: pixels,
        "soft-argmax, untrained": untrained,
        "soft-argmax, no actions": lambda: pretrain(frames, steps=steps, seed=seed),
        "soft-argmax, actions": lambda: pretrain(frames, act, steps=steps, seed=seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--videos", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        pool = shown(("short", "medium"), args.videos, 3 * seed)
        tests = {
            "seen bodies": shown(("short", "medium"), 120, 3 * seed + 1),
            "new bodies": shown(("long", "gripper"), 120, 3 * seed + 2),
        }
        frames, act = (np.concatenate([getattr(some, name) for some in pool]) for name in ("frames", "act"))
        for name, make in trunks(frames, act, args.steps, seed).items():
            start = time.process_time()
            see = make()
            seconds = time.process_time() - start
            known, wanted = told(see, pool), truth(pool)
            for where, test in tests.items():
                seen, there = told(see, test), truth(test)
                found = {what: 1 - unexplained(known, wanted[what], seen, there[what]).mean() for what in wanted}
                line = "  ".join(f"{what} {value:.2f}" for what, value in found.items())
                print(f"seed {seed}  {name:24s} {where:11s} {line}  ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
