"""Rewards of videos by name, each from the same features, demonstrations and answers, in the settings it is judged by.

Transport to the demonstrations: `rapl`, in what rankings aligned; `published`, by the objective of the paper; `raw`, in
features that nobody aligned; `cloning` and `cycles`, in ones that proxies aligned, which look at no answer. Networks:
`frames`, which pays each frame; `released`, such a one by the recipe of the paper's code; `video`, which sees whole
videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from embodied.feedback import Feedback, all_pairs
from embodied.rapl import Head, Rapl, align
from embodied.records import Array
from embodied.video_proxies import cloned, cycled
from embodied.video_rewards import FrameNet, VideoNet, demos_first, learn

Method = Literal["rapl", "published", "raw", "cloning", "cycles", "frames", "released", "video"]
UNASKED: tuple[Method, ...] = ("raw", "cloning", "cycles")
"""Those that look at no answer."""

DIMS = 32
FEW = 32  # features: a handful of positions, say, of which a linear map makes too little


def head_of(frames: Array, seed: int, dims: int = DIMS) -> Head:
    """Linear, standardised on frames [N,F]; with a hidden layer where F is below `FEW`. dims 0: the features as they
    are."""
    size = frames.shape[1]
    head = Head(size, 16, (64,), seed=seed) if dims and size < FEW else Head(size, dims, seed=seed)
    head.standard.fit(frames)
    return head


def fitted(
    method: Method,
    pool: Sequence[Array],
    demos: Sequence[Array],
    said: Sequence[Feedback],
    rng: np.random.Generator,
    *,
    seed: int,
    acts: Sequence[Array] = (),
) -> Rapl | FrameNet | VideoNet:
    """pool, demos: features [T,F] each. said: rankings, pairs or choices of videos of the pool; nothing
    will do for those of `UNASKED`, and for `frames` and `video`, which then learn from the demonstrations alone.

    seed: of the weights it starts from; rng: of what is drawn on the way. acts: what was done in each demonstration,
    [T,A], for `cloning`. `frames` and `video` learn from the demonstrations too, as better than any video of the pool.
    Raises ValueError for what a method cannot be learned from.
    """
    if method not in get_args(Method):
        raise ValueError(f"no method {method!r}; choose {', '.join(get_args(Method))}")
    if not len(pool) or not len(demos):
        raise ValueError(f"{len(pool)} videos and {len(demos)} demonstrations; give at least one of each")
    if not said and method in ("rapl", "published", "released"):
        raise ValueError(f"nothing was said that {method} could learn from; give rankings, or one of {UNASKED}")
    frames = np.concatenate(pool)
    if method in ("rapl", "published", "raw", "cloning", "cycles"):
        head = head_of(frames, seed, 0 if method == "raw" else DIMS)
        if method == "cloning":
            cloned(head, demos, acts)
        elif method == "cycles":
            cycled(head, demos, rng)
        rapl = Rapl(head, demos)
        if method not in UNASKED:
            align(rapl, said, rng, aim="published" if method == "published" else "demos")
        return rapl
    if method == "released":
        # Linear, a sum over frames, all pairs of each ranking, 50 passes in batches of 10.
        net, pairs = FrameNet(frames, (), total=True, seed=seed), [all_pairs(part) for part in said]
        steps = 50 * -(-sum(map(len, pairs)) // 10)
        learn(net, pairs, rng, steps=steps, batch=10, rate=1e-4, decay=0.0)
        return net
    fair = (FrameNet if method == "frames" else VideoNet)(frames, seed=seed)
    # No demonstration is worse than itself.
    others = [one for one in pool if not any(np.array_equal(one, demo) for demo in demos)]
    learn(fair, [*said, demos_first(demos, others, rng)] if others else said, rng)
    return fair
