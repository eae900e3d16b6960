"""The reproduction of PEBBLE: its yardstick, and the whole on a seed that nothing was tuned on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from rapport.reproduce.pebble import EPISODES, Outcome, hanging


def test_the_yardstick_is_nought_for_hanging_and_one_for_standing():
    still = hanging()
    # Starts are uniform over the circle, and a pendulum without push swings about the bottom for ten seconds.
    assert -2000 < still < -900
    assert Outcome((still,) * 5, 0.0).score == 0
    assert Outcome((0.0,) * 5, 0.0).score == 1
    assert Outcome((9.0, still / 2, still / 2, still / 2), 0.0).score == pytest.approx(0.5)
    assert EPISODES == 20 and np.isfinite(still)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_reproduction_holds_on_a_seed_that_nothing_was_tuned_on(tmp_path):
    command = [sys.executable, "-m", "rapport", "reproduce", "pebble", "--seed", "21", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["key"] == "pebble" and len(found["mechanism"]) == 4
    assert all(m["holds"] for m in found["mechanism"])
    assert (tmp_path / "pendulum-21" / "curves.png").read_bytes().startswith(b"\x89PNG")
