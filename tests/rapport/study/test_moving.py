"""Out, in, and out again is the same: for every kind of answer, as JSON lines, as Parquet and as a dataset folder; and
a study that has moved goes on."""

import json
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from embodied.records import Compare, Value
from human_ui import desk, people
from human_ui.progress import progress, put_progress
from human_ui.site import open_site
from human_ui.texts import Texts, offer
from rapport.data_folder import look, open_folder, problems
from rapport.study.command import bring, export
from tests.embodied.test_records import VALUES
from tests.human_ui.served import ask, make_study
from tests.rapport.study import worlds


def out(folder, path, format, place=None, **flags):
    return export(folder, path, format, place, **flags) and path


def same_again(happened, **flags):
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        study = worlds.build(there / "study", *happened)
        whole = out(study, there / "whole", "hf", **flags)
        bring(whole, there / "moved", None, "")
        assert worlds.tree(out(there / "moved", there / "again", "hf", **flags)) == worlds.tree(whole)
        assert problems(there / "moved") == []
        with open_folder(study) as store:
            if not store.answers():
                return
        first = out(study, there / "a.jsonl", "jsonl", **flags).read_bytes()
        out(study, there / "a.parquet", "parquet", **flags)
        for source in ("a.jsonl", "a.parquet"):
            other = there / f"from-{source}"
            worlds.segments(other / "episodes", 1)
            bring(there / source, other, None, "")
            assert out(other, there / f"{source}.jsonl", "jsonl", **flags).read_bytes() == first
            assert bring(there / source, other, None, "").endswith(", 0 of them new")
        for line in first.decode().split("\n")[:-1]:
            assert json.dumps(json.loads(line), ensure_ascii=False) == line


@pytest.mark.parametrize(
    "examples", [10, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_out_in_and_out_again_is_the_same(examples):
    flags = st.fixed_dictionaries({"names": st.booleans(), "notes": st.booleans(), "gold": st.booleans()})

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(worlds.steps(), flags)
    def law(happened, flags):
        same_again(happened, **flags)

    law()


@pytest.mark.parametrize("kind", get_args(Value))
def test_the_values_that_are_drawn_are_of_every_kind(kind):
    assert worlds.fitting(find(VALUES, lambda value: isinstance(value, kind)))


def test_a_study_that_has_moved_goes_on(tmp_path, place):
    """From this machine to another, in SQLite and PostgreSQL: clips, open questions, numbers; nobody is asked twice."""
    site = open_site(make_study(tmp_path / "here", 'name = "Cups"\nwant = 2\n'))
    with site.store:
        ask(site, 4, want=2)
        offer(site, [Texts("Name a colour.", ("Blue", ""))])
        for name in ("ann", "bob"):
            people.invite(site.store, name)
        for i, one in enumerate(desk.lend(site.store, site.study(), "ann", 2, 0.0, site.rng)):
            desk.take(site.store, "ann", one.lease, f"a{i}", Compare(1.0), {"ms": 900}, "", 1.0)
        (one,) = desk.lend(site.store, site.study(), "bob", 1, 0.0, site.rng)
        desk.take(site.store, "bob", one.lease, "b0", Compare(0.0), {}, "", 1.0)
        people.erase(site.store, "bob")
        site.store.log_cursor("reward", 0, 3)
        put_progress(site.store, "reward", 0, {"answers": 3, "return": -1.5})
        told = progress(site.store)
        shown = {one.query: one.shown for one, _, _ in desk.last(site.store, "ann", 9)}
    out(tmp_path / "here", tmp_path / "whole", "hf", names=True)
    url = place if isinstance(place, str) else None
    assert (
        bring(tmp_path / "whole", tmp_path / "there", url, "") == f"{tmp_path / 'there'}: 2 answers read, 2 of them new"
    )
    moved = open_site(tmp_path / "there", url)
    with moved.store as store:
        assert moved.study() == site.study() and store.erased(9) == 1 and store.cursor("reward", 0) == 3
        assert progress(store) == told
        assert people.enter(store, people.invite(store, "ann")), "invited again, under the same name"
        assert {one.query: one.shown for one, _, _ in desk.last(store, "ann", 9)} == shown
        lent = desk.lend(store, moved.study(), "ann", 8, 0.0, np.random.default_rng(0))
        assert {one.query for one in lent} == {q.id for q in store.queries()} - set(shown)
        assert all(moved.clips.get(sha) is not None for one in lent for sha in one.clips)
        assert desk.take(store, "ann", lent[0].lease, "a9", Compare(0.5), {}, "", 1.0).seq == 4, "3 was erased"
        people.invite(store, "cleo")
        again = desk.lend(store, moved.study(), "cleo", 8, 0.0, np.random.default_rng(0))
        assert len(again) == 5, "two people were wanted for each"
    back = out(tmp_path / "there", tmp_path / "back", "hf", url)
    assert worlds.tree(back).keys() == worlds.tree(tmp_path / "whole").keys()


def test_a_data_folder_that_was_never_a_study_is_taken_along_too(tmp_path):
    """Answers of teachers, and of imported labels: without leases, and no table of the GUI is made in it."""
    from embodied.records import Answer, Query

    parts = worlds.segments(tmp_path / "plain" / "episodes", 2)
    with open_folder(tmp_path / "plain", make=True) as store:
        store.add_queries([Query("q", tuple(parts), context="Which is faster?")])
        store.add_answers([Answer("a", "q", "oracle", "teacher", Compare(0.0))])
    before = (tmp_path / "plain" / "answers.sqlite").read_bytes()
    (row,) = worlds.json_lines(out(tmp_path / "plain", tmp_path / "a.jsonl", "jsonl", names=True))
    assert (row["annotator"], row["question"], row["late"], row["told"], row["shown"]) == (
        "oracle",
        "Which is faster?",
        None,
        None,
        [],
    )
    assert row["chosen"] == row["segments"][1] and (tmp_path / "plain" / "answers.sqlite").read_bytes() == before
    worlds.segments(tmp_path / "other" / "episodes", 2)
    bring(tmp_path / "a.jsonl", tmp_path / "other", None, "")
    assert look(tmp_path / "other").annotators == {"oracle": 1}
