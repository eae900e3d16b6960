"""How fast videos are embedded: frames per second of CPU time, the first time and from the cache.

.venv/bin/python benchmarks/encoders.py

The weights are random, which costs the same. Our own trunk looks at 64 x 64 pixels, resnet18 at 112 x 112 as in the
published RAPL, and at 64 x 64 beside ours.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from policies.encoders import FrozenTrunk, embed
from policies.soft_argmax import pretrain
from policies.timm_trunk import timm_trunk


def rate(trunk: FrozenTrunk, videos: list[np.ndarray], cache: Path) -> tuple[float, float]:
    """Frames per second of CPU time, the first time and again."""
    frames = sum(len(video) for video in videos)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        embed(trunk, videos, cache)
        seconds.append(time.process_time() - start)
    return frames / seconds[0], frames / seconds[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    videos = list(rng.integers(0, 256, (args.videos, args.frames, 64, 64, 3)).astype(np.uint8))
    trunks = {
        "soft-argmax, 64 x 64": pretrain(videos[:2], steps=1, batch=2),
        "resnet18, 64 x 64": timm_trunk(pretrained=False, side=64),
        "resnet18, 112 x 112": timm_trunk(pretrained=False),
    }
    for trunk in trunks.values():
        embed(trunk, videos[:2])  # warm
    for i in range(args.rounds):
        for name, trunk in trunks.items():
            with tempfile.TemporaryDirectory() as folder:
                first, again = rate(trunk, videos, Path(folder))
            print(f"round {i}  {name:20s} {first:7.0f} frames/s, from the cache {again:7.0f}", flush=True)


if __name__ == "__main__":
    main()
