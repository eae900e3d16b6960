"""Records: what cannot be is refused with its value, and values survive JSON exactly."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embodied
from embodied.records import (
    MAX_STEPS,
    Answer,
    Choose,
    Compare,
    Grade,
    Marks,
    Query,
    Rank,
    Rate,
    RecordError,
    Segment,
    Skip,
    Stop,
    Survey,
    Written,
    check_answer,
    value_from_json,
    value_to_json,
)
from embodied.values import first_better, shown_as

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
YES_OR_NO = st.sampled_from([True, False, None])
ITEM = st.one_of(st.none(), st.floats(0, 1), st.tuples(YES_OR_NO, YES_OR_NO))
SPAN = st.tuples(st.integers(0, 50), st.integers(51, 99), st.booleans())
VALUES = st.one_of(
    st.floats(0, 1).map(Compare),
    st.integers(-2, 2).map(Grade),
    st.integers(0, 5).map(Choose),
    st.lists(SPAN, max_size=4).map(lambda spans: Marks(tuple(spans))),
    st.integers(1, 99).map(Stop),
    st.builds(Survey, st.floats(0, 1), st.dictionaries(TEXT.filter(len), ITEM, max_size=3), TEXT),
    TEXT.filter(str.strip).map(Written),
    st.integers(2, 6).flatmap(lambda k: st.permutations(range(k))).map(lambda order: Rank(tuple(order))),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6).map(lambda v: Rate(tuple(v))),
    TEXT.map(Skip),
)


def segment(start=0, stop=5, width=3, episode="e"):
    steps = max(stop - start, 0)
    return Segment(episode, start, stop, np.zeros((steps, width), np.float32), np.zeros((steps, 2), np.float32))


def query(kind="compare", k=2):
    return Query("q", tuple(segment(i, i + 5) for i in range(k)), kind)


def answer(said, **changes):
    return Answer(**{"id": "a", "query": "q", "annotator": "ann", "source": "person", "value": said, **changes})


def test_what_was_said_of_places_is_kept_of_segments():
    """shown[i] is the segment in place i; ranking, rating, choosing and comparing are all about places."""
    shown = (2, 0, 3, 1)
    assert shown_as(Rank((1, 0, 2, 3)), shown).order == (0, 2, 3, 1)
    assert shown_as(Rate((10.0, 20.0, 30.0, 40.0)), shown).values == (20.0, 40.0, 10.0, 30.0)
    assert shown_as(Choose(2), shown).best == 3
    assert shown_as(Compare(0.9), (1, 0)).first == pytest.approx(0.1)
    assert shown_as(Grade(2), (1, 0)).level == -2
    survey = Survey(1.0, {"cave": (True, None), "faster": 0.0, "neat": None}, "it fell")
    assert shown_as(survey, (1, 0)) == Survey(0.0, {"cave": (None, True), "faster": 1.0, "neat": None}, "it fell")


@given(VALUES, st.integers(1, 6).flatmap(lambda k: st.permutations(range(k))))
def test_what_was_shown_in_another_order_is_put_back(value, shown):
    inverse = tuple(shown.index(k) for k in range(len(shown)))
    back = shown_as(shown_as(value, tuple(shown)), inverse)
    assert back == value or (first_better(value), first_better(back)) == pytest.approx((first_better(value),) * 2)


@given(VALUES)
def test_a_value_survives_json_exactly(value):
    assert value_from_json(json.loads(json.dumps(value_to_json(value)))) == value


@pytest.mark.parametrize(
    "data", [{}, {"compare": 0.5, "rank": [0, 1]}, {"stars": 3}, {"rank": 1}, {"compare": "1"}, {"compare": None}]
)
def test_what_is_no_value_is_refused(data):
    with pytest.raises(RecordError, match="give"):
        value_from_json(data)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Compare(1.5), r"first of a comparison is 1\.5; give a probability in \[0, 1\]"),
        (lambda: Compare(float("nan")), "first of a comparison is nan; give a finite number"),
        (lambda: Compare(True), "first of a comparison is True; give a finite number"),
        (lambda: Rank((0, 2)), r"ranking \(0, 2\) is no permutation; name each of 0\.\.K-1 once"),
        (lambda: Rank((0, 0)), r"ranking \(0, 0\) is no permutation"),
        (lambda: Rank((0, 1.0)), "not an index; give whole numbers"),
        (lambda: Rate(()), "a rating of nothing; give one number per segment"),
        (lambda: Rate((1.0, float("inf"))), "rating is inf; give a finite number"),
        (lambda: Grade(3), "level of a graded comparison is 3; give a whole number, -2 to 2"),
        (lambda: Grade(1.0), r"is 1\.0; give a whole number"),
        (lambda: Choose(-1), "best of a choice is -1; give a whole number, 0 or more"),
        (lambda: Marks(((3, 3, True),)), "stop of a mark, after its start, is 3; give a whole number, 4 to"),
        (lambda: Marks(((0, 3, 1),)), r"a mark is \(0, 3, 1\); give \(start, stop, true for good"),
        (lambda: Stop(0), "steps before a stop is 0; give a whole number, 1 to"),
        (lambda: Survey(0.5, {"cave": 2}), "'cave' of a survey is 2.0; give a probability"),
        (lambda: Survey(0.5, {"cave": (True,)}), r"'cave' of a survey is \(True,\); give yes, no or None for each"),
        (lambda: Survey(0.5, why="x" * 10_001), "why of a survey has 10001 characters; write at most 10,000"),
        (lambda: Written("  "), "nothing was written; write something, or skip"),
        (lambda: Skip(3), "reason of a skip is 3; give text"),
    ],
)
def test_values_that_cannot_be(make, sentence):
    with pytest.raises(RecordError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stop": 0, "obs": np.zeros((0, 3)), "act": np.zeros((0, 2))}, "has 0 steps; give 1 to 100,000"),
        ({"start": 9}, "has -4 steps; give 1 to 100,000"),
        ({"stop": MAX_STEPS + 1}, "has 100001 steps; give 1 to 100,000"),
        ({"start": -1}, "starts at -1, before the episode; start at 0 or later"),
        ({"stop": 5.0}, r"stop is 5\.0; give a whole number of steps"),
        ({"start": True}, "start is True; give a whole number of steps"),
        ({"obs": np.zeros((4, 3))}, r"obs has shape \(4, 3\), not \[5, \.\.\.\]; give one row per step"),
        ({"act": np.zeros(())}, r"act has shape \(\), not \[5, \.\.\.\]"),
        ({"act": [[0.0]] * 5}, "act is a list; give a numpy array of numbers"),
        ({"act": np.array(["a"] * 5)}, "act is an array of <U1; give a numpy array of numbers"),
        (
            {"obs": np.array([[0.0], [0.0], [np.nan], [0.0], [0.0]])},
            r"obs\[2, 0\] is nan; mend the environment or drop",
        ),
        ({"act": np.full((5, 1), np.inf)}, r"act\[0, 0\] is inf; mend the environment"),
        ({"episode": ""}, "episode of a segment has 0 characters: ''; give 1 to 200"),
    ],
)
def test_segments_that_cannot_be(changes, sentence):
    whole = {"episode": "e", "start": 0, "stop": 5, "obs": np.zeros((5, 3)), "act": np.zeros((5, 2))}
    with pytest.raises(RecordError, match=sentence):
        Segment(**{**whole, **changes})


def test_segments_without_actions_of_bytes_and_of_one_step():
    film = Segment("film", 0, 1, np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 0)))
    assert len(film) == 1
    assert len(Segment("e", np.int64(2), np.int64(4), np.zeros(2), np.zeros(2, np.int64))) == 2


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: query(k=3), "query 'q' of kind 'compare' has 3 segments; give exactly 2"),
        (lambda: query("rank", 1), "query 'q' of kind 'rank' has 1 segments; give at least 2"),
        (lambda: query("rate", 0), "query 'q' of kind 'rate' has 0 segments; give at least 1"),
        (lambda: query("stars"), "query 'q' has kind 'stars'; use one of compare, grade, rank, choose, rate, mark"),
        (lambda: Query("x" * 201, (segment(), segment())), "id of a query has 201 characters: .*; give 1 to 200"),
        (lambda: Query("\ud800", (segment(), segment())), "no valid Unicode; remove the lone surrogate"),
        (lambda: Query("q", (segment(), segment(width=4))), r"mixes obs of shapes \[\(3,\), \(4,\)\] per step"),
    ],
)
def test_queries_that_cannot_be(make, sentence):
    with pytest.raises(RecordError, match=sentence):
        make()


@pytest.mark.parametrize("name", ["x", "a b/c", "é 日本 🤖", "x" * 200, "../../etc", "'; DROP TABLE answer; --", "\0"])
def test_any_text_is_an_id(name):
    assert Query(name, (segment(), segment())).id == answer(Skip(), id=name).id == name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": ""}, "id of an answer has 0 characters"),
        ({"id": 7}, "id of an answer is 7; give text"),
        ({"annotator": ""}, "annotator of answer 'a' has 0 characters"),
        ({"source": "robot"}, "answer 'a' has source 'robot'; use one of person, teacher, judge, import"),
        ({"value": 0.5}, r"answer 'a' has value 0\.5; use one of embodied.values"),
        ({"supersedes": "a"}, "answer 'a' supersedes itself; a revision needs an id of its own"),
    ],
)
def test_answers_that_cannot_be(changes, sentence):
    with pytest.raises(RecordError, match=sentence):
        answer(Compare(1.0), **changes)


@pytest.mark.parametrize(
    ("kind", "k", "fits", "not_fits"),
    [
        ("compare", 2, Compare(0.5), Rank((0, 1))),
        ("rank", 3, Rank((2, 0, 1)), Rank((1, 0))),
        ("rate", 3, Rate((0, -1, 5)), Rate((1, 2))),
        ("rate", 2, Rate((1, 2)), Compare(1.0)),
        ("grade", 2, Grade(-2), Compare(1.0)),
        ("choose", 3, Choose(2), Choose(3)),
        ("mark", 1, Marks(((0, 5, True), (2, 3, False))), Marks(((4, 6, True),))),
        ("stop", 1, Stop(5), Stop(6)),
        ("survey", 2, Survey(1.0, {"cave": (True, None)}), Compare(1.0)),
        ("write", 1, Written("It fell."), Rate((1.0,))),
    ],
)
def test_an_answer_fits_its_query(kind, k, fits, not_fits):
    check_answer(answer(fits), query(kind, k))
    check_answer(answer(Skip("too dark")), query(kind, k))
    with pytest.raises(RecordError, match=kind):
        check_answer(answer(not_fits), query(kind, k))
    with pytest.raises(RecordError, match="answer 'a' is to query 'other', not to 'q'; take its own query"):
        check_answer(answer(fits, query="other"), query(kind, k))


def test_what_is_durable_loads_without_torch():
    code = (
        "import sys, embodied.records, embodied.episodes, embodied.store, embodied.contract\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('torch', 'stable_baselines3', 'mujoco')))"
    )
    root = Path(embodied.__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
