"""The cells of a comparison: one training run each, in a folder of its own, on all cores. What is finished stays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from embodied.video_methods import Method
from rapport.run import RunError, read_json

DEVELOPMENT = 1000  # the first seed on which settings are tuned; comparisons use those from 0 on
RATES = (1e-3, 3e-4, 3e-3)  # learning rates of the agent: what is tuned


@dataclass(frozen=True)
class Cell:
    """One run. `trial`: it was made to tune, and counts for nothing else. `filmed`: its agent is that of rewards from
    videos, also on the true reward. flags: further ones of such rewards, but for the true one."""

    env: str
    method: str
    answers: int
    seed: int
    steps: int
    clip: int
    teacher: str
    rate: float  # 0: the algorithm's own
    sessions: int = 10
    copies: int = 1
    horizon: int = 0
    trial: bool = False
    filmed: bool = False
    flags: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        env = "".join(c if c.isalnum() or c in "._-" else "-" for c in self.env)
        kind = "trial" if self.trial else "run"
        # Of all settings: no run is taken for another. Those that are not filmed have the names that they always had.
        told = repr(self).replace(", filmed=False", "").replace(", flags=()", "")
        digest = hashlib.sha256(told.encode()).hexdigest()[:8]
        return f"{kind}-{env}-{self.method}-{self.answers}answers-seed{self.seed}-{digest}"

    def arguments(self) -> list[str]:
        """Of `rapport train`."""
        if self.filmed:
            return self._filmed()
        asked = {"answers": self.answers} if self.method != "true" else {}
        told = {
            "env": self.env,
            **_FLAGS.get(self.method, {"method": self.method}),
            "seed": self.seed,
            "steps": self.steps,
            "clip": self.clip,
        }
        more = {"sessions": self.sessions, "copies": self.copies, "horizon": self.horizon}
        named = {**told, "teacher": self.teacher, "rate": self.rate, **more, **asked}
        return [part for name, value in named.items() for part in (f"--{name}", str(value))]

    def _filmed(self) -> list[str]:
        asked = {"answers": self.answers, "teacher": self.teacher, **dict(self.flags)} if self.method != "true" else {}
        more = {"sessions": self.sessions, "copies": self.copies, "horizon": self.horizon, "rate": self.rate}
        named = {"env": self.env, "reward": self.method, "seed": self.seed, "steps": self.steps, **more, **asked}
        return [part for name, value in named.items() for part in (f"--{name}", str(value))]


CACHE = "cache"
FILMED = get_args(Method)
"""Rewards from videos, which see whole episodes and have an agent of their own."""

_FLAGS = {"pebble-regret": {"method": "pebble", "preference": "regret"}, "cpl": {"preference": "cpl"}}


class CellError(ValueError):
    """A run that could not be made; the sentence holds its command and its last words."""


def run_cells(
    cells: Sequence[Cell], folder: Path, workers: int, told: Callable[[Cell, dict[str, Any]], object]
) -> tuple[dict[Cell, dict[str, Any]], dict[Cell, str]]:
    """(results, failures), each in the order of `cells`, running what is not finished.

    Stopped at any time, the same call goes on. A cell that fails does not stop the others: its sentence holds the
    command, so that it can be tried alone.
    """
    results: dict[Cell, dict[str, Any]] = {}
    failed: dict[Cell, str] = {}
    running: set[subprocess.Popen[str]] = set()
    lock, stopping = threading.Lock(), threading.Event()

    def run(cell: Cell) -> dict[str, Any] | None:
        place = folder / cell.name
        if not (place / "result.json").exists():
            # -P: a folder of the user's that is called as one of ours does not come first.
            command = [sys.executable, "-P", "-m", "rapport", "train", *cell.arguments(), "--out", str(place), "--json"]
            # Of one seed all methods learn the same trunk.
            command += ["--cache", str(folder / CACHE)] if cell.filmed and cell.method != "true" else []
            with lock:
                if stopping.is_set():
                    return None
                env = {**os.environ, "OMP_NUM_THREADS": "1"}
                child = subprocess.Popen(command, env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                running.add(child)
            _, said = child.communicate()
            with lock:
                running.discard(child)
            if stopping.is_set():
                return None
            if child.returncode:
                ours = [line for line in said.splitlines() if line.startswith("rapport:")]
                last = ours[-1] if ours else f"exit code {child.returncode}"
                raise CellError(f"`rapport train {' '.join(cell.arguments())}` failed: {last}")
        result: dict[str, Any] = read_json(place / "result.json")
        return {**result, "rounds": read_json(place / "rounds.json")}

    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                cell = futures[future]
                try:
                    if (result := future.result()) is not None:
                        results[cell] = result
                        told(cell, result)
                except (CellError, RunError, json.JSONDecodeError) as error:
                    failed[cell] = str(error)
        except BaseException:
            # Ctrl-C: the runs are told too, and each leaves what it has; none is started any more.
            with lock:
                stopping.set()
                for child in running:
                    child.terminate()
            raise
    return {c: results[c] for c in cells if c in results}, {c: failed[c] for c in cells if c in failed}


def chosen_rates(trials: dict[Cell, dict[str, Any]]) -> dict[tuple[str, str], float]:
    """(environment, method) -> the learning rate whose trials had the highest mean true return; ties: the first."""
    found: dict[tuple[str, str], dict[float, list[float]]] = {}
    for cell, result in trials.items():
        found.setdefault((cell.env, cell.method), {}).setdefault(cell.rate, []).append(result["return_after"])
    return {
        key: max(RATES, key=lambda r: sum(by_rate[r]) / len(by_rate[r]) if r in by_rate else float("-inf"))
        for key, by_rate in found.items()
    }
