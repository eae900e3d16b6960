"""Simulated teachers: rates within binomial bounds, B-Pref's order of flaws, independence of the order asked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.records import Compare, Query, Rank, Rate, Segment, Skip, check_answer
from embodied.teachers import answer, noisy, oracle

N = 4000


def segment(value):
    return Segment("e", 0, 1, np.array([[value]]), np.zeros((1, 1)))


def utility(segment):
    return float(segment.obs.sum())


def queries(first, second, count=N):
    pair = (segment(first), segment(second))
    return [Query(f"q{n}", pair) for n in range(count)]


def share(values, value):
    return sum(v == value for v in values) / len(values)


def within(rate, p):
    """Five standard deviations of a binomial share: chance failure below 1e-6."""
    return abs(rate - p) <= 5 * math.sqrt(p * (1 - p) / N)


@pytest.mark.parametrize(
    ("gap", "temperature", "lapse"),
    [(1.0, 1.0, 0.0), (-1.0, 2.0, 0.1), (0.0, 1.0, 0.3), (3.0, 0.5, 0.2), (2.0, 0.0, 0.25)],
)
def test_preference_rates(gap, temperature, lapse):
    teacher = noisy(utility, seed=0, temperature=temperature, lapse=lapse)
    values = [teacher(query) for query in queries(gap, 0.0)]
    right = 1 / (1 + math.exp(-gap / temperature)) if temperature else 1.0
    assert within(share(values, Compare(1.0)), right * (1 - lapse) + lapse / 2)
    assert share(values, Compare(1.0)) + share(values, Compare(0.0)) == 1


def test_a_mistake_of_ten_percent_is_a_lapse_of_twenty():
    teacher = noisy(utility, seed=3, temperature=0, lapse=0.2)
    assert within(share([teacher(q) for q in queries(1.0, 0.0)], Compare(0.0)), 0.1)


def test_skip_and_tie_rates_are_those_of_the_utilities():
    rng = np.random.default_rng(0)
    pairs = [Query(f"q{n}", (segment(a), segment(b))) for n, (a, b) in enumerate(rng.normal(size=(N, 2)))]
    teacher = noisy(utility, seed=0, lapse=1.0, tie=0.5, skip=-0.2)
    values = [teacher(query) for query in pairs]
    below = 0.5 * (1 + math.erf(-0.2 / math.sqrt(2)))
    assert within(sum(isinstance(v, Skip) for v in values) / N, below**2)
    no_skip = [noisy(utility, seed=0, lapse=1.0, tie=0.5)(query) for query in pairs]
    assert within(share(no_skip, Compare(0.5)), math.erf(0.5 / 2))  # the difference has deviation sqrt(2)


def test_order_of_flaws_skip_before_tie_before_lapse():
    teacher = noisy(utility, seed=0, lapse=1.0, tie=0.5, skip=0.0)
    assert {teacher(q) for q in queries(-1.0, -1.1, 50)} == {Skip("both are poor")}
    assert {teacher(q) for q in queries(0.1, 0.0, 50)} == {Compare(0.5)}  # a lapse never overwrites a tie
    assert {teacher(q) for q in queries(0.1, -9.0, 50)} == {Compare(0.0), Compare(1.0)}  # one good enough: no skip
    assert {teacher(q) for q in queries(0.5, 0.0, 50)} == {Compare(0.0), Compare(1.0)}  # |dU| < tie, strictly


def test_thresholds_are_used_as_given_and_not_scaled_again():
    for threshold in (0.3, 3.0):
        teacher = noisy(utility, seed=0, tie=threshold)
        assert teacher(queries(0.99 * threshold, 0.0, 1)[0]) == Compare(0.5)
        assert teacher(queries(1.01 * threshold, 0.0, 1)[0]) != Compare(0.5)


@given(seed=st.integers(0, 2**40), order=st.permutations(range(12)))
def test_answers_do_not_depend_on_what_was_asked_before(seed, order):
    asked = queries(0.2, 0.0, 12)
    one, other = (noisy(utility, seed=seed, lapse=0.3) for _ in range(2))
    expected = [one(query) for query in asked]
    shuffled = {asked[n].id: other(asked[n]) for n in order}
    assert [shuffled[query.id] for query in asked] == expected


def test_seeds_give_different_teachers():
    asked = queries(0.0, 0.0, 200)
    a, b = ([noisy(utility, seed=seed)(query) for query in asked] for seed in (0, 1))
    assert a != b


def test_the_oracle_is_right_about_everything():
    teacher = oracle(utility)
    three = tuple(map(segment, (1.0, 3.0, 2.0)))
    assert [teacher(queries(a, b, 1)[0]) for a, b in ((1, 0), (0, 1), (1, 1))] == [
        Compare(1.0),
        Compare(0.0),
        Compare(0.5),
    ]
    assert teacher(Query("r", three, "rank")) == Rank((1, 2, 0))
    assert teacher(Query("s", three, "rate")) == Rate((1.0, 3.0, 2.0))


def test_answers_are_records_with_an_id_that_follows_from_query_and_annotator():
    query = queries(1.0, 0.0, 1)[0]
    record = answer(oracle(utility), query, "careful")
    check_answer(record, query)
    assert (record.source, record.annotator, record.value) == ("teacher", "careful", Compare(1.0))
    assert record == answer(oracle(utility), query, "careful")
    assert record.id != answer(oracle(utility), query, "other").id
    long = Query("q" * 200, query.segments)
    assert len(answer(oracle(utility), long, "a" * 200).id) <= 200


@pytest.mark.parametrize(
    "settings",
    [
        dict(temperature=-1),
        dict(temperature=math.inf),
        dict(lapse=1.2),
        dict(lapse=-0.1),
        dict(tie=-1),
        dict(skip=math.nan),
    ],
)
def test_impossible_settings_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} {value}"):
        noisy(utility, seed=0, **settings)


def test_bad_utilities_and_other_kinds_are_refused():
    query = queries(1.0, 0.0, 1)[0]
    with pytest.raises(ValueError, match="segment 0 of query q0 is nan"):
        oracle(lambda s: math.nan)(query)
    with pytest.raises(ValueError, match="query r is of kind rank"):
        noisy(utility, seed=0)(Query("r", query.segments, "rank"))
