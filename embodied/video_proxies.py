"""Representations aligned to nobody's preference but to a proxy, from demonstrations alone: what RAPL is held against.

Each trains the head that `Rapl` then matches with; no answer is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from embodied.rapl import Head, trainable
from embodied.records import Array
from embodied.videos import padding, video


def cloned(head: Head, demos: Sequence[Array], acts: Sequence[Array], *, steps: int = 200, rate: float = 5e-3) -> float:
    """Fine-tunes the head so that a linear map of it tells what is done next: behaviour cloning, by squares.

    demos: features [T,F] each, acts [T,A] each: a frame is what its action led to, and the next action is told from it.
    Returns the share of the actions' variance that it explains in the
    end. Raises ValueError for none, actions that are not such or not finite, and where the two differ in length.
    """
    if not demos or [len(d) for d in demos] != [len(a) for a in acts] or min(map(len, demos)) < 2:
        raise ValueError(
            f"demonstrations of {[len(d) for d in demos]} frames, and {[len(a) for a in acts]} actions; give one or "
            "more of at least two frames, and an action for each frame"
        )
    shapes = [list(np.shape(act)) for act in acts]
    if any(len(shape) != 2 or shape[1] < 1 for shape in shapes) or len({shape[1] for shape in shapes}) > 1:
        raise ValueError(f"the actions are {shapes}; give [T,A] each, A the same and at least 1")
    x = torch.cat([video(demo, head.size)[:-1] for demo in demos])
    y = torch.as_tensor(np.concatenate([np.asarray(act, np.float32)[1:] for act in acts]))
    if not torch.isfinite(y).all():
        raise ValueError(f"{int((~torch.isfinite(y)).sum())} of the actions' numbers are not finite; mend or leave out")
    learned = trainable(head)
    y = (y - y.mean(0)) / y.std(0, correction=0).clamp(min=1e-6)
    read = nn.Linear(head.dims, y.shape[1])
    nn.init.zeros_(read.weight)
    nn.init.zeros_(read.bias)
    opt = torch.optim.Adam([*learned, *read.parameters()], lr=rate)
    for _ in range(steps):
        loss = ((read(head(x)) - y) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    return 1 - float(loss.detach() / (y**2).mean())


def cycled(
    head: Head,
    demos: Sequence[Array],
    rng: np.random.Generator,
    *,
    steps: int = 200,
    rate: float = 5e-3,
    temperature: float = 0.1,
    narrow: float = 1e-3,
) -> float:
    """Fine-tunes the head so that a frame's neighbour in another video leads back to it: temporal cycle-consistency.

    Dwibedi et al. (arXiv 1904.07846), cycle-back regression: with beta the softmax of similarity of u's own frames to
    the soft neighbour of frame i in v, and mu, sigma^2 the mean and variance of an index under beta, the loss is
    (i - mu)^2 / sigma^2 + narrow log sigma, here with i in [0,1] and cosine similarity over `temperature`. Returns the
    last loss. Raises ValueError for fewer than two demonstrations, and for ones that do not fit the head.
    """
    if len(demos) < 2:
        raise ValueError(f"{len(demos)} demonstration: a cycle leads through another video; give at least two")
    padded, there = padding([video(demo, head.size) for demo in demos])
    opt = torch.optim.Adam(trainable(head), lr=rate)
    value = 0.0
    for _ in range(steps):
        first, second = rng.choice(len(demos), 2, replace=False)
        u, v = (nn.functional.normalize(head(padded[n][there[n]]), dim=-1) for n in (first, second))
        loss = cycle_back(u, v, temperature, narrow).mean()
        opt.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        opt.step()
        value = float(loss.detach())
    return value


def cycle_back(u: Tensor, v: Tensor, temperature: float, narrow: float) -> Tensor:
    """The loss of each frame of u [T,D] by way of v [S,D], rows of length 1, [T]."""
    neighbour = torch.softmax(u @ v.T / temperature, -1) @ v
    beta = torch.softmax(neighbour @ u.T / temperature, -1)  # [T,T]
    at = torch.linspace(0, 1, len(u), dtype=u.dtype)
    mean = beta @ at
    variance = ((at - mean[:, None]) ** 2 * beta).sum(-1).clamp(min=1e-6)
    return (at - mean) ** 2 / variance + narrow * variance.log() / 2
