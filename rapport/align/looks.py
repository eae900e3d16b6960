"""What a policy makes of answers, in numbers, and what these say in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from embodied.direct import Direct
from embodied.feedback import Feedback
from embodied.policy import Anchored

ROWS = 256  # looked at together


@dataclass(frozen=True)
class Look:
    """`loss`: the weighted mean over rows. `agreement`: of `decided` pairs, the share that the method's score puts in
    the order of the answers (an untrained log-ratio orders none). `chosen` and `rejected`: the mean log-probability of
    a step of what was preferred and of what was not. `kl`: of a step's action from the policy before, in nats; None
    where the policy cannot tell."""

    loss: float
    agreement: float
    decided: int
    chosen: float
    rejected: float
    kl: float | None


@torch.no_grad()
def look(objective: Direct, before: Any, parts: Sequence[Feedback]) -> Look:
    """At all rows. Raises what the method does on rows that it is not for."""
    sums = torch.zeros(9, dtype=torch.float64)
    for part in parts:
        for rows in torch.arange(len(part)).split(ROWS):
            sums += _sums(objective, before, part[rows])
    loss, weight, right, pairs, chosen, rejected, decided, kl, steps = sums.tolist()
    return Look(
        loss / weight,
        right / pairs if pairs else 0.0,
        int(pairs),
        chosen / decided if decided else 0.0,
        rejected / decided if decided else 0.0,
        kl / steps if isinstance(objective.policy, Anchored) else None,
    )


def _sums(objective: Direct, before: Any, part: Feedback) -> Tensor:
    target, mask, policy = part.target, part.segments.mask, objective.policy
    logp = policy.log_prob(part.segments)
    loss = (part.weight * objective.losses(logp, part)).sum()
    score = objective.score(part.segments)
    above = target[:, :, None] > target[:, None, :]
    right = (above & (score[:, :, None] > score[:, None, :])).sum()
    mean = torch.where(mask, logp, 0.0).sum(-1) / mask.sum(-1)
    is_decided = above.flatten(1).any(-1)
    best, worst = (
        mean.gather(1, side[:, None])[is_decided, 0].sum() for side in (target.argmax(-1), target.argmin(-1))
    )
    kl = torch.zeros(())
    if isinstance(policy, Anchored):
        kl = torch.where(mask, policy.kl(before, part.segments), 0.0).sum()
    found = (loss, part.weight.sum(), right, above.sum(), best, worst, is_decided.sum(), kl, mask.sum())
    return torch.stack([x.double() for x in found])


def moved(before: Look, after: Look) -> str:
    """What became of the preferred and the other, which a falling loss does not tell (arXiv 2410.13828)."""
    up, other = after.chosen - before.chosen, after.rejected - before.rejected
    nats = f"preferred {up:+.3g} nats a step, the other {other:+.3g}"
    if up < 0 and other < 0:
        return (
            f"Both became less likely ({nats}): the margin grows while the policy leaves what was preferred too. Fewer "
            "steps, a larger coefficient (--set), or a method with a likelihood term (cpo, pro) hold it."
        )
    if up < 0:
        return f"What was preferred became less likely, and the other more ({nats}): the answers were not followed."
    if other > 0:
        return f"Both became more likely ({nats}): what they share was learned with what was preferred."
    return f"What was preferred became more likely, the other less ({nats})."
