"""RAFT (arXiv 2304.06767): draw several answers, imitate the best of them, begin again.

Where imitation is solved exactly, T rounds of the best of K must be the best of K^T, whose KL is known; what a context
pays to all of its answers must change nothing if the best is chosen for each context, and everything if the best of the
whole batch are. From samples, by gradient steps, the policy must come near that law. Beside it RLOO on as many samples.
The same of the tutor, a language model that imitates the best of its own answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embodied.advantages import leave_one_out
from embodied.best_of import best_of_kl, best_of_law
from embodied.feedback import Segments
from embodied.fit import imitate
from embodied.online import Judge, best_only
from embodied.policy_gradient import clipped, policy_gradient
from policies.table import SoftmaxTable
from rapport.bandits import ARMS, CONTEXTS, Bandit, bandit, every, gradient, trained
from rapport.reproduce import Comparison, Mechanism, Progress

if TYPE_CHECKING:  # language models need the extra `lm`, the bandit does not
    from llm_bridge.lm import LM

DOMAINS = ("bandit", "tutor")
K, ROUNDS = 3, 3


def law_of_the_best(policy: SoftmaxTable, judge: Judge) -> Tensor:
    """What is imitated in each context, [S,A], over every group of K that can be drawn."""
    data = every(policy, K, judge)
    act = data.segments.act[:, :, 0, 0].long()
    state = torch.arange(CONTEXTS).repeat_interleave(ARMS**K)[:, None].expand_as(act)
    law = torch.zeros(CONTEXTS, ARMS, dtype=torch.float64)
    return law.index_put_((state, act), data.weight[:, None] * data.target, accumulate=True)


def exact(world: Bandit) -> tuple[float, float, float]:
    """After T solved rounds: how far from the best of K^T, the steepest gradient at a solution, and by how much the KL
    is above its bound."""
    policy, judge = world.policy(), best_only(world.judge)
    far = steep = above = 0.0
    for t in range(1, ROUNDS + 1):
        data = every(policy, K, judge)
        law = law_of_the_best(policy, judge)
        with torch.no_grad():
            policy.logits.copy_(law.log())
        steep = max(steep, float(gradient(imitate(policy), data, policy).abs().max()))
        far = max(far, float((law - best_of_law(world.prior.exp(), world.reward, K**t)).abs().max()))
        above = max(above, world.figures(policy)[1] - best_of_kl(K**t))
    return far, steep, above


def best_of_batch(reward: Judge, share: float) -> Judge:
    """RAFT's other way to choose: 1 for the best share of all that was drawn, wherever it was drawn."""

    def judge(segments: Segments) -> Tensor:
        judged = reward(segments)
        return (judged >= judged.quantile(1 - share)).to(judged.dtype)

    return judge


def shifted(world: Bandit, seed: int) -> tuple[float, float]:
    """The share of choices that change when each context pays up to 100 more or less to all its answers: of the best of
    each context, and of the best of the batch."""
    rng = np.random.default_rng([seed, 61])
    more = torch.from_numpy(rng.uniform(-100, 100, (CONTEXTS, 1)))
    paid = Bandit(world.prior, world.reward + more)
    drawn = world.policy().sample(torch.arange(CONTEXTS).repeat(50), K, rng)
    changed = []
    for choose in (best_only, lambda judge: best_of_batch(judge, 1 / K)):
        before, after = choose(world.judge)(drawn), choose(paid.judge)(drawn)
        changed.append(((before != after).double().mean()).item())
    return changed[0], changed[1]


def golden() -> float:
    law = best_of_law(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.arange(3), 4)
    return float((law - torch.tensor([0.0016, 0.2385, 0.7599], dtype=torch.float64)).abs().max())


# --- where a language model answers


def texts(seed: int, full: bool, progress: Progress, out: Path) -> tuple[list[Mechanism], list[Comparison]]:
    """RAFT, and RAFT that keeps answers by chance; in full other numbers of samples, and RLOO on as many."""
    from llm_bridge.testbed import tutor
    from rapport import tutoring as t

    world, rng = t.tutoring(seed), np.random.default_rng([seed, 63])
    judge, paid = t.gold, t.paid(world, 100.0)
    drawn = t.draws(world.before)(tutor.prompts(world.learn[:50]), t.K, rng)
    local, batch = (
        float((choose(judge)(drawn) != choose(paid)(drawn)).double().mean())
        for choose in (best_only, lambda judge: best_of_batch(judge, 1 / t.K))
    )

    def raft(judge: Judge, k: int = t.K) -> LM:
        return t.trained(world, lambda policy, reference: imitate(policy), best_only(judge), k=k)

    ends = {"before": world.before, "RAFT": raft(judge), "RAFT, kept by chance": raft(t.by_chance(rng))}
    found = {name: world.measured(end) for name, end in ends.items()}
    before, right, wrong = found.values()
    progress(0.3 if full else 0.9)
    checks = [
        Mechanism("best of each question: choices changed by what questions pay to all", local, 0.0),
        Mechanism("best of the batch: the same", batch, 0.1, "at least", MOVED),
        Mechanism("RAFT: share of the possible gain", right.share.value, 0.3, "at least", SHARE),
        Mechanism("RAFT, kept by chance: gold gained", wrong.gold.value - before.gold.value, 0.0, "at most", LUCK),
    ]
    comparisons = t.beside("RAFT", right)
    if full:
        for k in t.tick((2, 8), lambda part: progress(0.3 + 0.5 * part)):
            found[f"RAFT, best of {k}"] = world.measured(raft(judge, k))
        surrogate, advantage = clipped(0.2, "sequence"), leave_one_out(kl=0.1)
        found["RLOO"] = world.measured(
            t.trained(world, lambda policy, reference: policy_gradient(policy, surrogate, advantage, reference), judge)
        )
        for name in list(found)[3:]:
            comparisons += t.beside(name, found[name])
        gap = right.share.value - found["RLOO"].share.value
        comparisons.append(Comparison("share of RAFT less RLOO's", (gap,), "2.29 on HH, PPO 2.08", (0.0, np.inf)))
    t.table(found, out)
    return checks, comparisons


# Mean and sd of the development seeds 1000 to 1009.
MOVED, SHARE, LUCK = (0.416, 0.020), (0.698, 0.069), (-0.094, 0.021)


def reproduce(
    domain: str, seed: int, full: bool, progress: Progress, out: Path
) -> tuple[list[Mechanism], list[Comparison]]:
    """Under a CPU-minute, in full too."""
    if domain == "tutor":
        return texts(seed, full, progress, out)
    world = bandit(np.random.default_rng([seed, 60]))
    far, steep, above = exact(world)
    local, batch = shifted(world, seed)
    progress(0.1)
    go = {"k": K, "steps": 120, "rate": 0.05, "draws": 100}
    policy = trained(
        world,
        lambda policy, reference: imitate(policy),
        best_only(world.judge),
        [seed, 62],
        rounds=ROUNDS,
        progress=lambda share: progress(0.1 + 0.4 * share),
        **go,  # type: ignore[arg-type]
    )
    rloo = trained(
        world,
        lambda policy, reference: policy_gradient(policy, clipped(0.2, "sequence"), leave_one_out(), reference),
        world.judge,
        [seed, 62],
        rounds=ROUNDS,
        progress=lambda share: progress(0.5 + 0.5 * share),
        **go,  # type: ignore[arg-type]
    )
    wanted = world.figures(SoftmaxTable(best_of_law(world.prior.exp(), world.reward, K**ROUNDS).log()))
    ours, theirs = world.figures(policy), world.figures(rloo)
    return [
        Mechanism("best of 4 from the golden numbers", golden(), 1e-12),
        Mechanism(f"{ROUNDS} solved rounds of {K}: law from the best of {K**ROUNDS}", far, 1e-12),
        Mechanism("gradient of imitation where it is solved", steep, 1e-12),
        Mechanism("KL above log n - (n-1)/n", above, 1e-9),
        Mechanism("best of each context: choices changed by what contexts pay to all", local, 0.0),
        Mechanism("best of the batch: the same", batch, 0.1, "at least", CHANGED),
        Mechanism(
            f"from samples: reward from that of the best of {K**ROUNDS}", abs(ours[0] - wanted[0]), 0.1, "at most", NEAR
        ),
    ], [
        Comparison(
            f"reward after {ROUNDS} rounds of samples: RAFT less RLOO without a KL",
            (ours[0] - theirs[0],),
            "2.29 on HH, PPO 2.08",
            (0.0, np.inf),
        ),
        Comparison("KL from before, nats: RAFT less RLOO", (ours[1] - theirs[1],), "claims nothing", (np.nan, np.nan)),
        Comparison(
            "share of what the best policy of its KL gains: RAFT",
            (world.efficiency(policy),),
            "claims nothing",
            (np.nan, np.nan),
        ),
    ]


# Mean and sd of the development seeds 1000 to 1009.
CHANGED, NEAR = (0.449, 0.070), (0.0075, 0.0069)
