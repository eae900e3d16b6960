"""Learning from one's own samples: collect, fit, and the reference follows. Any objective will do.

gather = partial(collect, contexts, policy.sample, reward, 4, rng)
for report in online(objective, gather, opt, rounds=100, steps=1, batch=64, rng=rng):
    print(report.judged)

RAFT       imitate(policy)                                                         judge best_only(reward)
SuperHF    plus(imitate(policy), (0.35, forward_kl(policy, reference)))            judge best_only(reward)
RLOO, P3O  policy_gradient(policy, ...)                                            judge reward
online IPO direct(policy, ipo(tau, log_ratio), reference)                          judge win_rate(prefer)
SPPO       direct(policy, sppo(eta), reference := Reference(policy, previous))     judge win_rate(prefer)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.fit import Objective, Split, fit
from embodied.policy import Policy
from embodied.reference import Reference

# (B contexts, K, rng) -> K alternatives from each [B,K,T], log_prob what the policy said when it acted. A rollout, or
# generation; contexts are what it takes: a tensor [B,...], prompts.
Sample = Callable[[Any, int, np.random.Generator], Segments]
Judge = Callable[[Segments], Tensor]  # -> [B,K], a reward, win rate or selection, at once
Prefer = Callable[[Segments], Tensor]  # -> [B,K,K], P(the row's alternative is better than the column's)


@torch.no_grad()
def collect(contexts: Any, sample: Sample, judge: Judge, k: int, rng: np.random.Generator) -> Feedback:
    """K samples from each context, judged; target [B,K] is what the judge said. Nothing is differentiated.

    Raises ValueError for no context, k below 1, samples of another number than asked for, and what the judge should not
    say: another shape, NaN or infinity, with the row.
    """
    if k < 1 or not len(contexts):
        raise ValueError(f"{len(contexts)} contexts and k is {k}; give at least 1 of each")
    segments = sample(contexts, k, rng)
    if (given := list(segments.mask.shape[:2])) != [len(contexts), k]:
        raise ValueError(f"the sampler gave {given} samples where {[len(contexts), k]} were asked for; give [B,K,T]")
    target = judge(segments).detach()
    if list(target.shape) != given:
        raise ValueError(f"the judge said {list(target.shape)} of {given} samples; give one number of each, [B,K]")
    _check_finite(target)
    one = torch.ones(len(segments), device=target.device)
    return Feedback(segments, target, one, torch.zeros_like(one).long(), one.bool(), "reward")


def best_only(reward: Judge) -> Judge:
    """1 for the best of each row and 0 for the others; those that are equal share it. Imitated, this is RAFT.

    Raises ValueError for NaN or infinity, with the row.
    """

    def judge(segments: Segments) -> Tensor:
        judged = reward(segments)
        _check_finite(judged)
        top = (judged == judged.amax(-1, keepdim=True)).to(torch.promote_types(judged.dtype, torch.float32))
        return top / top.sum(-1, keepdim=True)

    return judge


def win_rate(prefer: Prefer) -> Judge:
    """The mean chance of each alternative to win against another of its row: of a pair, what a loss of pairs takes.

    Raises ValueError for K = 1, and for chances that are none or do not add up to 1 over both orders.
    """

    def judge(segments: Segments) -> Tensor:
        chance = prefer(segments)
        rows, k = segments.mask.shape[:2]
        if list(chance.shape) != [rows, k, k] or k < 2:
            raise ValueError(f"prefer gave {list(chance.shape)} for {[rows, k]} samples; give [B,K,K], K at least 2")
        other = ~torch.eye(k, dtype=torch.bool, device=chance.device)
        sound = ((chance + chance.mT - 1).abs() < 1e-4) & (chance >= 0) & (chance <= 1)
        if (wrong := other & ~sound).any():
            row, i, j = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"row {row}: alternative {i} is better than {j} with chance {chance[row, i, j]:g}, and {j} than {i} "
                f"with {chance[row, j, i]:g}; give chances that add up to 1"
            )
        return torch.where(other, chance, 0.0).sum(-1) / (k - 1)

    return judge


def _check_finite(judged: Tensor) -> None:
    if not (finite := torch.isfinite(judged)).all():
        row, alternative = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"the judge gave {judged[row, alternative].item()} for alternative {alternative} of row {row}; give finite "
            "numbers"
        )


@dataclass(frozen=True, eq=False)
class OnlineReport:
    """What a round of `online` collected, and the losses of its steps."""

    round: int
    feedback: Feedback
    losses: tuple[float, ...]

    @property
    def judged(self) -> float:
        """The mean of what the judge said; of rewards, how good the samples were."""
        return self.feedback.target.mean().item()


def online(
    objective: Objective,
    collect: Callable[[], Feedback],
    opt: torch.optim.Optimizer,
    *,
    rounds: int,
    steps: int,
    batch: int,
    rng: np.random.Generator,
    split: Split | None = None,
    reference: Reference | None = None,
    policy: Policy | None = None,
) -> Iterator[OnlineReport]:
    """Rounds of: collect, `steps` steps of `fit`, `reference.update(policy)`. A report of each, when it is over.

    Give the reference that the objective has even if it stays fixed: a round over, it forgets the round's samples.
    All that is carried is in the policy, the optimiser, the reference and `rng`, so a rounds and then b are a + b, bit
    for bit. Raises ValueError for impossible sizes, a reference without the policy to follow, and as `fit` does.
    """
    if rounds < 0 or (reference is None) != (policy is None):
        raise ValueError(
            f"rounds is {rounds}, the reference {'missing' if reference is None else 'given'} and the policy "
            f"{'missing' if policy is None else 'given'}; give at least 0 rounds, and both of the latter or neither"
        )
    for n in range(rounds):
        data = collect()
        fitted = fit(objective, data, opt, steps=steps, batch=batch, rng=rng, split=split)
        if reference is not None and policy is not None:
            reference.update(policy)
        yield OnlineReport(n, data, fitted.losses)
