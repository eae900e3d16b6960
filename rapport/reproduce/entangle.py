"""Gradient entanglement (arXiv 2410.13828): chosen and rejected move together as far as their gradients are alike.

A pair that differs in one token has gradients that point apart; what both say after it, they share, and the longer that
is, the more they are one direction. A margin loss then moves both up or both down, though the margin grows. What the
first order predicts must happen, of every method; gradients of one length must part the two, and so must a contrast of
the changed steps alone. On the point mass and on the arm the same is looked at in a policy's own episodes from one
start.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embodied import methods as m
from embodied.direct import direct
from embodied.entangle import entanglement, normalised
from embodied.feedback import Feedback, Segments
from embodied.fit import fit
from embodied.policy import Policy
from embodied.scores import log_prob
from policies.table import SoftmaxTable
from rapport.beside import NO_CLAIM, Ground, own_pairs
from rapport.beside_arm import GROUNDS
from rapport.reproduce import Comparison, Mechanism, Progress

DOMAINS = ("tokens", "point", "arm")
WORDS, ROWS = 8, 64
METHODS = (m.dpo(), m.ipo(), m.slic(), m.cpo(), m.simpo(), m.kto(), m.nca(), m.sppo(1.0), m.dense_dpo())


def sentences(shared: int, rng: np.random.Generator) -> Feedback:
    """Pairs of one word each, and after it `shared` words that both have; all words come from one state."""
    first = np.stack([rng.choice(WORDS, 2, replace=False) for _ in range(ROWS)])[..., None]
    rest = np.repeat(rng.integers(WORDS, size=(ROWS, 1, shared)), 2, axis=1)
    act = torch.from_numpy(np.concatenate([first, rest], -1)).double()[..., None]
    mask = torch.ones(act.shape[:3], dtype=torch.bool)
    one = torch.ones(ROWS)
    target = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(ROWS, 2)
    return Feedback(Segments(act * 0, act, mask, one[:, None, None] * mask), target, one, one.long() * 0, one.bool())


def sums(policy: Policy, data: Feedback) -> Tensor:
    with torch.no_grad():
        logp = policy.log_prob(data.segments)
        return log_prob(logp, logp, data.segments.mask)


def misjudged(law: Tensor, data: Feedback) -> float:
    """The worst error of what is predicted of a small step, over all methods and pairs, relative to the step."""
    worst = 0.0
    for method in METHODS:
        policy = SoftmaxTable(law.log()[None])
        objective = direct(policy, method, SoftmaxTable(torch.zeros_like(law)[None]))
        expected = entanglement(objective, policy.parameters(), data).change
        for row in range(len(data)):
            one, before = data[row], copy.deepcopy(policy.state_dict())
            policy.zero_grad()
            objective(one).sum().backward()
            was = sums(policy, one)
            torch.optim.SGD(policy.parameters(), lr=1e-6).step()
            real = (sums(policy, one) - was)[0] / 1e-6
            worst = max(worst, float((real - expected[row]).abs().max() / expected[row].abs().max().clamp(min=1e-3)))
            policy.load_state_dict(before)
    return worst


def tokens(seed: int, progress: Progress) -> list[Mechanism]:
    rng = np.random.default_rng([seed, 30])
    law = torch.from_numpy(rng.dirichlet(np.full(WORDS, 5.0)))
    cosine, together = {}, {}
    for shared in (0, 5, 20):
        policy = SoftmaxTable(law.log()[None])
        seen = entanglement(direct(policy, m.dpo()), policy.parameters(), sentences(shared, rng))
        cosine[shared] = float(seen.cosine.mean())
        together[shared] = float(np.mean([case in ("both up", "both down") for case in seen.cases]))
    progress(0.2)
    data = sentences(5, rng)
    policy = SoftmaxTable(law.log()[None])
    cure = normalised(direct(policy, m.dpo()), policy.parameters())
    parted = []
    for row in range(ROWS):
        (slope,) = torch.autograd.grad(cure(data[row]).sum(), policy.logits)
        logp = policy.log_prob(data[row].segments).sum(-1)[0]
        better, worse = (torch.autograd.grad(logp[k], policy.logits, retain_graph=True)[0] for k in (0, 1))
        parted.append(max(float((better * slope).sum()), -float((worse * slope).sum())))
    sparse = replace(data, segments=replace(data.segments, mask=data.segments.mask & (torch.arange(6) == 0)))
    alone = entanglement(direct(policy, m.dpo()), policy.parameters(), sparse)
    progress(0.4)
    return [
        Mechanism("cosine of the gradients, nothing shared", cosine[0], 0.0, "at most", ALONE),
        Mechanism("cosine, five words shared", cosine[5], 0.5, "at least", SHARED),
        Mechanism("pairs moved one way, nothing shared", together[0], 0.0),
        Mechanism("pairs moved one way, twenty words shared", together[20], 0.1, "at least", TOGETHER),
        Mechanism("prediction of a small step, worst error", misjudged(law, sentences(3, rng)[:12]), 1e-3),
        Mechanism("gradients of one length: most that a better falls or a worse rises", max(parted), 1e-9),
        Mechanism("changed words alone: pairs not separable", float((~alone.separable).double().mean()), 0.0),
    ]


# Mean and sd of the development seeds 1000 to 1009.
ALONE, SHARED, TOGETHER = (-0.124, 0.015), (0.811, 0.015), (0.728, 0.085)


def moving(ground: Ground, seed: int, progress: Progress) -> list[Comparison]:
    start, method = ground.policy, m.dpo(ground.beta)
    data = own_pairs(ground, seed)
    seen = entanglement(direct(start, method), start.parameters(), data[:64])
    found = {
        "cosine of the gradients of two episodes from one start": float(seen.cosine.mean()),
        "pairs that a step of DPO moves one way": float(np.mean([c.startswith("both") for c in seen.cases])),
    }
    progress(0.2)
    order = data.target.argmax(-1)[:, None]
    for name in ("DPO", "DPO, gradients of one length"):
        policy = copy.deepcopy(start)
        plain = direct(policy, method, start)
        objective = plain if name == "DPO" else normalised(plain, policy.parameters())
        opt = torch.optim.Adam(policy.parameters(), lr=3e-4)
        fit(objective, data, opt, steps=60, batch=32, rng=np.random.default_rng([seed, 31]))
        moved = sums(policy, data) - sums(start, data)
        found |= {
            f"{name}: nats by which the better became likelier": float(moved.gather(1, order).mean()),
            f"{name}: the worse": float(moved.gather(1, 1 - order).mean()),
            **{f"{name}: {figure}": value for figure, value in ground.figures(policy).items()},
        }
        progress(0.6 if name == "DPO" else 1.0)
    paper = "both move together, under two language models, up in one and down in the other"
    return [Comparison(name, (value,), paper, NO_CLAIM) for name, value in found.items()]


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute."""
    checks = tokens(seed, lambda share: progress(share * (1 if domain == "tokens" else 0.3)))
    if domain == "tokens":
        return checks, []
    return checks, moving(GROUNDS[domain](seed), seed, lambda share: progress(0.3 + 0.7 * share))
