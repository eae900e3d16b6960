"""The main job's table: every seed, and on three seeds the baselines. Killed and started again, it goes on.

    python examples/main_job_table.py                  # all of it, two runs at a time, about an hour on 2 cores
    python examples/main_job_table.py --only learned   # the ten seeds alone
    python examples/main_job_table.py --seeds 40 41 42 # any others

One run is one `rapport demo` in a folder of its own below --out; finished ones are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

# name -> further flags of `rapport demo`; the first is run on every seed, the others on the first three
KINDS: dict[str, list[str]] = {
    "learned": [],
    "short": ["--person", "short"],
    "none": ["--reward", "none"],
    "true": ["--reward", "true"],
    "coin": ["--coin"],
    "25": ["--answers", "25"],
    "50": ["--answers", "50"],
    "200": ["--answers", "200"],
}
TITLES = {
    "learned": "the default, 100 answers",
    "short": "another person: the short way",
    "none": "no preferences: the task alone",
    "true": "the true hidden reward",
    "coin": "100 answers at random",
    "25": "25 answers",
    "50": "50 answers",
    "200": "200 answers",
}


def run(folder: Path, seed: int, flags: list[str]) -> dict[str, Any]:
    """The finished run's result.json, running what is left of it first."""
    if not (folder / "result.json").exists():
        command = [
            sys.executable,
            "-m",
            "rapport",
            "demo",
            "--seed",
            str(seed),
            "--out",
            str(folder),
            "--no-clips",
            *flags,
        ]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def line(name: str, result: dict[str, Any]) -> str:
    before, after = result["before"], result["after"]
    each = " | ".join(f"{100 * share:.1f}" for share in after["each"].values())
    return (
        f"| {name} | {100 * before['wishes']:.1f} → **{100 * after['wishes']:.1f}** | {each} | "
        f"{100 * before['task']:.1f} → **{100 * after['task']:.1f}** | {100 * after['whole_cup']:.1f} | "
        f"{after['tilt']:.1f} | {before['path']:.2f} → {after['path']:.2f} | {result['seconds']:.0f} |"
    )


def table(results: dict[tuple[str, int], dict[str, Any]], kind: str) -> list[str]:
    chosen = {seed: result for (k, seed), result in sorted(results.items()) if k == kind}
    if not chosen:
        return []
    wishes = list(next(iter(chosen.values()))["after"]["each"])
    head = ["seed", "wishes", *wishes, "task", "whole cup clear", "tilt °", "path m", "seconds"]
    rows = [line(str(seed), result) for seed, result in chosen.items()]
    shares = {k: [100 * r["after"][k] for r in chosen.values()] for k in ("wishes", "task", "whole_cup")}
    told = "; ".join(f"{k.replace('_', ' ')} mean {fmean(v):.1f}, worst {min(v):.1f}" for k, v in shares.items())
    return [
        f"\n**{TITLES[kind]}**\n",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *rows,
        f"\n{told}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    jobs = [(kind, seed) for kind in args.only for seed in (args.seeds if kind == "learned" else args.seeds[:3])]
    results: dict[tuple[str, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(args.workers) as pool, tqdm(total=len(jobs), unit="run") as bar:
        futures = {job: pool.submit(run, args.out / f"{job[0]}-{job[1]}", job[1], KINDS[job[0]]) for job in jobs}
        for job, future in futures.items():
            results[job] = future.result()
            bar.update()
    for kind in args.only:
        print(*table(results, kind), sep="\n")


if __name__ == "__main__":
    main()
