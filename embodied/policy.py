"""What the algorithms know of a policy: one differentiable number per step."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from embodied.feedback import Segments


class Policy(Protocol):
    """Anything that can say how likely the stored actions were. Sampling is a function elsewhere (a rollout,
    generation).
    """

    density: bool
    """Whether `log_prob` is of a density (continuous actions), which has a unit and may be positive."""

    def log_prob(self, segments: Segments) -> Tensor:
        """Log-density (arm) or log-probability (tokens) of every stored action, [B,K,T], differentiable in the
        parameters.

        Exact, not a bound: a diffusion or flow policy offers an error under another name instead. Values where
        `segments.mask` is false are ignored.
        """
        ...


@runtime_checkable
class Anchored(Protocol):
    """A policy that also knows how far it is from another of its kind."""

    def kl(self, reference: Policy, segments: Segments) -> Tensor:
        """KL(policy, reference) of the next action at each stored state, [B,K,T], exact."""
        ...
