"""Questions cost time, and not all the same: information for each second, against information for each question.

Clips of one, three or nine steps; somebody watches two steps in a second and skips what is nearly equal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from embodied.costs import skip_probability
from embodied.criteria import expected_information, per_second
from embodied.feedback import Segments
from embodied.planning import expected_features, optimal, scaled_return, uniform_policy
from embodied.queries import best, information_gain, uniform
from embodied.records import Array
from embodied.regret import regret
from embodied.walks import labels, walks
from rapport.survey.asking import MEMBERS, MOVES, NEAR, POOL, SESSIONS, Place
from rapport.survey.posterior import SPREAD, Summary, posterior, summary, together, utility

STEPS = (1, 3, 9)
THINKS, PER_STEP = 2.0, 0.5  # s for each question, for each step of either clip
SKIPS, NEARLY = 0.8, 1.0  # share of skips among equal clips, and the gap in nats over which it falls to a third

By = Literal["uniform", "information", "information per second"]


def seconds_needed(where: Place, by: By, rng: np.random.Generator) -> float:
    """Of somebody's time until the policy is near-optimal; what all sessions took where it never is."""
    made, phi = where.board, expected_features(where.board)
    weights = rng.normal(0, SPREAD, (MEMBERS, phi.shape[-1]))
    asked, first, looks, skipped = list[Summary](), list[Array](), [np.zeros((0, 2))], [np.zeros(0)]
    spent = 0.0
    for k in SESSIONS:
        pairs, seconds = mixed(where, rng)
        seen = summary(pairs, made.gamma)
        value = utility(weights, where.psi, seen)
        diff = value[..., 0] - value[..., 1]
        look = np.stack([np.log1p(np.abs(diff.mean(0))), seconds], 1)
        skip = skip_probability(np.concatenate(looks), np.concatenate(skipped), look)
        per = best(per_second(expected_information, seconds, skip))
        select = {"uniform": uniform, "information": information_gain, "information per second": per}[by]
        chosen = select(diff, k, rng)

        score = -regret(made, where.reward, pairs[chosen])
        said = labels(score, rng)[:, 0].double().numpy()
        silent = rng.random(k) < SKIPS * np.exp(-np.abs(score[:, 0] - score[:, 1]) / NEARLY)
        spent += float(seconds[chosen].sum())
        looks.append(look[chosen])
        skipped.append(silent)
        asked.append(seen[chosen[~silent]])
        first.append(said[~silent])
        weights = posterior(weights, where.psi, together(asked), np.concatenate(first), MOVES, rng)
        if scaled_return(made, optimal(made, phi @ weights.mean(0)).policy(), where.reward) > NEAR:
            break
    return spent


def mixed(where: Place, rng: np.random.Generator) -> tuple[Segments, Array]:
    """A pool of random walks, both clips of a pair equally long, and how long each pair takes, s."""
    pairs = walks(where.board, uniform_policy(where.board), (POOL, 2), max(STEPS), rng)
    shown = torch.from_numpy(np.arange(max(STEPS)) < rng.choice(STEPS, (POOL, 1)))[:, None]
    pairs = replace(pairs, mask=pairs.mask & shown)
    return pairs, THINKS + PER_STEP * pairs.mask.sum((1, 2)).numpy()
