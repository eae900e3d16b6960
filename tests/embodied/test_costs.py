"""What questions cost and when they are asked: against closed forms and planted truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.costs import skip_probability
from embodied.schedule import shares


def test_without_features_it_is_a_shrunken_rate():
    """One constant b: M sigmoid(b) - skips + ridge b = 0, solved here by bisection."""
    skipped = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    low, high = -10.0, 10.0
    for _ in range(100):
        b = (low + high) / 2
        low, high = (b, high) if 10 / (1 + np.exp(-b)) - 2 + 0.5 * b < 0 else (low, b)
    found = skip_probability(np.zeros((10, 0)), skipped, np.zeros((3, 0)), ridge=0.5)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-low)), rtol=1e-9)


@given(seed=st.integers(0, 10**6))
def test_no_other_weights_lose_less(seed):
    """The found log-odds are linear in the features; moving them in any direction raises the penalised loss."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 2))
    skipped = (rng.random(30) < 0.3).astype(int)
    z = (x - x.mean(0)) / x.std(0)
    design = np.column_stack([np.ones(30), z])
    p = skip_probability(x, skipped, x)
    w = np.linalg.lstsq(design, np.log(p / (1 - p)), rcond=None)[0]
    loss = lambda w: (np.logaddexp(0, design @ w) - skipped * (design @ w)).sum() + 0.5 * w @ w  # noqa: E731
    np.testing.assert_allclose(1 / (1 + np.exp(-design @ w)), p, rtol=1e-6)
    assert all(loss(w) <= loss(w + 0.01 * rng.normal(size=3)) for _ in range(20))


def test_a_planted_habit_is_found():
    """Somebody who skips what is nearly equal, with known odds: 2,000 questions give them back within five errors."""
    rng = np.random.default_rng(0)
    gap = rng.exponential(size=(2000, 1))
    truth = 1 / (1 + np.exp(-(1 - 2 * gap[:, 0])))
    found = skip_probability(gap, (rng.random(2000) < truth).astype(int), gap)
    assert np.abs(found - truth).max() < 0.15 and np.abs(found - truth).mean() < 0.03


def test_nothing_asked_yet_ranks_nothing_and_all_alike_stays_finite():
    assert skip_probability(np.zeros((0, 2)), np.zeros(0), np.ones((4, 2))).tolist() == [0.5] * 4
    x = np.arange(6.0)[:, None]
    certain = skip_probability(x, (x[:, 0] > 2.5).astype(int), 1e6 * x)
    assert np.isfinite(certain).all() and certain[0] < certain[-1]


def test_bad_rows_are_refused():
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match="give 0 or 1 for each of 3"):
        skip_probability(x, np.array([0, 1, 2]), x)
    with pytest.raises(ValueError, match="give 0 or 1 for each of 3"):
        skip_probability(x, np.zeros(2), x)
    with pytest.raises(ValueError, match=r"ask has shape \(1, 3\)"):
        skip_probability(x, np.zeros(3), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="ridge is 0"):
        skip_probability(x, np.zeros(3), x, ridge=0)


@given(questions=st.integers(0, 500), sessions=st.integers(1, 40))
def test_every_schedule_spends_the_budget_and_keeps_its_order(questions, sessions):
    for schedule, sign in (("constant", 0), ("decaying", -1), ("growing", 1)):
        asked = shares(schedule, questions, sessions)
        assert asked.sum() == questions and len(asked) == sessions and (asked >= 0).all()
        change = np.diff(asked)
        # A share is rounded so that sums stay right, and may be off by one question.
        assert (np.abs(change) <= 1).all() if sign == 0 else (sign * change >= -1).all()


def test_schedules_are_the_formulas():
    """Twelve sessions of budgets that need no rounding: (T-t+1)/T and T/(T-t+1) for t = 1..T."""
    t = np.arange(1, 5)
    assert shares("constant", 40, 4).tolist() == [10] * 4
    assert shares("decaying", 100, 4).tolist() == (100 * (4 - t + 1) / 10).astype(int).tolist()
    growing = 4 / (4 - t + 1)
    assert shares("growing", 25, 4).tolist() == (25 * growing / growing.sum()).round().astype(int).tolist()
    assert shares("growing", 25, 4).tolist() == [3, 4, 6, 12]


def test_impossible_schedules_are_refused():
    with pytest.raises(ValueError, match="no schedule 'sudden'; choose constant, decaying, growing"):
        shares("sudden", 10, 2)
    with pytest.raises(ValueError, match="10 questions in 0 sessions"):
        shares("constant", 10, 0)
