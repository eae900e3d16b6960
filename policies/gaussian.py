"""A Gaussian about the output of a small network: a policy for vectors of observations and any box of actions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from embodied.feedback import Segments
from policies.mlp import Layers

Array = npt.NDArray[Any]
LOG_STD = (-5.0, 2.0)  # without a floor, a density has no upper bound, and losses that raise it no minimum


class GaussianPolicy(nn.Module):
    """Actions [A] from observations [O]: the mean from a network with tanh between its layers, deviations of their own.

    Actions are clipped to [low, high] (a number each, or [A]) when it acts; densities are of what was meant, before.
    Mean and deviation are in units of half that range. Observations are standardised by `standardise`, once, or taken
    as they are. The stream that it draws from is part of the state. Raises ValueError for impossible sizes and bounds.
    """

    density = True
    low: Tensor
    high: Tensor
    obs_mean: Tensor
    obs_std: Tensor

    def __init__(
        self,
        obs_size: int,
        act_size: int,
        *,
        seed: int,
        low: Array | float = -1.0,
        high: Array | float = 1.0,
        hidden: tuple[int, ...] = (64, 64),
        log_std: float = -1.0,
    ) -> None:
        super().__init__()
        self.sizes = (obs_size, *hidden, act_size)
        if min(self.sizes) < 1 or not LOG_STD[0] <= log_std <= LOG_STD[1]:
            raise ValueError(
                f"sizes {self.sizes}, log_std {log_std}; give at least 1 of each, and a log_std within {LOG_STD}"
            )
        for name, bound in (("low", low), ("high", high)):
            full = np.broadcast_to(np.asarray(bound, np.float32), (act_size,)).copy()
            self.register_buffer(name, torch.from_numpy(full))
        if not (torch.isfinite(self.low) & torch.isfinite(self.high) & (self.low < self.high)).all():
            raise ValueError(f"actions lie between {low} and {high}; give finite bounds, the low below the high")
        self.register_buffer("obs_mean", torch.zeros(obs_size))
        self.register_buffer("obs_std", torch.ones(obs_size))
        draw = torch.Generator().manual_seed(seed)
        shapes = list(pairwise(self.sizes))
        self.weights = nn.ParameterList((torch.rand(b, a, generator=draw) * 2 - 1) / math.sqrt(a) for a, b in shapes)
        self.biases = nn.ParameterList(torch.zeros(b) for _, b in shapes)
        with torch.no_grad():
            self.weights[-1] *= 0.01  # begins by doing next to nothing
        self.log_std = nn.Parameter(torch.full((act_size,), log_std))
        self._rng = np.random.default_rng(seed)

    @classmethod
    def of(
        cls, layers: Layers, log_std: Array, *, seed: int, low: Array | float = -1.0, high: Array | float = 1.0
    ) -> GaussianPolicy:
        """The policy of a trained network, such as stable-baselines3's: `layers` and log_std [A] in action units."""
        sizes = [layers.weights[0].shape[1], *(len(bias) for bias in layers.biases)]
        policy = cls(sizes[0], sizes[-1], seed=seed, low=low, high=high, hidden=tuple(sizes[1:-1]))
        middle, reach = policy._middle_reach()
        with torch.no_grad():
            for i, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
                policy.weights[i].copy_(torch.as_tensor(weight))
                policy.biases[i].copy_(torch.as_tensor(bias))
            policy.weights[-1] /= reach[:, None]
            policy.biases[-1].copy_((policy.biases[-1] - middle) / reach)
            policy.log_std.copy_((torch.as_tensor(log_std) - reach.log()).clamp(*LOG_STD))
        return policy

    def layers(self) -> Layers:
        """The mean as `of` takes it: from standardised observations to units of the action, before the bounds."""
        middle, reach = self._middle_reach()
        weights, biases = list(self.weights), list(self.biases)
        weights[-1], biases[-1] = reach[:, None] * weights[-1], middle + reach * biases[-1]
        return Layers(*(tuple(x.detach().numpy().copy() for x in part) for part in (weights, biases)))

    @torch.no_grad()
    def standardise(self, segments: Segments) -> None:
        """Take mean and deviation of these observations for all time; call it before anything is learned."""
        obs = vectors(segments)[segments.mask]
        std = obs.std(0, correction=0)
        self.obs_mean.copy_(obs.mean(0))
        self.obs_std.copy_(torch.where(std > 1e-6, std, 1.0))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [...,A] and log of the deviation [A] of the action at [...,O], both in units of the action."""
        x = (obs - self.obs_mean) / self.obs_std
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = nn.functional.linear(torch.tanh(x) if i else x, weight, bias)
        middle, reach = self._middle_reach()
        return middle + reach * x, self.log_std.clamp(*LOG_STD) + reach.log()

    def log_prob(self, segments: Segments) -> Tensor:
        """Log-density [B,K,T] of the stored actions, unaware of the bounds they were clipped to; differentiable."""
        mean, log_std = self(vectors(segments))
        miss = (segments.act - mean) * torch.exp(-log_std)
        return (-0.5 * miss**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def kl(self, reference: GaussianPolicy, segments: Segments) -> Tensor:
        """KL of this policy from another one at each stored state, [B,K,T], exact; in nats."""
        (mean, log_std), (theirs, their_log_std) = self(vectors(segments)), reference(vectors(segments))
        squares = torch.exp(2 * log_std) + (mean - theirs) ** 2
        return (their_log_std - log_std + squares / (2 * torch.exp(2 * their_log_std)) - 0.5).sum(-1)

    @torch.no_grad()
    def act(self, obs: Array, deterministic: bool = True) -> Array:
        """Actions [...,A] within the bounds for observations [...,O]; stochastic ones draw from the own stream."""
        mean, log_std = self(torch.as_tensor(np.asarray(obs), dtype=self.log_std.dtype))
        if not deterministic:
            noise = torch.from_numpy(self._rng.standard_normal(mean.shape)).to(mean)
            mean = mean + noise * torch.exp(log_std)
        chosen: Array = torch.minimum(torch.maximum(mean, self.low), self.high).numpy()
        return chosen

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        sizes = "-".join(map(str, self.sizes))
        return f"GaussianPolicy {sizes}, actions from {self.low.tolist()} to {self.high.tolist()}"

    def get_extra_state(self) -> dict[str, Any]:
        return {"stream": self._rng.bit_generator.state}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = state["stream"]

    def _middle_reach(self) -> tuple[Tensor, Tensor]:
        return (self.low + self.high) / 2, (self.high - self.low) / 2


def vectors(segments: Segments) -> Tensor:
    """The observations [B,K,T,O]; raises ValueError for a dict of them."""
    if isinstance(segments.obs, dict):
        raise ValueError(f"observations are a dict of {', '.join(segments.obs)}; encode them to one tensor first")
    return segments.obs
