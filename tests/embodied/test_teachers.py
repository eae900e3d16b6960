"""Simulated teachers: rates within binomial bounds, B-Pref's order of flaws, independence of the order asked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.records import Compare, Query, Rank, Rate, Segment, Skip, check_answer
from embodied.teachers import BPREF, Flaws, Thresholds, answer, bpref, noisy, oracle, threshold

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
    for width in (0.3, 3.0):
        teacher = noisy(utility, seed=0, tie=width)
        assert teacher(queries(0.99 * width, 0.0, 1)[0]) == Compare(0.5)
        assert teacher(queries(1.01 * width, 0.0, 1)[0]) != Compare(0.5)


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


def clip(*rewards):
    return Segment("e", 0, len(rewards), np.array(rewards, float)[:, None], np.zeros((len(rewards), 0)))


def reward(segment):
    return segment.obs[:, 0]


def pair(first, second, name="q"):
    return Query(name, (clip(*first), clip(*second)))


def normal_pairs(count=N):
    """Sums of two segments of four steps: each normal with deviation 2, their difference with 2 sqrt(2)."""
    drawn = np.random.default_rng(0).normal(size=(count, 2, 4))
    return [pair(first, second, f"q{n}") for n, (first, second) in enumerate(drawn)]


def close(rate, p, count=N):
    """Three standard deviations of a binomial share; seeds are fixed, so it holds or it does not."""
    return abs(rate - p) <= 3 * math.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("name", BPREF)
def test_every_preset_and_what_sets_it_apart_from_the_oracle(name):
    ideal, teacher = (bpref(n, reward, seed=0, threshold=0.7) for n in ("oracle", name))
    asked = normal_pairs()
    right, said = [ideal(q) for q in asked], [teacher(q) for q in asked]
    skipped = sum(isinstance(v, Skip) for v in said) / N
    flipped = sum(abs(r.first - v.first) == 1 for r, v in zip(right, said, strict=True) if isinstance(v, Compare)) / N
    sums = np.array([[reward(s).sum() for s in q.segments] for q in asked])
    assert [v.first for v in right] == (sums[:, 0] > sums[:, 1]).astype(float).tolist()
    below = 0.5 * (1 + math.erf(0.7 / 2 / math.sqrt(2)))
    assert close(skipped, below**2 if name == "skip" else 0.0)
    assert close(share(said, Compare(0.5)), math.erf(0.7 / 4) if name == "equal" else 0.0)  # |difference| < .7
    gap = np.abs(sums[:, 0] - sums[:, 1])
    match name:
        case "mistake":
            assert close(flipped, 0.1)
        case "noisy":
            p = 1 / (1 + np.exp(gap))
            assert abs(flipped - p.mean()) <= 3 * math.sqrt((p * (1 - p)).sum()) / N
        case "myopic":
            # Differences of both sums are jointly normal; they disagree in sign with probability arccos(rho) / pi.
            weights = 0.9 ** np.arange(4)
            rho = weights.sum() / math.sqrt(4 * (weights**2).sum())
            assert close(flipped, math.acos(rho) / math.pi)
        case _:
            assert flipped == 0


def test_the_myopic_one_likes_a_better_end_although_the_sum_is_lower():
    myopic, oracle_ = (bpref(name, reward, seed=0) for name in ("myopic", "oracle"))
    better_end = pair([0] * 20 + [3], [1] * 4 + [0] * 17)
    assert (myopic(better_end), oracle_(better_end)) == (Compare(1.0), Compare(0.0))
    late = bpref(Flaws(gamma=0.5), reward, seed=0)
    assert late(pair([0, 0, 1], [0, 1.9, 0])) == Compare(1.0)  # 1 against .5 * 1.9
    assert late(pair([0, 0, 1], [0, 2.1, 0])) == Compare(0.0)


def test_order_skip_then_equals_from_plain_sums_then_label_and_flip_then_the_ties():
    limits = Thresholds(skip=0.0, equal=0.5)
    teacher = bpref(Flaws(gamma=0.5, mistake=1.0, skips=True, ties=True), reward, seed=0, threshold=limits)
    assert isinstance(teacher(pair([-1, -0.1], [-1.1, 0])), Skip)  # equal too, but skipped first
    assert teacher(pair([2, 0], [0, 2.1])) == Compare(0.5)  # equal as plain sums, not as myopic ones; and not flipped
    assert teacher(pair([3, 0], [0, 2.0])) == Compare(1.0)  # myopic prefers the second, the flip turns it
    assert teacher(pair([-9, 9.5], [-3, -3])) == Compare(0.0)  # its plain sum is good enough, so no skip
    assert isinstance(teacher(pair([3, -3.5], [9, -9.5])), Skip)  # plain sums are below, though steps are not
    assert isinstance(teacher(pair([-9, 8.5], [-9, 8.5])), Skip)  # the myopic sum would be 4, the plain one is -.5


def test_a_tie_is_never_flipped_whatever_made_it():
    always = Flaws(mistake=1.0, ties=True)
    same = pair([1, 2], [2, 1])
    assert bpref(always, reward, seed=0, threshold=0.1)(same) == Compare(0.5)
    assert bpref(Flaws(mistake=1.0), reward, seed=0)(same) == Compare(0.5)  # no preference to be mistaken about
    said = [bpref(always, reward, seed=0, tie=0.3)(q) for q in normal_pairs()]
    assert close(share(said, Compare(0.5)), 0.3)
    wrong = [v for v, q in zip(said, normal_pairs(), strict=True) if v != Compare(0.5)]
    right = [v for v, q in zip(said, normal_pairs(), strict=True) if v == bpref("oracle", reward, seed=0)(q)]
    assert len(wrong) > 0.6 * N and not right


@given(mean=st.floats(-1e4, 1e4), segment=st.integers(1, 50), eps=st.floats(0, 1))
def test_thresholds_are_linear_in_eps_and_not_squared(mean, segment, eps):
    limits = threshold(mean, segment, 200, eps)
    usual = mean * segment / 200
    assert limits.equal == pytest.approx(eps * abs(usual))
    if mean >= 0:
        assert limits.skip == pytest.approx(eps * usual, abs=1e-9)
    assert usual - limits.skip == pytest.approx((1 - eps) * abs(usual), abs=1e-9)  # what is usual is never skipped


def test_the_threshold_follows_the_recent_return_and_is_used_once():
    recent = {"mean": 100.0}
    teacher = bpref("equal", reward, seed=0, threshold=lambda: threshold(recent["mean"], 2, 20))  # 1, then 2
    assert [teacher(pair([gap, 0], [0, 0])) for gap in (0.99, 1.01)] == [Compare(0.5), Compare(1.0)]
    recent["mean"] = 200.0
    assert [teacher(pair([gap, 0], [0, 0])) for gap in (1.99, 2.01)] == [Compare(0.5), Compare(1.0)]


def test_where_returns_are_negative_the_usual_is_answered_and_disasters_are_skipped():
    teacher = bpref("skip", reward, seed=0, threshold=threshold(-1200, 50, 200))  # -300 is usual; below -570 is skipped
    assert teacher(pair([-6] * 50, [-7] * 50)) == Compare(1.0)
    assert isinstance(teacher(pair([-12] * 50, [-13] * 50)), Skip)


def test_bpref_answers_belong_to_the_question():
    asked = normal_pairs(30)
    one, other = (bpref("noisy", reward, seed=5) for _ in range(2))
    assert [one(q) for q in asked] == [other(q) for q in asked[::-1]][::-1]
    assert [one(q) for q in asked] != [bpref("noisy", reward, seed=6)(q) for q in asked]


def test_bpref_refuses_nonsense():
    with pytest.raises(ValueError, match="no teacher 'perfect'; choose oracle, mistake, noisy, skip, myopic, equal"):
        bpref("perfect", reward, seed=0)
    for settings in (dict(beta=-1), dict(gamma=1.1), dict(mistake=math.nan)):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} {next(iter(settings.values()))}"):
            Flaws(**settings)
    with pytest.raises(ValueError, match="tie is 2"):
        bpref("oracle", reward, seed=0, tie=2)
    with pytest.raises(ValueError, match="equal -1"):
        bpref("equal", reward, seed=0, threshold=-1)(pair([1], [2]))
    with pytest.raises(ValueError, match="segment 51"):
        threshold(1.0, 51, 50)
    with pytest.raises(ValueError, match=r"reward of segment 0 of query q has shape \(\)"):
        bpref("oracle", lambda s: 1.0, seed=0)(pair([1, 1], [2, 2]))
    with pytest.raises(ValueError, match="not finite"):
        bpref("oracle", lambda s: s.obs[:, 0] * np.nan, seed=0)(pair([1], [2]))
    with pytest.raises(ValueError, match="kind rank"):
        bpref("oracle", reward, seed=0)(Query("r", (clip(1), clip(2)), "rank"))
