"""What the algorithms know of a policy: one differentiable number per step."""

from typing import Protocol

from torch import Tensor

from embodied.feedback import Segments


class Policy(Protocol):
    """Anything that can say how likely the stored actions were. Sampling is a function elsewhere (a rollout,
    generation).
    """

    def log_prob(self, segments: Segments) -> Tensor:
        """Log-density (arm) or log-probability (tokens) of every stored action, [B,K,T], differentiable in the
        parameters.

        Exact, not a bound: a diffusion or flow policy offers an error under another name instead. Values where
        `segments.mask` is false are ignored.
        """
        ...
