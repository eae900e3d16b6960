"""Pairs per second in training a reward ensemble from preferences: ours against imitation's EnsembleTrainer.

    python benchmarks/reward_training.py

The same pairs of segments, the same sizes of network, batch and number of gradient steps, one thread each, in turn in
one run; the ratio is what counts. Seconds are CPU time of that one thread, so that a busy machine changes little.
imitation gets an environment of its own (--peer-env). Agreement is printed for both, on the pairs trained on and on
held-out ones: who learns nothing is not fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import peer_env
import torch

from embodied import Feedback, RewardEnsemble, Segments


def episodes(env: gymnasium.Env[Any, Any], n: int, length: int, seed: int) -> tuple[np.ndarray, ...]:
    """n stretches of random behaviour from their own starts: obs [n,T+1,O], act [n,T,A], true return [n]."""
    env.action_space.seed(seed)
    obs, act, value = [], [], []
    for i in range(n):
        seen, done, total = [env.reset(seed=seed + i)[0]], [], 0.0
        for _ in range(length):
            done.append(env.action_space.sample())
            after, reward, ended, _, _ = env.step(done[-1])
            seen.append(after)
            total += float(reward)
            if ended:
                sys.exit(
                    f"{env.spec and env.spec.id} ends within {length} steps; take another --env or a shorter --length"
                )
        obs.append(seen)
        act.append(done)
        value.append(total)
    return np.array(obs, np.float32), np.array(act, np.float32), np.array(value)


def pairs(env: gymnasium.Env[Any, Any], n: int, length: int, seed: int) -> dict[str, np.ndarray]:
    """obs [n,2,T+1,O], act [n,2,T,A], first [n]: whether the first has the higher true return."""
    obs, act, value = (x.reshape(n, 2, *x.shape[1:]) for x in episodes(env, 2 * n, length, seed))
    return {"obs": obs, "act": act, "first": value[:, 0] > value[:, 1]}


def feedback(data: dict[str, np.ndarray]) -> Feedback:
    first, act = torch.as_tensor(data["first"]), torch.as_tensor(data["act"])
    mask = torch.ones(act.shape[:-1], dtype=torch.bool)
    segments = Segments(torch.as_tensor(data["obs"][:, :, :-1]), act, mask, torch.full(mask.shape, torch.nan))
    target = torch.stack([first, ~first], -1).float()
    return Feedback(segments, target, torch.ones(len(act)), torch.zeros(len(act), dtype=torch.int64), ~mask[:, 0, 0])


def agreement(ensemble: RewardEnsemble, data: Feedback) -> float:
    value = ensemble.utilities(data.segments).mean(0)
    return float(((value[:, 0] > value[:, 1]) == (data.target[:, 0] > 0.5)).float().mean())


def ours(train: Feedback, held: Feedback, args: argparse.Namespace, epochs: int) -> dict[str, float]:
    segments = train.segments
    ensemble = RewardEnsemble(
        segments.obs.shape[-1],
        segments.act.shape[-1],
        members=args.members,
        hidden=tuple(args.hidden),
        steps=epochs * len(train) // args.batch,
        batch=args.batch,
        rate=args.rate,
        seed=args.seed,
    )
    start = time.process_time()
    ensemble.fit(train, np.random.default_rng(args.seed))
    seconds = time.process_time() - start
    return {"seconds": seconds, "train": agreement(ensemble, train), "held_out": agreement(ensemble, held)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5", help="where the segments come from")
    parser.add_argument("--pairs", type=int, default=512, help="a multiple of --batch")
    parser.add_argument("--length", type=int, default=50, help="steps of a segment")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the lines")
    peer_env.add_argument(parser)
    args = parser.parse_args()
    if args.pairs % args.batch:
        parser.error(f"--pairs {args.pairs} is no multiple of --batch {args.batch}: the numbers of steps would differ")
    torch.set_num_threads(1)
    env = gymnasium.make(args.env)
    train = pairs(env, args.pairs, args.length, args.seed)
    held = pairs(env, 256, args.length, args.seed + 1_000_000)
    options = [(f"--{name}", getattr(args, name)) for name in ("members", "batch", "epochs", "rate", "seed")]
    results: dict[str, list[dict[str, float]]] = {"Rapport": [], "imitation 1.0.1": []}
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "pairs.npz"
        save: dict[str, Any] = train | {f"held_{name}": value for name, value in held.items()}
        np.savez(arrays, **save)
        ours(feedback(train), feedback(held), args, 1)  # warm; so does the other side
        for _ in range(args.rounds):
            results["Rapport"].append(ours(feedback(train), feedback(held), args, args.epochs))
            flat = [item for option in options for item in option]
            peer = peer_env.run(args.peer_env, "imitation_reward", arrays, *flat, "--hidden", *args.hidden)
            results["imitation 1.0.1"].append(peer)
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(*results.values(), strict=True)]
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "peer_env"}
        print(json.dumps({"settings": settings, "results": results, "ratios": ratios}))
        return
    for name, rows in results.items():
        rate, (known, new) = (
            args.epochs * args.pairs / median(row["seconds"] for row in rows),
            (median(row[key] for row in rows) for key in ("train", "held_out")),
        )
        print(f"{name:16} {rate:>9,.0f} pairs/s   agreement {known:.3f} on these pairs, {new:.3f} on held-out ones")
    print(f"ours is {median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
