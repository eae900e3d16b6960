"""LCPO (later RE-PO, arXiv 2509.24159): whose labels can be trusted is learned with the policy, under any pair loss.

Three annotators are right in 95, 80 and 60 of 100 labels. Where the margins are known, their reliabilities must come
out; where the reward of twelve arms is learned from the same labels, DPO with EM must be nearer the truth than DPO
without; with clean labels little must be lost. On the point mass and on the arm the three label pairs of a
policy's own episodes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from embodied import methods as m
from embodied.direct import direct
from embodied.feedback import Feedback
from embodied.fit import fit
from embodied.label_models import EM
from embodied.losses import logistic, pairwise
from embodied.methods import Method
from policies.table import SoftmaxTable
from rapport.beside import NO_CLAIM, Ground, beside, learned, own_pairs, trusted
from rapport.beside_arm import GROUNDS
from rapport.reproduce import Comparison, Mechanism, Progress
from rapport.reproduce.daa import rows

DOMAINS = ("bandit", "point", "arm")
RELIABLE = torch.tensor([0.95, 0.8, 0.6])
ARMS, KNOWN, LEARNED = 12, 40_000, 12_000


def labelled(data: Feedback, rng: np.random.Generator, reliable: torch.Tensor = RELIABLE) -> Feedback:
    """The same pairs as annotators 0, 1, 2 would answer them, each about a third."""
    who = torch.from_numpy(rng.integers(0, 3, len(data)))
    wrong = torch.from_numpy(rng.random(len(data))) > reliable[who]
    return replace(data, annotator=who, target=torch.where(wrong[:, None], data.target.flip(-1), data.target))


def known_margins(rng: np.random.Generator) -> float:
    """How far the worst of three estimates is from the truth, when the margins are known."""
    margin = torch.from_numpy(rng.normal(1.5, 1.5, KNOWN))
    first = (
        torch.rand(KNOWN, generator=torch.Generator().manual_seed(int(rng.integers(1 << 31)))) < margin.sigmoid()
    ).double()
    truth = rows(torch.zeros(KNOWN, 2), torch.stack([first, 1 - first], -1), torch.ones(KNOWN))
    em = EM()
    em.update(pairwise(logistic), torch.stack([margin, torch.zeros(KNOWN)], -1), labelled(truth, rng))
    return float((em.eta - RELIABLE).abs().max())


def arms(rng: np.random.Generator, reliable: torch.Tensor) -> tuple[Feedback, np.ndarray]:
    """Noisy labels of pairs of arms under Bradley and Terry, and the reward [A] behind them."""
    reward = rng.normal(0, 1.5, ARMS)
    pairs = np.stack([rng.choice(ARMS, 2, replace=False) for _ in range(LEARNED)])
    better = rng.random(LEARNED) < 1 / (1 + np.exp(-(reward[pairs[:, 0]] - reward[pairs[:, 1]])))
    first = torch.from_numpy(better.astype(float))
    data = rows(torch.from_numpy(pairs), torch.stack([first, 1 - first], -1), torch.ones(LEARNED))
    return labelled(data, rng, reliable), reward


def reward_error(data: Feedback, reward: np.ndarray, em: EM | None) -> float:
    """Root mean square error of the reward implied by the policy, both centred."""
    policy = SoftmaxTable(torch.zeros(1, ARMS, dtype=torch.float64))
    method: Method = m.dpo(1.0) if em is None else m.em_preference(m.dpo(1.0), em)
    objective = direct(policy, method)
    opt = torch.optim.Adam(policy.parameters(), lr=0.05)
    rng = np.random.default_rng(0)
    for _ in range(25):
        fit(objective, data, opt, steps=20, batch=1024, rng=rng)
        if em is not None:
            em.update(method.loss, objective.score(data.segments).detach(), data)
    found = policy.logits.detach()[0].numpy()
    return float(np.sqrt((((found - found.mean()) - (reward - reward.mean())) ** 2).mean()))


def bandit(seed: int, progress: Progress) -> list[Mechanism]:
    rng = np.random.default_rng([seed, 20])
    far = known_margins(rng)
    progress(0.1)
    data, reward = arms(rng, RELIABLE)
    em = EM()
    plain, cured = reward_error(data, reward, None), reward_error(data, reward, em)
    progress(0.6)
    clean, truth = arms(rng, torch.ones(3))
    trusted = EM()
    lost = reward_error(clean, truth, trusted) - reward_error(clean, truth, None)
    return [
        Mechanism("known margins: reliability, worst of three", far, 0.05, "at most", FAR),
        Mechanism("error of the reward, share of plain DPO's", cured / plain, 0.8, "at most", SHARE),
        Mechanism(
            "reliability of the three, worst error", float((em.eta - RELIABLE).abs().max()), 0.12, "at most", ETA
        ),
        Mechanism("clean labels: least reliability", float(trusted.eta.min()), 0.9, "at least", CLEAN),
        Mechanism("clean labels: error that EM adds", lost, 0.25, "at most", LOST),
    ]


# Mean and sd of the development seeds 1000 to 1009.
FAR, SHARE, ETA = (0.0088, 0.0044), (0.234, 0.119), (0.0243, 0.0135)
CLEAN, LOST = (0.9764, 0.0089), (0.0571, 0.0241)


def moving(ground: Ground, seed: int, progress: Progress) -> list[Comparison]:
    data = labelled(own_pairs(ground, seed), np.random.default_rng([seed, 21]))
    method, paper = m.dpo(ground.beta), "up to 7 points on language models"
    plain = learned(ground, method, data, seed)
    progress(0.4)
    cured, em = trusted(ground, method, data, seed)
    return [
        *beside(ground, "labels of three, DPO", plain, paper),
        *beside(ground, "labels of three, DPO with EM", cured, paper),
        *(
            Comparison(f"reliability found for one right in {right:.2f}", (float(eta),), f"{right:.2f}", NO_CLAIM)
            for right, eta in zip(RELIABLE, em.eta, strict=True)
        ),
    ]


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute."""
    checks = bandit(seed, lambda share: progress(share * (1 if domain == "bandit" else 0.5)))
    if domain == "bandit":
        return checks, []
    return checks, moving(GROUNDS[domain](seed), seed, lambda share: progress(0.5 + share / 2))
