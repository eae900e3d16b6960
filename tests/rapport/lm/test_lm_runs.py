"""Whole runs as one would start them: killed with no warning and gone on with; and from imitation to evaluation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from embodied import checkpoint
from rapport.cli import main

ROOT = Path(__file__).parents[3]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "rapport", "lm", *map(str, args)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", ["align", pytest.param("online", marks=pytest.mark.long)])
def test_killed_at_any_instant_it_ends_as_if_nothing_had_been(
    verb: str, nano: str, pairs: Path, tmp_path: Path
) -> None:
    """Three SIGKILLs: after a checkpoint, and at two moments that nobody chose."""
    learns = {
        "align": ("--data", pairs, "--lora", 4),
        "online": ("--prompts", pairs, "--reward", "gold", "--method", "ppo", "--rollouts", 6),
    }
    go = command(verb, "--model", nano, *learns[verb], "--steps", 24, "--every", 3, "--batch", 16, "--out")
    whole, part = tmp_path / "whole", tmp_path / "part"
    subprocess.run([*go, whole], env=ENV, check=True, timeout=300, capture_output=True)
    for wait in (0.0, 0.37, 1.21):
        running = subprocess.Popen([*go, part], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = checkpoint.latest(part / "checkpoints") or 0
        while (checkpoint.latest(part / "checkpoints") or 0) == before and running.poll() is None:
            time.sleep(0.01)
        time.sleep(wait)
        assert running.poll() is None, "it ended before it could be killed"
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert 0 < (checkpoint.latest(part / "checkpoints") or 0) < 24
    subprocess.run([*go, part], env=ENV, check=True, timeout=300, capture_output=True)
    for name in ("rows.json", "samples.json", "model/model.safetensors"):
        assert (part / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_processes_make_the_run_of_one(nano: str, pairs: Path, tmp_path: Path) -> None:
    """Launched by torchrun on two CPU processes, and alone: the losses, the looks and the weights, up to rounding."""
    go = [
        "rapport",
        "lm",
        "align",
        "--model",
        nano,
        "--data",
        str(pairs),
        "--steps",
        "8",
        "--every",
        "4",
        "--batch",
        "16",
    ]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, start in (("two", launch), ("alone", [sys.executable])):
        done = subprocess.run(
            [*start, "-m", *go, "--row", "256", "--out", str(tmp_path / name)],
            env=ENV,
            cwd=ROOT,
            timeout=400,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("The model is in") == 1
        assert ("2 processes, each with" in done.stderr) == (name == "two")
    two, alone = (json.loads((tmp_path / name / "rows.json").read_text()) for name in ("two", "alone"))
    for ours, theirs in zip(two, alone, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("two", "alone")]
    assert max(float((weights[0][name] - x).abs().max()) for name, x in weights[1].items()) < 1e-4


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_from_imitation_to_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """The tutor, all verbs in order: the learned reward rises, and the KL as a sum over all answers is the one that
    samples tell. That gold rises too is not promised: a reward of 1,400 comparisons can be followed too far."""
    monkeypatch.chdir(ROOT)  # whose runs/cache holds the tutor

    def told(*args: object) -> Any:
        capsys.readouterr()
        assert main(["lm", *map(str, args), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    sft, reward, online = (tmp_path / name for name in ("sft", "reward", "online"))
    told("sft", "--model", "tutor", "--data", "tutor", "--steps", 10, "--every", 10, "--out", sft)
    found = told("reward", "--model", "tutor", "--data", "tutor", "--steps", 50, "--every", 50, "--out", reward)
    assert found["after"]["held_out_accuracy"] > 0.6
    go = ("online", "--model", sft, "--prompts", "tutor", "--reward", reward, "--steps", 20, "--every", 20)
    learned = told(*go, "--out", online)
    assert learned["after"]["reward"] > learned["before"]["reward"] + 0.3 and learned["after"]["kl"] > 0.1
    found = told(
        "evaluate", "--model", online, "--reward", "gold", "--against", "tutor", "--prompts", "tutor", "--limit", 60
    )
    exact, drawn = found["gold"]["kl"], found["samples"]
    assert abs(exact["value"] - drawn["kl"]) < 4 * (exact["error"] + drawn["kl_error"])
    assert 0 < drawn["wins"] < 1
