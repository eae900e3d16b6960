"""RAPL: a representation aligned by rankings of videos; the reward is optimal transport to demonstrations in it.

A frozen trunk turns each frame into F features; a small head maps them to D numbers. People rank videos; the head is
trained until transport between videos agrees (Tian et al., arXiv 2310.07932 and 2412.04835). No reward is learned: a
video is worth as much as it is near to demonstrations, W = <P*, C> being the distance (`embodied.transport`).

Two ways to train it. The published one takes the best video of a ranking as an anchor, to which the second has to be
nearer than the third. `align(aim="demos")` adds the likelihood of the ranking under -beta W(video, demonstration): it
trains the very distance that becomes the reward, and is the default, since it gained much more (docs/rapl.md).

Transport ranks whole videos; how it shares a reward among steps says little. Give an agent the sum, or the drop in W
(`videos.gains`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from embodied import transport
from embodied.feedback import Feedback, Segments
from embodied.fit import FitReport, Objective, fit_all, plus, ranking
from embodied.likelihoods import choice
from embodied.losses import Loss, plackett_luce, scaled
from embodied.records import Array
from embodied.scores import Scorer
from embodied.transport import Cost, Gradient
from embodied.videos import Standard, compared, observed, padding, video

Many = Literal["nearest", "mean"]
Aim = Literal["demos", "published"]


@dataclass(frozen=True)
class Matching:
    """How two videos are held against each other, once mapped.

    eps: of the transport: .1 is sharp for the cosine; at 1 the plan is nearly even and time is lost. sweeps: of
    Sinkhorn, with gradients through each: 15 do at .1, a smaller eps needs more in proportion. With implicit gradients
    there are as many as it takes, at most a thousand.
    many: which of several demonstrations counts, the nearest, or all alike.
    """

    eps: float = 0.1
    cost: Cost = "cosine"
    sweeps: int = 15
    gradient: Gradient = "unrolled"
    many: Many = "nearest"

    def __post_init__(self) -> None:
        if not self.eps > 0 or self.sweeps < 1:
            raise ValueError(f"eps {self.eps}, sweeps {self.sweeps}; give eps above 0 and at least one sweep")
        for name, kinds in (("cost", Cost), ("gradient", Gradient), ("many", Many)):
            if (value := getattr(self, name)) not in get_args(kinds):
                raise ValueError(f"no {name} {value!r}; choose {' or '.join(get_args(kinds))}")

    def settings(self) -> dict[str, Any]:
        """Of `transport.plan`."""
        if self.gradient == "implicit":
            return {"eps": self.eps, "gradient": self.gradient}
        return {"eps": self.eps, "sweeps": self.sweeps, "tolerance": 0.0}


class Head(nn.Module):
    """From the F features of a trunk, standardised (`standard.fit`), to D numbers: [...,F] -> [...,D].

    dims: D, at most F; 0 leaves the standardised features as they are, the representation that nobody aligned. hidden:
    widths of ReLU layers before it; none for a linear map from a random orthonormal start, without a bias. With layers
    the biases begin at random too: a frame like the mean of all would be mapped to 0, where a cosine has no gradient
    that is of use.
    """

    def __init__(self, size: int, dims: int = 32, hidden: Sequence[int] = (), seed: int = 0) -> None:
        super().__init__()
        if size < 1 or dims < 0:
            raise ValueError(f"{size} features to {dims} numbers; give at least 1, and 0 for the features themselves")
        draw = torch.Generator().manual_seed(seed)
        self.size, self.dims, self.hidden = size, min(dims, size), tuple(hidden)
        layers: list[nn.Module] = []
        for a, b in pairwise([size, *self.hidden, self.dims] if dims else []):
            linear = nn.Linear(a, b, bias=bool(hidden))
            nn.init.orthogonal_(linear.weight, generator=draw)
            if hidden:
                nn.init.uniform_(linear.bias, -(a**-0.5), a**-0.5, generator=draw)
            layers += [linear, nn.ReLU()]
        self.standard, self.net = Standard(size), nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> Tensor:
        mapped: Tensor = self.net(self.standard(features))
        return mapped


def trainable(head: Head) -> list[nn.Parameter]:
    """What there is to train in it. Raises ValueError for nothing."""
    found = list(head.parameters())
    if not found:
        raise ValueError("the head has 0 dims, the features as they are, so there is nothing to train; give it some")
    return found


class Rapl(nn.Module):
    """A head, demonstrations, and how videos are matched: the distance that is trained, and the reward it becomes.

    demos: features of each, float [S,F]; their lengths may differ. Raises ValueError where there is none, or one that
    does not fit.
    """

    demos: Tensor
    there: Tensor

    def __init__(self, head: Head, demos: Sequence[Array], matching: Matching = Matching()) -> None:
        super().__init__()
        if not demos:
            raise ValueError("no demonstration to be near to; give at least one, a few that are truly best")
        self.head, self.matching = head, matching
        padded, there = padding([video(demo, head.size) for demo in demos])
        self.register_buffer("demos", padded)
        self.register_buffer("there", there)

    def distances(self, features: Tensor, mask: Tensor, which: Tensor | None = None) -> Tensor:
        """W of videos [...,T,F], mask [...,T], to all demonstrations or `which` (int [M]) of them, [...,M]."""
        demos, there = (x if which is None else x[which] for x in (self.demos, self.there))
        return self._between(self.head(features)[..., None, :, :], mask[..., None, :], self.head(demos), there)

    def _between(self, x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        cost = transport.pair_cost(x, y, self.matching.cost)
        return transport.distance(cost, rows=x_mask, columns=y_mask, **self.matching.settings())

    @torch.no_grad()
    def worth(self, features: Tensor, mask: Tensor) -> Tensor:
        """-W to the nearest demonstration, or on average, [...] of videos [...,T,F], mask [...,T]."""
        each = self.distances(features, mask)
        return -(each.min(-1).values if self.matching.many == "nearest" else each.mean(-1))

    def score(self, segments: Segments) -> Tensor:
        """-W of each alternative, [B,K]; without gradient."""
        return self.worth(observed(segments), segments.mask)

    def to_a_demo(self, rng: np.random.Generator) -> Scorer:
        """-W [B,K] to one demonstration, drawn anew at every call: what is trained."""

        def score(segments: Segments) -> Tensor:
            which = torch.tensor([int(rng.integers(len(self.demos)))])
            return -self.distances(observed(segments), segments.mask, which).squeeze(-1)

        return score

    def to_the_best(self, loss: Loss) -> Objective:
        """The published objective: the best of K >= 3 is the anchor, and -W to it has to rank the others. [B]."""

        def objective(feedback: Feedback) -> Tensor:
            segments, k = feedback.segments, feedback.target.shape[1]
            if k < 3:
                raise ValueError(
                    f"the best of {k} leaves nothing to compare: rankings need 3 videos or more; with pairs, align to "
                    "demonstrations"
                )
            order = feedback.target.argsort(stable=True, dim=-1, descending=True)  # [B,K]
            rows = torch.arange(len(order))[:, None]
            mapped, mask = self.head(observed(segments))[rows, order], segments.mask[rows, order]
            score = -self._between(mapped[:, 1:], mask[:, 1:], mapped[:, :1], mask[:, :1])
            target = feedback.target.gather(1, order[:, 1:])
            return loss(score, compared(target) if k == 3 else target)

        return objective

    @torch.no_grad()
    def plans(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Plan and cost of videos [N,T,F], mask [N,T], to every demonstration, each [N,M,T,S]."""
        cost = transport.pair_cost(self.head(features)[:, None], self.head(self.demos), self.matching.cost)
        return transport.plan(cost, rows=mask[:, None], columns=self.there, **self.matching.settings()), cost

    @torch.no_grad()
    def rewards(self, features: Tensor, mask: Tensor) -> Tensor:
        """r_t = -sum over t' of P*[t,t'] C[t,t'], [N,T], in sum -W; of the nearest demonstration, or on average."""
        given, cost = self.plans(features, mask)
        each = -(given * cost).sum(-1)  # [N,M,T]
        if self.matching.many == "mean":
            return each.mean(1)
        nearest = each.sum(-1).argmax(1)
        return each[torch.arange(len(each)), nearest]

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        widths = "-".join(map(str, (self.head.size, *self.head.hidden, self.head.dims)))
        return f"rapl {widths}, {len(self.demos)} demos, {self.matching}"


def align(
    rapl: Rapl,
    data: Feedback | Sequence[Feedback],
    rng: np.random.Generator,
    *,
    aim: Aim = "demos",
    beta: float = 20.0,
    steps: int = 60,
    batch: int = 32,
    rate: float = 5e-3,
    loss: Callable[[Tensor, Tensor], Tensor] = plackett_luce,
    progress: Callable[[int, float], None] | None = None,
) -> FitReport:
    """Trains the head on rankings, pairs or choices of videos, whose observations are features [B,K,T,F].

    steps: enough for a linear head; look at the losses of one with hidden layers, which may need several times as many.
    aim: see the head of this file; with pairs and choices, which leave nothing to anchor, "demos" trains on the
    demonstrations alone. beta: the rationality of whoever answered, in units of 1/W: W is within [0,2], so without it
    no likelihood would move. loss: of rankings and pairs, on scores times beta; `pairwise(saturating)` is the released
    code's 1 - p (pairs, or 3 videos and the published aim). Ties are held as the loss holds them. Raises ValueError for
    other kinds of answers, and for a head that has nothing to train.
    """
    if aim not in ("demos", "published") or not beta > 0:
        raise ValueError(f"aim {aim!r} and beta {beta}; give demos or published, and beta above 0")
    parts: list[tuple[Objective, Feedback]] = []
    for part in [data] if isinstance(data, Feedback) else list(data):
        if part.kind not in ("compare", "rank", "choose"):
            raise ValueError(f"videos are aligned by ranking, comparing or choosing them, not by {part.kind}")
        best = rapl.to_the_best(scaled(loss, beta))
        near = ranking(rapl.to_a_demo(rng), scaled(choice if part.kind == "choose" else loss, beta))
        if aim == "published":
            parts.append((best, part))
        else:
            several = part.kind == "rank" and part.target.shape[1] > 2
            parts.append((plus(near, (1.0, best)) if several else near, part))
    opt = torch.optim.Adam(trainable(rapl.head), lr=rate)
    if rapl.head.hidden:
        opt.register_step_pre_hook(lambda *_: _clip(rapl.head))
    return fit_all(parts, opt, steps=steps, batch=batch, rng=rng, progress=progress)


def _clip(head: Head) -> None:
    """The cosine of a vector near 0 has a gradient in the hundreds, after which no ReLU answers any more. A linear map
    of hundreds of features has no such vector."""
    nn.utils.clip_grad_norm_(head.parameters(), 1.0)


def negative_square(scale: float = 1e4) -> Callable[[Array], Array]:
    """-scale r^2, which the released manipulation code feeds to PPO in place of r <= 0."""
    return lambda reward: -scale * reward**2


def sized(first: Array, size: float = 10.0) -> Callable[[Array], Array]:
    """Rewards divided so that the first episode's, [T], would sum to `size` in absolute value."""
    total = abs(float(np.sum(first)))
    if not (np.isfinite(total) and total > 0):
        raise ValueError(f"the first episode's rewards sum to {total}; scale by one that was paid something")
    return lambda reward: reward * (size / total)
