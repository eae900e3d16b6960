"""Planning against what is not planning: sums over paths, sweeps of value iteration, all policies of a tiny board."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from embodied.planning import (
    evaluate,
    expected_features,
    greedy,
    mean_return,
    optimal,
    scaled_return,
    uniform_policy,
)
from envs.delivery import board, random_board

TINY = np.array([[0, 4, 3], [0, 5, 7]])


def reward_of(world):
    return expected_features(world) @ world.weights


def test_the_oracles_of_the_delivery_board():
    world = board()
    reward = reward_of(world)
    best = optimal(world, reward)
    assert best.value[world.starts].mean() == pytest.approx(41.208, abs=5e-4)
    assert mean_return(world, uniform_policy(world), reward) == pytest.approx(-71.257, abs=5e-4)
    assert scaled_return(world, best.policy(), reward) == pytest.approx(1, abs=1e-12)
    assert scaled_return(world, uniform_policy(world), reward) == pytest.approx(0, abs=1e-12)
    cut = (30 - mean_return(world, uniform_policy(world), reward)) / (
        best.value[world.starts].mean() - mean_return(world, uniform_policy(world), reward)
    )
    assert cut == pytest.approx(0.9, abs=5e-4)


@pytest.mark.parametrize("stochastic", [False, True])
def test_values_agree_with_sweeps_of_value_iteration(stochastic):
    for seed in range(4):
        world = replace(random_board(np.random.default_rng(seed), stochastic=stochastic), gamma=0.95)
        reward, value = reward_of(world), np.zeros(len(world.terminal))
        for _ in range(800):
            ahead = (world.prob * value[world.next]).sum(-1)
            value = np.where(world.terminal, 0, (reward + 0.95 * ahead).max(-1))
        best = optimal(world, reward)
        np.testing.assert_allclose(best.value, value, atol=1e-9)
        assert (best.advantage <= 1e-12).all() and np.allclose(best.advantage.max(-1), 0)
        assert not best.value[world.terminal].any() and not best.action_value[world.terminal].any()


def test_no_policy_of_a_tiny_board_is_better():
    world = board(TINY, gamma=0.9)
    reward = reward_of(world)
    free = np.flatnonzero(~world.terminal)
    choices = np.array(list(itertools.product(range(4), repeat=len(free))))  # 256 policies
    policies = np.zeros((len(choices), 6, 4))
    policies[:, world.terminal] = 0.25
    policies[np.arange(len(choices))[:, None], free, choices] = 1
    values = evaluate(world, policies, np.broadcast_to(reward[..., None], (len(choices), 6, 4, 1)))[..., 0]
    np.testing.assert_allclose(optimal(world, reward).value, values.max(0), atol=1e-12)


def test_a_policy_is_worth_what_its_paths_pay():
    world = board(TINY, chances={4: 0.5, 3: 0.5}, gamma=0.8)
    rng = np.random.default_rng(0)
    policy = rng.dirichlet(np.ones(4), 6)
    value, total, at = evaluate(world, policy, expected_features(world)), np.zeros((6, 6)), np.eye(6)
    for t in range(300):  # the distribution over cells, step by step
        at = at * ~world.terminal
        total += 0.8**t * np.einsum("is,sa,sam,samd->id", at, policy, world.prob, world.features)
        after = np.zeros((6, 6))
        for s, a, m in itertools.product(range(6), range(4), range(2)):
            after[:, world.next[s, a, m]] += at[:, s] * policy[s, a] * world.prob[s, a, m]
        at = after
    np.testing.assert_allclose(value, total, atol=1e-12)


def test_batches_are_the_single_ones():
    world = random_board(np.random.default_rng(3), stochastic=True)
    rewards = np.random.default_rng(1).normal(size=(5, *world.next.shape[:2]))
    together = optimal(world, rewards)
    for i, reward in enumerate(rewards):
        np.testing.assert_allclose(together.value[i], optimal(world, reward).value, rtol=1e-9)
    policies = together.policy()
    each = [scaled_return(world, policy, reward_of(world)) for policy in policies]
    np.testing.assert_allclose(scaled_return(world, policies, reward_of(world)), each)


def test_ties_are_shared():
    world = board(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    assert optimal(world, reward_of(world)).policy()[0].tolist() == [0, 0.5, 0, 0.5]  # down and right are alike
    assert greedy(np.array([[1.0, 1.0, 0.0]])).tolist() == [[0.5, 0.5, 0]]
    assert greedy(np.array([[1.0, 1.0 - 1e-3, 0.0]])).tolist() == [[1, 0, 0]]


def test_without_discount_what_ends_has_a_value_and_what_does_not_is_refused():
    world = board(gamma=1.0)
    reward = reward_of(world)
    best = optimal(world, reward)
    assert best.value[89 - 1] == 50 and best.value[89 - 2] == 48  # next to the goal, and one brick further
    with pytest.raises(ValueError, match=r"gamma is 1 and from state \d+ the policy never comes to an end"):
        optimal(world, -reward)
    with pytest.raises(ValueError, match="a payoff is NaN or infinite"):
        optimal(world, np.full_like(reward, np.nan))
    walled = board(np.array([[1, 0, 2, 0]]), gamma=1.0)
    with pytest.raises(ValueError, match="from state 3 the policy never comes to an end"):
        optimal(walled, reward_of(walled))


def test_where_nothing_can_be_gained_scaled_return_says_so():
    world = board(TINY, np.zeros(6))
    with pytest.raises(ValueError, match="random actions earn 0, the best 0; on this board nothing can be told"):
        scaled_return(world, uniform_policy(world), reward_of(world))


def test_any_record_with_these_arrays_is_a_world():
    @dataclass(frozen=True)
    class Two:
        next: Any
        prob: Any
        features: Any
        terminal: Any
        starts: Any
        gamma: float

    world = Two(
        np.array([[[0], [1]], [[1], [1]]]),
        np.ones((2, 2, 1)),
        np.array([[[[1.0]], [[5.0]]], [[[0.0]], [[0.0]]]]),
        np.array([False, True]),
        np.array([0]),
        0.5,
    )
    assert optimal(world, expected_features(world)[..., 0]).value.tolist() == [5, 0]
    stay = replace(world, gamma=0.9)
    assert optimal(stay, expected_features(stay)[..., 0]).value == pytest.approx([10, 0])  # a loop that pays
