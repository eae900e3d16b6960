"""Pictures of the sweeping world, many frames at once: every shape is the smooth edge of a distance, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.pixels.nuisance import Look, Nuisance, disturb, draw_look, palette
from envs.pixels.sweep_physics import ANGLE, ARENA, PRONG_HALF, RADIUS, Setup, X, Y
from envs.pixels.sweep_tasks import GOAL, ZONE, Task

Array = npt.NDArray[Any]

VIEW = 1.06  # half the width of what is seen
FLOOR, BAND, SQUARE, OBJECT, BODY = range(5)
OWN = np.array([[238, 236, 229], [170, 212, 172], [240, 176, 150], [52, 104, 192], [72, 72, 80]], np.float64)
SIZES = (16, 1024)
_OUTLINE = 0.018
_STRIPE = 0.125  # of the off-limits square, from one stripe to the next


def look_of(nuisance: Nuisance, frames: int, rng: np.random.Generator) -> tuple[Look, Array]:
    """What is drawn for one video: its look, and its colours [5,3]."""
    return draw_look(nuisance, frames, rng), palette(OWN, nuisance, rng)


def pictures(task: Task, setup: Setup, states: Array, look: tuple[Look, Array], size: int, first: int = 0) -> Array:
    """Frames uint8 [t,size,size,3] of states [t,B,6], which are the frames `first`, `first` + 1, .. of their video."""
    frames, background = draw(task, setup, states, look[1], size)
    return disturb(frames, background, look[0], first)


def draw(task: Task, setup: Setup, states: Array, colours: Array, size: int) -> tuple[Array, Array]:
    """Undisturbed frames uint8 [t,size,size,3], and how much of each pixel is background [t,size,size]."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size is {size}; give from {SIZES[0]} to {SIZES[1]} pixels")
    colours = np.asarray(colours, np.float32)
    pixel = 2 * VIEW / size
    x = (np.arange(size, dtype=np.float32) + 0.5) * pixel - VIEW
    y = -x
    seen, free = _floor(task, colours, x, y, pixel)
    seen, free = (np.repeat(part[None], len(states), 0) for part in (seen, free))

    def lay(share: Array, colour: Array) -> None:
        nonlocal seen, free
        seen += share[..., None] * (colour - seen)
        free *= 1 - share

    for row in range(setup.parts, setup.parts + setup.objects):
        if setup.shape == "round":
            dx, dy = x - states[:, row, X, None], y - states[:, row, Y, None]
            inside = RADIUS - np.sqrt((dx**2)[:, None, :] + (dy**2)[:, :, None])
        else:
            inside = _turned(states[:, row], x, y)
        lay(_soft(inside, pixel), 0.55 * colours[OBJECT])
        lay(_soft(inside - _OUTLINE, pixel), colours[OBJECT])
    halves = [setup.half, PRONG_HALF, PRONG_HALF][: setup.parts]
    for shrink, tint in ((0.0, 0.55), (_OUTLINE, 1.0)):
        share = np.zeros_like(free)
        for row, half in enumerate(halves):
            sides = zip((x, y), (X, Y), half, strict=True)
            across, down = (_soft(h - shrink - np.abs(c - states[:, row, k, None]), pixel) for c, k, h in sides)
            share = np.maximum(share, down[:, :, None] * across[:, None, :])
        lay(share, tint * colours[BODY])
    return np.rint(seen).astype(np.uint8), free


def _soft(inside: Array, pixel: float) -> Array:
    """How much of a pixel lies inside, from how far its middle does."""
    return np.clip(inside / pixel + 0.5, 0, 1).astype(np.float32)


def _floor(task: Task, colours: Array, x: Array, y: Array, pixel: float) -> tuple[Array, Array]:
    """What never moves [size,size,3] and how much of it is background; markings are paint, which textures shine
    through."""
    size = len(x)
    seen = np.broadcast_to(0.6 * colours[FLOOR], (size, size, 3)).astype(np.float32)
    free = np.ones((size, size), np.float32)

    def paint(across: Array, down: Array, colour: Array, cover: float) -> None:
        nonlocal free
        share = down[:, None] * across[None, :]
        seen[...] += share[..., None] * (colour - seen)
        free *= 1 - cover * share

    arena = _soft(ARENA - np.abs(x), pixel)
    paint(arena, _soft(ARENA - np.abs(y), pixel), colours[FLOOR], 0.0)
    paint(arena, _soft(np.minimum(ARENA - y, y - GOAL), pixel), colours[BAND], 0.7)
    if task == "avoiding":
        sides = [_soft(ZONE[2] - np.abs(c - m), pixel) for c, m in ((x, ZONE[0]), (y, ZONE[1]))]
        paint(sides[0], sides[1], colours[SQUARE], 0.7)
        stripe = _soft(_STRIPE / 4 - np.abs((x[None, :] + y[:, None]) % _STRIPE - _STRIPE / 2), pixel)
        stripe = stripe * sides[1][:, None] * sides[0][None, :]
        seen += 0.5 * stripe[..., None] * (0.6 * colours[SQUARE] - seen)
    return seen, free


def _turned(rows: Array, x: Array, y: Array) -> Array:
    """How far each pixel lies inside turned squares, [t,6] -> [t,size,size]."""
    dx = x[None, None, :] - rows[:, X, None, None]
    dy = y[None, :, None] - rows[:, Y, None, None]
    cos, sin = (f(rows[:, ANGLE])[:, None, None] for f in (np.cos, np.sin))
    return np.asarray(RADIUS - np.maximum(np.abs(cos * dx + sin * dy), np.abs(cos * dy - sin * dx)))
