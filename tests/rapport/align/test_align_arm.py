"""The arm's policy from folder to folder, as the example that users copy does it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from embodied.contract import read
from policies.export import load_policy
from rapport.cup.handover import agreed

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_answers_about_its_own_episodes_move_the_arm_to_what_is_wished(tmp_path):
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "align_arm.py"), str(tmp_path), "200"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    before, after = (float(x) for x in re.findall(r"every wish +([\d.]+)%", run.stdout))
    task = [float(x) for x in re.findall(r"task done +([\d.]+)%", run.stdout)]
    assert after > before and task[1] > 80
    assert "dpo on 160 comparisons, 40 held out" in run.stdout
    load_policy(tmp_path / "run" / "policy", agreed("a robot's own"))
    assert read(tmp_path / "run" / "policy").reward.startswith("aligned by dpo with 200 answers; before that: none")
