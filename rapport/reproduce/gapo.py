"""GAPO (AnimeReward, arXiv 2504.10044): each pair counts by how far apart its two qualities are, and how high.

The weight is 2^S of the better less 2^S of the worse: nothing for a tie, more for the higher of two equal gaps, and for
a base near 1 the gap itself. Arms are then compared by somebody who errs most in close calls, and by somebody who errs
anywhere: whether weights put more of them in order, and how good the favourite arm is, is printed as it comes out. On
the point mass and on the arm a policy's own episodes, whose quality is their return.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from embodied import methods as m
from embodied.feedback import Feedback
from embodied.label_models import gap_weight
from embodied.records import Array
from rapport.beside import NO_CLAIM, Ground, beside, learned, own_pairs
from rapport.beside_arm import GROUNDS
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.reproduce.daa import minimised, rows

DOMAINS = ("bandit", "point", "arm")
ARMS, PAIRS, DRAWS = 8, 120, 40


def outcome(quality: Array, chance: Array, weighted: bool, rng: np.random.Generator) -> Array:
    """What DPO makes of noisy pairs: the share of pairs of arms in order, and the quality of its favourite.

    `chance` [A,A] is how often the row's arm is said to be better.
    """
    pairs = np.stack([rng.choice(ARMS, 2, replace=False) for _ in range(PAIRS)])
    first = torch.from_numpy((rng.random(PAIRS) < chance[pairs[:, 0], pairs[:, 1]]).astype(float))
    data = rows(torch.from_numpy(pairs), torch.stack([first, 1 - first], -1), torch.ones(PAIRS).double() / PAIRS)
    if weighted:
        data = gap_weight(data, torch.from_numpy(quality[pairs]))
    even = torch.full((ARMS,), 1 / ARMS, dtype=torch.float64)
    found = minimised(m.dpo(1.0), data, even, iterations=30).numpy()
    i, j = np.triu_indices(ARMS, 1)
    return np.array([np.mean((found[i] - found[j]) * (quality[i] - quality[j]) > 0), quality[found.argmax()]])


def gained(seed: int, close_calls: bool) -> Array:
    """Both measures with weights less without, on the same labels."""
    gains = []
    for n in range(DRAWS):
        quality = np.random.default_rng([seed, 50, n]).uniform(0, 1, ARMS)
        gap = quality[:, None] - quality
        wrong = 0.5 * np.exp(-np.abs(gap) / 0.2) if close_calls else np.full_like(gap, 0.25)
        chance = np.where(gap > 0, 1 - wrong, wrong)
        without, weighted = (outcome(quality, chance, w, np.random.default_rng([seed, 51, n])) for w in (False, True))
        gains.append(weighted - without)
    return np.mean(gains, axis=0)


def bandit(seed: int, progress: Progress) -> tuple[list[Mechanism], list[Comparison]]:
    rng = np.random.default_rng([seed, 52])
    quality = torch.from_numpy(rng.uniform(0, 1, (500, 2)))
    data = rows(torch.zeros(500, 2), torch.tensor([[1.0, 0.0]]).expand(500, 2), torch.ones(500).double())
    gap = (quality[:, 0] - quality[:, 1]).abs()
    linear = gap_weight(data, quality, base=1 + 1e-6).weight / np.log1p(1e-6)
    higher = gap_weight(data, quality + 0.5).weight - gap_weight(data, quality).weight
    tied = gap_weight(data, quality[:, :1].expand(500, 2)).weight
    mechanism = [
        Mechanism("base near 1: the weight from the gap", float((linear - gap).abs().max()), 1e-5),
        Mechanism("equal gaps, both higher: least gain of weight", float(higher.min()), 0.0, "at least"),
        Mechanism("a tie's weight", float(tied.max()), 0.0),
    ]
    comparisons = []
    for name, close in (("errors in close calls", True), ("errors anywhere", False)):
        order, best = gained(seed, close)
        paper = "weights help on video"
        comparisons += [
            Comparison(f"{name}: share of arms put in order, gain by weights", (float(order),), paper, NO_CLAIM),
            Comparison(f"{name}: quality of the favourite arm, gain by weights", (float(best),), paper, NO_CLAIM),
        ]
        progress(0.5 if close else 1.0)
    return mechanism, comparisons


def moving(ground: Ground, seed: int, progress: Progress) -> list[Comparison]:
    data = own_pairs(ground, seed)
    total = ground.worth(data.segments.obs.numpy(), data.segments.act.numpy())  # type: ignore[union-attr]
    quality = torch.from_numpy((total - total.min()) / (total.max() - total.min()))
    told: dict[str, Feedback] = {"DPO": data, "DPO, weighted by the gaps in return": gap_weight(data, quality)}
    found = []
    for i, (name, pairs) in enumerate(told.items()):
        found += beside(ground, name, learned(ground, m.dpo(ground.beta), pairs, seed), "claims nothing")
        progress((i + 1) / 2)
    return found


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute."""
    mechanism, comparisons = bandit(seed, lambda share: progress(share * (1 if domain == "bandit" else 0.4)))
    if domain != "bandit":
        comparisons = moving(GROUNDS[domain](seed), seed, lambda share: progress(0.4 + 0.6 * share))
    return mechanism, comparisons
