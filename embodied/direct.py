"""Direct alignment: a policy is fitted to preferences with no reward model between.

fit(direct(policy, dpo()), feedback, opt, steps=1000, batch=64, rng=rng)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from embodied.feedback import Feedback, Segments
from embodied.fit import judged, precise
from embodied.methods import Method
from embodied.policy import Anchored, Policy
from embodied.reference import Reference
from embodied.remembered import Remembered
from embodied.scores import mean_log_prob


class MixedContexts(ValueError):
    """Segments from different starts, held against each other by a method for which all must begin in one state."""


def direct(policy: Policy, method: Method, reference: Policy | None = None) -> "Direct":
    """The method as an objective for `fit`; only the policy learns.

    Without a reference, a method that needs one takes a copy of the policy as it is now; whoever resumes a run gives
    it, since the policy has moved. Its log-probabilities are computed once for each alternative and kept, so only a
    `Reference`, which then forgets them, may change. Raises ValueError or TypeError for a policy that the method cannot
    be used on.
    """
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
    if policy in (reference, getattr(reference, "policy", None)):
        raise ValueError("the reference is the policy itself and would learn with it; give copy.deepcopy(policy)")
    if method.anchor and not isinstance(policy, Anchored):
        raise TypeError(
            f"{method.name} counts from the policy's KL to its reference, but {type(policy).__name__} has no "
            "kl(reference, segments) -> [B,K,T]; add it, or take apo_zero"
        )
    if not method.reference:
        return Direct(policy, method, None)
    if reference is None:
        return Direct(policy, method, Reference(policy))
    held = reference if isinstance(reference, Reference | Remembered) else Remembered(reference)
    return Direct(policy, method, held)


class Direct:
    """An objective that `direct` made. `losses` is the same as a function of log-probabilities, whoever they are of."""

    def __init__(
        self,
        policy: Policy,
        method: Method,
        reference: Reference | Remembered | None,
        anchor: Tensor | None = None,
    ) -> None:
        self.policy, self.method, self.reference, self.anchor = policy, method, reference, anchor

    def __call__(self, feedback: Feedback) -> Tensor:
        """[B]. Raises MixedContexts, and ValueError for sums of densities over unequal lengths."""
        return self.losses(self.policy.log_prob(feedback.segments), feedback)

    def over(self, parts: Sequence[Segments]) -> "Direct":
        """The objective for a batch in these parts: KTO's anchor is the mean over all of its rows."""
        if len(parts) < 2 or not self.method.anchor:
            return self
        kl = torch.cat([self._kl(part).flatten() for part in parts])
        return Direct(self.policy, self.method, self.reference, kl.mean())

    def score(self, segments: Segments) -> Tensor:
        """What the method takes segments for, [B,K], differentiable: of DPO, the reward implied by the policy over
        beta."""
        return self._score(self.policy.log_prob(segments), segments)

    def losses(self, logp: Tensor, feedback: Feedback) -> Tensor:
        """The losses [B] if the policy's log-probabilities were `logp` [B,K,T]."""
        method, segments = self.method, feedback.segments
        if method.same_context and not feedback.same_context.all():
            mixed = int((~feedback.same_context).sum())
            raise MixedContexts(
                f"{mixed} of {len(feedback)} rows compare segments from different starts, where what {method.name} "
                "drops (the log-partition of each start) does not cancel; ask about segments from one start, take cpl, "
                "or insist with replace(method, same_context=False)"
            )
        losses = judged(self._score(logp, segments), feedback, method.loss, method.label_model)
        if method.likelihood:
            best = feedback.target == feedback.target.amax(-1, keepdim=True)
            mean = mean_log_prob(logp, logp, segments.mask)
            losses = losses - method.likelihood * (best * mean).sum(-1) / best.sum(-1)
        return losses

    def _score(self, logp: Tensor, segments: Segments) -> Tensor:
        precise("log-probabilities", logp)
        steps = segments.mask.sum(-1)
        dense = self.policy.density and self.method.densities == "equal lengths"
        if (dense or self.method.equal_lengths) and (steps != steps[:, :1]).any():
            row = int((steps != steps[:, :1]).any(-1).nonzero()[0])
            what = (
                "log-densities, whose unit then decides with the length"
                if dense
                else "log-probabilities, which fall with every step, so that the shorter one would seem the better"
            )
            raise ValueError(
                f"row {row} compares {steps[row].tolist()} steps, and {self.method.name} adds up {what}; cut segments "
                "to one length, or take simpo or a method with a reference"
            )
        ref = torch.zeros_like(logp) if self.reference is None else self.reference.log_prob(segments)
        score = self.method.score(logp, ref, self.method.steps(segments))
        if self.method.anchor:
            score = score - (self._kl(segments).mean() if self.anchor is None else self.anchor)
        return score

    @torch.no_grad()
    def _kl(self, segments: Segments) -> Tensor:
        """The KL from the reference over each alternative's steps, [B,K]."""
        assert self.reference is not None and isinstance(self.policy, Anchored)
        return torch.where(segments.mask, self.policy.kl(self.reference.policy, segments), 0.0).sum(-1)
