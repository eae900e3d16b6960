"""A short day of the main job's arm on its emulated bus, as the example leads it: policy server, gateway, daemon, seven
servos, journals, questions, a person's answers, `rapport align`, and the aligned policy on the bus again."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardware.config import read
from hardware.journal import Tick, journals, recover
from human_ui.site import open_site
from policies.export import load_policy
from tests.hardware.gateway.robot import free_port

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.long
def test_a_day_on_the_bus_becomes_answers_and_another_policy(tmp_path: Path) -> None:
    """`--patient` is what makes it stand on a busy machine: 40 Hz, and a tenth of a second for an answer."""
    words = ["--circle", "--patient", "--places", "1", "--times", "6", "--episodes", "1", "--port", str(free_port())]
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "robot_day.py"), *words, "--out", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    found = re.search(r"(\d+) answers of a simulated person", run.stdout)
    assert found and 1 <= int(found[1]) <= 3, run.stdout
    lines = [line for line in run.stdout.splitlines() if line.startswith(("on the robot", "in simulation"))]
    assert len(lines) == 4 and all("95 %" in line for line in lines), run.stdout

    for day in ("asked", "before", "after"):
        limits = read(tmp_path / day / "robot.toml").limits
        paths = journals(tmp_path / day / "episodes")
        led = [one for one in map(recover, paths) if one.header.task.startswith("to")]
        assert len(led) == (6 if day == "asked" else 1) and all(one.whole for one in led)
        for one in led:
            ticks = [t.record for t in one.ticks if isinstance(t.record, Tick)]
            commands = np.array([t.command for t in ticks])
            assert (commands >= limits.lower).all() and (commands <= limits.upper).all()
            assert np.ptp([t.position for t in ticks], axis=0).max() > 0.3 and {t.source for t in ticks} >= {"policy"}

    before, after = load_policy(tmp_path / "policy"), load_policy(tmp_path / "aligned" / "policy")
    assert after.parts == before.parts and "aligned by ipo" in after.contract.reward
    assert any((a != b).any() for a, b in zip(after.layers.weights, before.layers.weights, strict=True))
    with open_site(tmp_path / "study").store as store:
        assert {a.annotator for a in store.answers()} == {"careful"}
