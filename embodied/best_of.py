"""Best of n: draw several, keep the best. No training, and what training by rewards is measured against."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Segments
from embodied.online import Judge, Sample, collect


def best_of(contexts: Any, sample: Sample, reward: Judge, n: int, rng: np.random.Generator) -> Segments:
    """The best of n samples from each context, [B,1,T]; of equal ones the first. Raises ValueError as `collect` does.

    Its log_prob is of the sampler, not of this choice.
    """
    drawn = collect(contexts, sample, reward, n, rng)
    chosen, segments = drawn.target.argmax(1), drawn.segments
    rows = torch.arange(len(segments), device=chosen.device)

    def pick(x: Tensor) -> Tensor:
        return x if x.shape[1] == 1 else x[rows, chosen].unsqueeze(1)  # what is shared stays

    obs = {name: pick(x) for name, x in segments.obs.items()} if isinstance(segments.obs, dict) else pick(segments.obs)
    return Segments(obs, pick(segments.act), pick(segments.mask), pick(segments.log_prob))


def best_of_law(law: Tensor, reward: Tensor, n: int) -> Tensor:
    """With what chance each of A actions is the best of n drawn from `law` [...,A], whose rewards are [...,A].

    F^n - F_below^n, F the chance of a reward no higher; equal rewards share it by their chance under the law. n rounds
    of imitating the best of k are the best of k^n. Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; give at least 1 sample")
    reward = reward.expand(law.shape)
    up_to = (law.unsqueeze(-2) * (reward.unsqueeze(-2) <= reward.unsqueeze(-1))).sum(-1)
    tied = (law.unsqueeze(-2) * (reward.unsqueeze(-2) == reward.unsqueeze(-1))).sum(-1)
    share = torch.where(tied > 0, law / tied.clamp(min=torch.finfo(law.dtype).tiny), 0.0)
    return share * (up_to**n - (up_to - tied).clamp(min=0) ** n)


def best_of_kl(n: int) -> float:
    """log n - (n-1)/n nats: KL(best of n, sampler), exact where no two rewards are equal, else at most that
    (arXiv 2401.01879)."""
    if n < 1:
        raise ValueError(f"n is {n}; give at least 1 sample")
    return math.log(n) - (n - 1) / n
