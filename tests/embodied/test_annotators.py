"""Reliabilities from answers alone: planted ones are found, the posterior is that of enumeration, gold's is a Beta."""

import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from embodied.annotators import TRUST, reliabilities


def crowd(planted, queries, seed, each=None):
    """Answers of people p0, p1, ... with these reliabilities, `each` drawn for each query (all), and the truth."""
    rng = np.random.default_rng(seed)
    truth = {f"q{q}": float(rng.random() < 0.5) for q in range(queries)}
    people = {q: range(len(planted)) if each is None else rng.choice(len(planted), each, False) for q in truth}
    wrong = {(q, k): rng.random() > planted[k] for q in truth for k in people[q]}
    return [(q, f"p{k}", abs(truth[q] - error)) for (q, k), error in wrong.items()], truth


def by_name(found):
    return {r.annotator: r for r in found.annotators}


def test_planted_reliabilities_and_an_adversary_are_found_within_the_stated_error():
    planted = [0.95, 0.8, 0.6, 0.1]
    scaled, inside = [], []
    for seed in range(25):
        answers, truth = crowd(planted, 300, seed)
        found = reliabilities(answers)
        for k, eta in enumerate(planted):
            r = by_name(found)[f"p{k}"]
            scaled.append((r.mean - eta) / r.error)
            inside.append(r.interval[0] <= eta <= r.interval[1])
        assert np.mean([abs(found.truth[q] - truth[q]) < 0.5 for q in truth]) > 0.93
    assert np.max(np.abs(scaled)) < 4
    assert 0.75 < np.std(scaled) < 1.25
    assert np.mean(inside) > 0.9


def test_forty_people_of_whom_three_see_each_query():
    planted = np.random.default_rng(1).uniform(0.5, 0.95, 40)
    found = by_name(reliabilities(crowd(planted, 3000, 1, each=3)[0]))
    scaled = [(found[f"p{k}"].mean - eta) / found[f"p{k}"].error for k, eta in enumerate(planted)]
    assert np.max(np.abs(scaled)) < 4 and 0.75 < np.std(scaled) < 1.3


@pytest.mark.parametrize("right", [0, 3, 10])
def test_gold_alone_gives_the_beta_posterior(right):
    answers = [(f"q{n}", "ann", float(n < right)) for n in range(10)]
    (ann,) = reliabilities(answers, {f"q{n}": 1.0 for n in range(10)}, prior=(3.0, 2.0)).annotators
    posterior = beta(3 + right, 2 + 10 - right)
    assert ann.mean == pytest.approx(posterior.mean()) and ann.error == pytest.approx(posterior.std())
    assert ann.interval == pytest.approx(posterior.interval(0.95)) and ann.evidence == pytest.approx(10)
    assert ann.beta == pytest.approx((3 + right, 12 - right)) and (ann.answers, ann.gold, ann.ties) == (10, 10, 0)


ANSWER = st.tuples(st.sampled_from("uvw"), st.sampled_from("abc"), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
FEW = st.lists(ANSWER, min_size=1, max_size=9, unique_by=lambda a: a[:2])
GOLD = st.dictionaries(st.sampled_from("uvw"), st.sampled_from([0.0, 0.7, 1.0]), max_size=2)


def enumerated(answers, gold, eta):
    """P(first better) of each query, and the likelihood, by going through all truths of all queries."""
    queries = sorted({q for q, _, _ in answers})
    joint = {}
    for truths in product((0, 1), repeat=len(queries)):
        truth = dict(zip(queries, truths, strict=True))
        p = math.prod(gold.get(q, 0.5) if truth[q] else 1 - gold.get(q, 0.5) for q in queries)
        for query, name, first in answers:
            p *= (eta[name] if (first > 0.5) == truth[query] else 1 - eta[name]) ** abs(2 * first - 1)
        joint[truths] = p
    total = sum(joint.values())
    return {q: sum(p for t, p in joint.items() if t[n]) / total for n, q in enumerate(queries)}, total


@settings(max_examples=60, deadline=None)
@given(answers=FEW, gold=GOLD)
def test_a_tiny_case_is_what_enumeration_says(answers, gold):
    found = reliabilities(answers, gold)
    eta = {r.annotator: r.mean for r in found.annotators}
    truth, _ = enumerated(answers, gold, eta)
    assert dict(found.truth) == pytest.approx(truth, abs=1e-9)

    def height(eta):
        prior = sum(TRUST[0] * math.log(e) + TRUST[1] * math.log1p(-e) for e in eta.values())
        return math.log(enumerated(answers, gold, eta)[1]) + prior

    assert found.log_posterior[-1] == pytest.approx(height(eta), abs=1e-9)
    slopes = [
        (height({**eta, name: eta[name] + 1e-5}) - height({**eta, name: eta[name] - 1e-5})) / 2e-5 for name in eta
    ]
    assert slopes == pytest.approx([0] * len(eta), abs=1e-3)


def test_the_evidence_is_the_curvature_by_finite_differences():
    answers, gold = crowd([0.9, 0.7, 0.6], 6, 3)[0], {"q0": 1.0}
    found = reliabilities(answers, gold)
    names = [r.annotator for r in found.annotators]
    at = np.array([math.log(r.mean / (1 - r.mean)) for r in found.annotators])

    def height(x):
        eta = dict(zip(names, 1 / (1 + np.exp(-x)), strict=True))
        prior = sum(TRUST[0] * math.log(e) + TRUST[1] * math.log1p(-e) for e in eta.values())
        return math.log(enumerated(answers, gold, eta)[1]) + prior

    step = 1e-3 * np.eye(3)
    hessian = np.array(
        [[sum(i * j * height(at + i * a + j * b) for i in (1, -1) for j in (1, -1)) / 4e-6 for a in step] for b in step]
    )
    variance = np.diag(np.linalg.inv(-hessian))
    for r, v in zip(found.annotators, variance, strict=True):
        assert r.evidence == pytest.approx(max(0, 1 / (v * r.mean * (1 - r.mean)) - sum(TRUST)), abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(answers=FEW, gold=GOLD)
def test_the_posterior_never_falls_from_step_to_step(answers, gold):
    assert np.diff(reliabilities(answers, gold).log_posterior).min() > -1e-9


def test_swapping_all_sides_changes_no_reliability():
    answers, _ = crowd([0.9, 0.7, 0.3], 50, 0)
    one, other = reliabilities(answers), reliabilities([(q, k, 1 - first) for q, k, first in answers])
    for a, b in zip(one.annotators, other.annotators, strict=True):
        assert a.mean == pytest.approx(b.mean) and a.first == pytest.approx(1 - b.first)
    assert dict(one.truth) == pytest.approx({q: 1 - p for q, p in other.truth.items()})


def test_an_adversarial_majority_is_believed_until_gold_says_otherwise():
    answers, truth = crowd([0.1, 0.1, 0.1, 0.95], 200, 5)
    assert by_name(reliabilities(answers))["p3"].mean < 0.1
    gold = {q: truth[q] for q in list(truth)[:25]}
    only_the_honest_saw_it = [a for a in answers if a[0] not in gold or a[1] == "p3"]
    found = by_name(reliabilities(only_the_honest_saw_it, gold))
    assert found["p3"].mean > 0.9 and all(found[f"p{k}"].mean < 0.2 for k in range(3))


def test_gold_turns_only_those_around_who_share_queries_with_it():
    here, truth = crowd([0.1, 0.1, 0.1, 0.95], 100, 5)
    there = [("other " + q, "other " + k, first) for q, k, first in here]
    gold = {q: truth[q] for q in list(truth)[:25]}
    found = by_name(reliabilities(here + there, gold))
    assert found["p3"].mean > 0.85 and found["other p3"].mean < 0.15


def test_without_overlap_or_gold_the_prior_stands():
    for answers in (
        [(f"q{n}", f"p{n % 3}", float(n % 2)) for n in range(30)],
        [(f"q{n}", "same side", 1.0) for n in range(30)],
        [("q", "one answer", 1.0)],
        [(f"q{n}", f"ties {k}", 0.5) for n in range(9) for k in range(3)],
        [("q", "says it again", 1.0)] * 50,
    ):
        for r in reliabilities(answers).annotators:
            assert r.mean == pytest.approx(0.8) and r.evidence == pytest.approx(0, abs=1e-6)
            assert r.interval == pytest.approx(beta(*TRUST).interval(0.95))


def test_one_answer_against_gold_moves_the_prior_by_one_answer():
    (ann,) = reliabilities([("q", "ann", 0.0)], {"q": 1.0}).annotators
    assert ann.mean == pytest.approx(4 / 6) and ann.evidence == pytest.approx(1)


def test_ties_neither_help_nor_harm_who_gives_them():
    answers, _ = crowd([0.9, 0.8, 0.7], 100, 2)
    ties = [(f"t{n}", k, 0.5) for n in range(50) for k in ("p0", "p1", "p2", "always ties")]
    plain, found = by_name(reliabilities(answers)), by_name(reliabilities(answers + ties))
    assert all(found[k].mean == pytest.approx(plain[k].mean) for k in plain)
    assert (found["always ties"].mean, found["always ties"].ties) == (pytest.approx(0.8), 50)


def test_who_always_says_the_same_is_as_good_as_that_side():
    answers, _ = crowd([0.9, 0.9, 0.9], 400, 4)
    found = by_name(reliabilities([*answers, *((f"q{n}", "first", 1.0) for n in range(400))]))["first"]
    assert found.mean == pytest.approx(0.5, abs=3 * found.error) and found.first == 1
    assert all(r.mean > 0.8 for r in reliabilities([(f"q{n}", k, 1.0) for n in range(40) for k in "ab"]).annotators)


def test_two_people_share_the_blame_and_nothing_is_known_of_who_errs():
    agree = [(f"q{n}", k, float(n < 24 or k == "a")) for n in range(30) for k in "ab"]
    a, b = reliabilities(agree).annotators
    assert a.mean == pytest.approx(b.mean, abs=1e-6) and a.mean < 0.95
    always_disagree = reliabilities([(f"q{n}", k, float(k == "a")) for n in range(30) for k in "ab"])
    assert all(r.evidence == 0 and r.interval[0] < 0.2 and r.interval[1] > 0.8 for r in always_disagree.annotators)


@pytest.mark.parametrize(
    ("answers", "gold", "prior", "message"),
    [
        ([], {}, TRUST, "no answers; give at least one"),
        ([("q", "ann", 1.5)], {}, TRUST, r"answer of ann to query q is 1.5; give P\(first better\)"),
        ([("q", "ann", math.nan)], {}, TRUST, "is nan; give"),
        ([("q", "ann", 1.0)], {"q": -1.0}, TRUST, "gold of query q is -1.0; give"),
        ([("q", "ann", 1.0)], {}, (1.0, 1.0), r"the prior is Beta\(1.0, 1.0\); give finite counts with right > wrong"),
        ([("q", "ann", 1.0)], {}, (math.inf, 1.0), r"Beta\(inf, 1.0\)"),
    ],
)
def test_bad_input_is_refused_with_the_value_and_the_mend(answers, gold, prior, message):
    with pytest.raises(ValueError, match=message):
        reliabilities(answers, gold, prior=prior)


def test_it_loads_without_torch():
    code = "import sys; from embodied import reliabilities; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
