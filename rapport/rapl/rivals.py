"""Rewards of videos by name, each from the same answers, demonstrations and features: what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from embodied.feedback import Feedback, all_pairs
from embodied.rapl import Head, Matching, Rapl, align
from embodied.records import Array
from embodied.video_proxies import cloned, cycled
from embodied.video_rewards import FrameNet, VideoNet, demos_first, learn
from embodied.videos import VideoReward, ranked
from rapport.rapl.ground import Ground


@dataclass(frozen=True, eq=False)
class Labels:
    """n rankings of three videos of the pool each, by their true return: groups int [n,3], target [n,3]."""

    groups: Array
    target: Array
    seed: int

    def shuffled(self) -> Labels:
        """The same questions with answers that say nothing: ranks mixed within each."""
        mixed = np.random.default_rng([self.seed, 201]).permuted(self.target, axis=1)
        return Labels(self.groups, mixed, self.seed)


def labels(ground: Ground, n: int, seed: int) -> Labels:
    """The first n of one list of questions: more labels are the same ones and others."""
    rng = np.random.default_rng([seed, 200])
    groups = np.stack([rng.choice(len(ground.pool), 3, replace=False) for _ in range(n)] or [np.zeros(3, int)])[:n]
    return Labels(groups, ground.value[groups], seed)


Make = Callable[[Ground, Labels], VideoReward]


def _rng(said: Labels) -> np.random.Generator:
    return np.random.default_rng([said.seed, 202])


def _frames(ground: Ground) -> Array:
    return ground.pool.reshape(-1, ground.pool.shape[-1])


def _head(ground: Ground, said: Labels, dims: int = 32) -> Head:
    """Linear; of a handful of true positions it has to make more than they are."""
    size = ground.pool.shape[-1]
    head = Head(size, 16, (64,), seed=said.seed) if dims and size < 32 else Head(size, dims, seed=said.seed)
    head.standard.fit(_frames(ground))
    return head


def _feedback(ground: Ground, said: Labels) -> Feedback:
    return ranked(list(ground.pool), said.groups, said.target)


def transported(ground: Ground, said: Labels) -> VideoReward:
    """Transport in the features as they are: no answer is looked at."""
    return Rapl(_head(ground, said, 0), list(ground.demos))


def rapl(matching: Matching | None = None, **settings: object) -> Make:
    """settings: of `embodied.rapl.align`."""

    def make(ground: Ground, said: Labels) -> VideoReward:
        reward = Rapl(_head(ground, said), list(ground.demos), matching or Matching())
        align(reward, _feedback(ground, said), _rng(said), **settings)  # type: ignore[arg-type]
        return reward

    return make


def shuffled(make: Make) -> Make:
    return lambda ground, said: make(ground, said.shuffled())


def by_cloning(ground: Ground, said: Labels) -> VideoReward:
    """Transport where the head was fine-tuned to tell what the demonstrator did."""
    head = _head(ground, said)
    cloned(head, list(ground.demos), list(ground.demo_acts))
    return Rapl(head, list(ground.demos))


def by_cycles(ground: Ground, said: Labels) -> VideoReward:
    """Transport where the head was fine-tuned so that cycles through demonstrations lead back."""
    head = _head(ground, said)
    cycled(head, list(ground.demos), _rng(said))
    return Rapl(head, list(ground.demos))


def frames_by_rankings(ground: Ground, said: Labels) -> VideoReward:
    net = FrameNet(_frames(ground), seed=said.seed)
    learn(net, _feedback(ground, said), _rng(said))
    return net


def frames_by_pairs(ground: Ground, said: Labels) -> VideoReward:
    """One comparison for each answer, of its first two videos: what a pair tells, beside what a ranking tells."""
    net = FrameNet(_frames(ground), seed=said.seed)
    learn(net, ranked(list(ground.pool), said.groups[:, :2], said.target[:, :2]), _rng(said))
    return net


def with_demos(kind: type[FrameNet] | type[VideoNet]) -> Make:
    """The fair rivals: the same rankings, and demonstrations that are better than whatever is in the pool."""

    def make(ground: Ground, said: Labels) -> VideoReward:
        net, rng = kind(_frames(ground), seed=said.seed), _rng(said)
        pairs = demos_first(list(ground.demos), list(ground.pool), rng)
        learn(net, [_feedback(ground, said), pairs] if len(said.groups) else pairs, rng)
        return net

    return make


def frames_as_released(ground: Ground, said: Labels) -> VideoReward:
    """The recipe of the released code: linear, sums, all pairs of each ranking, Adam 1e-4, batches of 10, 50 passes."""
    net = FrameNet(_frames(ground), (), total=True, seed=said.seed)
    pairs = all_pairs(_feedback(ground, said))
    learn(net, pairs, _rng(said), steps=50 * -(-len(pairs) // 10), batch=10, rate=1e-4, decay=0.0)
    return net


def whole_videos(ground: Ground, said: Labels) -> VideoReward:
    net = VideoNet(_frames(ground), seed=said.seed)
    learn(net, _feedback(ground, said), _rng(said))
    return net


WITHOUT: Mapping[str, Make] = {
    "raw transport": transported,
    "cloning, transport": by_cloning,
    "cycles, transport": by_cycles,
    "frame net, demos only": with_demos(FrameNet),
    "video net, demos only": with_demos(VideoNet),
}
"""What needs no answer."""
WITH: Mapping[str, Make] = {
    "RAPL": rapl(),
    "RAPL, shuffled ranks": shuffled(rapl()),
    "RAPL as published": rapl(aim="published"),
    "frame net, released recipe": frames_as_released,
    "frame net, pairs": frames_by_pairs,
    "frame net, rankings": frames_by_rankings,
    "frame net, rankings and demos": with_demos(FrameNet),
    "video net, rankings": whole_videos,
    "video net, rankings and demos": with_demos(VideoNet),
}
"""What learns from answers."""
