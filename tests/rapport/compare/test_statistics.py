"""Interquartile means, intervals and profiles against numbers that can be computed by hand."""

import numpy as np
import pytest

from rapport.compare.statistics import iqm, iqm_interval, paired_difference, profile, scaled


def test_the_interquartile_mean_is_that_of_the_middle_half():
    assert iqm([100, 1, 2, 3, 4, -50, 5, 6]) == pytest.approx(np.mean([2, 3, 4, 5]))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = [i.low <= 0 <= i.high for i in (iqm_interval([rng.normal(size=12)], seed=k) for k in range(120))]
    assert 0.85 <= np.mean(covered) <= 1.0  # a percentile bootstrap of 12 runs is a little narrow


def test_resampling_is_within_tasks():
    """Two tasks without any spread inside: however far apart, there is nothing to be unsure about."""
    found = iqm_interval([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_one_run_bounds_nothing():
    assert np.isnan(iqm_interval([[0.3]]).low) and str(iqm_interval([[0.3]])) == "0.30"


def test_differences_are_paired_by_seed():
    """Seeds differ by far more than methods: only pairing sees the difference."""
    seeds = np.array([0.0, 10.0, 20.0, 30.0])
    found = paired_difference([seeds + np.array([1.1, 0.9, 1.0, 1.2]) - seeds])
    assert found.value == pytest.approx(1.05) and 0.8 < found.low < found.high < 1.3
    # Tasks that differ are strata: each keeps its share of every resample.
    tasks = paired_difference([[1.1, 0.9, 1.0, 1.2], [9.1, 8.9, 9.0, 9.2]])
    assert tasks.value == pytest.approx(5.05) and 4.8 < tasks.low < tasks.high < 5.3


def test_a_profile_falls_from_one_to_nothing():
    np.testing.assert_allclose(profile([0.1, 0.5, 0.9, 0.9], np.array([0.0, 0.2, 0.6, 1.0])), [1, 0.75, 0.5, 0])


def test_scaled_scores():
    assert scaled(-5, -10, 0) == 0.5
    assert np.isnan(scaled(1, 2, 2)) and np.isnan(scaled(1, 2, 1))  # what learned nothing is no ceiling
