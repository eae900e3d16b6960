"""The reproduction of regret preferences: its parts quickly, the whole on a seed that nothing was tuned on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from embodied.planning import optimal
from envs.delivery import board
from rapport.reproduce.regret import MODELS, NEAR, cell, exact_on_point, identifiability, near, place, random_place


def test_what_cannot_be_told_apart_is_exact_on_any_seed():
    for seed in (21, 22, 23):
        assert all(m.holds and m.development is None for m in identifiability(seed))


def test_on_the_point_mass_the_optimum_has_no_regret_and_an_episodes_adds_up():
    for seed in (21, 22):
        assert all(m.holds and m.development is None for m in exact_on_point(seed))


def test_near_optimal_is_above_the_cut():
    assert near([NEAR, 0.91, 1.0, -3.0]) == 0.5


def test_a_random_board_has_something_to_gain_and_hides_the_answer():
    rng = np.random.default_rng(21)
    for _ in range(3):
        where = random_place(rng)
        best = optimal(where.board, where.reward).value[where.board.starts].mean()
        found = where.bank.state.numpy() @ where.board.weights
        assert found[:, where.board.starts].mean(-1).max() < best


def test_one_cell_of_the_table_is_the_same_twice():
    one, two = (
        cell(place(board(), np.random.default_rng(21)), "regret, stochastic", 30, np.random.default_rng(3))
        for _ in range(2)
    )
    assert one == two and set(one) == set(MODELS)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.long
@pytest.mark.parametrize(("domain", "checks"), [("delivery", 8), ("point", 2)])
def test_the_reproduction_holds_on_a_seed_that_nothing_was_tuned_on(domain, checks, tmp_path):
    command = [sys.executable, "-m", "rapport", "reproduce", "regret", "--domain", domain, "--seed", "22", "--json"]
    command += ["--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["key"] == "regret" and len(found["mechanism"]) == checks
    assert all(m["holds"] for m in found["mechanism"])
    assert all(np.isfinite(beside["ours"]) for beside in found["comparisons"])
    if domain == "delivery":
        assert (tmp_path / "delivery-22" / "near-optimal.png").read_bytes().startswith(b"\x89PNG")
