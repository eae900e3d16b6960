"""Policy gradients on judged samples: by how much each was better (advantage), how the policy follows (surrogate).

policy_gradient(policy, reinforce, plain(baseline="batch"))                                  REINFORCE
policy_gradient(policy, clipped(0.2, "sequence"), leave_one_out(kl=0.05), reference)         RLOO
policy_gradient(policy, clipped(0.2, mean=True), group())                                    GRPO
policy_gradient(policy, clipped(0.2), advantage := GAE(critic, kl=0.05), reference)          PPO, plus critic_loss
policy_gradient(policy, pairwise_clipped(0.2), plain(kl=0.05), reference)                    P3O
policy_gradient(policy, reinforce, nash(tau=0.008), reference)                               Nash-MD-PG

The target [B,K] is the judged reward and `segments.log_prob` what the policy that acted said; `collect` (online.py)
makes such feedback. `kl` is the price of a nat of KL(policy, reference), in units of reward: it is taken off the reward
of what was done, so it wants a reference and known log-probabilities. Advantages: advantages.py; the KL as a loss
of its own: kl_terms.py.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from embodied.direct import MixedContexts
from embodied.feedback import Feedback
from embodied.fit import Objective, precise
from embodied.policy import Policy

# (logp, log-probability when it acted [B,K,T], advantage [B,K,T] or [B,K,1], mask) -> [B]
Surrogate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
# (judged samples, log-ratio to the reference when they were drawn [B,K,T], None without one) -> [B,K,T], or [B,K,1] for
# one advantage of a whole alternative; never differentiated
Advantage = Callable[[Feedback, Tensor | None], Tensor]


def policy_gradient(
    policy: Policy, surrogate: Surrogate, advantage: Advantage, reference: Policy | None = None
) -> Objective:
    """The surrogate of the policy under the advantage as an objective for `fit`; its mean over K is minimised.

    The alternatives of a row are samples from one context. Raises MixedContexts where they are not, ValueError for
    unknown log-probabilities where the surrogate or a KL needs them and for a KL without a reference, and for log-
    probabilities of half precision.
    """
    if policy in (reference, getattr(reference, "policy", None)):
        raise ValueError("the reference is the policy itself and would learn with it; give Reference(policy)")

    def objective(feedback: Feedback) -> Tensor:
        segments = feedback.segments
        if segments.mask.shape[1] > 1 and not feedback.same_context.all():
            mixed = int((~feedback.same_context).sum())
            raise MixedContexts(
                f"{mixed} of {len(feedback)} rows hold samples from different contexts, where one that did better may "
                "only have had it easier; draw all K from one context, or make a row of each"
            )
        logp = precise("log-probabilities", policy.log_prob(segments))
        worth = advantage(feedback, acted_log_ratio(feedback, reference)).detach()
        return surrogate(logp, segments.log_prob.detach(), worth, segments.mask)

    return objective


def acted_log_ratio(feedback: Feedback, reference: Policy | None) -> Tensor | None:
    """log pi_old/pi_ref [B,K,T] of the policy that acted, 0 on padding; None without a reference. Raises ValueError for
    unknown log-probabilities."""
    if reference is None:
        return None
    segments = feedback.segments
    old = known(segments.log_prob, segments.mask, "the KL to a reference")
    with torch.no_grad():
        return torch.where(segments.mask, old - reference.log_prob(segments), 0.0)


def reinforce(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """-sum over t of advantage times log pi, mean over K (Williams 1992): exact for samples of the policy as it is."""
    return -(advantage * torch.where(mask, logp, 0.0)).sum(-1).mean(-1)


def clipped(eps: float = 0.2, level: Literal["step", "sequence"] = "step", mean: bool = False) -> Surrogate:
    """-min(ratio A, clip(ratio, 1 - eps, 1 + eps) A), mean over K: PPO's clip (arXiv 1707.06347, eq. 7).

    Ratios of steps are summed, or with `mean` averaged over the steps (GRPO, arXiv 2402.03300, eq. 3: long answers then
    count as much as short ones). level="sequence": one ratio of the whole (RLOO, arXiv 2402.14740), for an advantage of
    the whole. Raises ValueError for eps out of (0, 1), and unknown log-probabilities.
    """
    _width("eps", eps, below=1)
    if level not in ("step", "sequence") or (mean and level == "sequence"):
        raise ValueError(f"level is {level!r}, mean {mean}; choose 'step' or 'sequence', and a mean of steps alone")

    def surrogate(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        moved = _moved(logp, old, mask, "a ratio")
        if level == "sequence":
            moved, advantage = moved.sum(-1, keepdim=True), _whole(advantage, "clipped(level='sequence')")
        gain = _least(moved.exp(), advantage, 1 - eps, 1 + eps)
        if level == "sequence":
            return -gain.squeeze(-1).mean(-1)
        total = torch.where(mask, gain, 0.0).sum(-1)
        return -(total / mask.sum(-1) if mean else total).mean(-1)

    return surrogate


def pairwise_clipped(eps: float = 0.2) -> Surrogate:
    """P3O with the two ratios of a pair clipped separately, its V1 (arXiv 2310.00212); mean over all pairs of K.

    L_i = -min(c_i ratio_i, c_i clip(ratio_i, 1 - eps, 1 + eps)) with c_i = (A_i - A_j) ratio_j held constant, and half
    the sum of both: only differences of A count, so take `plain`. Raises ValueError for K = 1, eps out of (0, 1), and
    unknown log-probabilities.
    """
    _width("eps", eps, below=1)

    def surrogate(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        moved, gap = _pairs(logp, old, advantage, mask, "pairwise_clipped")
        worth = gap * moved.detach().exp().unsqueeze(-2)  # [B,K,K]
        return -_mean_pair(_least(moved.exp().unsqueeze(-1), worth, 1 - eps, 1 + eps))

    return surrogate


def jointly_clipped(delta: float = 0.4) -> Surrogate:
    """P3O with the pair's gap in log-probability clipped, its V2; mean over all pairs of K.

    L = -1/2 min(c g, c clip(g, g_old - delta, g_old + delta)) with g = log pi_1 - log pi_2 of the whole and
    c = (A_1 - A_2) ratio_1 ratio_2 held constant. In logarithms, so that long episodes do not underflow. Where nothing
    is clipped its gradient is that of `pairwise_clipped`. Raises ValueError as that does.
    """
    _width("delta", delta)

    def surrogate(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        moved, gap = _pairs(logp, old, advantage, mask, "jointly_clipped")
        total, begun = (torch.where(mask, x, 0.0).sum(-1) for x in (logp, old))
        now, before = (x.unsqueeze(-1) - x.unsqueeze(-2) for x in (total, begun))
        worth = gap * (moved.unsqueeze(-1) + moved.unsqueeze(-2)).detach().exp()
        return -_mean_pair(_least(now, worth, before - delta, before + delta)) / 2

    return surrogate


def _least(x: Tensor, worth: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    return torch.minimum(worth * x, worth * torch.clamp(x, low, high))  # type: ignore[arg-type]


def _pairs(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Log-ratios of the whole [B,K], and the gaps [B,K,K] of the first's advantage over the second's."""
    if mask.shape[1] < 2:
        raise ValueError(f"{what} compares samples, but K = 1; draw at least two from each context")
    whole = _whole(advantage, what).squeeze(-1)
    return _moved(logp, old, mask, what).sum(-1), whole.unsqueeze(-1) - whole.unsqueeze(-2)


def _mean_pair(x: Tensor) -> Tensor:
    """[B] of [B,K,K], whose diagonal is 0."""
    k = x.shape[-1]
    return x.sum((-2, -1)) / (k * (k - 1))


def _moved(logp: Tensor, old: Tensor, mask: Tensor, what: str) -> Tensor:
    return torch.where(mask, logp - known(old, mask, what), 0.0)


def known(old: Tensor, mask: Tensor, what: str) -> Tensor:
    """The log-probabilities [B,K,T] of when it acted. Raises ValueError where the mask has one that is not known."""
    if (unknown := mask & ~torch.isfinite(old)).any():
        row = int(unknown.nonzero()[0, 0])
        raise ValueError(
            f"segments.log_prob of row {row} is not known, and {what} asks how likely each step was when it was taken; "
            "have the sampler fill it in, or take reinforce without a reference"
        )
    return old.detach()


def _whole(advantage: Tensor, what: str) -> Tensor:
    if advantage.shape[-1] != 1:
        raise ValueError(
            f"{what} wants one advantage of each alternative, [B,K,1], but got {list(advantage.shape)}, one of each "
            "step; take plain, leave_one_out or group, or clip steps"
        )
    return advantage


def _width(name: str, value: float, below: float = math.inf) -> None:
    if not 0 < value < below:
        raise ValueError(f"{name} is {value}; give a number above 0" + (f" and below {below:g}" if below == 1 else ""))
