"""The plateau against planted curves: the estimate, what its intervals cover, and when it refuses to guess."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.plateau import CannotTell, fit_plateau

SIZES = np.array([20, 50, 100, 200, 400, 800, 1600])
N0, NEEDED = 200.0, 200 * np.log(20)


def curves(seed, f, seeds=3, noise=0.01, offset=0.0):
    """Scores f(n) of several seeds: (n, score, curve)."""
    rng = np.random.default_rng(seed)
    n, curve = np.tile(SIZES, seeds).astype(float), np.repeat(np.arange(seeds), len(SIZES))
    return n, f(n) + noise * rng.normal(size=len(n)) + offset * rng.normal(size=seeds)[curve], curve


def planted(n):
    return 0.9 - 0.4 * np.exp(-n / N0)


def fit(seed, f=planted, **kwargs):
    n, score, curve = curves(seed, f, **kwargs)
    return fit_plateau(n, score, curve=curve, draws=200)


@pytest.mark.parametrize(("seeds", "offset"), [(3, 0.0), (3, 0.02), (1, 0.0)])
def test_a_planted_curve_is_found_and_covered(seeds, offset):
    """Noise of each score, and luck that stays with a seed; drawn 100 times."""
    found = [fit(seed, seeds=seeds, offset=offset) for seed in range(100)]
    assert abs(np.mean([p.scale for p in found]) / N0 - 1) < 0.1
    if seeds == 3:
        assert np.mean([abs(p.scale / N0 - 1) < 0.1 for p in found]) > 0.9
    assert sum(p.needed_interval[0] <= NEEDED <= p.needed_interval[1] for p in found) >= 85
    assert sum(p.plateau_interval[0] <= 0.9 <= p.plateau_interval[1] for p in found) >= 85


def test_without_noise_the_curve_is_exact():
    found = fit(0, noise=0.0)
    assert (found.start, found.plateau) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.9, abs=1e-6))
    assert found.scale == pytest.approx(N0, rel=1e-4) and found.needed == pytest.approx(NEEDED, rel=1e-4)
    assert found.at(300) == pytest.approx(planted(300), abs=1e-6)


@given(st.floats(-5, 5), st.floats(0.1, 100))
def test_units_do_not_matter(shift, unit):
    """Scores in other units, sizes in other units: the same curve."""
    n, score, curve = curves(3, planted)
    here, there = (
        fit_plateau(n, score, curve=curve, draws=20),
        fit_plateau(unit * n, shift + 2 * score, curve=curve, draws=20),
    )
    assert there.needed == pytest.approx(unit * here.needed, rel=1e-3)
    assert there.plateau == pytest.approx(shift + 2 * here.plateau, abs=1e-4)


def test_a_score_of_more_answers_counts_more():
    """Written once with weight 4, or four times."""
    n, score, _ = curves(1, planted, seeds=1)
    weight = np.where(n < 300, 4.0, 1.0)
    often = np.repeat(np.arange(len(n)), weight.astype(int))
    one, many = fit_plateau(n, score, weight), fit_plateau(n[often], score[often])
    assert (one.start, one.plateau, one.scale) == pytest.approx((many.start, many.plateau, many.scale), rel=1e-4)
    absent = fit_plateau([*n, 5.0], [*score, -9.0], [*np.ones_like(n), 0.0])
    assert absent.scale == pytest.approx(fit_plateau(n, score).scale, rel=1e-3)


def refusals(f, **kwargs):
    said = []
    for seed in range(40):
        try:
            fit(seed, f, **kwargs)
        except CannotTell as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("f", "least", "sentence"),
    [
        (lambda n: 0 * n + 0.7, 36, "do not rise by more than their noise"),  # one in twenty is chance
        (lambda n: 0.9 - n / 5000, 40, "do not rise by more than their noise"),
        (lambda n: 0.5 + n / 5000, 40, "still rise at 1600, where they end"),
        (lambda n: 0.9 - 0.4 * np.exp(-n / 2000), 38, "still rise at 1600, where they end"),
    ],
)
def test_where_nothing_can_be_told_nothing_is(f, least, sentence, seeds):
    said = refusals(f, seeds=seeds)
    assert len(said) >= least and all(s.startswith("cannot tell yet: ") for s in said)
    assert sum(sentence in s for s in said) >= least - 2


@pytest.mark.parametrize(
    ("f", "sentence"),
    [
        (lambda n: 0.9 - 0.4 * np.exp(-n / 1500), r"still rise at 1600, where they end; it can be told at about 3000$"),
        (lambda n: 0.5 + n / 5000, r"still rise at 1600, where they end; nearly along a line$"),
    ],
)
def test_the_refusal_says_how_far_to_go(f, sentence):
    with pytest.raises(CannotTell, match=sentence):
        fit(0, f, noise=0.0)


@pytest.mark.parametrize(
    ("args", "kind", "sentence"),
    [
        (([10, 20, 30], [0.1, 0.2, 0.3]), CannotTell, "cannot tell yet: there are scores of 3 sizes; give at least 4"),
        (([10, 20], [0.1]), ValueError, r"have shapes \(2,\), \(1,\)"),
        (([10, -1], [0.1, 0.2]), ValueError, r"n\[1\] is -1.0; give finite numbers from 0 on"),
        (([10, 20], [0.1, np.nan]), ValueError, r"score\[1\] is nan"),
        (([10, 20], [0.1, 0.2], [1, -2]), ValueError, r"weight\[1\] is -2.0"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(args, kind, sentence):
    with pytest.raises(kind, match=sentence):
        fit_plateau(*args)


def test_a_share_of_the_gain_is_a_share():
    with pytest.raises(ValueError, match=r"fraction is 1; give a share of the gain"):
        fit_plateau(SIZES, planted(SIZES), fraction=1)
