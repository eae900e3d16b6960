"""The additive Bayesian reward against quadrature, a general-purpose optimiser, and what an update should be."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit

from embodied.criteria import binary_entropy
from embodied.feedback import Feedback, Segments
from embodied.rewards.additive import (
    NODES,
    Additive,
    Features,
    Prior,
    Turn,
    greedy_information,
    laplace,
    likelihood,
)

LAPSE = 0.1


def log_joint(w, x, target, weight, precision):
    p, _ = likelihood(x @ w, LAPSE)
    return np.sum(weight * (target * np.log(p) + (1 - target) * np.log1p(-p))) - 0.5 * w @ precision @ w


def made_up(seed, n=30, d=4):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d))
    x = rng.normal(size=(n, d))
    return x, (rng.random(n) < expit(2 * x[:, 0])).astype(float), rng.uniform(0.5, 2, n), root @ root.T + np.eye(d)


def test_likelihood_has_the_derivative_it_says():
    z, h = np.linspace(-8, 8, 33), 1e-6
    p, dp = likelihood(z, LAPSE)
    np.testing.assert_allclose((likelihood(z + h, LAPSE)[0] - likelihood(z - h, LAPSE)[0]) / (2 * h), dp, atol=1e-9)
    np.testing.assert_allclose(p, 0.9 * expit(z) + 0.05, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_mean_is_the_maximum_that_an_optimiser_finds_in_the_space_of_weights(seed):
    x, target, weight, covariance = made_up(seed)
    precision = np.linalg.inv(covariance)
    found = minimize(lambda w: -log_joint(w, x, target, weight, precision), np.zeros(x.shape[1]), tol=1e-12)
    posterior = laplace(x, target, weight, covariance, LAPSE)
    np.testing.assert_allclose(posterior.mean, found.x, atol=2e-4)


def test_covariance_is_the_inverse_of_prior_precision_plus_information():
    x, target, weight, covariance = made_up(1)
    posterior = laplace(x, target, weight, covariance, LAPSE)
    p, dp = likelihood(x @ posterior.mean, LAPSE)
    information = (x * (weight * dp**2 / (p * (1 - p)))[:, None]).T @ x
    np.testing.assert_allclose(posterior.cov, np.linalg.inv(np.linalg.inv(covariance) + information), atol=1e-9)


def test_evidence_is_the_integral_in_one_dimension():
    x, target, weight, _ = made_up(3, n=25, d=1)
    prior_sd = 1.5
    posterior = laplace(x, target, weight, np.array([[prior_sd**2]]), LAPSE)

    def density(w):
        return np.exp(log_joint(np.array([w]), x, target, weight, np.array([[prior_sd**-2]])))

    integral = quad(density, -15, 15, limit=200)[0] / (prior_sd * np.sqrt(2 * np.pi))
    assert abs(posterior.evidence - np.log(integral)) < 0.2  # Laplace, with the expected information
    mean = quad(lambda w: w * density(w), -15, 15)[0] / quad(density, -15, 15)[0]
    assert abs(posterior.mean[0] - mean) < 0.2


def test_no_answers_to_speak_of_leave_the_prior():
    x, target, _, covariance = made_up(4)
    posterior = laplace(x, target, np.full(len(x), 1e-12), covariance, LAPSE)
    np.testing.assert_allclose(posterior.mean, 0, atol=1e-9)
    np.testing.assert_allclose(posterior.cov, covariance, atol=1e-6)


FEATURES = Features(
    lambda obs, act: np.concatenate([obs, act], -1), {"place": slice(0, 2), "push": slice(2, 3)}, frozenset({"push"})
)
PRIOR = Prior(lambda s: np.eye(3) * s["sd"] ** 2, grid={"sd": (0.1, 1.0, 10.0)}, default={"sd": 1.0})


def answered(seed, n, truth):
    rng = np.random.default_rng(seed)
    obs, act = rng.normal(size=(n, 2, 5, 2)), rng.normal(size=(n, 2, 5, 1))
    mask = np.arange(5) < rng.integers(1, 6, (n, 2, 1))
    z = np.einsum("bktd,bkt,d->bk", np.concatenate([obs, act], -1), mask.astype(float), truth)
    first = (rng.random(n) < likelihood(z[:, 0] - z[:, 1], LAPSE)[0]).astype(float)
    segments = Segments(*(torch.as_tensor(a) for a in (obs, act, mask)), torch.full((n, 2, 5), torch.nan))
    target = torch.as_tensor(np.stack([first, 1 - first], 1))
    return Feedback(segments, target, torch.ones(n), torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.bool))


def test_fit_finds_a_planted_reward_and_the_reward_leaves_the_nuisance_out():
    model = Additive(FEATURES, PRIOR)
    truth = np.array([2.0, -1.0, 3.0])
    model.fit(answered(0, 600, truth))
    np.testing.assert_allclose(model.posterior.mean, truth, atol=0.8)
    obs, act = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[5.0], [-5.0]])
    np.testing.assert_allclose(model.reward(obs, act), model.posterior.mean[:2])


def test_evidence_prefers_a_wide_prior_for_strong_opinions_and_a_narrow_one_for_coin_flips():
    strong, coin = Additive(FEATURES, PRIOR), Additive(FEATURES, PRIOR)
    strong.fit(answered(1, 200, np.array([8.0, -8.0, 8.0])))
    coin.fit(answered(2, 200, np.zeros(3)))
    assert strong.scales["sd"] == 10 and coin.scales["sd"] == 0.1


def test_a_fit_is_a_function_of_the_answers_and_state_round_trips():
    data = answered(3, 50, np.array([1.0, 1.0, 0.0]))
    a, b = Additive(FEATURES, PRIOR), Additive(FEATURES, PRIOR)
    a.fit(data)
    b.load_state_dict(a.state_dict())
    for field in ("mean", "cov"):
        assert np.array_equal(getattr(a.posterior, field), getattr(b.posterior, field))
    a.fit(data), b.fit(data)
    assert np.array_equal(a.posterior.mean, b.posterior.mean)


def test_draws_have_the_posteriors_spread():
    model = Additive(FEATURES, PRIOR)
    data = answered(4, 30, np.array([1.0, 1.0, 0.0]))
    model.fit(data)
    total = FEATURES.total(data.segments)
    x = total[:, 0] - total[:, 1]
    draws = model.utilities(data.segments, np.random.default_rng(0), samples=20_000)
    gap = draws[..., 0] - draws[..., 1]
    np.testing.assert_allclose(gap.mean(0), x @ model.posterior.mean, atol=0.2)
    np.testing.assert_allclose(gap.var(0), np.einsum("nd,de,ne->n", x, model.posterior.cov, x), rtol=0.1)


@pytest.mark.parametrize("sd", [0.1, 1.0, 5.0, 50.0])
def test_the_nodes_integrate_the_likelihood_however_wide_the_posterior_is(sd):
    points = np.linspace(-8, 8, 200_001)
    weights = np.exp(-(points**2) / 2)
    for mean in (0.0, 0.7 * sd, -2 * sd):
        exact = weights @ likelihood(mean + sd * points, LAPSE)[0] / weights.sum()
        assert abs(likelihood(mean + sd * NODES, LAPSE)[0].mean() - exact) < 0.003


def test_first_pick_has_the_most_information_by_plain_sampling():
    model = Additive(FEATURES, PRIOR)
    model.fit(answered(5, 40, np.array([1.0, -1.0, 0.5])))
    x = np.random.default_rng(1).normal(size=(12, 3)) * np.linspace(0.1, 3, 12)[:, None]
    weights = np.random.default_rng(2).multivariate_normal(model.posterior.mean, model.posterior.cov, 200_000)
    p, _ = likelihood(x @ weights.T, model.lapse)
    gain = binary_entropy(p.mean(1), 1 - p.mean(1)) - binary_entropy(p, 1 - p).mean(1)
    pick = greedy_information(model, x, [Turn("", np.ones(12, bool))], np.arange(12))[0]
    assert gain[pick] > gain.max() - 2e-3


def test_a_second_copy_of_a_question_is_worth_less_than_a_new_one_of_the_same_kind():
    model = Additive(FEATURES, PRIOR)
    x = np.array([[3.0, 0, 0], [3.0, 0, 0], [0, 2.9, 0]])
    turns = [Turn("", np.ones(3, bool))] * 2
    assert greedy_information(model, x, turns, np.arange(3)) == [0, 2]


def test_turns_ask_about_their_group_and_labels_are_used_once():
    model = Additive(FEATURES, PRIOR)
    x = np.array([[3.0, 0, 0], [0, 0, 3.0], [1.0, 0, 0]])
    every = np.ones(3, bool)
    assert greedy_information(model, x, [Turn("push", every), Turn("place", every)], np.arange(3)) == [1, 0]
    assert greedy_information(model, x, [Turn("place", every), Turn("place", every)], np.array([7, 7, 8])) == [0, 2]
    with pytest.raises(ValueError, match="No candidate is left for a question about place after 1 of 2"):
        greedy_information(model, x, [Turn("place", every)] * 2, np.array([7, 7, 7]))


def test_a_prior_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"covariance is \(2, 2\) and there are 3 features"):
        Additive(FEATURES, Prior(lambda s: np.eye(2), grid={}, default={}))
