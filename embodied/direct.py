"""Direct alignment: a policy is fitted to preferences with no reward model between.

fit(direct(policy, dpo()), feedback, opt, steps=1000, batch=64, rng=rng)
"""

import copy
import hashlib

import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.fit import Objective, judged
from embodied.methods import Method
from embodied.policy import Anchored, Policy
from embodied.scores import mean_log_prob


class MixedContexts(ValueError):
    """Segments from different starts, held against each other by a method for which all must begin in one state."""


def direct(policy: Policy, method: Method, reference: Policy | None = None) -> Objective:
    """The method as an objective for `fit`; only the policy learns.

    Without a reference, a method that needs one takes a copy of the policy as it is now; whoever resumes a run gives
    it, since the policy has moved. Its log-probabilities are computed once for each row and kept, so it must not
    change. The objective raises MixedContexts, and ValueError where the method fits no densities or unequal lengths.
    """
    scorer = Implied(policy, method, reference)

    def objective(feedback: Feedback) -> Tensor:
        if method.same_context and not feedback.same_context.all():
            mixed = int((~feedback.same_context).sum())
            raise MixedContexts(
                f"{mixed} of {len(feedback)} rows compare segments from different starts, where what {method.name} "
                "drops (the log-partition of each start) does not cancel; ask about segments from one start, take cpl, "
                "or insist with replace(method, same_context=False)"
            )
        logp, score = scorer.both(feedback.segments)
        losses = judged(score, feedback, method.loss, method.label_model)
        if method.likelihood:
            best = feedback.target == feedback.target.amax(-1, keepdim=True)
            mean = mean_log_prob(logp, logp, feedback.segments.mask)
            losses = losses - method.likelihood * (best * mean).sum(-1) / best.sum(-1)
        return losses

    return objective


class Implied:
    """What the method takes segments for, [B,K], differentiable: of DPO, the reward implied by the policy, over beta.

    Reference and errors as for `direct`.
    """

    def __init__(self, policy: Policy, method: Method, reference: Policy | None = None) -> None:
        density = getattr(policy, "density", None)
        if density is None:
            raise TypeError(
                f"{type(policy).__name__} does not say what its log_prob is; set density = True (continuous actions) "
                "or False (probabilities)"
            )
        if density and method.densities == "no":
            raise ValueError(
                f"{method.name} needs 1 - p of an action, which the density of a continuous action does not have; take "
                "a method with a log-ratio or a mean (dpo, ipo, kto, simpo), or discretise the actions"
            )
        if reference is policy:
            raise ValueError("the reference is the policy itself and would learn with it; give copy.deepcopy(policy)")
        if method.reference and reference is None:
            reference = copy.deepcopy(policy)
        if method.anchor and not isinstance(policy, Anchored):
            raise TypeError(
                f"{method.name} counts from the policy's KL to its reference, but {type(policy).__name__} has no "
                "kl(reference, segments) -> [B,K,T]; add it, or take apo_zero"
            )
        self.policy, self.method = policy, method
        self.reference = _Remembered(reference) if method.reference and reference is not None else None
        self.equal = density and method.densities == "equal lengths"

    def __call__(self, segments: Segments) -> Tensor:
        return self.both(segments)[1]

    def both(self, segments: Segments) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B,K,T] of the policy, and scores [B,K]."""
        steps = segments.mask.sum(-1)
        if self.equal and (steps != steps[:, :1]).any():
            row = int((steps != steps[:, :1]).any(-1).nonzero()[0])
            raise ValueError(
                f"row {row} compares {steps[row].tolist()} steps, and {self.method.name} adds up log-densities, whose "
                "unit then decides with the length; cut segments to one length, or take simpo or a method with a "
                "reference"
            )
        logp = self.policy.log_prob(segments)
        ref = torch.zeros_like(logp) if self.reference is None else self.reference.log_prob(segments)
        score = self.method.score(logp, ref, self.method.steps(segments))
        if self.method.anchor and self.reference is not None and isinstance(self.policy, Anchored):
            with torch.no_grad():
                kl = self.policy.kl(self.reference.policy, segments)
            score = score - torch.where(segments.mask, kl, 0.0).sum(-1).mean()
        return logp, score


class _Remembered:
    """A policy that does not change: each row's log-probabilities are computed once, found again by what is in it."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.known: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def log_prob(self, segments: Segments) -> Tensor:
        obs = segments.obs.values() if isinstance(segments.obs, dict) else [segments.obs]
        flat = [x.detach().cpu().flatten(1).contiguous() for x in (*obs, segments.act, segments.mask)]
        parts = [x.view(torch.uint8).numpy() for x in flat]
        keys = [hashlib.blake2b(b"".join(x[b].tobytes() for x in parts)).digest() for b in range(len(segments))]
        if new := [b for b, key in enumerate(keys) if key not in self.known]:
            self.known.update(zip((keys[b] for b in new), self.policy.log_prob(segments[new]).clone(), strict=True))
        return torch.stack([self.known[key] for key in keys])
