"""The map: cells are made once, whatever kills the run; labels are nested; rivals learn from the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rapport.rapl import map as map_
from rapport.rapl.ground import WORLDS, Ground, Size, ground
from rapport.rapl.lines import add_line, lines
from rapport.rapl.map import Cell, Setting, cells, fill
from rapport.rapl.map_report import criteria, difference, figure, needed, picture, plan_table, short, table, wins
from rapport.rapl.planning import by_truth, plan
from rapport.rapl.plans import Try, fill_plans, plans
from rapport.rapl.rivals import WITH, WITHOUT, labels

SMALL = Size(pool=40, demos=3, demos_of=20, test=30, trunk_steps=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return ground(WORLDS["covering"], "none", 0, tmp_path_factory.mktemp("cache"), eyes="positions", size=SMALL)


def test_a_line_cut_short_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.jsonl"
    add_line(path, {"a": 1})
    add_line(path, {"a": 2})
    path.write_bytes(path.read_bytes()[:-3])
    assert lines(path) == [{"a": 1}]
    add_line(path, {"a": 3})
    assert lines(path) == [{"a": 1}, {"a": 3}]
    path.write_bytes(b'{"a":')
    add_line(path, {"a": 4})
    assert lines(path) == [{"a": 4}]


def test_more_labels_are_the_same_ones_and_others_and_shuffling_keeps_the_questions(made: Ground) -> None:
    few, many = labels(made, 5, 7), labels(made, 9, 7)
    assert np.array_equal(few.groups, many.groups[:5]) and np.array_equal(few.target, many.target[:5])
    assert np.array_equal(few.target, made.value[few.groups])
    mixed = many.shuffled()
    assert np.array_equal(mixed.groups, many.groups) and not np.array_equal(mixed.target, many.target)
    assert np.array_equal(np.sort(mixed.target, 1), np.sort(many.target, 1))
    assert len(labels(made, 0, 7).groups) == 0


def test_a_ground_that_is_kept_is_the_one_that_was_made(tmp_path: Path, made: Ground) -> None:
    again = ground(WORLDS["covering"], "none", 0, tmp_path, eyes="positions", size=SMALL)
    assert np.array_equal(again.pool, made.pool) and np.array_equal(again.demos, made.demos)
    assert made.pool.shape == (40, 20, 2) and made.demos.shape == (3, 20, 2)
    assert set(made.tests) == {"short", "medium", "long", "gripper"}
    assert made.value.shape == (40,) and (made.value <= 0).all()


@pytest.mark.parametrize("name", [*WITH, *WITHOUT])
def test_every_rival_is_made_and_is_the_same_the_second_time(made: Ground, name: str) -> None:
    make = {**WITH, **WITHOUT}[name]
    said = labels(made, 0 if name in WITHOUT else 6, 0)
    scores = [(made.seen(reward), made.unseen(reward)) for reward in (make(made, said), make(made, said))]
    assert scores[0] == scores[1] and all(-1 <= s <= 1 for s in scores[0])


def test_a_reward_that_says_the_same_of_all_is_worth_nothing(made: Ground) -> None:
    class Same:
        def worth(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(features))

        def fingerprint(self) -> str:
            return "same"

    assert made.unseen(Same()) == 0.0


def test_a_map_goes_on_and_makes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, path = Setting("covering", "none", "positions"), tmp_path / "cells.jsonl"
    fill(path, [setting], [0], tmp_path, answers=(0, 5), size=SMALL)
    whole = path.read_text()
    assert len(cells(path)) == len(WITH) + len(WITHOUT)
    kept = whole.split("\n")[:6]
    path.write_text("\n".join(kept) + '\n{"world"')
    fill(path, [setting], [0], tmp_path, answers=(0, 5), size=SMALL)
    assert path.read_text() == whole
    monkeypatch.setattr(map_, "ground", None)  # nothing is missing, so nothing is filmed
    fill(path, [setting], [0], tmp_path, answers=(0, 5), size=SMALL)
    picture(cells(path), tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_tables_and_criteria_are_those_of_the_cells() -> None:
    setting = Setting("covering")
    found = [
        Cell("covering", "heavy", "trunk", seed, answers, reward, 0.0, value + 0.01 * seed)
        for seed in (0, 1, 2)
        for answers, reward, value in ((0, "raw transport", 0.2), (50, "RAPL", 0.7), (50, "RAPL, shuffled ranks", 0.65))
    ]
    gap = difference(found, setting, "raw transport", 50)
    assert gap is not None and gap.mean == pytest.approx(0.5) and gap.half == pytest.approx(0.0, abs=1e-12)
    assert difference(found, setting, "video net, rankings", 50) is None
    said = list(criteria(found, []))
    assert [line.split(": ")[-1] for line in said] == ["fails", "holds"]
    assert list(wins(found))[-1] == "| covering, heavy, trunk | **.50 ± .00** raw transport |"
    rows = list(table(found, setting))
    assert rows[0] == "| reward (3 seeds) | 0 | 50 |" and "| RAPL |  | .71 ± .02 |" in rows
    assert list(table(found, Setting("wipe"))) == []
    assert [short(x) for x in (0.5, -0.5, 10.27, -1.27, 1.0)] == [".50", "-.50", "10.27", "-1.27", "1.00"]
    three = figure([0.1, 0.2, 0.3])
    assert three.mean == pytest.approx(0.2) and three.half == pytest.approx(4.303 * 0.1 / 3**0.5, abs=1e-3)


def test_how_many_answers_a_rival_needs_is_read_off_its_curve() -> None:
    """It has x log10(n) after n answers, RAPL .5 from ten: seed 0 needs 10^(.5/.25) = 100, seed 1 never gets there."""
    found = [
        cell
        for seed, x in ((0, 0.25), (1, 0.1))
        for n in (10, 1000)
        for cell in (
            Cell("wipe", "heavy", "trunk", seed, n, "RAPL", 0.0, 0.5),
            Cell("wipe", "heavy", "trunk", seed, n, "video net, rankings", 0.0, x * np.log10(n)),
        )
    ]
    first = [cell for cell in found if cell.seed == 0]
    assert list(needed(first, Setting("wipe"), ["video net, rankings"], [10])) == [
        "| wipe: video net, rankings | 100 |"
    ]
    (row,) = needed(found, Setting("wipe"), ["video net, rankings"], [10])
    assert row == "| wipe: video net, rankings | above 1000 (100 to above 1000) |"


def test_plans_are_compared_by_seed() -> None:
    shares = {"RAPL": (0.5, 1.0, 1.0), "raw transport": (0.0, 0.5, 0.5)}
    tried = [
        Try("covering", seed, start, name, -0.1, start < 2 * share)
        for name, each in shares.items()
        for seed, share in enumerate(each)
        for start in (0, 1)
    ]
    rows = list(plan_table(tried))
    assert rows[2:] == ["| raw transport | 33% | -0.100 | .50 ± .00 | 6 |", "| RAPL | 83% | -0.100 |  | 6 |"]


def test_a_planner_that_knows_the_truth_succeeds() -> None:
    assert plan(WORLDS["covering"], "long", by_truth, 3).success


@pytest.mark.slow
@pytest.mark.long
def test_plans_are_kept_and_rapl_plans_better_than_shuffled_ranks(tmp_path: Path) -> None:
    path = tmp_path / "plans.jsonl"
    fill_plans(path, [0], tmp_path, tries=2)
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-2]))
    fill_plans(path, [0], tmp_path, tries=2)
    assert path.read_text() == whole
    true = {
        name: np.mean([t.true for t in plans(path) if t.reward == name]) for name in ("RAPL", "RAPL, shuffled ranks")
    }
    assert true["RAPL"] > true["RAPL, shuffled ranks"]
    assert json.loads(whole.splitlines()[0])["reward"] == "true reward"
