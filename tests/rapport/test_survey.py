"""The survey: its checklist names tests that exist, its types are all there, and the reproduction on a fresh seed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import rapport
from rapport.reproduce.survey import PAIRS, better, controls, cosine, learned, place
from rapport.survey.checklist import ITEMS, lines, table
from rapport.survey.people import CREDIT, PEOPLE, SIZES, coached
from rapport.survey.types import TYPES

ROOT = Path(rapport.__file__).parent.parent


@pytest.mark.parametrize("item", [item for item in ITEMS if item.test], ids=lambda item: item.what)
def test_the_test_of_an_item_exists_and_is_never_skipped(item):
    path, name = item.test.split("::")
    source = (ROOT / path).read_text()
    assert f"\ndef {name}(" in source and "pytest.skip(" not in source and "mark.skip" not in source


def test_items_are_different_and_every_type_but_implicit_signals_works():
    assert len({(item.section, item.what) for item in ITEMS}) == len(ITEMS)
    assert sum(line.endswith("  planned") for line in lines()) == sum(item.state == "planned" for item in ITEMS)
    planned = [item.what for item in ITEMS if item.section.startswith("6.1") and not item.test]
    assert planned == ["implicit signals: gaze, reaction time, faces"]


def test_the_page_has_the_checklist_and_every_type():
    page = (ROOT / "docs/survey.md").read_text()
    assert "\n".join(table()).strip() in page
    for k in TYPES:
        row = f"| {k.key} | {k.granularity} | {k.involvement} | {k.arity} | {k.abstraction} | {k.intent} |"
        assert f"{row} {'yes' if k.explicit else 'no'} | {k.noise} | `{k.record}` |" in page


def test_every_type_has_somebody_who_gives_it():
    besides = {"survey", "coach", "trace"}  # a comparison; a policy; a feature
    assert {kind.key for kind in TYPES} == set(PEOPLE) | besides and set(SIZES) <= set(PEOPLE)


@pytest.mark.parametrize("kind", PEOPLE)
def test_a_few_hundred_answers_of_each_type_tell_the_direction(kind):
    where = place(np.random.default_rng(3))
    assert learned(where, PEOPLE[kind](where, 500, np.random.default_rng(4))) > 0.7


def test_coach_teaches_a_policy_something_at_once():
    where = place(np.random.default_rng(3))
    policy = coached(where, CREDIT, 2, 20, np.random.default_rng(0))
    assert policy.sum(-1) == pytest.approx(np.ones(100)) and np.abs(policy - 0.25).max() > 0.01


def test_the_better_of_two_is_the_one_of_the_smaller_mean():
    assert better({("a",): [0.1, 0.5], ("b",): [0.2, 0.2]}, ("a", "b")) == [0.2, 0.2]
    assert cosine(
        place(np.random.default_rng(0)).weights.numpy() * 3, place(np.random.default_rng(0))
    ) == pytest.approx(1)


@pytest.mark.slow
def test_a_wrong_likelihood_misleads():
    where = place(np.random.default_rng(5))
    found = controls(where, np.random.default_rng(6))
    assert max(found.values()) < 0.95 and torch.get_default_dtype() == torch.float32


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_reproduction_holds_on_a_seed_that_nothing_was_tuned_on(tmp_path):
    command = [sys.executable, "-m", "rapport", "reproduce", "survey", "--seed", "23", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["key"] == "survey" and len(found["comparisons"]) > 2 + 2 * len(PAIRS)
    assert all(m["holds"] for m in found["mechanism"])
    said = (tmp_path / "delivery-23/said.txt").read_text()
    assert all(re.search(rf"{re.escape(item.what)} +{re.escape(item.test or 'planned')}\n", said) for item in ITEMS)
    assert (tmp_path / "delivery-23/types.png").read_bytes().startswith(b"\x89PNG")
