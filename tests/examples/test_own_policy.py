"""The example that users copy, run as they run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_ones_own_policy_is_aligned_beyond_what_it_copied(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "own_policy.py"), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    figures = {name: float(value) for name, value in re.findall(r"^([a-z, ]+): (-?[\d.]+)", run.stdout, re.MULTILINE)}
    assert "cpl on 320 comparisons, 80 held out" in run.stdout
    assert figures["copied, scaled true return"] < 0.2 < figures["aligned, scaled true return"] <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]
