"""What a tick costs the loop that writes it: the journal beside a line of JSON and a row in SQLite, on the same ticks.

.venv/bin/python benchmarks/journal.py

Each survives the kill of its writer tick by tick (JSON is flushed, SQLite commits in WAL mode without waiting for the
disk); the journal's own thread syncs every half second meanwhile. Microseconds of wall clock, at the loop's rate or as
fast as it goes.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hardware.journal import End, Header, Journal, Tick, recover

JOINTS, OBS = 7, 23


def ticks(n: int) -> list[Tick]:
    rng = np.random.default_rng(0)
    made = []
    for k in range(n):
        command, position, velocity, effort, requested = rng.normal(size=(5, JOINTS))
        looked = k % 5 == 0  # the policy, at 20 Hz in a loop of 100
        obs, act = (rng.normal(size=OBS).astype(np.float32), rng.normal(size=5)) if looked else (None, None)
        measured = position, velocity, effort
        made.append(Tick(k, command, *measured, "policy", "RUNNING", "ok", (), requested, k // 50, obs, act))
    return made


def spent(append: Callable[[Tick, int], object], given: list[Tick], rate: float) -> list[float]:
    found, due = [], time.perf_counter()
    for k, tick in enumerate(given):
        if rate:
            due += 1 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        append(tick, k)
        found.append(1e6 * (time.perf_counter() - start))
    return found


def plain(tick: Tick) -> dict[str, object]:
    return {name: each.tolist() if isinstance(each, np.ndarray) else each for name, each in vars(tick).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=0.0, help="of the loop, Hz; 0: as fast as it goes")
    parser.add_argument("--folder", type=Path, help="on the disk in question; otherwise a temporary one")
    args = parser.parse_args()
    given = ticks(args.ticks)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder)
        journal = Journal(path / "a.journal", Header("bench", "twin", tuple("abcdefg"), 100.0), 0)
        took = {"journal": spent(journal.append, given, args.rate)}
        assert journal.end(End("done"), args.ticks), journal.failed
        with (path / "a.jsonl").open("w") as file:
            took["JSON lines"] = spent(
                lambda t, _: print(json.dumps(plain(t)), file=file, flush=True), given, args.rate
            )
        base = sqlite3.connect(path / "a.sqlite", isolation_level=None)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute("CREATE TABLE tick (seq INTEGER PRIMARY KEY, said TEXT)")
        took["SQLite"] = spent(
            lambda t, k: base.execute("INSERT INTO tick VALUES (?, ?)", (k, json.dumps(plain(t)))), given, args.rate
        )
        base.close()
        size = {
            name: sum(f.stat().st_size for f in path.glob(f"a.{end}*"))
            for name, end in zip(took, ("journal", "jsonl", "sqlite"), strict=True)
        }
        start = time.perf_counter()
        assert len(recover(path / "a.journal").ticks) == args.ticks
        reading = 1e6 * (time.perf_counter() - start) / args.ticks
    print("| µs a tick | p50 | p99 | p99.9 | max | bytes a tick |\n| --- | --- | --- | --- | --- | --- |")
    for name, each in took.items():
        shown = " | ".join(f"{x:.0f}" for x in (*np.percentile(each, [50, 99, 99.9]), max(each)))
        print(f"| {name} | {shown} | {size[name] / args.ticks:.0f} |")
    print(f"\nread back and checked: {reading:.0f} µs a tick")


if __name__ == "__main__":
    main()
