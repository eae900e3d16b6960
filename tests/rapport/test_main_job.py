"""The main job as a user runs it: the command, its last line, and the controls that have to miss."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rapport.cup.agent import held_out
from rapport.cup.finished import open_finished
from rapport.cup.measure import measure
from rapport.cup.people import CAREFUL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def command(folder: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "rapport", "demo", "--json", "--no-clips", "--out", str(folder), *flags]


def result(folder: Path, *flags: str) -> dict[str, float]:
    done = subprocess.run(
        command(folder, *flags), capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["answers", "wishes_before", "wishes_after", "task_before", "task_after", "seconds"]
    return found


@pytest.fixture(scope="module")
def careful_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("main") / "careful"
    return folder, result(folder, "--seed", "11")


@pytest.mark.long
def test_a_hundred_answers_are_enough(careful_run):
    _, found = careful_run
    assert found["wishes_before"] < 0.2 and found["task_before"] >= 0.95
    # docs/main_job.md has the goal, 0.95, and what comes out seed by seed; rounding differs between machines.
    assert found["wishes_after"] >= 0.8 and found["task_after"] >= 0.9 and found["answers"] <= 100


@pytest.mark.long
def test_another_person_gets_another_way(careful_run, tmp_path):
    """On a seed that worked when first tried; docs/main_job.md names those on which she was understood too late."""
    folder, _ = careful_run
    found = result(tmp_path / "short", "--seed", "32", "--person", "short")
    runs = [open_finished(folder), open_finished(tmp_path / "short")]
    for_careful, for_short = (measure(CAREFUL, run.roll_out(run.after, held_out(11, 128))) for run in runs)
    assert found["task_after"] >= 0.9 and for_short.each["upright"] > 0.8
    assert for_careful.each["around the laptop"] > 0.8 > 0.2 > for_short.each["around the laptop"]
    assert for_short.path < for_careful.path - 0.05


@pytest.mark.long
def test_answers_at_random_miss(tmp_path):
    found = result(tmp_path / "coin", "--seed", "11", "--coin")
    assert found["wishes_after"] < 0.5 and found["answers"] == 100


def test_an_interrupted_demo_says_how_it_goes_on(tmp_path):
    # A shell starts what runs in its background deaf to Ctrl-C, and these tests may run there.
    listens = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    process = subprocess.Popen(command(tmp_path / "run", "--seed", "1"), stderr=subprocess.PIPE, text=True, **listens)
    while not (tmp_path / "run" / "checkpoints").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on where it stopped" in told
    assert not (tmp_path / "run" / "result.json").exists() and (tmp_path / "run" / "config.json").exists()
