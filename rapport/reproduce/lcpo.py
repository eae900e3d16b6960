"""LCPO (later RE-PO, arXiv 2509.24159): whose labels can be trusted is learned with the policy, under any pair loss.

Three annotators are right in 95, 80 and 60 of 100 labels. Where the margins are known, their reliabilities must come
out; where the reward of twelve arms is learned from the same labels, DPO with EM must be nearer the truth than DPO
without; with clean labels little must be lost. On the point mass and on the arm the three label pairs of a
policy's own episodes. Of the tutor's own answers, a language model's, six people of each reliability judge every pair.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:  # language models need the extra `lm`, the other domains do not
    from llm_bridge.lm import LM
    from rapport.tutoring import Tutor

DOMAINS = ("bandit", "point", "arm", "tutor")
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


# --- where a language model answers

ROUNDS, SHUFFLES = 4, 20  # updates of the reliabilities while a policy learns; of the names on answers
EACH = 6  # people of each reliability
CALIBRATED = 2.0  # a beta at which few steps make scores as large as the differences that people go by: EM needs it


def answered(data: Feedback, rng: np.random.Generator) -> Feedback:
    """The pairs [N] as all people answer them, [3 EACH N], one after another, the most reliable first."""
    reliable = RELIABLE.repeat_interleave(EACH)
    who = torch.arange(len(reliable)).repeat_interleave(len(data))
    wrong = torch.from_numpy(rng.random(len(who))) > reliable[who]
    every = data[torch.arange(len(data)).repeat(len(reliable))]
    return replace(every, annotator=who, target=torch.where(wrong[:, None], every.target.flip(-1), every.target))


def cured(world: Tutor, pairs: Feedback, data: Feedback, *, beta: float = CALIBRATED) -> tuple[LM, EM, torch.Tensor]:
    """DPO with EM on what is said of the pairs [N] in data [nN]; and the scores of data at the end, [nN,2]."""
    from rapport import tutoring as t

    policy, em = copy.deepcopy(world.before), EM()
    method = m.dpo(beta)
    objective = direct(policy, m.em_preference(method, em), world.reference)
    opt, rng = t.optimiser(policy), np.random.default_rng([world.seed, 93])
    for _ in range(ROUNDS):
        fit(objective, data, opt, steps=t.STEPS // ROUNDS, batch=t.BATCH, rng=rng)
        with torch.no_grad():  # of each pair once, whoever answered
            score = objective.score(pairs.segments).repeat(len(data) // len(pairs), 1)
        em.update(method.loss, score, data)
    return policy, em, score


def kinds(em: EM) -> torch.Tensor:
    """The reliability found of each kind of people, a mean over them, [3]."""
    return em.eta.view(len(RELIABLE), EACH).mean(-1)


def texts(seed: int, full: bool, progress: Progress, out: Path) -> tuple[list[Mechanism], list[Comparison]]:
    """DPO with EM and without; in full also where one annotator errs in 20 and 40 of 100 labels."""
    from rapport import tutoring as t

    rng = np.random.default_rng([seed, 22])
    world, plain = t.tutoring(seed), m.dpo(CALIBRATED)
    pairs = t.compared(world)
    data = answered(pairs, rng)
    policy, em, score = cured(world, pairs, data)
    progress(0.1 if full else 0.5)
    found = {
        "before": world.measured(world.before),
        "DPO with EM": world.measured(policy),
        "DPO": world.measured(t.learned(world, plain, data)),
    }
    sure = EM([(1e9, 1e-9)] * len(em.eta))
    losses = (direct(policy, method, world.reference)(data[:64]) for method in (plain, m.em_preference(plain, sure)))
    with torch.no_grad():
        apart = (next(losses) - next(losses)).abs().max()
    spread = float(kinds(em)[0] - kinds(em)[2])
    nobody = []
    for _ in range(SHUFFLES):
        other = EM()
        names = data.annotator[torch.from_numpy(rng.permutation(len(data)))]
        other.update(plain.loss, score, replace(data, annotator=names))
        nobody.append(float(kinds(other)[0] - kinds(other)[2]))
    checks = [
        Mechanism("everybody right for certain: losses from DPO's", float(apart), 0.0),
        Mechanism("reliability, best of three kinds less worst", spread, 0.15, "at least", SPREAD),
        Mechanism("the same, names on answers shuffled, mean", float(np.mean(nobody)), 0.05, "at most", NOBODY),
        Mechanism("DPO with EM: share of the possible gain", found["DPO with EM"].share.value, 0.15, "at least", CURED),
    ]
    comparisons = [
        *t.beside("labels of many, DPO with EM", found["DPO with EM"]),
        *t.beside("labels of many, DPO", found["DPO"]),
        Comparison(
            "labels of many: share of DPO with EM less DPO's",
            (found["DPO with EM"].share.value - found["DPO"].share.value,),
            "up to 7 points on language models",
            (0.0, np.inf),
        ),
        *(
            Comparison(f"reliability found for those right in {right:.2f}", (float(eta),), f"{right:.2f}", NO_CLAIM)
            for right, eta in zip(RELIABLE, kinds(em), strict=True)
        ),
    ]
    if full:
        for eps in t.tick((0.2, 0.4), lambda part: progress(0.2 + 0.8 * part)):
            wrong = torch.from_numpy(rng.random(len(pairs)) < eps)[:, None]
            noisy = replace(pairs, target=torch.where(wrong, pairs.target.flip(-1), pairs.target))
            ends = {
                "DPO": t.learned(world, plain, noisy),
                "robust DPO, told how many": t.learned(world, m.robust_dpo(CALIBRATED, eps), noisy),
                "DPO with EM": cured(world, pairs, noisy)[0],
            }
            for name, end in ends.items():
                what = f"{eps:.0%} of labels turned, {name}"
                found[what] = world.measured(end)
                comparisons += t.beside(what, found[what])
    t.table(found, out)
    return checks, comparisons


# Mean and sd of the development seeds 1000 to 1009.
SPREAD, NOBODY, CURED = (0.321, 0.019), (-0.001, 0.005), (0.639, 0.113)


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute; on texts in full two."""
    if domain == "tutor":
        return texts(seed, full, progress, out)
    checks = bandit(seed, lambda share: progress(share * (1 if domain == "bandit" else 0.5)))
    if domain == "bandit":
        return checks, []
    return checks, moving(GROUNDS[domain](seed), seed, lambda share: progress(0.5 + share / 2))
