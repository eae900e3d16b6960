"""The reproduction of preference-based RL on the point mass: its yardstick, its parts, the whole on a fresh seed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from embodied.loop import Round
from embodied.records import Answer, Compare
from envs.point import lqr, quadratic_reward
from rapport.reproduce.prefrl import ANSWERS, ROUNDS, judge, run, scaled_return, turned_round

GOAL = np.array([0.4, -0.3])
SHORT = (Round(4, 0), Round(4, 1280), Round(4, 1280))


def test_the_yardstick_is_one_for_the_optimum_and_nought_for_doing_nothing():
    assert scaled_return(lqr(GOAL).act, GOAL) == (1, 0)
    assert scaled_return(lambda obs: np.zeros((len(obs), 2)), GOAL)[0] == 0
    worse = scaled_return(lambda obs: 0.9 * lqr(GOAL).act(obs), GOAL)
    assert 0 < worse[0] < 1 and worse[1] > 0


def test_the_judge_adds_up_the_true_reward():
    total, ends = judge(lambda obs: np.zeros((len(obs), 2)), GOAL, n=3)
    starts = np.random.default_rng(77).uniform(-1, 1, (3, 4)) * [1, 1, 0.2, 0.2]
    where = starts[:, None, :2] + 0.1 * np.arange(20)[None, :, None] * starts[:, None, 2:]
    obs = np.concatenate([where, np.zeros((3, 20, 3))], -1)
    np.testing.assert_allclose(total, quadratic_reward(GOAL)(obs, np.zeros((3, 20, 2))).sum(1).mean())
    np.testing.assert_allclose(ends, starts[:, :2] + 2.0 * starts[:, 2:])


def test_a_short_run_spends_its_budget_and_is_the_same_twice():
    one, two = (run(3, "given", rounds=SHORT) for _ in range(2))
    assert one == two and [answers for answers, _ in one.curve] == [12]
    assert run(3, "turned round", rounds=SHORT) != one
    assert run(3, "none: the true reward", rounds=SHORT).curve[-1][0] == 0


def test_answers_are_turned_round():
    assert turned_round(Answer("a", "q", "p", "teacher", Compare(0.8))).value == Compare(1 - 0.8)


def test_the_budget_is_what_the_lines_say():
    assert sum(r.questions for r in ROUNDS) == ANSWERS == 200


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_reproduction_holds_on_a_seed_that_nothing_was_tuned_on(tmp_path):
    command = [sys.executable, "-m", "rapport", "reproduce", "prefrl", "--seed", "21", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["key", "seed", "seconds", "mechanism", "comparisons"]
    assert found["key"] == "prefrl" and found["seed"] == 21 and len(found["mechanism"]) == 5
    assert all(m["holds"] for m in found["mechanism"])
    assert (tmp_path / "point-21" / "curves.png").read_bytes().startswith(b"\x89PNG")
