"""A comparison of real, tiny runs: every cell once, killed and resumed, the table, bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rapport.cli import Compare
from rapport.compare.cells import RATES, Cell, chosen_rates, run_cells
from rapport.compare.command import command, plan, rows

WORLD = f"{Path(__file__).parents[1] / 'train' / 'worlds.py'}:Timed"
CELL = Cell(WORLD, "ensemble", 10, 0, 150, 6, "oracle", 0.0)


def result(cell, after):
    return {"return_after": after, "seconds": 2.0, "rounds": []}


def test_the_plan_is_the_same_for_every_method():
    trials, cells = plan(Compare(envs=("A", "B"), methods=("pebble", "true"), budgets=(50, 10, 50), seeds=2, trials=2))
    assert len(cells) == 2 * (2 * 2 + 2) and len(set(cells)) == len(cells)
    assert {c.answers for c in cells if c.method == "true"} == {0}
    per_method = {(c.env, c.method): [t.rate for t in trials if (t.env, t.method) == (c.env, c.method)] for c in cells}
    assert set(map(tuple, per_method.values())) == {RATES[:2]}
    assert all(t.seed not in {c.seed for c in cells} for t in trials)


def test_scores_are_shares_of_the_true_rewards_return_and_paired_by_seed():
    results = {}
    for seed in range(4):
        true, one, other = (replace(CELL, env="E", method=m, seed=seed) for m in ("true", "pebble", "surf"))
        results |= {
            replace(true, answers=0): result(true, 10.0),
            one: result(one, 0.0 + seed),
            other: result(other, 2.0 + seed),
        }
    found = {row.method: row for row in rows(results, {"E": -10.0})}
    assert found["true"].each["E"].value == 1 and found["pebble"].scores["E"] == [0.5, 0.55, 0.6, 0.65]
    assert found["surf"].against_first.value == pytest.approx(0.1)
    del results[replace(CELL, env="E", method="surf", seed=0)]
    assert {row.method: row for row in rows(results, {"E": -10.0})}["surf"].against_first.value == pytest.approx(0.1)


def test_a_failed_first_seed_does_not_change_who_is_first():
    results = {}
    for method in ("pebble", "surf", "true"):
        results |= {replace(CELL, env="E", method=method, seed=seed): result(CELL, 1.0) for seed in range(3)}
    del results[replace(CELL, env="E", method="pebble", seed=0)]
    assert [row.method for row in rows(results, {"E": 0.0})] == ["pebble", "surf", "true"]


def test_where_the_true_reward_taught_nothing_scores_are_returns():
    true, one = (replace(CELL, env="E", method=m) for m in ("true", "pebble"))
    results = {replace(true, answers=0): result(true, -10.0), one: result(one, -4.0)}
    found = {row.method: row for row in rows(results, {"E": -10.0})}
    assert (
        found["pebble"].scores == {"E": [-4.0]} and not found["pebble"].shares and np.isnan(found["true"].overall.value)
    )


def test_the_best_rate_is_chosen_and_ties_go_to_the_first():
    trials = {
        replace(CELL, rate=rate, trial=True): result(CELL, value) for rate, value in zip(RATES, (1, 3, 3), strict=True)
    }
    assert chosen_rates(trials) == {(WORLD, "ensemble"): RATES[1]}


def test_a_comparison_runs_and_goes_on(tmp_path, capsys):
    options = Compare(
        envs=(WORLD,),
        methods=("ensemble", "true"),
        budgets=(10,),
        seeds=2,
        steps=150,
        clip=6,
        workers=2,
        out=tmp_path,
        json=True,
    )
    assert command(options) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["method"] for row in printed["rows"]] == ["ensemble", "true"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")}
    assert len(before) == 4 and command(options) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "less the first" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_killed_it_loses_no_cell(tmp_path):
    arguments = [
        "--envs",
        WORLD,
        "--methods",
        "true",
        "--seeds",
        "3",
        "--steps",
        "150",
        "--workers",
        "1",
        "--out",
        str(tmp_path),
    ]
    run = [sys.executable, "-m", "rapport", "compare", *arguments, "--json"]
    first = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while not list(tmp_path.glob("*/result.json")):
        assert first.poll() is None, first.stderr.read().decode()
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["rows"][0]["scores"][WORLD]) == 3


def test_a_cell_that_fails_names_itself_and_the_others_run(tmp_path):
    bad, good = replace(CELL, env="Nowhere-v0"), replace(CELL, method="true")
    results, failed = run_cells([bad, good], tmp_path, 2, lambda cell, result: None)
    assert list(results) == [good] and list(failed) == [bad]
    assert re.search(r"rapport train --env Nowhere-v0.*knows no environment", failed[bad])


def test_a_cell_of_other_settings_is_another_cell():
    names = {replace(CELL, **{name: value}).name for name, value in {"steps": 9, "clip": 9, "teacher": "skip"}.items()}
    assert len(names | {CELL.name}) == 4


@pytest.mark.parametrize(
    ("change", "sentence"), [({"envs": ()}, "0 environments"), ({"seeds": 0}, "0 seeds"), ({"trials": 4}, "4 trials")]
)
def test_a_plan_without_sense_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(replace(Compare(envs=("A",)), **change))


def test_methods_of_another_preference_are_flags_of_train():
    for method, flags in (
        ("pebble-regret", ["--method", "pebble", "--preference", "regret"]),
        ("cpl", ["--preference", "cpl"]),
    ):
        told = replace(CELL, method=method).arguments()
        assert told[2 : 2 + len(flags)] == flags and told.count("--method") == flags.count("--method")
