"""Batches of questions: against every batch there is, on small pools, and on pools whose best batch is plain."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.batches import coverage, dpp, medoids
from embodied.criteria import deviation, expected_information
from embodied.queries import best, focused, narrowed, uniform

MAKE = {
    "dpp": lambda f: dpp(expected_information, f),
    "medoids": lambda f: medoids(expected_information, f),
    "focused": lambda f: focused(best(expected_information), f[:, 0], keep=0.4, share=0.6),
    "narrowed": lambda f: narrowed(best(expected_information), f),
}


def pool(seed, n=9, size=2):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=2, size=(4, n)), rng.normal(size=(n, size))


@pytest.mark.parametrize("name", MAKE)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12))
def test_different_candidates_repeatable_and_as_many_as_asked(name, seed, n):
    diff, features = pool(seed, n)
    k = 1 + seed % n
    one, two = (MAKE[name](features)(diff, k, np.random.default_rng(seed)).tolist() for _ in range(2))
    assert one == two and len(set(one)) == k and set(one) <= set(range(n))


@pytest.mark.parametrize("name", ["dpp", "medoids", "focused"])
@given(seed=st.integers(0, 10**6))
def test_candidates_in_another_order_are_the_same_choice(name, seed):
    diff, features = pool(seed)
    order = np.random.default_rng(seed).permutation(9)
    whole = MAKE[name](features)(diff, 4, np.random.default_rng(1))
    moved = MAKE[name](features[order])(diff[:, order], 4, np.random.default_rng(2))
    assert set(order[moved].tolist()) == set(whole.tolist())


@given(seed=st.integers(0, 10**6))
def test_coverage_in_another_order_is_the_same_choice(seed):
    shows = np.random.default_rng(seed).random((8, 20))  # so many things that no two candidates add the same
    order = np.random.default_rng(seed).permutation(8)
    moved = coverage(shows[order], 3, np.random.default_rng(2))
    assert order[moved].tolist() == coverage(shows, 3, np.random.default_rng(1)).tolist()


def kernel(diff, features, width):
    value = expected_information(diff)
    apart = np.linalg.norm(features[:, None] - features, axis=-1)
    return value[:, None] * np.exp(-(apart**2) / (2 * width**2)) * value


@given(seed=st.integers(0, 10**6))
def test_dpp_adds_what_makes_the_determinant_greatest(seed):
    """Each step by the definition, with determinants computed anew; and within 4 of the best batch's logarithm."""
    diff, features = pool(seed, 8)
    matrix = kernel(diff, features, 0.7)
    det = lambda rows: np.linalg.det(matrix[np.ix_(rows, rows)])  # noqa: E731
    chosen = dpp(expected_information, features, 0.7)(diff, 3, np.random.default_rng(0)).tolist()
    for n in range(3):
        others = [i for i in range(8) if i not in chosen[:n]]
        assert det(chosen[: n + 1]) >= max(det([*chosen[:n], i]) for i in others) * (1 - 1e-9)
    greatest = max(det(list(batch)) for batch in combinations(range(8), 3))
    assert det(chosen) >= greatest / 36  # (1/k!)^2: Civril and Magdon-Ismail 2009


def test_dpp_asks_nothing_twice_where_the_best_alone_would():
    """Three copies of the best pair and two others: the best three are the copies, the best batch is one of each."""
    features = np.array([[0.0], [0.0], [0.0], [5.0], [9.0]])
    diff = np.array([[4.0, 4.0, 4.0, 2.0, 1.0], [-4.0, -4.0, -4.0, -2.0, -1.0]])
    assert set(best(expected_information)(diff, 3, np.random.default_rng(0)).tolist()) == {0, 1, 2}
    chosen = dpp(expected_information, features)(diff, 5, np.random.default_rng(0)).tolist()
    assert chosen[0] in (0, 1, 2) and chosen[1:3] == [3, 4] and sorted(chosen) == list(range(5))


def cost(features, value, chosen):
    return (value * np.linalg.norm(features[:, None] - features[list(chosen)], axis=-1).min(1)).sum()


@given(seed=st.integers(0, 10**6))
def test_medoids_cost_little_more_than_the_best_of_all_batches(seed):
    """Never twice as much, where the bound of such a local search is five times."""
    diff, features = pool(seed, 8)
    value = deviation(diff)
    chosen = medoids(deviation, features)(diff, 3, np.random.default_rng(0))
    least = min(cost(features, value, batch) for batch in combinations(range(8), 3))
    assert cost(features, value, chosen) <= 2 * least + 1e-12
    nearest = np.linalg.norm(features[:, None] - features[chosen], axis=-1).argmin(1)
    for m, pick in enumerate(chosen):  # none could move within its cluster
        mine = np.flatnonzero(nearest == m)
        inside = [cost(features[mine], value[mine], [i]) for i in range(len(mine))]
        assert inside[mine.tolist().index(pick)] <= min(inside) + 1e-12


def test_one_medoid_is_the_weighted_median():
    """On a line that is a known point: half of the value lies on either side."""
    diff = np.array([[1.0] * 4 + [8.0], [-1.0] * 4 + [-8.0]])
    value = deviation(diff)
    features = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]])
    side = np.cumsum(value) >= value.sum() / 2
    assert medoids(deviation, features)(diff, 1, np.random.default_rng(0)).tolist() == [int(np.argmax(side))]


def test_medoids_take_one_of_every_heap():
    rng = np.random.default_rng(0)
    features = np.repeat([[0.0, 0], [10, 0], [0, 10]], 5, axis=0) + rng.normal(scale=0.1, size=(15, 2))
    diff = rng.normal(size=(3, 15))
    for seed in range(10):
        assert set(medoids(deviation, features)(diff, 3, np.random.default_rng(seed)) // 5) == {0, 1, 2}


@given(seed=st.integers(0, 10**6), k=st.integers(1, 4))
def test_coverage_shows_at_least_its_share_of_the_most_there_is(seed, k):
    shows = (np.random.default_rng(seed).random((8, 10)) < 0.3).astype(float)
    shown = lambda rows: shows[list(rows)].max(0).sum()  # noqa: E731
    most = max(shown(batch) for batch in combinations(range(8), k))
    assert shown(coverage(shows, k, np.random.default_rng(0))) >= (1 - 1 / np.e) * most


def test_coverage_looks_for_what_was_not_shown_yet():
    shows = np.array([[1.0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    assert coverage(shows, 2, np.random.default_rng(0)).tolist() == [0, 2]
    assert coverage(shows, 1, np.random.default_rng(0), taken=shows[:1]).tolist() == [2]
    with pytest.raises(ValueError, match="shows is -1"):
        coverage(-shows, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="choose 5 of 4"):
        coverage(shows, 5, np.random.default_rng(0))


def test_focus_keeps_to_the_newest_and_hybrid_takes_its_share_there():
    diff = np.zeros((2, 12))
    new = np.arange(12.0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert set(focused(uniform, new, keep=0.25)(diff, 3, rng)) == {9, 10, 11}
        assert set(focused(uniform, new, keep=0.25)(diff, 5, rng)) == {7, 8, 9, 10, 11}  # as many as are needed
        both = focused(uniform, new, keep=0.25, share=0.5)(diff, 4, rng)
        assert (both[:2] >= 9).all() and (both[2:] < 9).all()
    assert sorted(focused(uniform, new, keep=1.0, share=0.5)(diff, 12, np.random.default_rng(0))) == list(range(12))


@pytest.mark.parametrize("name", MAKE)
def test_what_makes_no_sense_is_refused(name):
    rng = np.random.default_rng(0)
    diff, features = pool(0)
    with pytest.raises(ValueError, match="choose 10 of 9"):
        MAKE[name](features)(diff, 10, rng)
    with pytest.raises(ValueError, match=r"of 8 candidates and diff is about 9|worth of 8"):
        MAKE[name](features[:8])(diff, 2, rng)
    with pytest.raises(ValueError, match="not finite"):
        MAKE[name](features)(np.where(diff == diff[0, 0], np.nan, diff), 2, rng)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="width is 0"):
        dpp(deviation, np.zeros((3, 2)), 0)
    with pytest.raises(ValueError, match="keep is 2"):
        focused(uniform, np.zeros(3), keep=2)
    with pytest.raises(ValueError, match="share is 0"):
        focused(uniform, np.zeros(3), share=0)
    with pytest.raises(ValueError, match="worth of candidate 1"):
        focused(uniform, np.array([0.0, np.inf]))
    with pytest.raises(ValueError, match=r"features has shape \(3,\)"):
        medoids(deviation, np.zeros(3))
