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
from rapport.run import read_json

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_arm_follows_answers_about_its_own_episodes_from_folder_to_folder(tmp_path):
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "align_arm.py"), str(tmp_path), "200"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    # Whether more wishes are met depends on the draw of so few pairs (docs/direct.md): what is certain is that the
    # policy follows the answers, and that what comes out acts.
    assert len(re.findall(r"every wish +[\d.]+%", run.stdout)) == 2
    assert "dpo on 160 comparisons, 40 held out" in run.stdout
    result = read_json(tmp_path / "run" / "result.json")
    assert result["after"]["learned"]["loss"] < 0.6 < result["before"]["learned"]["loss"]
    assert result["after"]["learned"]["agreement"] > 0.75
    load_policy(tmp_path / "run" / "policy", agreed("a robot's own"))
    assert read(tmp_path / "run" / "policy").reward.startswith("aligned by dpo with 200 answers; before that: none")
