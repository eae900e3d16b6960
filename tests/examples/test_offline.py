"""The example that users copy, run as they run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_learning_from_a_folder_alone_finds_what_copying_misses(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "offline.py"), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    figures = {name: float(value) for name, value in re.findall(r"^([a-z, ]+): (-?[\d.]+)", run.stdout, re.MULTILINE)}
    assert "'answered': 200" in run.stdout and figures["agreement with the answers"] > 0.85
    assert figures["copied, scaled true return"] < 0.2
    assert 0.6 < figures["learned, scaled true return"] <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied", "data", "iql"]
