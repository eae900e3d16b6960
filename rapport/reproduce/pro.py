"""PRO (arXiv 2306.17492): rankings of any length, in which the gaps in reward are the temperatures.

For two answers it is DPO without a reference on mean log-probabilities, whose beta is the gap; shifting rewards
changes nothing, shifting scores does for three and more; and from lists of four arms with their rewards a policy must
put the arms in order. Beside it Plackett-Luce, which hears the order alone, where the rewards are noisy and their gaps
uneven. On the point mass and on the arm four episodes of a policy from each start.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from embodied import methods as m
from embodied.feedback import all_pairs
from embodied.losses import logistic, pairwise, plackett_luce, pro_ranking
from embodied.methods import Method
from embodied.records import Array
from embodied.scores import mean_log_prob
from rapport.beside import NO_CLAIM, PAIRS, Ground, beside, feedback, learned, own_episodes
from rapport.beside_arm import GROUNDS
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.reproduce.daa import minimised, rows

DOMAINS = ("bandit", "point", "arm")
ARMS, LISTS, DRAWS = 6, 60, 8
RANKED = Method("rankings", mean_log_prob, plackett_luce, reference=False)


def out_of_order(method: Method, reward: Array, noise: float, rng: np.random.Generator) -> float:
    """The share of pairs of arms that the policy puts in the wrong order, from noisy rewards of lists of four."""
    shown = rng.permuted(np.tile(np.arange(ARMS), (LISTS, 1)), axis=1)[:, :4]
    seen = reward[shown] + rng.normal(0, noise, shown.shape)
    data = rows(torch.from_numpy(shown), torch.from_numpy(seen), torch.full((LISTS,), 1 / LISTS))
    found = minimised(method, data, torch.full((ARMS,), 1 / ARMS, dtype=torch.float64), iterations=100).numpy()
    i, j = np.triu_indices(ARMS, 1)
    return float(np.mean((found[i] - found[j]) * (reward[i] - reward[j]) < 0))


def uneven(spread: float, rng: np.random.Generator) -> Array:
    """Rewards of arms with gaps of mean 1, alike for spread 0, the more uneven the larger it is."""
    gaps = np.exp(rng.normal(0, spread, ARMS - 1))
    return rng.permutation(np.concatenate([[0.0], np.cumsum(gaps / gaps.mean())]))


def bandit(seed: int, progress: Progress) -> tuple[list[Mechanism], list[Comparison]]:
    rng = np.random.default_rng([seed, 40])
    score = torch.from_numpy(rng.normal(0, 2, (200, 4)))
    reward = torch.from_numpy(rng.normal(0, 1, (200, 4)))
    two = pro_ranking(score[:, :2], reward[:, :2])
    gap = (reward[:, :1] - reward[:, 1:2]).abs()
    hard = (torch.stack([reward[:, 0] > reward[:, 1], reward[:, 1] > reward[:, 0]], -1)).double()
    shifted = (pro_ranking(score, reward + 7) - pro_ranking(score, reward)).abs().max()
    moved = (pro_ranking(score + 1, reward) - pro_ranking(score, reward)).abs().mean()
    golden = pro_ranking(
        torch.tensor([[-1.0, -1.2, -0.8, -2.0]], dtype=torch.float64),
        torch.tensor([[2, 1.2, 0.3, -1]], dtype=torch.float64),
    )
    plain = [out_of_order(m.pro(0.0), uneven(0.5, rng), 0.0, rng) for _ in range(DRAWS)]
    mechanism = [
        Mechanism(
            "two: from DPO whose beta is the gap",
            float((two - pairwise(logistic)(gap * score[:, :2], hard)).abs().max()),
            1e-8,  # softplus is linear from 20 on
        ),
        Mechanism("four: from the golden number", abs(float(golden) - 4.900869165), 1e-8),
        Mechanism("rewards shifted: change of the loss", float(shifted), 1e-9),
        Mechanism("scores shifted by 1: mean change of the loss", float(moved), 0.1, "at least", MOVED),
        Mechanism("arms out of order, rewards without noise", float(np.mean(plain)), 0.15, "at most", ORDER),
    ]
    comparisons = []
    for i, spread in enumerate((0.0, 1.0, 2.0)):
        draws = [uneven(spread, rng) for _ in range(DRAWS)]
        wrong = {
            method.name: [
                out_of_order(method, reward, 1.5, np.random.default_rng([seed, 41, n]))
                for n, reward in enumerate(draws)
            ]
            for method in (m.pro(0.0), RANKED)
        }
        less = np.mean(wrong["rankings"]) - np.mean(wrong["pro"])
        name = f"noisy rewards, unevenness {spread:g}: order wrong, Plackett-Luce less PRO"
        comparisons.append(Comparison(name, (float(less),), "PRO is ahead on language models", NO_CLAIM))
        progress((i + 1) / 3)
    return mechanism, comparisons


# Mean and sd of the development seeds 1000 to 1009.
MOVED, ORDER = (0.497, 0.043), (0.0, 0.0)


def moving(ground: Ground, seed: int, progress: Progress) -> list[Comparison]:
    obs, act = own_episodes(ground, PAIRS // 4, 4, np.random.default_rng([seed, 42]))
    total = ground.worth(obs, act)
    data = feedback(obs, act, (total - total.mean()) / total.std())
    progress(0.2)
    tried = {
        "PRO": (m.pro(0.05), data),
        "PRO, its likelihood 1": (m.pro(1.0), data),
        "rankings against a reference": (m.rankings(ground.beta), data),
        "DPO on all their pairs": (m.dpo(ground.beta), all_pairs(data)),
    }
    found = []
    for i, (name, (method, told)) in enumerate(tried.items()):
        found += beside(ground, name, learned(ground, method, told, seed), "claims nothing")
        progress(0.2 + 0.2 * (i + 1))
    return found


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute."""
    mechanism, comparisons = bandit(seed, lambda share: progress(share * (1 if domain == "bandit" else 0.3)))
    if domain != "bandit":
        comparisons = moving(GROUNDS[domain](seed), seed, lambda share: progress(0.3 + 0.7 * share))
    return mechanism, comparisons
