"""What a question costs whoever is asked: the chance that it is skipped, learned from what was skipped before."""

from __future__ import annotations

import numpy as np

from embodied.criteria import Array
from embodied.queries import check_features


def skip_probability(features: Array, skipped: Array, ask: Array, ridge: float = 1.0) -> Array:
    """P(skip) of questions `ask [N,F]`, [N], from earlier ones `features [M,F]` and whether they were skipped, [M] of 0
    and 1.

    A logistic regression on features in units of their deviation, with a constant, and a penalty ridge |w|^2 / 2 on all
    of it: with nothing asked before every probability is one half, which ranks nothing. What people skip is often
    foretold by how near the two utilities are, how bad both clips are, and how long they last. Raises ValueError for
    other shapes, numbers that are not finite, values that are neither 0 nor 1, and a ridge not above 0.
    """
    check_features(features)
    check_features(ask, features.shape[1], "ask")
    if skipped.shape != (len(features),) or not np.isin(skipped, (0, 1)).all():
        raise ValueError(f"skipped has shape {skipped.shape}; give 0 or 1 for each of {len(features)} questions")
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; give one above 0, or answers that are all alike have no finite fit")
    if not len(features):
        return np.full(len(ask), 0.5)
    centre, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 0, scale, 1.0)

    def design(rows: Array) -> Array:
        return np.concatenate([np.ones((len(rows), 1)), (rows - centre) / scale], 1)

    x = design(features)
    w = np.zeros(x.shape[1])

    def loss(w: Array) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - skipped * z).sum() + 0.5 * ridge * w @ w)

    for _ in range(100):  # Newton, halved where it would go too far; the loss is convex
        p = 0.5 * (1 + np.tanh(x @ w / 2))
        gradient = x.T @ (p - skipped) + ridge * w
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge * np.eye(len(w)), gradient)
        size = 1.0
        while loss(w - size * step) > loss(w) and size > 1e-6:
            size /= 2
        w = w - size * step
        if np.abs(gradient).max() < 1e-10 * max(1, len(x)):
            break
    return np.asarray(0.5 * (1 + np.tanh(design(ask) @ w / 2)))
