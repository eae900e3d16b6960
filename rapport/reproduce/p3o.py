"""P3O (arXiv 2310.00212): a policy gradient on pairs of samples of one context, in which only the difference of their
rewards counts.

With every pair that can be drawn the gradient of both clips must be that of the reward less the price of the KL, and
RLOO's of two, sample by sample; golden numbers fix the clips. What a context pays to all of its samples must change
nothing, and does change what PPO with one baseline for all learns. From samples the optimum must be found. Beside it
PPO, where contexts pay differently. The same of the tutor, a language model that learns from its own answers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embodied.advantages import GAE, critic_loss, leave_one_out, plain
from embodied.feedback import Segments
from embodied.fit import Objective, plus
from embodied.online import Judge
from embodied.policy_gradient import Advantage, Surrogate, clipped, jointly_clipped, pairwise_clipped, policy_gradient
from embodied.reference import Reference
from policies.table import SoftmaxTable
from rapport.bandits import CONTEXTS, Bandit, bandit, every, gradient, trained
from rapport.reproduce import Comparison, Mechanism, Progress

if TYPE_CHECKING:  # language models need the extra `lm`, the bandit does not
    from llm_bridge.lm import LM

DOMAINS = ("bandit", "tutor")
KL, SPREAD = 0.3, 10.0
CLIPS: dict[str, Surrogate] = {"separate": pairwise_clipped(0.2), "joint": jointly_clipped(0.4)}
PAPER = "P3O is ahead of PPO (wins 57 % on HH, at less than PPO's loss of reward)"


def exact(world: Bandit, clip: Surrogate) -> tuple[float, float]:
    """How far the expected gradient is from the closed form's, and each pair's from RLOO's."""
    policy, reference = world.optimum(2.0), world.policy()  # on the way, not at either end
    logp = policy.logits.log_softmax(-1)
    wanted = (logp.exp() * (world.reward - KL * (logp - world.prior))).sum(-1).mean()
    (closed,) = torch.autograd.grad(-wanted, policy.logits)
    data = every(policy, 2, world.judge)
    ours = policy_gradient(policy, clip, plain(kl=KL), reference)
    rloo = policy_gradient(policy, clipped(0.2, "sequence"), leave_one_out(kl=KL), reference)
    apart = 0.0
    for row in range(0, len(data), len(data) // 40):
        apart = max(apart, *(gradient(ours, data[row], policy) - gradient(rloo, data[row], policy)).abs().flatten())
    return float((gradient(ours, data, policy) - closed).abs().max()), float(apart)


def golden() -> float:
    """How far values and coefficients are from known ones, of both clips, within and beyond them."""
    worth = torch.tensor([[[1.3], [0.4]]], dtype=torch.float64)
    far = 0.0
    for old, share, value in (((-5.1, -7.45), 0.473071993, -1.182679983), ((-5.3, -7.1), 0.0, None)):
        for name, clip in CLIPS.items():
            logp = torch.tensor([[[-5.0], [-7.5]]], dtype=torch.float64, requires_grad=True)
            then = torch.tensor(old, dtype=torch.float64)[None, :, None]
            loss = clip(logp, then, worth, torch.ones(1, 2, 1, dtype=torch.bool)).sum()
            (found,) = torch.autograd.grad(loss, logp)
            far = max(far, float((found.flatten() - torch.tensor([-share, share])).abs().max()))
            if name == "joint" and value is not None:
                far = max(far, abs(loss.item() - value))
    return far


def shifted(world: Bandit, surrogate: Surrogate, advantage: Advantage, seed: int) -> float:
    """How far parameters end from where they would have, if each context paid up to 100 more or less to all."""
    more = torch.from_numpy(np.random.default_rng([seed, 51]).uniform(-100, 100, (CONTEXTS, 1)))
    ends = [
        trained(
            told,
            lambda policy, reference: policy_gradient(policy, surrogate, advantage, reference),
            told.judge,
            [seed, 52],
            k=2,
            rounds=25,
            steps=4,
            rate=0.02,
        ).logits.detach()
        for told in (world, Bandit(world.prior, world.reward + more))
    ]
    return float((ends[0] - ends[1]).abs().max())


def learned(world: Bandit, name: str, seed: int, progress: Progress) -> SoftmaxTable:
    """The policy after 120 rounds."""
    value = torch.zeros(CONTEXTS, dtype=torch.float64, requires_grad=True)

    def critic(segments: Segments) -> Tensor:
        if isinstance(segments.obs, dict):
            raise TypeError("a bandit's contexts are numbers")
        return value[segments.obs[..., 0].long()]

    def objective(policy: SoftmaxTable, reference: Reference) -> Objective:
        if name in CLIPS:
            return policy_gradient(policy, CLIPS[name], plain(kl=KL), reference)
        if name == "batch":
            return policy_gradient(policy, clipped(0.2), plain("batch", kl=KL), reference)
        if name == "RLOO":
            return policy_gradient(policy, clipped(0.2, "sequence"), leave_one_out(kl=KL), reference)
        estimate = GAE(critic, kl=KL)
        return plus(policy_gradient(policy, clipped(0.2), estimate, reference), (1.0, critic_loss(estimate, reference)))

    return trained(
        world,
        objective,
        world.judge,
        [seed, 53],
        k=2,
        rounds=120,
        steps=2,
        rate=0.03,
        more=lambda: [value] if name == "critic" else [],
        progress=progress,
    )


# --- where a language model answers

NATS = 0.1  # what a nat of KL costs there


def texts(seed: int, full: bool, progress: Progress, out: Path) -> tuple[list[Mechanism], list[Comparison]]:
    """Both clips and PPO told of rewards with and without what questions pay to all; in full the frontier too."""
    from rapport import tutoring as t

    world = t.tutoring(seed)

    def told(clip: str, judge: Judge, kl: float = NATS, rounds: int = t.ROUNDS, steps: int = 1) -> LM:
        surrogate, advantage = (CLIPS[clip], plain(kl=kl)) if clip in CLIPS else OTHERS[clip](kl)
        return t.trained(
            world,
            lambda policy, reference: policy_gradient(policy, surrogate, advantage, reference),
            judge,
            k=2,
            rounds=rounds,
            steps=steps,
        )

    def moved(clip: str) -> float:
        ends = [told(clip, t.paid(world, spread), rounds=2, steps=2) for spread in (0.0, 100.0)]
        return max(
            float((a - b).detach().abs().max()) for a, b in zip(*(end.parameters() for end in ends), strict=True)
        )

    checks = [Mechanism(f"{clip} clip: change by what questions pay to all", moved(clip), 1e-6) for clip in CLIPS]
    checks.append(Mechanism("PPO, one baseline for all: that change", moved("PPO"), 0.01, "at least", TOLD))
    progress(0.1 if full else 0.3)
    other = t.by_chance(np.random.default_rng([seed, 55]))
    ends = {"before": world.before, "P3O": told("joint", t.gold), "P3O, rewards of other answers": told("joint", other)}
    found = {name: world.measured(end) for name, end in ends.items()}
    before, right, wrong = found.values()
    checks += [
        Mechanism("P3O: share of the possible gain", right.share.value, 0.2, "at least", SHARE),
        Mechanism("P3O: gold gained", right.gold.value - before.gold.value, 0.15, "at least", GAIN),
        Mechanism(
            "P3O told the rewards of other answers: the same",
            wrong.gold.value - before.gold.value,
            0.16,
            "at most",
            LUCK,
        ),
    ]
    comparisons = t.beside("P3O", found["P3O"])
    if full:
        uneven = t.paid(world, 3.0)
        cases = {
            **{f"{clip}, nat at {kl:g}": (clip, t.gold, kl) for clip in ("joint", "PPO") for kl in (0.02, 0.5)},
            **{clip: (clip, t.gold, NATS) for clip in ("separate", "PPO", "RLOO")},
            **{f"{clip}, questions pay up to 3": (clip, uneven, NATS) for clip in ("joint", "PPO", "RLOO")},
        }
        for name in t.tick(cases, lambda part: progress(0.3 + 0.7 * part)):
            found[name] = world.measured(told(*cases[name]))
            comparisons += t.beside(name, found[name])
        for what, ours, theirs in (
            ("", "P3O", "PPO"),
            ("questions pay up to 3: ", "joint, questions pay up to 3", "PPO, questions pay up to 3"),
        ):
            gap = found[ours].share.value - found[theirs].share.value
            comparisons.append(Comparison(f"{what}share of P3O less PPO's", (gap,), PAPER, (0.0, np.inf)))
    t.table(found, out)
    return checks, comparisons


# PPO with one baseline and RLOO, given what a nat costs.
OTHERS: dict[str, Callable[[float], tuple[Surrogate, Advantage]]] = {
    "PPO": lambda kl: (clipped(0.2), plain("batch", kl=kl)),
    "RLOO": lambda kl: (clipped(0.2, "sequence"), leave_one_out(kl=kl)),
}
# Mean and sd of the development seeds 1000 to 1009.
TOLD, SHARE, GAIN, LUCK = (0.0796, 0.0004), (0.656, 0.062), (0.239, 0.022), (-0.044, 0.050)


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute; on texts in full two."""
    if domain == "tutor":
        return texts(seed, full, progress, out)
    rng = np.random.default_rng([seed, 50])
    even, uneven = bandit(rng), bandit(rng, SPREAD)
    checks = [Mechanism("values and coefficients from golden numbers", golden(), 1e-8)]
    for name, clip in CLIPS.items():
        closed, rloo = exact(even, clip)
        checks += [
            Mechanism(f"{name} clip: gradient over every pair from the closed form", closed, 1e-12),
            Mechanism(f"{name} clip: each pair's from RLOO of two", rloo, 1e-12),
            Mechanism(
                f"{name} clip: change by what contexts pay to all", shifted(even, clip, plain(kl=KL), seed), 1e-9
            ),
        ]
    moved = shifted(even, clipped(0.2), plain("batch", kl=KL), seed)
    checks.append(Mechanism("PPO, one baseline for all: that change", moved, 0.2, "at least", MOVED))
    progress(0.2)
    gained = {}
    names = ("separate", "joint", "RLOO", "critic", "batch")
    for i, name in enumerate(names):
        policy = learned(uneven, name, seed, lambda share, i=i: progress(0.2 + 0.8 * (i + share) / len(names)))  # type: ignore[misc]
        gained[name] = uneven.share(policy, KL)
    for name in CLIPS:
        checks.append(
            Mechanism(f"{name} clip: share of the gain, from samples", gained[name], 0.85, "at least", GAINED[name])
        )
    what = "contexts pay differently, share of the gain: P3O less"
    return checks, [
        Comparison(f"{what} PPO with a critic", (gained["joint"] - gained["critic"],), PAPER, (0.0, np.inf)),
        Comparison(f"{what} PPO with one baseline", (gained["joint"] - gained["batch"],), PAPER, (0.0, np.inf)),
        Comparison(f"{what} RLOO of two", (gained["joint"] - gained["RLOO"],), "the same gradient", (-0.02, 0.02)),
    ]


# Mean and sd of the development seeds 1000 to 1009.
MOVED = (2.19, 0.30)
GAINED = {"separate": (0.9887, 0.0017), "joint": (0.9887, 0.0017)}
