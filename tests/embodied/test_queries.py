"""Query selection: against the definition by enumeration, and on cases where the right choice is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.queries import disagreement, information_gain, uniform

SELECT = [uniform, disagreement, information_gain]


def entropy(p):
    return 0.0 if p in (0, 1) else -p * math.log(p) - (1 - p) * math.log(1 - p)


@pytest.mark.parametrize("select", SELECT)
@given(seed=st.integers(0, 10**6), members=st.integers(2, 5), candidates=st.integers(1, 12))
def test_different_candidates_repeatable_and_as_many_as_asked(select, seed, members, candidates):
    diff = np.random.default_rng(seed).normal(size=(members, candidates))
    k = 1 + seed % candidates
    chosen = select(diff, k, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == k and set(chosen.tolist()) <= set(range(candidates))
    assert chosen.tolist() == select(diff, k, np.random.default_rng(seed)).tolist()


@given(seed=st.integers(0, 10**6))
def test_scores_are_those_of_the_definitions(seed):
    diff = np.random.default_rng(seed).normal(scale=3, size=(4, 9))
    p = 1 / (1 + np.exp(-diff))
    bald = [entropy(c.mean()) - np.mean([entropy(x) for x in c]) for c in p.T]
    rng = np.random.default_rng(0)
    assert information_gain(diff, 9, rng).tolist() == np.argsort(bald)[::-1].tolist()
    assert disagreement(diff, 9, rng).tolist() == np.argsort(p.std(0))[::-1].tolist()


def test_a_coin_flip_for_everyone_teaches_nothing_and_a_quarrel_does():
    """Columns: everyone unsure, everyone sure, members sure of opposites; entropy cannot tell first from last."""
    diff = np.array([[0.0, 9.0, 9.0], [0.0, 9.0, -9.0]])
    for select in (disagreement, information_gain):
        assert select(diff, 1, np.random.default_rng(0)).tolist() == [2]


def test_far_out_differences_do_no_harm():
    diff = np.array([[1e4, 1e4, 0.0], [-1e4, 1e4, 0.0]])
    with np.errstate(all="raise"):
        assert information_gain(diff, 1, np.random.default_rng(0)).tolist() == [0]


def test_swapping_the_segments_of_every_pair_changes_nothing():
    diff = np.random.default_rng(0).normal(size=(5, 20))
    for select in (disagreement, information_gain):
        assert select(diff, 6, np.random.default_rng(1)).tolist() == select(-diff, 6, np.random.default_rng(1)).tolist()


@pytest.mark.parametrize("select", SELECT)
def test_equal_candidates_are_left_to_chance(select):
    """2,000 draws of 1 of 4: each count is binomial(2000, 1/4), deviation 19.4; five deviations are allowed."""
    rng = np.random.default_rng(0)
    counts = np.bincount([select(np.ones((2, 4)), 1, rng)[0] for _ in range(2000)], minlength=4)
    assert np.abs(counts - 500).max() < 97


@pytest.mark.parametrize("select", SELECT)
@pytest.mark.parametrize("k", [0, -1, 4])
def test_impossible_numbers_of_questions_are_refused(select, k):
    with pytest.raises(ValueError, match=f"choose {k} of 3"):
        select(np.zeros((2, 3)), k, np.random.default_rng(0))


def test_bad_arrays_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        uniform(np.zeros(3), 1, rng)
    for select in (disagreement, information_gain):
        with pytest.raises(ValueError, match="E >= 2"):
            select(np.zeros((1, 3)), 1, rng)
    with pytest.raises(ValueError, match="candidate 1 is not finite"):
        uniform(np.array([[0.0, math.nan]]), 1, rng)
