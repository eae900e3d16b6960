"""Clips worth asking about: the robot varies its own behaviour on purpose, one thing at a time.

Action noise alone makes clips that differ in everything and nothing. Here four arms share a layout, and every two of
them differ in the path, in the cup's posture, in both, or in which policy acts. Nothing here knows what a person likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from embodied.records import Array
from embodied.rewards.additive import Additive, Turn, greedy_information
from envs.arm import HORIZON, CupArms, Layouts, decode
from rapport.cup.features import step_features

Act = Callable[[Array], Array]
"""obs [n, 26] -> action [n, 5]."""

VARIANTS = 4
PAIRS = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
CLIP = 40
MEMORY = 0.92  # of slow noise, from one control step to the next


@dataclass(frozen=True, eq=False)
class Variation:
    """How each of n arms departs from the policy `policy [n]` (an index). All zero: it does not.

    `via [n, 3]` is steered to until step `via_until [n]`; the cup is held at `opening [n, 3]` where `held [n]`;
    `push [n]` is added to action x while the cup's y relative to the laptop lies in `push_from..push_to`;
    `noise [n, 5]` are amplitudes of slow noise whose stream is `noise_path [n]`, `noise_tilt [n]`.
    """

    policy: Array
    via: Array
    via_until: Array
    held: Array
    opening: Array
    push: Array
    push_from: Array
    push_to: Array
    noise: Array
    noise_path: Array
    noise_tilt: Array


def unvaried(n: int) -> Variation:
    zero, index = np.zeros(n), np.arange(n)
    return Variation(
        policy=np.zeros(n, int),
        via=np.zeros((n, 3)),
        via_until=np.zeros(n, int),
        held=np.zeros(n, bool),
        opening=np.tile([0.0, 0, 1], (n, 1)),
        push=zero,
        push_from=zero,
        push_to=zero,
        noise=np.zeros((n, 5)),
        noise_path=index,
        noise_tilt=index,
    )


def postures(rng: np.random.Generator, highest: Array) -> Array:
    """Unit vectors of the cup's opening, tilted by up to `highest [n]` degrees in any direction, [n, 3]."""
    angle = np.radians(rng.uniform(0, highest))
    turn = rng.uniform(0, 2 * np.pi, len(highest))
    return np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], -1)


def factorial(rng: np.random.Generator, layouts: int, scale: float) -> Variation:
    """{own path, path by way of a random point} x {own cup posture, held random posture}, per layout."""
    n = layouts * VARIANTS
    layout, variant = np.divmod(np.arange(n), VARIANTS)
    other_path, held = variant >= 2, variant % 2 == 1
    via = rng.uniform([0.25, -0.4, 0.2], [0.72, 0.4, 0.4], (layouts, 3))
    until = rng.integers(10, 36, layouts) * (rng.random(layouts) < 0.7)
    own, other, turn = (rng.uniform(a, b, layouts) * scale for a, b in ((0, 0.3), (0.2, 1), (0, 0.3)))
    opening = postures(rng, np.where(rng.random(layouts) < 0.5, 70.0, 20.0))
    noise = np.zeros((n, 5))
    noise[:, :3] = np.where(other_path, other[layout], own[layout])[:, None]
    noise[:, 3:] = np.where(held, 0, turn[layout])[:, None]
    return replace(
        unvaried(n),
        via=via[layout],
        via_until=np.where(other_path, until[layout], 0),
        held=held,
        opening=opening[layout],
        noise=noise,
        noise_path=2 * layout + other_path,
        noise_tilt=2 * layout + held,
    )


def _pushes(rng: np.random.Generator, layouts: int) -> tuple[Array, Array, Array]:
    start = rng.uniform(-0.35, -0.1, layouts)
    size = rng.uniform(0.1, 0.4, layouts) * rng.choice([-1, 1], layouts)
    return size, start, start + rng.uniform(0.1, 0.3, layouts)


def local(rng: np.random.Generator, layouts: int) -> Variation:
    """{own path, own path pushed sideways for a stretch} x {own posture, held nearly upright}, without noise."""
    n = layouts * VARIANTS
    layout, variant = np.divmod(np.arange(n), VARIANTS)
    size, start, stop = (values[layout] for values in _pushes(rng, layouts))
    return replace(
        unvaried(n),
        held=variant % 2 == 1,
        opening=postures(rng, np.full(layouts, 15.0))[layout],
        push=np.where(variant >= 2, size, 0),
        push_from=start,
        push_to=stop,
    )


def versions(rng: np.random.Generator, layouts: int) -> Variation:
    """The policy now, now with a push, one round ago, three rounds ago."""
    n = layouts * VARIANTS
    layout, variant = np.divmod(np.arange(n), VARIANTS)
    size, start, stop = (values[layout] for values in _pushes(rng, layouts))
    return replace(
        unvaried(n),
        policy=np.array([0, 0, 1, 2])[variant],
        push=np.where(variant == 1, size, 0),
        push_from=start,
        push_to=stop,
    )


def _slice(v: Variation, where: slice) -> Variation:
    return Variation(**{f.name: getattr(v, f.name)[where] for f in fields(v)})


def join(parts: Sequence[Variation]) -> Variation:
    offsets = np.cumsum([0] + [len(p.policy) for p in parts])
    shifted = [
        replace(p, noise_path=p.noise_path + o, noise_tilt=p.noise_tilt + o)
        for p, o in zip(parts, offsets[:-1], strict=True)
    ]
    return Variation(**{f.name: np.concatenate([getattr(p, f.name) for p in shifted]) for f in fields(Variation)})


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Whole episodes: obs [N, T, 26], act [N, T, 5], qpos [N, T, 7] rad, success bool [N], the task's own return [N],
    and their layouts [N]."""

    obs: Array
    act: Array
    qpos: Array
    success: Array
    returns: Array
    layouts: Layouts

    def __getitem__(self, index: slice) -> Rollouts:
        return Rollouts(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def together(parts: Sequence[Rollouts]) -> Rollouts:
    """One after the other."""
    layouts = Layouts(*(np.concatenate([getattr(p.layouts, f.name) for p in parts]) for f in fields(Layouts)))
    arrays = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rollouts) if f.name != "layouts"
    }
    return Rollouts(**arrays, layouts=layouts)


def slowly(noise: Array, rng: np.random.Generator) -> Array:
    """The next step of a noise of unit variance with about half a second's memory: slow enough to change the path."""
    return MEMORY * noise + np.sqrt(1 - MEMORY**2) * rng.standard_normal(noise.shape)


def roll_out(
    envs: CupArms, layouts: Layouts, policies: Sequence[Act], variation: Variation | None, rng: np.random.Generator
) -> Rollouts:
    """Runs one episode on every layout, envs.num_envs at a time; len(layouts) must be a multiple of it."""
    n, total = envs.num_envs, len(layouts)
    if total % n:
        raise ValueError(f"{total} layouts on {n} arms: give a multiple of {n}.")
    v_all = variation or unvaried(total)
    obs_all, act_all = np.empty((total, HORIZON, 26), np.float32), np.empty((total, HORIZON, 5), np.float32)
    qpos_all, success = np.empty((total, HORIZON, 7)), np.empty(total, bool)
    returns = np.zeros(total)
    streams = int(max(v_all.noise_path.max(), v_all.noise_tilt.max())) + 1
    noisy = bool(v_all.noise.any())
    for first in range(0, total, n):
        where = slice(first, first + n)
        v = _slice(v_all, where)
        obs, _ = envs.reset(options={"layouts": layouts[where]})
        slow = np.zeros((streams, 5))
        for t in range(HORIZON):
            action = np.zeros((n, 5))
            for index, policy in enumerate(policies):
                mine = v.policy == index
                if mine.any():
                    action[mine] = policy(obs)[mine]
            if variation is not None:
                _vary(action, obs, t, v)
            if noisy:
                slow = slowly(slow, rng)
                action[:, :3] += v.noise[:, :3] * slow[v.noise_path, :3]
                action[:, 3:] += v.noise[:, 3:] * slow[v.noise_tilt, 3:]
            action = np.clip(action, -1, 1).astype(np.float32)
            obs_all[where, t], act_all[where, t], qpos_all[where, t] = obs, action, envs.qpos
            obs, reward, _, _, info = envs.step(action)
            returns[where] += reward
        success[where] = info["success"]
    return Rollouts(obs_all, act_all, qpos_all, success, returns, layouts)


def _vary(action: Array, obs: Array, t: int, v: Variation) -> None:
    now = decode(obs)
    go = t < v.via_until
    action[go, :3] = np.clip(3 * (v.via - now["cup"])[go] / 0.6, -1, 1)
    y = -now["laptop_offset"][:, 1]
    action[:, 0] += v.push * ((y >= v.push_from) & (y <= v.push_to))
    turn = 5 * np.cross(now["opening"], v.opening)[:, :2] / 1.8
    action[v.held, 3:] = np.clip(turn, -1, 1)[v.held]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of clips of one layout and window: rollout indices `first`, `second` [M], steps `start`, `stop` [M]."""

    first: Array
    second: Array
    start: Array
    stop: Array
    layout: Array
    pair: Array  # which two of a layout's four variants, an index of PAIRS

    def __len__(self) -> int:
        return len(self.first)


def candidates(rng: np.random.Generator, layouts: int, windows: int = 2) -> Candidates:
    """Every pair of a layout's arms, on random windows of half or the whole episode; left and right at random."""
    layout, pair, _ = (a.ravel() for a in np.indices((layouts, len(PAIRS), windows)))
    swap = rng.random(len(layout)) < 0.5
    a, b = (layout * VARIANTS + PAIRS[pair, side] for side in (0, 1))
    length = np.where(rng.random(len(layout)) < 0.5, CLIP, HORIZON)
    start = rng.integers(0, HORIZON - length + 1)
    return Candidates(np.where(swap, b, a), np.where(swap, a, b), start, start + length, layout, pair)


def differences(pool: Rollouts, c: Candidates) -> Array:
    """Feature differences first - second, [M, 136], from cumulative sums over each episode's steps."""
    steps = step_features(pool.obs.astype(float), pool.act.astype(float))
    progress = steps[..., -2].copy()
    total = np.concatenate([np.zeros_like(steps[:, :1]), np.cumsum(steps, 1)], 1)

    def clip(i: Array) -> Array:
        x = total[i, c.stop] - total[i, c.start]
        x[:, -2] -= progress[i, c.stop - 1]  # a clip does not show the progress of its own last step
        return x

    return clip(c.first) - clip(c.second)


def choose_first(model: Additive, x: Array, c: Candidates, k: int) -> list[int]:
    """Turns about place, tilt and anything; each two clips are shown at most once."""
    everything = np.ones(len(c), bool)
    turns = [Turn(("place", "tilt", "")[i % 3], everything) for i in range(k)]
    return greedy_information(model, x, turns, c.layout * len(PAIRS) + c.pair)


def choose_later(model: Additive, x: Array, c: Candidates, kind: Array, k: int) -> list[int]:
    """Turns of a later round; `kind [layouts]` is 0 factorial, 1 local, 2 versions. A layout is used at most once.

    The second turn sets the policy's own cup posture against a nearly upright one on the same path: with a cup that is
    already almost upright, it is the question that decides whether that is upright enough. The fourth is about speed,
    whose sum is the length of the path: without it a person who wants the short way is understood too late.
    """
    of, posture_only = kind[c.layout], np.isin(c.pair, [0, 5])
    everything = np.ones(len(c), bool)
    cycle = [
        Turn("place", of == 1),
        Turn("tilt", (of == 1) & posture_only),
        Turn("", of == 2),
        Turn("speed", everything),
        Turn("", of == 2),
    ]
    return greedy_information(model, x, [cycle[i % len(cycle)] for i in range(k)], c.layout)
