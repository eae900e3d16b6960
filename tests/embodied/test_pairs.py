"""Pairs out and in again: what is learned from is the same, bit for bit."""

import numpy as np
import pytest
import torch

from embodied.episodes import Episode, Episodes, cut
from embodied.feedback import feedback
from embodied.importers import DataError
from embodied.pairs import read_pairs, write_pairs
from embodied.records import Answer, Compare, Query, Rate, Skip
from embodied.store import Store


def study():
    draw = np.random.default_rng(0)
    a, b = (
        Episode(f"run-{i}", draw.normal(size=(20, 3)), draw.normal(size=(20, 2)).astype(np.float32)) for i in (0, 1)
    )
    pairs = [(cut(a, 0, 5), cut(b, 3, 8)), (cut(b, 3, 8), cut(b, 10, 17)), (cut(a, 2, 4), cut(a, 0, 5))]
    queries = [Query(f"q{i}", pair) for i, pair in enumerate(pairs)]
    answers = [
        Answer("1", "q0", "ann", "person", Compare(1.0), 1),
        Answer("2", "q1", "ann", "person", Compare(0.5), 2),
        Answer("3", "q2", "ann", "person", Skip("blurred"), 3),
        Answer("4", "q0", "bob", "teacher", Compare(0.25), 4),
        Answer("5", "q1", "ann", "person", Compare(0.0), 5, supersedes="2"),
    ]
    return queries, answers


def test_out_and_in_is_the_same_to_whoever_learns(tmp_path):
    queries, answers = study()
    assert write_pairs(tmp_path / "pairs.npz", queries, answers) == 4
    episodes, again, said = read_pairs(tmp_path / "pairs.npz")
    standing = [a for a in answers if a.id != "2"]
    assert [(a.query, a.annotator, a.source) for a in said] == [(a.query, a.annotator, a.source) for a in standing]
    assert len(episodes) == 4  # run-1 [3, 8) and run-0 [0, 5) occur twice
    (one, budget), (two, account) = feedback(answers, queries), feedback(said, again)
    for name in ("obs", "act", "mask"):
        assert torch.equal(getattr(one.segments, name), getattr(two.segments, name))
    for name in ("target", "weight", "annotator", "same_context"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert (account.answered, account.skipped, account.asked) == (budget.answered, budget.skipped, 3)
    with Store(tmp_path / "answers.sqlite", Episodes(tmp_path / "episodes")) as store:
        store.episodes.save(episodes)
        store.add_queries(again)
        assert store.add_answers(said) == [1, 2, 3, 4]


def test_the_keys_are_those_that_are_documented(tmp_path):
    write_pairs(tmp_path / "pairs.npz", *study())
    with np.load(tmp_path / "pairs.npz", allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
        assert file["weight"].tolist() == [1, 0, 1, 1]
        assert file["target"].tolist() == [[1, 0], [0.5, 0.5], [0.25, 0.75], [0, 1]]
        assert file["episode"][0].tolist() == ["run-0", "run-1"] and file["start"][0].tolist() == [0, 3]
        assert file["mask"].sum(-1).tolist() == [[5, 5], [2, 5], [5, 5], [5, 7]]
        assert not file["obs"][~file["mask"]].any() and file["obs"].dtype == np.float64
    rows = {"weight": (4,), "annotator": (4,), "source": (4,), "query": (4,), "episode": (4, 2), "start": (4, 2)}
    assert shapes == {"obs": (4, 2, 7, 3), "act": (4, 2, 7, 2), "mask": (4, 2, 7), "target": (4, 2), **rows}


def test_the_three_keys_that_must_be_there_are_enough(tmp_path):
    np.savez(
        tmp_path / "p.npz", obs=np.ones((3, 2, 4, 1)), act=np.ones((3, 2, 4, 1)), target=[[1, 0], [0, 1], [0.5, 0.5]]
    )
    episodes, queries, answers = read_pairs(tmp_path / "p.npz", "mine")
    assert len(episodes) == 6 and [q.id for q in queries] == ["mine-000000", "mine-000001", "mine-000002"]
    assert [a.value.first for a in answers] == [1, 0, 0.5] and {a.annotator for a in answers} == {"mine"}


GOOD = {"obs": np.ones((2, 2, 3, 1)), "act": np.ones((2, 2, 3, 1)), "target": np.array([[1.0, 0], [0, 1]])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"act": None}, "has no act; pairs need obs, act, target"),
        ({"obs": np.ones((2, 3, 1))}, r"obs has shape \(2, 3, 1\), target \(2, 2\); give \[B,2,T,O\]"),
        ({"obs": np.full((2, 2, 3, 1), np.nan)}, r"obs\[0, 0\] is nan"),
        ({"act": np.ones((2, 2, 4, 1))}, r"act has shape \(2, 2, 4, 1\); give \[2, 2, 3\], as obs asks for"),
        (
            {"target": np.array([[1.0, 0], [1, 1]])},
            r"target\[1\] is \[1.0, 1.0\]; give two probabilities",
        ),
        ({"target": np.array([[np.nan, 0], [1, 0]])}, r"target\[0\] is \[nan, 0.0\]"),
        ({"target": np.array([[1.5, -0.5], [1, 0]])}, r"target\[0\] is \[1.5, -0.5\]"),
        ({"mask": np.array([[[0, 1, 1]] * 2] * 2)}, "a mask has a gap"),
        ({"mask": np.zeros((2, 2, 3))}, "or no step at all"),
        ({"query": np.array(["a", "a"]), "episode": np.array([["x", "y"], ["x", "z"]])}, "query 'a' is about other"),
        ({"source": np.array(["oracle", "oracle"])}, "has source 'oracle'; use one of person, teacher"),
        ({"annotator": np.array(["", ""])}, "annotator of answer .* has 0 characters"),
    ],
)
def test_broken_pairs_are_named(change, said, tmp_path):
    np.savez(tmp_path / "p.npz", **{k: v for k, v in {**GOOD, **change}.items() if v is not None})
    with pytest.raises(DataError, match=said):
        read_pairs(tmp_path / "p.npz")


def test_what_is_no_pair_is_refused_and_nothing_is_written(tmp_path):
    queries, answers = study()
    rating = Query("r", queries[0].segments, kind="rate")
    with pytest.raises(DataError, match="query 'r' asks to rate; only comparisons are pairs"):
        write_pairs(tmp_path / "p.npz", [rating], [Answer("1", "r", "ann", "person", Rate((1.0, 2.0)))])
    with pytest.raises(DataError, match="no answer to any of 3 questions; ask first"):
        write_pairs(tmp_path / "p.npz", queries, [])
    with pytest.raises(DataError, match="answer '1' is to query 'q0', which is not there"):
        write_pairs(tmp_path / "p.npz", queries[1:], answers)
    other = Episode("other", np.zeros((5, 9)), np.zeros((5, 2)))
    mixed = [*queries, Query("m", (cut(other, 0, 2), cut(other, 1, 3)))]
    with pytest.raises(DataError, match=r"episode 'other' has shapes \(9,\), \(2,\), one of 'run-0' \(3,\), \(2,\)"):
        write_pairs(tmp_path / "p.npz", mixed, [*answers, Answer("9", "m", "ann", "person", Compare(1.0))])
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "p.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"p.npz is there already; give another name"):
        write_pairs(tmp_path / "p.npz", *study())
    with pytest.raises(DataError, match=r"p.npz is not a whole .npz"):
        read_pairs(tmp_path / "p.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]
