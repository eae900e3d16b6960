"""A reward that is a sum of named parts, with a posterior: what makes a hundred answers enough.

The utility of a segment is `w . sum_t phi(obs_t, act_t)`. The weights have a Gaussian prior whose scales are found by
evidence, and a Laplace posterior (Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, algorithms 3.1
and 5.1, with the Fisher information in place of the Hessian so that a likelihood with lapses stays well behaved). With
fewer answers than weights everything is solved in the space of answers: a fit takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import ndtri

from embodied.criteria import binary_entropy
from embodied.feedback import Feedback, Segments
from embodied.records import Array

# Equally likely values of a standard Gaussian. Where the posterior is wide the likelihood is a step, which a polynomial
# (Gauss-Hermite) integrates badly.
NODES = ndtri((np.arange(200) + 0.5) / 200)


@dataclass(frozen=True)
class Features:
    """`step(obs [..., T, O], act [..., T, A]) -> [..., T, D]`, and the groups of columns that belong together.

    A group in `nuisance` explains answers (a person also cares that the task gets done) but is left out of the reward.
    """

    step: Callable[[Array, Array], Array]
    groups: Mapping[str, slice]
    nuisance: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        return max(int(columns.stop) for columns in self.groups.values())

    def total(self, segments: Segments) -> Array:
        """[B, K, T, ...] segments to [B, K, D] feature sums over the steps that the mask keeps."""
        mask = segments.mask.numpy()
        # Padding repeats the last step, so that a feature of two neighbouring steps sees no jump into the padding.
        here = np.minimum(np.arange(mask.shape[2]), mask.sum(-1, keepdims=True) - 1)
        obs, act = (
            np.take_along_axis(x.double().numpy(), here[..., None], 2)
            for x in (segments.obs, segments.act)
            if not isinstance(x, dict)
        )
        total: Array = np.einsum("bktd,bkt->bkd", self.step(obs, act), mask.astype(np.float64))
        return total


@dataclass(frozen=True)
class Prior:
    """`covariance(scales) -> [D, D]`; each scale has a grid of values to choose from and a default.

    `penalty` is the log-normal hyperprior: nats per squared octave away from the default.
    """

    covariance: Callable[[Mapping[str, float]], Array]
    grid: Mapping[str, Sequence[float]]
    default: Mapping[str, float]
    penalty: float = 0.25

    def __post_init__(self) -> None:
        for name, value in self.default.items():
            if value not in self.grid.get(name, ()):
                raise ValueError(
                    f"The default {value} of scale {name!r} is not on its grid {self.grid.get(name, ())}: add it."
                )


@dataclass(frozen=True)
class Posterior:
    """Of the weights: `mean [D]`, `cov [D, D]`; and the log evidence of the prior that gave it."""

    mean: Array
    cov: Array
    evidence: float


def likelihood(z: Array, lapse: float) -> tuple[Array, Array]:
    """P(first better) of utility differences `z` under a person who answers at random with probability `lapse`.

    Returns the probability and its derivative. (1 - lapse) sigmoid(z) + lapse / 2.
    """
    s = 0.5 * (1 + np.tanh(z / 2))
    return (1 - lapse) * s + lapse / 2, (1 - lapse) * s * (1 - s)


def laplace(x: Array, target: Array, weight: Array, covariance: Array, lapse: float) -> Posterior:
    """Posterior of the weights given feature differences `x [N, D]`, P(first better) `target [N]` and `weight [N]`."""
    xs = x @ covariance
    kernel = xs @ x.T
    n = len(x)

    def objective(a: Array, f: Array) -> float:
        p, _ = likelihood(f, lapse)
        return float(np.sum(weight * (target * np.log(p) + (1 - target) * np.log1p(-p))) - 0.5 * a @ f)

    def curvature(f: Array) -> tuple[Array, Array]:
        p, dp = likelihood(f, lapse)
        gradient = weight * (target / p - (1 - target) / (1 - p)) * dp
        return gradient, np.maximum(weight * dp**2 / (p * (1 - p)), 1e-12)

    a, f = np.zeros(n), np.zeros(n)
    value = objective(a, f)
    for _ in range(60):
        gradient, w = curvature(f)
        root = np.sqrt(w)
        chol = cho_factor(np.eye(n) + root[:, None] * kernel * root, lower=True)
        b = w * f + gradient
        step = b - root * cho_solve(chol, root * (kernel @ b)) - a
        size = 1.0
        while size > 1e-4:  # damped: with lapses the likelihood is not log-concave
            a_new = a + size * step
            f_new = kernel @ a_new
            if (new := objective(a_new, f_new)) > value:
                break
            size /= 2
        else:
            break
        gain, a, f, value = new - value, a_new, f_new, new
        if gain < 1e-9:
            break
    _, w = curvature(f)
    root = np.sqrt(w)
    lower = np.linalg.cholesky(np.eye(n) + root[:, None] * kernel * root)
    half = solve_triangular(lower, root[:, None] * xs, lower=True)
    evidence = value - float(np.sum(np.log(np.diag(lower))))
    return Posterior(xs.T @ a, covariance - half.T @ half, evidence)


class Additive:
    """The additive Bayesian reward model.

    Raises ValueError when the prior's size does not fit the features.
    """

    def __init__(self, features: Features, prior: Prior, *, lapse: float = 0.1) -> None:
        if not 0 < lapse < 1:
            raise ValueError(f"lapse is {lapse}: give a share of random answers above 0 and below 1.")
        self.features, self.prior, self.lapse = features, prior, lapse
        self.scales = dict(prior.default)
        covariance = prior.covariance(self.scales)
        if covariance.shape != (features.size, features.size):
            raise ValueError(
                f"The prior's covariance is {covariance.shape} and there are {features.size} features: "
                "give one row and one column per feature."
            )
        self.posterior = Posterior(np.zeros(features.size), covariance, 0.0)
        self.in_reward = np.ones(features.size)
        for name in features.nuisance:
            self.in_reward[features.groups[name]] = 0.0

    def fit(self, feedback: Feedback, rng: np.random.Generator | None = None) -> dict[str, float]:
        """Refit on all pairs; scales by coordinate search on the evidence, from the last fit's. Deterministic."""
        low, high = float(feedback.target.min()), float(feedback.target.max())
        if feedback.target.shape[1] != 2 or low < 0 or high > 1:
            raise ValueError(
                f"The additive reward learns from pairs with targets in [0, 1], and these are "
                f"{feedback.target.shape[1]} alternatives with targets from {low:g} to {high:g}: expand with all_pairs."
            )
        total = self.features.total(feedback.segments)
        x = total[:, 0] - total[:, 1]
        target, weight = feedback.target[:, 0].double().numpy(), feedback.weight.double().numpy()

        def evaluate(scales: Mapping[str, float]) -> tuple[float, Posterior]:
            posterior = laplace(x, target, weight, self.prior.covariance(scales), self.lapse)
            octaves = sum(np.log2(scales[k] / self.prior.default[k]) ** 2 for k in scales)
            return posterior.evidence - self.prior.penalty * float(octaves), posterior

        best, self.posterior = evaluate(self.scales)
        for _ in range(2):
            before = dict(self.scales)
            for name, grid in self.prior.grid.items():
                # The whole grid: between a group that explains everything and one that is not needed lies a valley.
                for scale in grid:
                    trial = {**self.scales, name: scale}
                    if trial == self.scales:
                        continue
                    value, posterior = evaluate(trial)
                    if value > best:
                        best, self.posterior, self.scales = value, posterior, trial
            if self.scales == before:
                break
        decided = target != 0.5
        agreement = (
            np.mean((x @ self.posterior.mean > 0)[decided] == (target > 0.5)[decided]) if decided.any() else np.nan
        )
        return {"evidence": best, "agreement": float(agreement), **{f"scale_{k}": v for k, v in self.scales.items()}}

    def reward(self, obs: Array, act: Array) -> Array:
        """Mean reward of each step, [B, O], [B, A] -> [B], without the nuisance groups."""
        return self.value(self.features.step(obs[:, None], act[:, None])[:, 0])

    def value(self, totals: Array) -> Array:
        """Mean utility of feature sums [..., D] -> [...], without the nuisance groups."""
        utility: Array = totals @ (self.posterior.mean * self.in_reward)
        return utility

    def probability(self, x: Array) -> Array:
        """P(first better) for feature differences `x [N, D]` at each of the posterior's quantiles, [200, N]."""
        sd = np.sqrt(np.maximum(np.einsum("nd,de,ne->n", x, self.posterior.cov, x), 0))
        return likelihood(x @ self.posterior.mean + NODES[:, None] * sd, self.lapse)[0]

    def utilities(self, segments: Segments, rng: np.random.Generator, samples: int = 48) -> Array:
        """Utility of every segment under draws from the posterior, [samples, B, K]."""
        values, vectors = np.linalg.eigh(self.posterior.cov)
        root = vectors * np.sqrt(np.maximum(values, 0))
        weights = self.posterior.mean + rng.standard_normal((samples, len(values))) @ root.T
        drawn: Array = np.einsum("bkd,ed->ebk", self.features.total(segments), weights)
        return drawn

    def state_dict(self) -> dict[str, Any]:
        post = self.posterior
        return {"scales": dict(self.scales), "mean": post.mean, "cov": post.cov, "evidence": post.evidence}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scales = {k: float(v) for k, v in state["scales"].items()}
        self.posterior = Posterior(np.asarray(state["mean"]), np.asarray(state["cov"]), float(state["evidence"]))

    def fingerprint(self) -> str:
        return f"additive reward, {self.features.size} features: {', '.join(self.features.groups)}"


@dataclass(frozen=True)
class Turn:
    """What the next question should be about: a group of features ("" = all), among the candidates `allowed [N]`."""

    group: str
    allowed: Array


def greedy_information(model: Additive, x: Array, turns: Sequence[Turn], exclusive: Array) -> list[int]:
    """One question per turn by expected information, the posterior's covariance updated after each pick.

    Args:
        x: feature differences (first - second) of the candidates [N, D].
        turns: whose information is multiplied by the share of the turn's group in the pair's predictive variance.
        exclusive: an integer label [N]; at most one candidate of a label is chosen.

    Expected information about the weights as in BALD (Houlsby et al., 2011, arXiv 1112.5745), over the
    quantiles of the pair's predictive Gaussian. Raises ValueError when a turn has no candidate left.
    """
    mean = x @ model.posterior.mean
    p_mean, dp = likelihood(mean, model.lapse)
    fisher = dp**2 / (p_mean * (1 - p_mean))
    xs = x @ model.posterior.cov
    columns = {g: np.zeros(x.shape[1], bool) for g in model.features.groups}
    for name, where in model.features.groups.items():
        columns[name][where] = True
    cov = model.posterior.cov.copy()
    spent, chosen = set[int](), list[int]()
    for turn in turns:
        variance = np.maximum(np.einsum("nd,nd->n", xs, x), 1e-12)
        p, _ = likelihood(mean + NODES[:, None] * np.sqrt(variance), model.lapse)
        expected = p.mean(0)
        gain = binary_entropy(expected, 1 - expected) - binary_entropy(p, 1 - p).mean(0)
        if turn.group:
            parts = {g: np.einsum("nd,de,ne->n", x[:, c], cov[np.ix_(c, c)], x[:, c]) for g, c in columns.items()}
            gain = gain * parts[turn.group] / np.maximum(sum(parts.values()), 1e-12)
        open_ = turn.allowed & ~np.isin(exclusive, list(spent))
        if not open_.any():
            raise ValueError(
                f"No candidate is left for a question about {turn.group or 'anything'} after {len(chosen)} of "
                f"{len(turns)}: offer more candidates or ask fewer questions."
            )
        pick = int(np.argmax(np.where(open_, gain, -np.inf)))
        chosen.append(pick)
        spent.add(int(exclusive[pick]))
        direction = xs[pick].copy()
        update = fisher[pick] / (1 + fisher[pick] * variance[pick])
        xs -= update * np.outer(x @ direction, direction)
        cov -= update * np.outer(direction, direction)
    return chosen
