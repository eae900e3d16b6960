"""kill -9 at any instant, then the same command again: the result equals the uninterrupted run bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

RUN = """
import hashlib, json, sys
from dataclasses import asdict
from pathlib import Path
from embodied.episodes import Episodes
from embodied.store import Store
from rapport.cup.agent import Recipe
from rapport.cup.demo import run
from rapport.cup.train import Settings
from rapport.run import run_folder
folder = Path(sys.argv[1])
recipe = Recipe(arms=8, first_rounds=2, rounds=3, first_updates=3, updates=2, last_updates=12, first_layouts=8,
                later_layouts=12, clone_episodes=16, clone_steps=60)
settings = Settings(seed=4, answers=15, held_out=16, recipe=recipe)
with run_folder(folder, asdict(settings)):
    done = folder / "result.json"
    result = json.loads(done.read_text()) if done.exists() else run(settings, folder)
digest = hashlib.sha256()
for name in ("policy/policy.safetensors", "policy/contract.json", "pretrained/policy.safetensors"):
    digest.update((folder / name).read_bytes())
(newest,) = sorted((folder / "checkpoints").glob("step-*"))[-1:]
digest.update((newest / "arrays.safetensors").read_bytes())  # all that is carried
rows = [{k: v for k, v in row.items() if k != "metrics"} for row in json.loads((folder / "rounds.json").read_text())]
digest.update(repr((result["before"], result["after"], result["budget"], rows)).encode())
with Store(folder / "answers.sqlite", Episodes(folder / "episodes")) as store:
    answers = [(a.seq, a.query, a.value) for a in store.answers()]
    digest.update(repr((answers, [q.id for q in store.queries()], sorted(store.episodes.ids()))).encode())
print(digest.hexdigest(), len(answers), len({a[1] for a in answers}))
"""


def start(folder):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True, env=env)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.long)])
def test_killed_and_still_the_same(times, tmp_path):
    begun = time.monotonic()
    whole = start(tmp_path / "whole").communicate()[0].split()
    seconds = time.monotonic() - begun
    assert whole[1:3] == ["15", "15"], "every question is asked and answered once"
    draw, kills, run = random.Random(8), 0, 0
    finished = []
    while kills < times or not finished:
        process = start(tmp_path / f"run-{run}")
        try:
            # Enough of a head start for the kills to fall into the run and not into the imports alone.
            printed, _ = process.communicate(timeout=draw.uniform(0.3, 1.0) * seconds if kills < times else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        finished.append(printed.split())
        run += 1
    assert all(result == whole for result in finished)
