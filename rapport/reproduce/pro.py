"""PRO (arXiv 2306.17492): rankings of any length, in which the gaps in reward are the temperatures.

For two answers it is DPO without a reference on mean log-probabilities, whose beta is the gap; shifting rewards
changes nothing, shifting scores does for three and more; and from lists of four arms with their rewards a policy must
put the arms in order. Beside it Plackett-Luce, which hears the order alone, where the rewards are noisy and their gaps
uneven. On the point mass and on the arm four episodes of a policy from each start; on texts four answers of the tutor,
a language model, with their true worths.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from embodied import methods as m
from embodied.direct import direct
from embodied.feedback import Feedback, all_pairs
from embodied.losses import logistic, pairwise, plackett_luce, pro_ranking
from embodied.methods import Method
from embodied.records import Array
from embodied.scores import mean_log_prob
from rapport.beside import NO_CLAIM, PAIRS, Ground, beside, feedback, learned, own_episodes
from rapport.beside_arm import GROUNDS
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.reproduce.daa import minimised, rows

if TYPE_CHECKING:  # language models need the extra `lm`, the other domains do not
    from rapport.tutoring import Tutor

DOMAINS = ("bandit", "point", "arm", "tutor")
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


# --- where a language model answers

K = 4  # answers to each question


def ranked(world: Tutor) -> Feedback:
    """K answers to each question, with their true worths as targets."""
    from rapport import tutoring as t

    lists = t.compared(world, k=K, questions=t.ASKED // 2)
    return replace(lists, target=t.gold(lists.segments), kind="reward")


def identities(world: Tutor, data: Feedback) -> tuple[float, float]:
    """How far PRO's losses of pairs a point apart are from SimPO's without a margin, beta 1; and how far those of lists
    are from what they are when each question pays up to 100 more or less to all of its answers."""
    from rapport import tutoring as t

    pairs = data[:256].segments
    pairs = replace(pairs, act=pairs.act[:, :2], mask=pairs.mask[:, :2], log_prob=pairs.log_prob[:, :2])
    unit = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(len(pairs), 2)
    two = replace(data[:256], segments=pairs, target=unit)
    part = data[:64]
    paid = replace(part, target=t.paid(world, 100.0)(part.segments))
    with torch.no_grad():
        ours, theirs = (direct(world.before, method)(two) for method in (m.pro(0.0), m.simpo(1.0, 0.0)))
        plain, more = (direct(world.before, m.pro())(told) for told in (part, paid))
    return float((ours - theirs).abs().max()), float((plain - more).abs().max())


def texts(seed: int, full: bool, progress: Progress, out: Path) -> tuple[list[Mechanism], list[Comparison]]:
    """PRO, and PRO on worths turned round; in full what hears the order alone, or pairs."""
    from rapport import tutoring as t

    world = t.tutoring(seed)
    data = ranked(world)
    simpo, paid = identities(world, data)
    wrong = "PRO, worths turned round"
    told = {"PRO": (m.pro(), data), wrong: (m.pro(), t.turned(data))}
    if full:
        told |= {
            "PRO, its likelihood 1": (m.pro(1.0), data),
            "Plackett-Luce on means": (RANKED, data),
            "rankings against a reference": (m.rankings(t.BETA), data),
            "DPO on all their pairs": (m.dpo(t.BETA), all_pairs(data)),
        }
    found = {"before": world.measured(world.before)}
    for name in t.tick(told, progress):
        found[name] = world.measured(t.learned(world, *told[name]))
    comparisons = [x for name in told if name != wrong for x in t.beside(name, found[name])]
    if full:
        gap = found["PRO"].share.value - found["Plackett-Luce on means"].share.value
        comparisons.append(
            Comparison("share of PRO less Plackett-Luce's", (gap,), "PRO is ahead on language models", (0.0, np.inf))
        )
    t.table(found, out)
    return [
        Mechanism("pairs a point apart: from SimPO, beta 1 and no margin", simpo, 1e-5),
        Mechanism("lists: change of the loss by what questions pay to all", paid, 1e-4),
        Mechanism("PRO: share of the possible gain", found["PRO"].share.value, 0.2, "at least", SHARE),
        Mechanism("PRO on worths turned round: the same", found[wrong].share.value, 0.0, "at most", NONE),
    ], comparisons


# Mean and sd of the development seeds 1000 to 1009.
SHARE, NONE = (0.701, 0.061), (-0.618, 0.040)


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute; on texts in full two."""
    if domain == "tutor":
        return texts(seed, full, progress, out)
    mechanism, comparisons = bandit(seed, lambda share: progress(share * (1 if domain == "bandit" else 0.3)))
    if domain != "bandit":
        comparisons = moving(GROUNDS[domain](seed), seed, lambda share: progress(0.3 + 0.7 * share))
    return mechanism, comparisons
