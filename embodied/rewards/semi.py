"""SURF (arXiv 2203.10050): unlabelled pairs the reward is sure about are answered by itself; segments are cropped."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.fit import ranking
from embodied.records import Array
from embodied.rewards.learning import StepReward, refit

Unlabelled = Callable[[int, np.random.Generator], Segments]
"""(n, rng) -> n pairs [n,2,T,*] that nobody was asked about. Deterministic given rng, for exact resume."""


class SemiSupervised:
    """RewardEnsemble or PixelEnsemble, learning also from its own sure opinions of pairs that nobody was asked about.

    In each step of a fit, `ratio` unlabelled pairs come with every labelled one. A member that gives one segment of
    such a pair more than probability `tau` takes that for an answer, at the members' sum and the mean over the pairs,
    times `weight`; what it is unsure about is left out. Opinions are about whole segments, and all learning is on
    `cropped` ones. `tau` is a probability under the logistic loss; another loss has another idea of the scale.

    It differs from SURF where that has segments longer than those shown: here a crop only shortens. The default crop is
    for segments of 50 steps; of a dozen it leaves too little. To an agent and to the loop it is the reward that it is
    made around, and its state is that reward's. Raises ValueError for settings out
    of range, and when `unlabelled` gives something else than the pairs it was asked for.
    """

    def __init__(
        self,
        reward: StepReward,
        unlabelled: Unlabelled,
        *,
        tau: float = 0.95,
        weight: float = 1.0,
        ratio: int = 1,
        crop: int = 5,
    ) -> None:
        if not (0.5 <= tau < 1 and 0 <= weight < math.inf and ratio >= 1 and crop >= 0):
            raise ValueError(
                f"tau {tau}, weight {weight}, ratio {ratio}, crop {crop}; give tau in [.5, 1), weight and crop of at "
                "least 0, ratio of at least 1"
            )
        self.model, self.unlabelled = reward, unlabelled
        self.tau, self.weight, self.ratio, self.crop = tau, weight, ratio, crop

    def fit(self, feedback: Feedback | Sequence[Feedback], rng: np.random.Generator) -> dict[str, float]:
        """As the reward's own, which see; reports besides how many pseudo-labels a member accepted, and their share."""
        model, accepted, asked = self.model, list[float](), list[int]()
        labelled = ranking(lambda s: model.score(cropped(s, self.crop, rng)), model.loss, model.label_model)

        def objective(part: Feedback) -> Tensor:
            pairs = self._draw(self.ratio * len(part), rng)
            gap = torch.diff(model.utilities(pairs)).squeeze(-1)  # [E,n], second - first
            # P > tau, said of the difference: no probability is rounded to 1
            sure = gap.abs() > math.log(self.tau / (1 - self.tau))
            opinion = torch.stack([gap < 0, gap > 0], -1).to(gap.dtype)
            score = model.score(cropped(pairs, self.crop, rng))
            # A loss knows targets [B,K] that the members share; here each has its own, so members become rows.
            losses = model.loss(score.flatten(0, 1), opinion.flatten(0, 1)).reshape(sure.shape)
            asked.append(len(pairs))
            accepted.append(sure.float().mean().item() * len(pairs))
            return labelled(part) + self.weight * torch.where(sure, losses, 0.0).sum(0).mean()

        report = refit(model, feedback, rng, objective)
        share = sum(accepted) / drawn if (drawn := sum(asked)) else math.nan
        return {**report, "pseudo_share": share, "pseudo_labels": sum(accepted)}

    def _draw(self, n: int, rng: np.random.Generator) -> Segments:
        pairs = self.unlabelled(n, rng)
        if pairs.mask.shape[:2] != (n, 2):
            raise ValueError(
                f"unlabelled gave segments {list(pairs.mask.shape)} when asked for {n} pairs; give [{n}, 2, T]"
            )
        return pairs

    def anchor(self, obs: Array, act: Array) -> None:
        self.model.anchor(obs, act)

    def reward(self, obs: Array, act: Array) -> Array:
        return self.model.reward(obs, act)

    def spread(self, obs: Array, act: Array) -> Array:
        return self.model.spread(obs, act)

    def utilities(self, segments: Segments) -> Tensor:
        return self.model.utilities(segments)

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)

    def fingerprint(self) -> str:
        return (
            f"{self.model.fingerprint()}, semi-supervised with tau {self.tau}, weight {self.weight}, ratio "
            f"{self.ratio}, crop {self.crop}"
        )


def cropped(segments: Segments, crop: int, rng: np.random.Generator) -> Segments:
    """The same segments with fewer steps in the mask: 0 to `crop` fewer, as many for all alternatives of a row.

    Each alternative keeps a stretch without gaps that starts anywhere; at least one step stays. Only steps that the
    mask has are counted and kept.
    """
    length = segments.mask.sum(-1).cpu().numpy()  # [B,K]
    fewer = rng.integers(0, np.minimum(crop, length.min(1) - 1), endpoint=True)[:, None]
    start = rng.integers(0, np.broadcast_to(fewer, length.shape), endpoint=True)
    first, after = (torch.from_numpy(x).to(segments.mask.device)[..., None] for x in (start, start + length - fewer))
    step = segments.mask.cumsum(-1) - 1
    return Segments(segments.obs, segments.act, segments.mask & (step >= first) & (step < after), segments.log_prob)
