"""What a picture may show besides the task: the view, the light and the company of one video, drawn once for it.

`draw_look` draws, `disturb` applies it to finished frames of any world; nothing here knows what the frames show.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Level = Literal["none", "light", "heavy"]

_COARSE, _FINE = 5, 14  # cells across the two grids of which a texture is made
_PALETTES = 24  # how many are drawn; the one whose colours are furthest apart is taken


@dataclass(frozen=True)
class Nuisance:
    """One field per kind; 0 turns it off."""

    texture: float = 0.0
    """Contrast of a random texture on the background, 0 to 1."""
    colours: float = 0.0
    """0: the world's own colours; 1: any colours."""
    shift: float = 0.0
    """Largest offset of the camera in a video, as a share of the picture's width."""
    jitter: float = 0.0
    """Largest further offset in each frame, likewise."""
    flicker: float = 0.0
    """Largest change of brightness in each frame, as a share."""
    distractors: int = 0
    """Coloured discs that move about, behind everything where the background is known."""
    noise: float = 0.0
    """Standard deviation of each pixel's noise, as a share of full brightness."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.isfinite(value) or value < 0 or (field.name != "distractors" and value > 1):
                raise ValueError(f"{field.name} is {value}; give a number from 0 {'on' if value < 0 else 'to 1'}")


NONE = Nuisance()
LIGHT = Nuisance(texture=0.25, colours=0.3, shift=1 / 64, jitter=0.0, flicker=0.05, distractors=1, noise=0.01)
HEAVY = Nuisance(texture=0.6, colours=1.0, shift=2 / 64, jitter=1 / 64, flicker=0.15, distractors=2, noise=0.03)
LEVELS: dict[Level, Nuisance] = {"none": NONE, "light": LIGHT, "heavy": HEAVY}


def nuisance_of(value: Nuisance | Level) -> Nuisance:
    """A level by its name, or what was given. Raises ValueError for another name."""
    if isinstance(value, Nuisance):
        return value
    if value not in LEVELS:
        raise ValueError(f"nuisance is {value!r}; take one of {', '.join(LEVELS)} or a Nuisance")
    return LEVELS[value]


@dataclass(frozen=True, eq=False)
class Look:
    """All that was drawn for one video of T frames: coarse and fine texture [g,g,3] (levels of 255), offset [T,2]
    (right and down, share of the width), gain [T], D distractors by start [D,2], velocity [D,2] per frame, radius [D]
    (shares of the width) and colour [D,3], the sd of the noise (levels) and its seed."""

    coarse: Array
    fine: Array
    offset: Array
    gain: Array
    start: Array
    velocity: Array
    radius: Array
    colour: Array
    noise: float
    seed: int


def draw_look(nuisance: Nuisance, frames: int, rng: np.random.Generator) -> Look:
    """Draws for a video of so many frames. Every kind has a stream of its own, so turning one on leaves the others."""
    grid, camera, light, company, grain = _streams(rng, 5)
    d = nuisance.distractors
    angle = company.uniform(0, 2 * np.pi, d)
    speed = company.uniform(0.01, 0.04, d)
    return Look(
        coarse=128 * nuisance.texture * grid.uniform(-0.7, 0.7, (_COARSE, _COARSE, 3)),
        fine=128 * nuisance.texture * grid.uniform(-0.4, 0.4, (_FINE, _FINE, 3)),
        offset=nuisance.shift * camera.uniform(-1, 1, 2) + nuisance.jitter * camera.uniform(-1, 1, (frames, 2)),
        gain=1 + nuisance.flicker * light.uniform(-1, 1, frames),
        start=company.uniform(0, 2, (d, 2)),
        velocity=speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1),
        radius=company.uniform(0.04, 0.08, d),
        colour=company.uniform(0, 255, (d, 3)),
        noise=255 * nuisance.noise,
        seed=int(grain.integers(2**63)),
    )


def palette(own: Array, nuisance: Nuisance, rng: np.random.Generator) -> Array:
    """Colours [K,3] of a video, 0 to 255: the world's own ones [K,3], mixed with random ones. What is to be told apart
    stays so: of many drawn palettes the one is taken whose two nearest colours are furthest apart."""
    (rng,) = _streams(rng, 1)
    drawn = rng.uniform(0, 255, (_PALETTES, *own.shape))
    mixed = (1 - nuisance.colours) * own + nuisance.colours * drawn
    apart = np.linalg.norm(mixed[:, :, None] - mixed[:, None], axis=-1) + 1e9 * np.eye(len(own))
    return np.asarray(mixed[apart.min((1, 2)).argmax()])


def disturb(frames: Array, background: Array | None, look: Look, first: int = 0) -> Array:
    """Frames uint8 [t,H,W,3] as this look shows them, which are the frames `first` .. `first + t - 1` of its video.

    background [t,H,W]: how much of each pixel is background, 0 to 1 or bool. Without it there is no texture, and the
    distractors pass in front.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; give uint8 [T,H,W,3]")
    t, height, width = frames.shape[:3]
    if first < 0 or first + t > len(look.gain):
        raise ValueError(f"frames {first} to {first + t - 1} of a look drawn for {len(look.gain)}; draw it for more")
    if background is not None and background.shape != frames.shape[:3]:
        raise ValueError(f"background has shape {background.shape}; the frames need {frames.shape[:3]}")
    at = np.arange(first, first + t)
    seen = frames.transpose(3, 0, 1, 2).astype(np.float32, order="C")  # colours lead: several times faster
    if background is not None and (look.coarse.any() or look.fine.any()):
        grain = _spread(look.coarse, height, width) + _spread(look.fine, height, width)
        seen += background * grain[:, None]
    for k in range(len(look.radius)):
        share = _disc(look, k, at, height, width)
        share = share if background is None else share * background
        seen += share * (look.colour[k].astype(np.float32)[:, None, None, None] - seen)
    if look.offset.any():
        seen = _moved(seen, np.rint(look.offset[at] * width).astype(int))
    seen *= look.gain[at, None, None].astype(np.float32)
    if look.noise:
        for k in range(t):  # a stream for each frame, so that one alone is as in its video
            grain = np.random.default_rng((look.seed, first + k)).standard_normal((3, height, width), np.float32)
            seen[:, k] += np.float32(look.noise) * grain
    np.clip(seen, 0, 255, out=seen)
    return np.ascontiguousarray(np.rint(seen, out=seen).astype(np.uint8).transpose(1, 2, 3, 0))


def _streams(rng: np.random.Generator, n: int) -> list[np.random.Generator]:
    """Streams of their own; unlike spawned ones they depend on the state of `rng` alone, which can be saved."""
    return [np.random.default_rng(seed) for seed in rng.integers(2**63, size=n)]


def _spread(grid: Array, height: int, width: int) -> Array:
    """A grid [g,g,3] spread over the picture [3,H,W], between its points linearly."""
    down, across = _weights(height, len(grid)), _weights(width, len(grid))
    return np.asarray(np.einsum("hg,gkc,wk->chw", down, grid, across, optimize=True), np.float32)


def _weights(n: int, cells: int) -> Array:
    where = np.linspace(0, cells - 1, n)
    return np.maximum(0, 1 - np.abs(where[:, None] - np.arange(cells)))


def _disc(look: Look, k: int, at: Array, height: int, width: int) -> Array:
    """The share [t,H,W] of each pixel that disc k covers; at the picture's edges it turns round."""
    x, y = (1 - np.abs(1 - (look.start[k] + look.velocity[k] * at[:, None]) % 2)).T * width
    y = y * (height / width)
    dx = np.arange(width) + 0.5 - x[:, None]
    dy = np.arange(height) + 0.5 - y[:, None]
    far = np.sqrt((dx**2)[:, None, :] + (dy**2)[:, :, None])
    return np.asarray(np.clip(look.radius[k] * width - far + 0.5, 0, 1), np.float32)


def _moved(frames: Array, offset: Array) -> Array:
    """Frames [3,t,H,W] moved right and down by offset [t,2] pixels; the edges are drawn out."""
    t, height, width = frames.shape[1:]
    across = np.clip(np.arange(width) - offset[:, :1], 0, width - 1)
    down = np.clip(np.arange(height) - offset[:, 1:], 0, height - 1)
    return np.asarray(frames[:, np.arange(t)[:, None, None], down[:, :, None], across[:, None, :]])
