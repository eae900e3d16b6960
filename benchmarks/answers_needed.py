"""How many answers it takes to come near what the true reward teaches: `rapport train` beside imitation's whole loop.

    python benchmarks/answers_needed.py --env Pendulum-v1

0 is acting at random, 1 what `rapport train --method true` reaches in as many steps; both sides are held to the same
bar. Each side gets three settings, tried on seed 0 with 200 answers; the best is run on the seeds from 1 on. What has
been run is kept in --out, so the script may be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import peer_env

from embodied import atomic
from rapport.compare.statistics import scaled
from rapport.train import Method, Settings, ensemble, pebble, train, true_reward
from rapport.train.learner import at_random
from rapport.train.spaces import world

TUNED_ON, EPISODES, BAR = 200, 20, 0.9
PEER_STEPS = 61_440
PEER_SETTINGS = "tutorial", "rounds", "zoo"
OURS: dict[str, Method] = {"pebble": pebble(), "pebble, uniform questions": pebble("uniform"), "ensemble": ensemble()}


@dataclass(frozen=True)
class Task:
    steps: int
    clip: int
    sessions: int


TASKS = {"Pendulum-v1": Task(8_000, 25, 10), "Reacher-v4": Task(10_000, 25, 20)}


@dataclass(frozen=True)
class Run:
    side: str
    setting: str
    answers: int
    seed: int
    score: float
    true_return: float
    cpu_seconds: float
    steps: int


def ours(env: str, setting: str, answers: int, seed: int, out: Path) -> dict[str, Any]:
    task = TASKS[env]
    method = true_reward() if setting == "true" else OURS[setting]
    settings = Settings(
        env=env,
        method=method,
        answers=answers,
        steps=task.steps,
        seed=seed,
        clip=task.clip,
        sessions=min(task.sessions, answers or task.sessions),
        episodes=EPISODES,
    )
    kept = out / f"rapport-{setting.replace(', ', '-').replace(' ', '-')}-{answers}-{seed}"
    if not (kept / "cpu.json").exists():
        before = time.process_time()
        trained = train(settings, kept)
        atomic.write(kept / "cpu.json", json.dumps(time.process_time() - before).encode())
        result = trained.result
    else:
        result = json.loads((kept / "result.json").read_text())
    cpu = json.loads((kept / "cpu.json").read_text())
    return {"return": result["return_after"], "cpu_seconds": cpu, "steps_taken": result["steps"]}


def theirs(env: str, setting: str, answers: int, seed: int, out: Path, folder: Path) -> dict[str, Any]:
    kept = out / f"imitation-{setting}-{answers}-{seed}.json"
    if not kept.exists():
        options = {"env": env, "comparisons": answers, "steps": PEER_STEPS, "seed": seed, "setting": setting}
        try:
            found = peer_env.run(folder, "imitation_loop", *(x for k, v in options.items() for x in (f"--{k}", v)))
        except SystemExit:  # it has a round without an answer, and ends there
            found = {"return": float("nan"), "cpu_seconds": float("nan"), "steps_taken": 0}
        atomic.write(kept, json.dumps(found).encode())
    loaded: dict[str, Any] = json.loads(kept.read_text())
    return loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", choices=TASKS, default="Pendulum-v1")
    parser.add_argument("--budgets", type=int, nargs="+", default=[12, 25, 50, 100, 200])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/answers-needed"))
    peer_env.add_argument(parser)
    args = parser.parse_args()
    out = args.out / args.env
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(1, args.seeds + 1)
    place = world(args.env, {}, 0, 0)
    floor = float(at_random(place, EPISODES).mean())
    ceiling = statistics.mean(ours(args.env, "true", 0, seed, out)["return"] for seed in seeds)
    print(f"{args.env}: at random {floor:.1f}, on the true reward {ceiling:.1f}", flush=True)

    def run(side: str, setting: str, answers: int, seed: int) -> Run:
        found = (
            ours(args.env, setting, answers, seed, out)
            if side == "rapport"
            else theirs(args.env, setting, answers, seed, out, args.peer_env)
        )
        done = Run(
            side,
            setting,
            answers,
            seed,
            scaled(found["return"], floor, ceiling),
            found["return"],
            found["cpu_seconds"],
            found["steps_taken"],
        )
        print(
            f"{side}, {setting}, {answers} answers, seed {seed}: {done.true_return:.1f}, score {done.score:.2f}, "
            f"{done.cpu_seconds:.0f} s of CPU",
            file=sys.stderr,
            flush=True,
        )
        return done

    sides = {"rapport": tuple(OURS), "imitation": PEER_SETTINGS}
    tried = {side: [run(side, setting, TUNED_ON, 0) for setting in settings] for side, settings in sides.items()}
    best = {side: max(runs, key=lambda r: r.score).setting for side, runs in tried.items()}
    print("| | setting | answers | true return | score | CPU s | steps |\n|---|---|---|---|---|---|---|")
    for side, setting in best.items():
        for answers in args.budgets:
            runs = [run(side, setting, answers, seed) for seed in seeds]
            score = statistics.mean(r.score for r in runs)
            each = ", ".join(f"{r.true_return:.1f}" for r in runs)
            cpu, steps = (
                f"{statistics.mean(x):.0f}" for x in zip(*((r.cpu_seconds, r.steps) for r in runs), strict=True)
            )
            mark = "**" if score >= BAR else ""
            print(
                f"| {side} | {setting} | {answers} | {each} | {mark}{score:.2f}{mark} | {cpu} | {steps} |", flush=True
            )
    print("Tried on seed 0 with 200 answers: " + json.dumps([asdict(r) for runs in tried.values() for r in runs]))


if __name__ == "__main__":
    main()
