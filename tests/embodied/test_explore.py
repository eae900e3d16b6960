"""State entropy on states whose distances are known, and the running deviation against the deviation of everything."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.explore import RunningStd, state_entropy


def test_on_a_line_with_even_gaps_the_neighbours_are_counted_off():
    """Inside, neighbours come in twos: 1, 1, 2, 2, 3, ...; at the end one by one. A state is not its own neighbour."""
    line = 0.1 * np.arange(41.0)[:, None]
    for k in (1, 2, 3, 4, 5):
        entropy = state_entropy(line, line, k)
        assert np.allclose(entropy[10:30], math.log(0.1 * math.ceil(k / 2)))
        assert np.allclose(entropy[[0, -1]], math.log(0.1 * k))


def test_on_a_grid_the_fifth_neighbour_is_over_the_corner():
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2)
    centre = np.array([[4.0, 4.0]])
    assert [state_entropy(centre, grid, k)[0] for k in (4, 5, 8, 9)] == pytest.approx(
        [0, math.log(2) / 2, math.log(2) / 2, math.log(2)]
    )
    between = np.array([[4.5, 4.5]])  # not on the grid: all four corners of its cell are equally near
    assert state_entropy(between, grid, 4)[0] == pytest.approx(math.log(0.5) / 2)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 6))
def test_it_is_the_sorted_distance(seed, k):
    rng = np.random.default_rng(seed)
    among = rng.normal(size=(20, 3)).astype(np.float32)
    obs = np.concatenate([among[:5], rng.normal(size=(5, 3)).astype(np.float32)])
    apart = np.sort(np.linalg.norm(obs[:, None].astype(float) - among, axis=2), 1)
    expected = np.log(np.concatenate([apart[:5, k], apart[5:, k - 1]]))
    assert np.allclose(state_entropy(obs, among, k), expected)


def test_its_mean_estimates_the_entropy_of_the_uniform_density():
    """Kozachenko and Leonenko: H = D mean log distance + log(M - 1) + log(unit ball) - digamma(k); unit square: 0.

    Points near the edge have half a ball of neighbours, which raises the estimate by a little.
    """
    points = np.random.default_rng(0).uniform(size=(4000, 2))
    digamma_5 = 1 + 1 / 2 + 1 / 3 + 1 / 4 - 0.5772156649
    found = 2 * state_entropy(points, points, 5).mean() + math.log(3999) + math.log(math.pi) - digamma_5
    assert abs(found) < 0.05


def test_copies_are_finite_and_nonsense_is_refused():
    assert np.isfinite(state_entropy(np.zeros((1, 2)), np.zeros((9, 2)))).all()
    with pytest.raises(ValueError, match="5 states for k = 5; give k >= 1 and at least 6"):
        state_entropy(np.zeros((1, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"obs has shape \(2,\)"):
        state_entropy(np.zeros(2), np.zeros((9, 2)))
    with pytest.raises(ValueError, match=r"among \[3, 1\] is not finite"):
        state_entropy(np.zeros((1, 2)), np.where(np.arange(18).reshape(9, 2) == 7, np.nan, 0.0))


@given(st.lists(st.lists(st.floats(-1e3, 1e3), max_size=6), max_size=6))
def test_the_running_deviation_is_that_of_everything_seen(parts):
    running, everything = RunningStd(), np.array([x for part in parts for x in part])
    for part in parts:
        running.update(np.array(part))
    std = everything.std() if len(everything) else 1.0
    assert running.std == pytest.approx(std if std > 1e-6 else 1.0, rel=1e-6)
    again = RunningStd()
    again.load_state_dict(running.state_dict())
    assert again.std == running.std and np.array_equal(again(np.ones(2)), np.ones(2) / running.std)
