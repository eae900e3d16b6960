"""Which question next, on the board: the sampler against a known posterior, and every strategy on one pool."""

import numpy as np
import pytest
import torch

from embodied.planning import optimal, uniform_policy
from embodied.regret import Bank, LinearReward, Regret, regret, successor_features
from embodied.walks import steps, walks
from rapport.survey.asking import LENGTH, STRATEGIES, labels_needed, place
from rapport.survey.posterior import SPREAD, Summary, posterior, stretch, summary, utility
from rapport.survey.seconds import PER_STEP, STEPS, THINKS, mixed, seconds_needed
from rapport.survey.strategies import exact, strategies


@pytest.fixture(scope="module")
def where():
    return place(np.random.default_rng(21))


def test_the_sampler_finds_a_gaussian_of_very_different_scales():
    """400 walkers, every tenth of 600 moves: means within .2 deviations, variances within a fifth."""
    scale, mean = np.array([0.1, 1.0, 30.0]), np.array([1.0, -2.0, 50.0])
    rng = np.random.default_rng(0)
    walkers = rng.normal(0, 50, (400, 3))
    density = lambda w: -0.5 * (((w - mean) / scale) ** 2).sum(-1)  # noqa: E731
    walkers = stretch(density, walkers, 400, rng)
    kept = []
    for _ in range(20):
        walkers = stretch(density, walkers, 10, rng)
        kept.append(walkers)
    z = (np.concatenate(kept) - mean) / scale
    assert np.abs(z.mean(0)).max() < 0.2 and np.abs(z.var(0) - 1).max() < 0.2


def test_the_posterior_of_one_weight_is_that_of_a_grid():
    """One feature and no values: the answers are about found . w alone, and Bayes is a sum on a grid."""
    found = np.array([[1.0, 0], [0.5, 0], [-2.0, 0]])[..., None] / 10
    asked = Summary(found, np.zeros((3, 2), int), np.zeros((3, 2), int), np.ones((3, 2)))
    first = np.array([1.0, 1.0, 0.5])
    grid = np.linspace(-100, 100, 20001)
    z = grid[:, None] * (found[:, 0, 0] - found[:, 1, 0])
    log = (-first * np.logaddexp(0, -z) - (1 - first) * np.logaddexp(0, z)).sum(1) - 0.5 * grid**2 / SPREAD**2
    p = np.exp(log - log.max())
    p /= p.sum()
    rng = np.random.default_rng(0)
    samples = posterior(rng.normal(0, SPREAD, (4000, 1)), np.zeros((1, 1, 1)), asked, first, 100, rng)
    sd = np.sqrt(p @ (grid - p @ grid) ** 2)
    assert abs(samples.mean() - p @ grid) < 5 * sd / np.sqrt(4000)
    assert samples.std() == pytest.approx(sd, rel=0.06)


def test_utilities_are_the_regret_models(where):
    pairs = walks(where.board, uniform_policy(where.board), (200, 2), LENGTH, np.random.default_rng(0))
    reward = LinearReward(6)
    reward.weights.data = torch.tensor(where.board.weights, dtype=torch.float32)
    psi = torch.from_numpy(where.psi)
    theirs = Regret(reward, Bank(psi, psi[:, :, None], where.board.gamma), temperature=1e-6)(pairs).detach().numpy()
    seen = summary(pairs, where.board.gamma)
    np.testing.assert_allclose(utility(where.board.weights[None], where.psi, seen)[0], theirs, atol=1e-4)
    best = optimal(where.board, where.reward).policy()[None]
    exactly = utility(where.board.weights[None], successor_features(where.board, best).state.numpy(), seen)[0]
    np.testing.assert_allclose(exactly, -regret(where.board, where.reward, pairs), atol=1e-6)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_asks_about_so_many_pairs_within_episodes(name, where):
    rng = np.random.default_rng(0)
    weights = rng.normal(0, SPREAD, (20, 6))
    policy = optimal(where.board, where.reward).policy()
    one, two = (STRATEGIES[name](where, weights, policy, 40, 5, np.random.default_rng(3)) for _ in range(2))
    assert one.act.shape[:2] == (5, 2) and torch.equal(one.obs, two.obs)
    at = steps(one)
    assert not where.board.terminal[at.state[..., 0].numpy()].any()


def test_labels_needed_are_counted_in_sessions(where):
    found = [
        labels_needed(where, STRATEGIES["k-centre"], np.random.default_rng(1), sessions=(4, 0, 3, 2)) for _ in (0, 1)
    ]
    assert found[0] == found[1] and found[0] in (4, 7, 9, 11)
    tossed = labels_needed(where, STRATEGIES["uniform"], np.random.default_rng(1), sessions=(1,) * 4, mistakes=0.5)
    assert tossed <= 5


def test_time_is_counted_for_what_was_shown(where):
    pairs, seconds = mixed(where, np.random.default_rng(0))
    lengths = steps(pairs).mask.sum(-1).numpy()
    np.testing.assert_allclose(seconds, THINKS + PER_STEP * lengths.sum(1))
    assert set(STEPS) <= set(lengths.ravel().tolist()) and lengths.max() == 9
    least = THINKS + 2 * PER_STEP
    spent = seconds_needed(where, "information per second", np.random.default_rng(0))
    assert spent >= 5 * least


def test_what_holds_for_any_posterior_holds_on_any_seed():
    for seed in (21, 22):
        assert all(m.holds and m.development is None for m in exact(place(np.random.default_rng(seed)), seed))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_strategies_hold_on_a_seed_that_nothing_was_tuned_on():
    shares = []
    mechanism, comparisons = strategies(23, False, shares.append)
    assert all(m.holds for m in mechanism) and len(comparisons) == len(STRATEGIES) + 2
    assert shares == sorted(shares) and shares[-1] == 1
