"""Scripted behaviour in the sweeping world, from good to hopeless, and films of it: nobody has to act to be filmed.

A script is a generator: it is sent states of the physics and gives actions. Each is clumsy in its own degree: its aims
are off, it idles, it is slow. So the videos of one script differ in what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.pixels.films import Films
from envs.pixels.nuisance import Level, Nuisance, nuisance_of
from envs.pixels.sweep_draw import look_of, pictures
from envs.pixels.sweep_physics import (
    ARENA,
    HALF_THICK,
    PRONG_HALF,
    PRONG_UP,
    RADIUS,
    STRIDE,
    Body,
    Setup,
    Shape,
    X,
    Y,
    advance,
)
from envs.pixels.sweep_tasks import TOP, WIDTH, ZONE, Starts, Task, observe, rewards, setup_of, start, success

Array = npt.NDArray[Any]
Act = Generator[Array, Array, None]
Script = Callable[[Setup, Array, int, np.random.Generator], Act]
Aim = Callable[[Array], tuple[float, float]]

_NEAR = 0.02  # an aim is reached
_CLEAR = 0.04  # room left beside an object


def films(
    task: Task,
    body: Body,
    n: int,
    rng: np.random.Generator,
    *,
    nuisance: Nuisance | Level = "none",
    size: int = 64,
    steps: int = 20,
    starts: Starts = "wide",
    shape: Shape = "round",
    scripts: Sequence[str] | None = None,
) -> Films:
    """n videos of `steps` frames, each by a script drawn from those of the task (names in SCRIPTS; all by default),
    with a look drawn from the nuisance. Raises ValueError for n < 1 and for an unknown script."""
    if n < 1:
        raise ValueError(f"n is {n}; ask for at least 1 video")
    known = SCRIPTS.get(task, {})
    setup, kinds, nuisance = setup_of(task, body, shape), list(scripts or known), nuisance_of(nuisance)
    if unknown := [kind for kind in kinds if kind not in known]:
        raise ValueError(f"script is {unknown[0]!r}; for {task} there are {', '.join(known)}")
    states = np.zeros((n, steps + 1, setup.parts + setup.objects, 6))
    act = np.zeros((n, steps, setup.actions), np.float32)
    frames = np.zeros((n, steps, size, size, 3), np.uint8)
    for i, seed in enumerate(rng.integers(2**63, size=n)):
        own = np.random.default_rng(seed)
        states[i, 0] = start(task, setup, starts, own)
        script = known[kinds[own.integers(len(kinds))]](setup, states[i, 0], steps, own)
        act[i], states[i, 1:] = played(setup, states[i, 0], script, steps)
        frames[i] = pictures(task, setup, states[i, 1:], look_of(nuisance, steps + 1, own), size, 1)
    told = observe(task, setup, states, np.arange(steps + 1), steps)[:, 1:]
    whole = states[:, 1:]
    return Films(frames, act, told, rewards(task, setup, whole), success(task, setup, whole))


def played(setup: Setup, state: Array, script: Act, steps: int) -> tuple[Array, Array]:
    """Actions [T,A] of a script from a state [B,6], and the states [T,B,6] they led to. A script that ends rests."""
    acts, states = np.zeros((steps, setup.actions), np.float32), np.zeros((steps, *state.shape))
    next(script)
    for t in range(steps):
        try:
            acts[t] = np.clip(script.send(state), -1, 1)
        except StopIteration:
            acts[t] = 0
        state = states[t] = advance(setup, state, acts[t])
    return acts, states


def visiting(setup: Setup, aims: Sequence[Aim], speed: float = 1.0, close_at: int = 10**9) -> Act:
    """Goes to one aim after the other; each is worked out anew from every state. A gripper stays open until step
    `close_at`. An aim that has not been reached in `patience` steps (walls, objects in the way) is given up."""
    patience, state, t = 12, (yield np.zeros(0)), 0
    for aim in aims:
        for _ in range(patience):
            way = np.array(aim(state)) - state[0, :2]
            if np.abs(way).max() < _NEAR:
                break
            move = way * min(1.0, speed * STRIDE / np.abs(way).max()) / STRIDE
            state = yield np.append(move, 1.0 if t >= close_at else -1.0)[: setup.actions]
            t += 1


def _fixed(aim: Aim) -> Aim:
    """The aim as it was when it was first asked for: what is pushed does not move its own aim."""
    kept: list[tuple[float, float]] = []

    def asked(state: Array) -> tuple[float, float]:
        if not kept:
            kept.append(aim(state))
        return kept[0]

    return asked


def _clumsy(setup: Setup, aims: Sequence[Aim], steps: int, rng: np.random.Generator) -> Act:
    """The aims, missed by a little or by much, after some idling, at some speed."""
    miss = rng.choice([0.0, 0.01, 0.06]) * rng.normal(size=(len(aims), 2))
    idle = int(rng.choice([0, 0, 1, 2]))

    def missed(aim: Aim, by: Array) -> Aim:
        return lambda state: (aim(state)[0] + by[0], aim(state)[1] + by[1])

    inner = visiting(
        setup,
        [missed(_fixed(aim), by) for aim, by in zip(aims, miss, strict=True)],
        rng.uniform(0.8, 1.0),
        int(rng.integers(2 * steps)),
    )
    state = yield next(inner)
    for _ in range(idle):
        state = yield np.zeros(setup.actions)
    while True:
        try:
            state = yield inner.send(state)
        except StopIteration:
            return


def _reach_up(setup: Setup) -> float:
    """From the bar's middle to the foremost point of the body."""
    return HALF_THICK if setup.parts == 1 else PRONG_UP + PRONG_HALF[1]


def _under(setup: Setup, which: slice = slice(None)) -> Aim:
    """Below the middle of some objects, clear of all."""

    def aim(state: Array) -> tuple[float, float]:
        objects = state[setup.parts :]
        return objects[which, X].mean(), objects[:, Y].min() - RADIUS - _reach_up(setup) - _CLEAR

    return aim


def _beside(setup: Setup, k: int, side: int, low: bool) -> Aim:
    """Left (-1) or right (1) of object k, or below that place: what pushes is the side of a stick or prong."""

    def aim(state: Array) -> tuple[float, float]:
        x = state[setup.parts + k, X] + side * (RADIUS + setup.half[0] + _CLEAR)
        up = state[setup.parts + k, Y] - (PRONG_UP if setup.parts == 3 else 0.0)
        return x, _under(setup)(state)[1] if low else up

    return aim


def _across(x: Callable[[Array], float]) -> Aim:
    """To the side only, from wherever the body is."""
    return lambda state: (x(state), state[0, Y])


def _upwards(height: float = TOP) -> Aim:
    """Up, so that an object on the bar comes to lie at this height."""
    return lambda state: (state[0, X], height + 0.02 - RADIUS - HALF_THICK)


def _down(setup: Setup) -> Aim:
    return lambda state: (state[0, X], _under(setup)(state)[1])


def _room(setup: Setup, state: Array, k: int, side: int) -> bool:
    """Whether the body finds room between object k and the wall."""
    return abs(_beside(setup, k, side, False)(state)[0] + side * setup.half[0]) < ARENA


def together(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """One object is pushed to the other, then both upwards."""
    x = state[setup.parts :, X]
    sides = [side for side in (-1, 1) if _room(setup, state, int((side * x).argmax()), side)] or [-1, 1]
    side = int(rng.choice(sides))
    near, far = int((side * x).argmax()), int((side * x).argmin())
    stop = lambda s: s[setup.parts + far, X] + side * (3 * RADIUS + setup.half[0] - 0.01)  # noqa: E731
    aims = [
        _beside(setup, near, side, True),
        _beside(setup, near, side, False),
        _across(stop),
        _down(setup),
        _under(setup),
        _upwards(TOP + rng.uniform(-0.1, 0.2)),
    ]
    return _clumsy(setup, aims, steps, rng)


def one_by_one(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """Every object upwards by itself."""
    aims: list[Aim] = []
    for k in rng.permutation(setup.objects):
        aims += [_under(setup, slice(k, k + 1)), _upwards(TOP + rng.uniform(-0.1, 0.2)), _lower(-0.8)]
    return _clumsy(setup, aims, steps, rng)


def _lower(height: float) -> Aim:
    return lambda state: (state[0, X], height)


def straight(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """All objects at once upwards, the shortest way."""
    return _clumsy(setup, [_under(setup), _upwards(TOP + rng.uniform(-0.2, 0.2))], steps, rng)


def around(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """The object to the side first, by enough or too little, then upwards."""
    x = float(state[setup.parts, X])
    sides = [side for side in (-1, 1) if _room(setup, state, 0, -side)] or [-1, 1]
    side = int(rng.choice(sides, p=None if len(sides) == 1 else (0.8, 0.2) if x < 0 else (0.2, 0.8)))
    goal = side * (ZONE[2] + RADIUS + rng.uniform(-0.1, 0.2))
    if side * (goal - x) <= 0:  # it lies there already
        return straight(setup, state, steps, rng)
    aims = [
        _beside(setup, 0, -side, True),
        _beside(setup, 0, -side, False),
        _across(lambda s: goal - side * (RADIUS + setup.half[0])),
        _down(setup),
        _under(setup),
        _upwards(TOP + rng.uniform(-0.1, 0.2)),
    ]
    return _clumsy(setup, aims, steps, rng)


def wander(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """From one place to another, for no reason."""
    places = rng.uniform([-0.7, -0.8], [0.7, 0.6], (steps, 2)).tolist()
    return _clumsy(setup, [_at(x, y) for x, y in places], steps, rng)


def _at(x: float, y: float) -> Aim:
    return lambda state: (x, y)


def sweeping(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """Over the whole width once to three times, evenly."""
    return _tracing(setup, state, _crossing(steps, rng) * WIDTH, rng)


def hurrying(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """Over the whole width, but longer in some places than in others."""
    u = (_crossing(steps, rng) + 1) / 2
    power = np.exp(rng.uniform(0.3, 1.2) * rng.choice([-1, 1]))
    return _tracing(setup, state, (2 * u**power - 1) * WIDTH, rng)


def partly(setup: Setup, state: Array, steps: int, rng: np.random.Generator) -> Act:
    """Over a part of the width."""
    middle, half = rng.uniform(-0.5, 0.5), rng.uniform(0.0, 0.6)
    return _tracing(setup, state, np.clip(middle + half * _crossing(steps, rng), -0.8, 0.8), rng)


def _crossing(steps: int, rng: np.random.Generator) -> Array:
    """Positions [T] within +-1, to and fro at an even pace, from either side."""
    phase = rng.integers(1, 4) * np.linspace(0, 1, steps)
    return rng.choice([-1, 1]) * (2 * np.abs((phase + 1) % 2 - 1) - 1)


def _tracing(setup: Setup, state: Array, x: Array, rng: np.random.Generator) -> Act:
    """Follows positions x [T] as fast as it can, at a height that drifts."""
    x = x + rng.choice([0.0, 0.03, 0.1]) * rng.normal(size=len(x))
    y = rng.uniform(-0.7, 0.3) + rng.uniform(0, 0.3) * np.sin(rng.uniform(0, 6) + np.linspace(0, 6, len(x)))
    grip = rng.choice([-1.0, 0.0, 1.0])
    state = yield np.zeros(0)
    for aim in zip(x, y, strict=True):
        state = yield np.append((np.array(aim) - state[0, :2]) / STRIDE, grip)[: setup.actions]


SCRIPTS: dict[str, dict[str, Script]] = {
    "avoiding": {"around": around, "straight": straight, "wander": wander},
    "grouping": {"together": together, "one by one": one_by_one, "straight": straight, "wander": wander},
    "covering": {"sweeping": sweeping, "hurrying": hurrying, "partly": partly, "wander": wander},
}
