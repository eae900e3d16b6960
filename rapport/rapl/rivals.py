"""Rewards of videos by name, each from the same answers, demonstrations and features: what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from embodied.feedback import Feedback
from embodied.records import Array
from embodied.video_methods import Method, fitted
from embodied.video_rewards import FrameNet, VideoNet, learn
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


def _feedback(ground: Ground, said: Labels) -> Feedback:
    return ranked(list(ground.pool), said.groups, said.target)


def by(method: Method) -> Make:
    """As `embodied.video_methods` has it."""

    def make(ground: Ground, said: Labels) -> VideoReward:
        answers = [_feedback(ground, said)] if len(said.groups) else []
        pool, demos, acts = (list(x) for x in (ground.pool, ground.demos, ground.demo_acts))
        return fitted(method, pool, demos, answers, _rng(said), seed=said.seed, acts=acts)

    return make


def shuffled(make: Make) -> Make:
    return lambda ground, said: make(ground, said.shuffled())


def frames_by_rankings(ground: Ground, said: Labels) -> VideoReward:
    net = FrameNet(_frames(ground), seed=said.seed)
    learn(net, _feedback(ground, said), _rng(said))
    return net


def frames_by_pairs(ground: Ground, said: Labels) -> VideoReward:
    """One comparison for each answer, of its first two videos: what a pair tells, beside what a ranking tells."""
    net = FrameNet(_frames(ground), seed=said.seed)
    learn(net, ranked(list(ground.pool), said.groups[:, :2], said.target[:, :2]), _rng(said))
    return net


def whole_videos(ground: Ground, said: Labels) -> VideoReward:
    net = VideoNet(_frames(ground), seed=said.seed)
    learn(net, _feedback(ground, said), _rng(said))
    return net


WITHOUT: Mapping[str, Make] = {
    "raw transport": by("raw"),
    "cloning, transport": by("cloning"),
    "cycles, transport": by("cycles"),
    "frame net, demos only": by("frames"),
    "video net, demos only": by("video"),
}
"""What needs no answer."""
WITH: Mapping[str, Make] = {
    "RAPL": by("rapl"),
    "RAPL, shuffled ranks": shuffled(by("rapl")),
    "RAPL as published": by("published"),
    "frame net, released recipe": by("released"),
    "frame net, pairs": frames_by_pairs,
    "frame net, rankings": frames_by_rankings,
    "frame net, rankings and demos": by("frames"),
    "video net, rankings": whole_videos,
    "video net, rankings and demos": by("video"),
}
"""What learns from answers."""
