"""The example that users copy, run as they run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_own_loss_teaches_a_reward_that_a_policy_can_follow(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "own_loss.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "LossReport(growth=1.0" in run.stdout and "answered=200" in run.stdout
    figures = {name: float(value) for name, value in re.findall(r"^([a-z -]+): (-?[\d.]+)", run.stdout, re.MULTILINE)}
    assert figures["held-out accuracy"] > 0.7
    assert 0.6 < figures["scaled true return"] <= 1
    assert list(tmp_path.iterdir()) == []
