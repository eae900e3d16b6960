"""A trunk that nobody has to download: where things are, learned without labels from the videos at hand.

Few convolutions, then a spatial soft-argmax (Finn et al. 2016, arXiv 1509.06113), which also says how far a channel's
evidence spreads and how strong it is. Two such streams look at a frame: one learns to draw all that has an outline,
the other inverse dynamics: from two frames a few steps apart, to tell what was done between them. In one stream the
one task takes what the other needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad

from policies.encoders import Frames, FrozenTrunk, TrunkError, checked, resized

Array = npt.NDArray[Any]
SIDE = 64  # pixels that it looks at
RECIPE = 6  # of the objective: another number, another trunk, whatever was kept of earlier ones
REACH = 3  # frames between which is told what was done
GRID = 16  # blocks across the drawing
AIDED = 0.4  # of the steps in which the stream that is asked what was done learns to draw too, less and less
SHARP = 5.0
CHANNELS = (16, 32, 32, 32)


class SoftArgmax(nn.Module):
    """float [B,3,H,W] in [0,1] -> [B,5*channels]: mean x, mean y, spread x, spread y, and peak of each channel."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip((3, *channels), channels, strict=False)):
            layers += [nn.Conv2d(a, b, 5 if i == 0 else 3, 2 if i < 2 else 1, 2 if i == 0 else 1), nn.ReLU()]
        self.look = nn.Sequential(*layers[:-1])
        # From flat maps, whose means are all the middle of the picture, nothing would be learned for a long time.
        self.sharp = nn.Parameter(torch.full((1, channels[-1], 1, 1), SHARP))

    def forward(self, frames: Tensor) -> Tensor:
        # Of the picture only its contrasts: brighter or paler is the same.
        middle, spread = frames.mean((1, 2, 3), keepdim=True), frames.std((1, 2, 3), keepdim=True)
        return readings(self.look((frames - middle) / spread.clamp_min(1e-3)) * self.sharp)


class Streams(nn.Module):
    """Several side by side (Simonyan and Zisserman 2014, arXiv 1406.2199): float [B,3,H,W] in [0,1] -> what each reads,
    [B,5*channels*streams]."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS, streams: int = 2) -> None:
        super().__init__()
        self.streams = nn.ModuleList(SoftArgmax(channels) for _ in range(streams))

    def forward(self, frames: Tensor) -> Tensor:
        return torch.cat([stream(frames) for stream in self.streams], -1)


def readings(maps: Tensor) -> Tensor:
    """Where the evidence lies: maps [B,C,H,W], unnormalised logs, -> [B,5*C]: of each softmax the mean x and y
    and the spread in x and y, in half widths from the middle (right and down), and the log of the mean, over SHARP.
    """
    height, width = maps.shape[-2:]
    flat = maps.flatten(2)
    share = flat.softmax(-1).unflatten(-1, (height, width))
    found: list[Tensor] = []
    for sums in (share.sum(-2), share.sum(-1)):
        line = torch.linspace(-1, 1, sums.shape[-1], device=maps.device)
        middle = sums @ line
        # The floor keeps the root's slope finite where all of a channel's evidence is in one place.
        found += [middle, (sums @ line.square() - middle.square()).clamp_min(1e-6).sqrt()]
    x, wide, y, high = found
    peak = (flat.logsumexp(-1) - math.log(height * width)) / SHARP
    return torch.cat([x, y, wide, high, peak], -1)


class Drawing(nn.Module):
    """From readings [B,5*C] back to a coarse drawing of the frame's edges, [B,1,GRID,GRID]: what cannot be read cannot
    be drawn. Inverse dynamics need only see what acts; this makes channels look for all that has an outline."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.full((1, channels, 1), math.log(0.1)))
        self.draw = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        x, y, _, _, peak = z.unflatten(-1, (5, -1)).unsqueeze(-1).unbind(1)  # [B,C,1] each
        line, scale = torch.linspace(-1, 1, GRID, device=z.device), 2 * (2 * self.width).exp()
        across, down = (torch.exp(-(line - at).square() / scale) for at in (x, y))
        return self.draw((peak * down)[..., None] * across[..., None, :])


def edges(frames: Tensor) -> Tensor:
    """How much neighbouring pixels differ, in GRID x GRID blocks, standardised: [B,3,H,W] -> [B,1,GRID,GRID]."""
    across, down = (frames.diff(dim=axis).abs().mean(1, keepdim=True) for axis in (3, 2))
    found = adaptive_avg_pool2d(pad(across, (1, 0, 0, 0)) + pad(down, (0, 0, 1, 0)), GRID)
    spread, middle = torch.std_mean(found, (2, 3), keepdim=True)
    return (found - middle) / (spread + 1e-3)


def pretrain(
    frames: Frames | Sequence[Frames],
    act: Array | Sequence[Array] | None = None,
    *,
    steps: int = 1500,
    seed: int = 0,
    batch: int = 32,
    rate: float = 3e-3,
    channels: tuple[int, ...] = CHANNELS,
    device: str = "cpu",
    progress: Callable[[int, float], None] | None = None,
) -> FrozenTrunk:
    """A trunk from videos, uint8 [N,T,H,W,3] or N of [T,H,W,3], and what was done in them, [N,T,A] or N of [T,A].

    act[t] led to frame t, so act[0] is not used. Without actions there is one stream, which draws. Videos of one frame
    tell nothing and are left out. The same seed gives the same weights on the same CPU. device: where it learns, with
    all frames in that memory; the trunk comes back on the CPU. Raises TrunkError for videos that do not fit, ValueError
    for impossible numbers.
    """
    if min(steps, batch) < 1 or not rate > 0 or not channels or min(channels) < 1:
        raise ValueError(f"steps {steps}, batch {batch}, rate {rate}, channels {channels}; give more than 0 of each")
    films, starts, lengths = _films(frames)
    films = films.to(device)
    total = None if act is None else _done(act, lengths).cumsum(0).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, drawing = Streams(channels, 1 if total is None else 2), Drawing(channels[-1])
        aid = None if total is None else Drawing(channels[-1])
        head = None if total is None else _head(10 * channels[-1], total.shape[-1])
    _lay(net, torch.channels_last)  # a seventh faster
    modules = [module.to(device) for module in (net, drawing, aid, head) if module is not None]
    learned = [part for module in modules for part in module.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    rng = np.random.default_rng(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the sums, and so the weights, do not depend on the machine's number of cores
    try:
        for step in range(steps):
            first, gap = (x.to(device) for x in _pairs(starts, lengths, batch, rng))
            gain, offset, order = (x.to(device) for x in _changes(batch, rng))
            seen = torch.cat([_disturbed(films[at], gain, offset, order) for at in (first, first + gap)])
            seen = seen.contiguous(memory_format=torch.channels_last)
            outlines = edges(seen)
            loss = (drawing(net.streams[0](seen)) - outlines).square().mean()
            if total is not None and head is not None and aid is not None:
                z = net.streams[1](seen)
                one, two = z.chunk(2)
                told = head(torch.cat([one, two - one], -1))
                loss = loss + (told - (total[first + gap] - total[first])).square().mean()
                # A stream that sees nothing yet learns nothing from actions, at times for ever: drawing opens it.
                if (left := 1 - step / (AIDED * steps)) > 0:
                    loss = loss + left * (aid(z) - outlines).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if progress is not None:
                progress(step + 1, loss.item())
    finally:
        torch.set_num_threads(threads)
    _lay(net.cpu(), torch.contiguous_format)  # what is saved and loaded rounds the same
    settings = {"kind": "soft-argmax", "channels": list(channels), "streams": len(net.streams)}
    return FrozenTrunk(net, 5 * channels[-1] * len(net.streams), SIDE, settings)


def _lay(net: nn.Module, memory_format: torch.memory_format) -> None:
    for value in net.parameters():
        if value.ndim == 4:
            value.data = value.data.contiguous(memory_format=memory_format)


def _films(frames: Frames | Sequence[Frames]) -> tuple[Tensor, Array, Array]:
    """All frames one after another, uint8 [M,3,SIDE,SIDE]; where each video starts, and how long it is."""
    for i, video in enumerate(frames):
        if checked(video).ndim != 4:
            raise TrunkError(f"video {i} is {list(video.shape)}; give frames [T,H,W,3]")
    lengths = np.array([len(video) for video in frames])
    if not (lengths > 1).any():
        raise TrunkError(f"{len(lengths)} videos, none of more than one frame; give videos in which something moves")
    films = torch.cat([resized(video, SIDE) for video in frames if len(video)])
    return films, np.cumsum(lengths) - lengths, lengths


def _done(act: Array | Sequence[Array], lengths: Array) -> Tensor:
    """What was done at each frame, [M,A], in units of its deviation."""
    if len(act) != len(lengths):
        raise TrunkError(f"{len(lengths)} videos and the actions of {len(act)}; give as many")
    for i, (some, length) in enumerate(zip(act, lengths, strict=True)):
        if np.ndim(some) != 2 or len(some) != length or np.shape(some)[1] != np.shape(act[0])[1]:
            raise TrunkError(
                f"the actions of video {i} are {list(np.shape(some))}, its frames {length}; give [T,A], one A for all"
            )
    every = np.concatenate([np.asarray(some, np.float32) for some in act])
    if not np.isfinite(every).all() or not every.shape[1]:
        raise TrunkError(f"actions {list(every.shape)} hold NaN, infinity or nothing at all; give finite numbers [T,A]")
    return torch.from_numpy((every - every.mean(0)) / np.maximum(every.std(0), 1e-6))


def _pairs(starts: Array, lengths: Array, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Frames of which a later one of the same video is known, and by how many frames it is later, [batch] each."""
    usable = np.flatnonzero(lengths > 1)
    video = rng.choice(usable, batch)
    gap = rng.integers(1, np.minimum(REACH, lengths[video] - 1) + 1)
    first = starts[video] + rng.integers(0, lengths[video] - gap)
    return torch.from_numpy(first), torch.from_numpy(gap)


def _changes(batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """What may change without meaning: gain and offset [batch,1,1,1], and an order of the colours [batch,3]."""
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (batch, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.15, 0.15, (batch, 1, 1, 1)).astype(np.float32))
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(3), (batch, 1)), axis=1))
    return gain, offset, order


def _disturbed(frames: Tensor, gain: Tensor, offset: Tensor, order: Tensor) -> Tensor:
    """uint8 [B,3,H,W] -> float in about [0,1]."""
    mixed = frames.gather(1, order[:, :, None, None].expand_as(frames)).float() / 255
    return mixed * gain + offset


def _head(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, outputs))
