"""A planted world without pictures: a path towards a goal, seen through a random layer beside a body's own motion.

The specification's proof: o_t in the plane, hidden preference -|1 - x| - |y| for each step; a frame is tanh of a random
map of o_t and eight sinusoids, which are the body. Another body moves less and elsewhere.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from embodied.records import Array
from embodied.video_methods import Method, fitted
from embodied.video_rewards import FrameNet, learn
from embodied.videos import VideoReward, padding, ranked

STEPS, POOL, TEST, DEMOS, DEMOS_OF = 20, 400, 200, 6, 400
ROWS = ("raw transport", "RAPL", "RAPL, shuffled ranks", "frame net")


def films(rng: np.random.Generator, n: int, mix: Array, other_body: bool = False) -> tuple[list[Array], Array]:
    """n videos of features [T,64] each, and their true returns [n]."""
    t = np.linspace(0, 1, STEPS)
    start, drift = rng.uniform(-0.6, 0.6, (n, 1, 2)), rng.uniform(-0.6, 1.2, (n, 1, 2))
    path = start + drift * t[:, None] + np.cumsum(rng.normal(0, 0.08, (n, STEPS, 2)), 1)
    body = np.sin(2 * np.pi * rng.uniform(0.3, 2, (n, 1, 8)) * t[:, None] + rng.uniform(0, 2 * np.pi, (n, 1, 8)))
    if other_body:
        body = 0.6 * body + 0.3
    seen = np.tanh(np.concatenate([path, 1.5 * body], -1) @ mix).astype(np.float32)
    return list(seen), (-np.abs(1 - path[..., 0]) - np.abs(path[..., 1])).sum(1)


def correlations(seed: int, answers: int) -> dict[str, tuple[float, float]]:
    """Spearman's correlation with the true return, on the body that was learned from and on the other, by reward."""
    rng = np.random.default_rng([seed, 400])
    mix = rng.normal(size=(10, 64)) / 1.5
    pool, value = films(rng, POOL, mix)
    others, worth = films(rng, DEMOS_OF, mix)
    tests = [films(rng, TEST, mix, other) for other in (False, True)]
    demos = [others[i] for i in np.argsort(-worth)[:DEMOS]]
    groups = np.stack([rng.choice(POOL, 3, replace=False) for _ in range(answers)])

    def matched(method: Method, target: Array) -> VideoReward:
        said = [ranked(pool, groups, target)]
        return fitted(method, pool, demos, said, np.random.default_rng([seed, 401]), seed=seed)

    net = FrameNet(np.concatenate(pool), seed=seed)
    learn(net, ranked(pool, groups, value[groups]), np.random.default_rng([seed, 401]))
    mixed = rng.permuted(value[groups], axis=1)
    made = [matched("raw", mixed), matched("rapl", value[groups]), matched("rapl", mixed), net]

    def on(reward: VideoReward) -> tuple[float, float]:
        first, second = (float(spearmanr(reward.worth(*padding(v)).numpy(), true)[0]) for v, true in tests)
        return first, second

    return {name: on(reward) for name, reward in zip(ROWS, made, strict=True)}
