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
_OUTLINE, _DARK = 0.018, 0.55  # how wide, and its share of the colour
_COVER = 0.7  # of painted markings
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
    tints = np.asarray(colours, np.float32)[
        ..., None, None, None
    ]  # [5,3,1,1,1]: colours lead, which is several times faster
    pixel = 2 * VIEW / size
    x = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(pixel) - np.float32(VIEW)
    y = -x
    at = states[..., : ANGLE + 1].astype(np.float32)
    seen, free = (np.repeat(part, len(states), -3) for part in _floor(task, tints, x, y, pixel))
    for row in range(setup.parts, setup.parts + setup.objects):
        if setup.shape == "round":
            dx, dy = x - at[:, row, X, None], y - at[:, row, Y, None]
            inside = RADIUS - np.sqrt((dx**2)[:, None, :] + (dy**2)[:, :, None])
        else:
            inside = _turned(at[:, row], x, y)
        _lay(seen, free, _soft(inside, pixel), _DARK * tints[OBJECT])
        _lay(seen, free, _soft(inside - _OUTLINE, pixel), tints[OBJECT])
    halves = [setup.half, PRONG_HALF, PRONG_HALF][: setup.parts]
    for shrink, tint in ((0.0, _DARK), (_OUTLINE, 1.0)):
        share = np.zeros_like(free)
        for row, half in enumerate(halves):
            sides = zip((x, y), (X, Y), half, strict=True)
            across, down = (_soft(h - shrink - np.abs(c - at[:, row, k, None]), pixel) for c, k, h in sides)
            np.maximum(share, down[:, :, None] * across[:, None, :], out=share)
        _lay(seen, free, share, tint * tints[BODY])
    return np.ascontiguousarray(np.rint(seen, out=seen).astype(np.uint8).transpose(1, 2, 3, 0)), free


def _lay(seen: Array, free: Array, share: Array, colour: Array) -> None:
    """Puts a colour [3,1,1,1] over frames [3,t,size,size], as far as its share [t,size,size] of each pixel goes."""
    seen += share * (colour - seen)
    free *= 1 - share


def _soft(inside: Array, pixel: float) -> Array:
    """How much of a pixel lies inside, from how far its middle does."""
    return np.clip(inside * np.float32(1 / pixel) + np.float32(0.5), 0, 1).astype(np.float32, copy=False)


def _floor(task: Task, tints: Array, x: Array, y: Array, pixel: float) -> tuple[Array, Array]:
    """What never moves [3,1,size,size] and how much of it is background [1,size,size]; markings are paint, which
    textures shine through."""
    size = len(x)
    seen = np.empty((3, 1, size, size), np.float32)
    seen[:] = 0.6 * tints[FLOOR]
    free = np.ones((1, size, size), np.float32)
    ends = _soft(ARENA - np.abs(x), pixel)
    seen += ends[:, None] * ends * (tints[FLOOR] - seen)
    painted = [(ends, _soft(np.minimum(ARENA - y, y - GOAL), pixel), BAND)]
    if task == "avoiding":
        sides = [_soft(ZONE[2] - np.abs(c - m), pixel) for c, m in ((x, ZONE[0]), (y, ZONE[1]))]
        painted.append((sides[0], sides[1], SQUARE))
    for across, down, which in painted:
        share = down[:, None] * across
        seen += share * (tints[which] - seen)
        free *= 1 - _COVER * share
    if task == "avoiding":
        stripe = _soft(_STRIPE / 4 - np.abs((x + y[:, None]) % _STRIPE - _STRIPE / 2), pixel) * share
        seen += 0.5 * stripe * (_DARK * tints[SQUARE] - seen)
    return seen, free


def _turned(rows: Array, x: Array, y: Array) -> Array:
    """How far each pixel lies inside turned squares, [t,6] -> [t,size,size]."""
    dx = x[None, None, :] - rows[:, X, None, None]
    dy = y[None, :, None] - rows[:, Y, None, None]
    cos, sin = (f(rows[:, ANGLE])[:, None, None] for f in (np.cos, np.sin))
    return np.asarray(RADIUS - np.maximum(np.abs(cos * dx + sin * dy), np.abs(cos * dy - sin * dx)))
