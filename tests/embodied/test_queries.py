"""Query selection: against the definition by enumeration, and on cases where the right choice is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.queries import disagreement, entropy, information_gain, k_centre, narrowed, uniform

SELECT = [uniform, disagreement, entropy, information_gain]


def uncertainty(p):
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
    unsure = [uncertainty(c.mean()) for c in p.T]
    bald = [u - np.mean([uncertainty(x) for x in c]) for u, c in zip(unsure, p.T, strict=True)]
    rng = np.random.default_rng(0)
    assert information_gain(diff, 9, rng).tolist() == np.argsort(bald)[::-1].tolist()
    assert entropy(diff, 9, rng).tolist() == np.argsort(unsure)[::-1].tolist()
    assert disagreement(diff, 9, rng).tolist() == np.argsort(p.std(0))[::-1].tolist()


def test_a_coin_flip_for_everyone_teaches_nothing_and_a_quarrel_does():
    """Columns: everyone unsure, everyone sure, members sure of opposites; entropy cannot tell first from last."""
    diff = np.array([[0.0, 9.0, 9.0], [0.0, 9.0, -9.0]])
    for select in (disagreement, information_gain):
        assert select(diff, 1, np.random.default_rng(0)).tolist() == [2]
    assert set(entropy(diff, 2, np.random.default_rng(0)).tolist()) == {
        0,
        2,
    }  # the mean's, not the mean of the members'


def test_far_out_differences_do_no_harm():
    diff = np.array([[1e4, 1e4, 0.0], [-1e4, 1e4, 0.0]])
    with np.errstate(all="raise"):
        assert information_gain(diff, 1, np.random.default_rng(0)).tolist() == [0]
        assert set(entropy(diff, 2, np.random.default_rng(0)).tolist()) == {0, 2}


def test_swapping_the_segments_of_every_pair_changes_nothing():
    diff = np.random.default_rng(0).normal(size=(5, 20))
    for select in (disagreement, entropy, information_gain):
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


def spread_out(features, k, taken):
    """Farthest first by the definition: each time the candidate whose nearest centre is farthest."""
    centres, chosen = list(taken), []
    for _ in range(k):
        open_ = [n for n in range(len(features)) if n not in chosen]
        far = [min(np.linalg.norm(features[n] - c) for c in centres) for n in open_]
        chosen.append(open_[int(np.argmax(far))])
        centres.append(features[chosen[-1]])
    return chosen


@given(seed=st.integers(0, 10**6))
def test_k_centre_is_farthest_first_from_what_was_asked_already(seed):
    rng = np.random.default_rng(seed)
    features, taken = rng.normal(size=(15, 3)), rng.normal(size=(4, 3))
    assert k_centre(features, 6, np.random.default_rng(0), taken).tolist() == spread_out(features, 6, taken)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 8))
def test_k_centre_covers_at_most_twice_as_far_as_the_best_cover(seed, k):
    """Gonzalez's bound, on points on a line, where sweeping intervals of one width over them gives the best cover."""
    x = np.sort(np.random.default_rng(seed).uniform(size=9))
    chosen = k_centre(x[:, None], k, np.random.default_rng(seed))
    radius = np.abs(x[:, None] - x[chosen]).min(1).max()

    def covers(length):
        left, used = -1.0, 0
        for point in x:
            if point > left + length:
                left, used = point, used + 1
        return used <= k

    widths = sorted({b - a for a in x for b in x if b >= a})
    best = next(w for w in widths if covers(w + 1e-12)) / 2  # even if centres may lie between the points
    assert radius <= 2 * best + 1e-9 and len(set(chosen.tolist())) == k


def test_k_centre_takes_one_of_every_heap_first_and_copies_last():
    heaps = np.repeat(np.array([[0.0, 0], [10, 0], [0, 10]]), 4, axis=0)
    for seed in range(20):
        chosen = k_centre(heaps, 12, np.random.default_rng(seed))
        assert set(chosen[:3] // 4) == {0, 1, 2} and sorted(chosen) == list(range(12))
    assert set(k_centre(heaps, 2, np.random.default_rng(0), heaps[:1]) // 4) == {1, 2}


def test_narrowed_covers_the_better_half_only():
    features = np.array([[0.0], [1.0], [5.0], [9.0], [100.0], [-100.0], [50.0], [-50.0]])
    diff = np.array([[1.0] * 4 + [9.0] * 4, [-1.0] * 4 + [9.0] * 4])  # members quarrel about the first four
    select = narrowed(disagreement, features, taken=np.array([[0.0]]))
    assert select(diff, 2, np.random.default_rng(0)).tolist() == [3, 2]
    everything = narrowed(disagreement, features, keep=1.0, taken=np.array([[0.0]]))
    assert set(everything(diff, 2, np.random.default_rng(0)).tolist()) == {4, 5}
    assert len(set(select(diff, 7, np.random.default_rng(0)).tolist())) == 7  # more than half are asked for
    with pytest.raises(ValueError, match="keep is 0"):
        narrowed(uniform, features, keep=0)
    with pytest.raises(ValueError, match="features of 8 candidates and diff is about 3"):
        select(diff[:, :3], 1, np.random.default_rng(0))


def test_k_centre_refuses_what_makes_no_sense():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="choose 4 of 3"):
        k_centre(np.zeros((3, 2)), 4, rng)
    with pytest.raises(ValueError, match=r"taken has shape \(1, 3\)"):
        k_centre(np.zeros((3, 2)), 1, rng, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="features of row 1 is not finite"):
        k_centre(np.array([[0.0], [np.nan]]), 1, rng)
