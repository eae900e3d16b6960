"""How far a policy is from a reference, as a loss of its own: what is added to an objective with `plus`.

Which way round matters: KL(policy, reference), the reverse one, keeps the policy where the reference is; KL(reference,
policy), the forward one, keeps it from leaving anything out that the reference does.
"""

from typing import Literal

import torch
from torch import Tensor

from embodied.feedback import Feedback
from embodied.fit import Objective, precise
from embodied.policy import Anchored, Policy
from embodied.policy_gradient import known
from embodied.reference import Reference
from embodied.remembered import Remembered


def kl_term(
    policy: Policy, reference: Policy, estimator: Literal["exact", "k2", "k3"] = "exact", mean: bool = False
) -> Objective:
    """The KL of the next action at each step of the samples, summed over steps or with `mean` averaged; mean over K.

    With d = log pi/pi_ref of what was done, on samples of the policy itself (Schulman 2020, "Approximating KL
    divergence"): exact asks the policy, KL(policy, reference). k2 is d^2/2: its expected gradient is that KL's. k3 is
    e^-d - 1 + d, GRPO's: its value is that KL, but its expected *gradient* is of the forward one, KL(reference,
    policy). k1, d itself, is refused: as a loss its expected gradient is 0. None of these makes a step answer for where
    it leads to; the price `kl` within an advantage does. Raises TypeError for a policy that is not Anchored, if exact.
    """
    if estimator not in ("exact", "k2", "k3"):
        raise ValueError(
            f"no estimator {estimator!r}; choose exact, k2 or k3. k1 belongs into the reward, where it is right: "
            "leave_one_out(kl=...)"
        )
    anchor = _own(reference)
    if estimator == "exact" and not isinstance(policy, Anchored):
        raise TypeError(
            f"{type(policy).__name__} has no kl(reference, segments) -> [B,K,T]; add it, or take the estimator k2"
        )

    def objective(feedback: Feedback) -> Tensor:
        segments = feedback.segments
        if estimator == "exact" and isinstance(policy, Anchored):
            each = policy.kl(anchor, segments)
        else:
            logp = precise("log-probabilities", policy.log_prob(segments))
            with torch.no_grad():
                ref = reference.log_prob(segments)
            d = torch.where(segments.mask, logp - ref, 0.0)
            each = d**2 / 2 if estimator == "k2" else torch.expm1(-d) + d
        return _over_steps(each, segments.mask, mean)

    return objective


def forward_kl(policy: Policy, reference: Policy) -> Objective:
    """KL(reference, policy) of the next action, mean over the steps of the samples and K: SuperHF's prior
    (arXiv 2310.16763), which is a sum over the batch there and a mean here.

    Exact where the reference is Anchored. Otherwise from the actions themselves, weighed by how likely the policy that
    acted made them: the mean of (p log(p/pi) + pi - p)/pi_old, p the reference, which is the KL without bias, never
    below 0, also where the policy has moved since. Then raises ValueError for unknown log-probabilities.
    """
    anchor = _own(reference)

    def objective(feedback: Feedback) -> Tensor:
        segments = feedback.segments
        if isinstance(anchor, Anchored):
            return _over_steps(anchor.kl(policy, segments), segments.mask, mean=True)
        logp = precise("log-probabilities", policy.log_prob(segments))
        old = known(segments.log_prob, segments.mask, "the forward KL from samples")
        with torch.no_grad():
            ref = reference.log_prob(segments)
        logp, old, ref = (torch.where(segments.mask, x, 0.0) for x in (logp, old, ref))
        weight = (ref - old).exp()
        return _over_steps(weight * (ref - logp) + (logp - old).exp() - weight, segments.mask, mean=True)

    return objective


def _own(reference: Policy) -> Policy:
    """The policy itself, which knows its KL."""
    return reference.policy if isinstance(reference, Reference | Remembered) else reference


def _over_steps(each: Tensor, mask: Tensor, mean: bool) -> Tensor:
    total = torch.where(mask, each, 0.0).sum(-1)
    return (total / mask.sum(-1) if mean else total).mean(-1)
