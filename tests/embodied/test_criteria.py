"""What a question is worth: against the definitions, and what the classics of the field get wrong on purpose."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.criteria import deviation, expected_information, per_second, predictive_entropy, removed_volume
from embodied.queries import best, entropy, information_gain, volume_removal

CRITERIA = [deviation, predictive_entropy, expected_information, removed_volume]


@given(seed=st.integers(0, 10**6))
def test_removed_volume_is_the_mass_that_the_likelier_answer_leaves_at_most(seed):
    """Bayes by hand: members weigh the same; after an answer each weighs as much as it foretold that answer."""
    diff = np.random.default_rng(seed).normal(scale=3, size=(5, 8))
    p = 1 / (1 + np.exp(-diff))
    removed = [min(np.mean([1 - x for x in column]), np.mean(column)) for column in p.T]
    np.testing.assert_allclose(removed_volume(diff), removed, rtol=1e-12)


@given(seed=st.integers(0, 10**6))
def test_with_two_answers_volume_removal_is_the_order_of_entropy(seed):
    diff = np.random.default_rng(seed).normal(scale=2, size=(4, 9))
    assert (
        volume_removal(diff, 9, np.random.default_rng(0)).tolist()
        == entropy(diff, 9, np.random.default_rng(0)).tolist()
    )


def test_the_trivial_optimum_of_volume_removal_is_never_asked():
    """Columns 0 and 2 hold a segment against itself: no question seems better, and none teaches less."""
    diff = np.array([[0.0, 1.0, 0.0, 3.0], [0.0, -2.0, 0.0, 2.0]])
    assert set(entropy(diff, 2, np.random.default_rng(0)).tolist()) == {0, 2}
    assert volume_removal(diff, 2, np.random.default_rng(0)).tolist() == [1, 3]
    with pytest.raises(ValueError, match="choose 3 of 2 candidates that some member tells apart; the other 2"):
        volume_removal(diff, 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="choose 5 of 4"):
        volume_removal(diff, 5, np.random.default_rng(0))


@given(seed=st.integers(0, 10**6))
def test_information_is_what_the_posterior_loses_in_entropy_on_average(seed):
    """The mutual information of answer and member, from the joint table, against the formula used."""
    diff = np.random.default_rng(seed).normal(scale=3, size=(4, 6))
    p = 1 / (1 + np.exp(-diff))
    joint = np.stack([p, 1 - p]) / 4  # [answer,member,pair]
    mutual = (joint * np.log(joint / (joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)))).sum((0, 1))
    np.testing.assert_allclose(expected_information(diff), mutual, atol=1e-12)


@pytest.mark.parametrize("criterion", CRITERIA)
@given(seed=st.integers(0, 10**6))
def test_values_go_with_their_candidates_and_do_not_know_left_from_right(criterion, seed):
    rng = np.random.default_rng(seed)
    diff, order = rng.normal(scale=3, size=(4, 9)), rng.permutation(9)
    value = criterion(diff)
    assert (value >= 0).all()
    np.testing.assert_allclose(criterion(diff[:, order]), value[order], rtol=1e-12)
    np.testing.assert_allclose(criterion(-diff), value, atol=1e-12)
    np.testing.assert_allclose(criterion(diff[rng.permutation(4)]), value, atol=1e-12)


def test_per_second_prefers_a_short_question_that_is_answered():
    diff = np.array([[3.0, 3.0, 3.0, 3.0], [-3.0, -3.0, -3.0, 3.0]])
    whole = expected_information(diff)
    seconds, skip = np.array([4.0, 2.0, 2.0, 0.1]), np.array([0.0, 0.0, 0.8, 0.0])
    np.testing.assert_allclose(
        per_second(expected_information, seconds, skip)(diff), whole * [0.25, 0.5, 0.1, 10], rtol=1e-12
    )
    select = best(per_second(expected_information, seconds, skip))
    assert select(diff, 3, np.random.default_rng(0)).tolist() == [1, 0, 2]
    assert set(information_gain(diff, 3, np.random.default_rng(0)).tolist()) == {0, 1, 2}


def test_costs_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="seconds are from 0 to 1"):
        per_second(deviation, np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="seconds are from"):
        per_second(deviation, np.array([math.nan, 1.0]))
    with pytest.raises(ValueError, match="one probability of a skip"):
        per_second(deviation, np.ones(2), np.array([0.5, 1.1]))
    with pytest.raises(ValueError, match="one probability of a skip"):
        per_second(deviation, np.ones(2), np.array([0.5]))
    with pytest.raises(ValueError, match="seconds of 2 candidates and diff is about 3"):
        per_second(deviation, np.ones(2))(np.zeros((2, 3)))
