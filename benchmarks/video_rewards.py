"""From rankings to a reward, and rewards from pixels: seconds of RAPL beside the reward net on the same features.

.venv/bin/python benchmarks/video_rewards.py

Seconds are CPU time of one thread. Videos are of the sweeping world under heavy nuisance, features those of a trunk as
`rapport train --reward rapl` makes it; how well the rewards rank is another matter (docs/rapl.md).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from embodied.rapl import Head, Rapl, align
from embodied.video_rewards import FrameNet, learn
from embodied.videos import padding, ranked
from envs.pixels.sweep_scripts import films
from policies.encoders import embed
from policies.soft_argmax import pretrain


def seconds(work: Callable[[], Any], rounds: int) -> str:
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return f"{np.median(found):.3f} s ({min(found):.3f} to {max(found):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--answers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    seen = films("covering", "medium", args.videos, rng, nuisance="heavy")
    trunk = pretrain(seen.frames, seen.act, steps=20)  # as fast as one that was trained longer
    videos = embed(trunk, list(seen.frames))
    frames, demos = np.concatenate(videos), videos[:5]
    groups = np.stack([rng.choice(args.videos, 3, replace=False) for _ in range(args.answers)])
    data = ranked(videos, groups, seen.reward.sum(1)[groups])
    head = Head(trunk.size)
    head.standard.fit(frames)
    reward, net = Rapl(head, demos), FrameNet(frames)
    batch, mask = padding(videos)
    steps = mask.shape[1]

    def rate(work: Callable[[], Any]) -> str:
        start = time.process_time()
        work()
        took = time.process_time() - start
        return f"{args.videos / took:.0f} videos a second, {args.videos * steps / took:.0f} frames"

    print(f"{args.answers} rankings of three to a reward, {steps} frames each")
    print("  RAPL, demonstrations  ", seconds(lambda: align(reward, data, rng), args.rounds))
    print("  RAPL, as published    ", seconds(lambda: align(reward, data, rng, aim="published"), args.rounds))
    print("  frame net             ", seconds(lambda: learn(net, data, rng), args.rounds))
    print(f"rewards of {args.videos} videos of 64x64 pixels, {len(demos)} demonstrations")
    print("  pixels to features    ", rate(lambda: embed(trunk, list(seen.frames))))
    print("  features to RAPL      ", rate(lambda: reward.worth(batch, mask)))
    print("  features to frame net ", rate(lambda: net.worth(batch, mask)))
    print("  pixels to RAPL        ", rate(lambda: reward.worth(*padding(embed(trunk, list(seen.frames))))))


if __name__ == "__main__":
    main()
