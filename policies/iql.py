"""Implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169): a policy from recorded transitions alone.

The value of a state is an upper expectile of the values of the actions that were taken there, so no action is ever
scored that nobody took; the policy imitates what was taken, weighted by how much better than that value it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from embodied.episodes import Episode
from embodied.feedback import Segments

Array = npt.NDArray[Any]
Reward = Callable[[Array, Array], Array]

MOST_WEIGHT = 100.0  # of one action, as in the paper's code
LOG_STD = (-5.0, 2.0)
CHUNK = 65_536  # steps that a reward is asked about at once


@dataclass(frozen=True, eq=False)
class Transitions:
    """obs, next_obs [N,O], act [N,A], reward, over [N], float32; `over` is 1 where nothing follows, else 0."""

    obs: Tensor
    act: Tensor
    reward: Tensor
    next_obs: Tensor
    over: Tensor

    def __len__(self) -> int:
        return len(self.reward)


def transitions(episodes: Iterable[Episode], reward: Reward) -> Transitions:
    """All steps of the episodes, paid by `reward` (obs [B,O], act [B,A]) -> [B].

    What follows the last step of an episode is `info["final_obs"]` [O] where that was recorded; without it the last
    step of an episode that was cut off is dropped, since nobody knows what it led to. Raises ValueError for
    observations that are not vectors, episodes of different sizes, rewards that are not finite, and nothing to learn.
    """
    obs, act, following, over = list[Array](), list[Array](), list[Array](), list[Array]()
    for episode in episodes:
        if episode.obs.ndim != 2 or episode.act.ndim != 2:
            raise ValueError(
                f"episode {episode.id!r} has obs {episode.obs.shape} and act {episode.act.shape}; give [T,O] and "
                "[T,A]: encode pictures first"
            )
        if obs and (episode.obs.shape[1], episode.act.shape[1]) != (obs[0].shape[1], act[0].shape[1]):
            raise ValueError(
                f"episode {episode.id!r} has steps of {episode.obs.shape[1]} and {episode.act.shape[1]} numbers, those "
                f"before it {obs[0].shape[1]} and {act[0].shape[1]}; take one environment at a time"
            )
        final = episode.info.get("final_obs")
        known = final is not None or episode.terminated
        steps = len(episode) if known else len(episode) - 1
        last = episode.obs[-1] if final is None else final
        obs.append(episode.obs[:steps])
        act.append(episode.act[:steps])
        following.append(np.concatenate([episode.obs[1:], last[None]])[:steps])
        over.append(np.zeros(steps))
        if steps:
            over[-1][-1] = episode.terminated
    if not sum(map(len, over)):
        raise ValueError(f"{len(obs)} episodes hold no step with a known successor; record longer ones")
    arrays = [np.concatenate(x).astype(np.float32) for x in (obs, act, following, over)]
    parts = [reward(arrays[0][i : i + CHUNK], arrays[1][i : i + CHUNK]) for i in range(0, len(arrays[0]), CHUNK)]
    paid = np.concatenate(parts).astype(np.float32)
    if paid.shape != (len(arrays[0]),) or not np.isfinite(paid).all():
        found = (
            f"shape {paid.shape}" if paid.shape != (len(arrays[0]),) else f"{paid[~np.isfinite(paid)][0]} among them"
        )
        raise ValueError(f"the rewards of {len(arrays[0])} steps have {found}; give one finite number per step")
    tensors = [torch.from_numpy(x) for x in arrays]
    return Transitions(tensors[0], tensors[1], torch.from_numpy(paid), tensors[2], tensors[3])


class Iql:
    """Actions within [low, high] (one number, or [A]) from observations [O]; a Gaussian about the tanh of a network.

    The defaults are the paper's for locomotion: expectile .7, temperature 3 (beta, the inverse one: 0 is behaviour
    cloning), gamma .99, tau .005, Adam 3e-4, batches of 256, but a constant learning rate for the policy: a schedule
    would need to know the end. Observations are standardised by the data of the first `fit`. Raises ValueError for
    impossible settings.
    """

    density = True

    def __init__(
        self,
        obs_size: int,
        act_size: int,
        *,
        seed: int,
        low: Array | float = -1.0,
        high: Array | float = 1.0,
        hidden: tuple[int, ...] = (256, 256),
        expectile: float = 0.7,
        temperature: float = 3.0,
        gamma: float = 0.99,
        tau: float = 0.005,
        rate: float = 3e-4,
        batch: int = 256,
    ) -> None:
        if not (0 < expectile < 1 and 0 <= temperature < math.inf and 0 <= gamma <= 1 and 0 < tau <= 1):
            raise ValueError(
                f"expectile {expectile}, temperature {temperature}, gamma {gamma}, tau {tau}; give an expectile inside "
                "(0, 1), a temperature >= 0, gamma in [0, 1] and tau in (0, 1]"
            )
        if min(obs_size, act_size, batch, *hidden) < 1 or not rate > 0:
            raise ValueError(
                f"sizes obs {obs_size}, act {act_size}, hidden {hidden}, batch {batch}, rate {rate}; give at least 1, "
                "and a rate above 0"
            )
        self.expectile, self.temperature, self.gamma, self.tau, self.batch = expectile, temperature, gamma, tau, batch
        self._sizes = (obs_size, *hidden, act_size)
        bounds = [torch.as_tensor(np.broadcast_to(b, (act_size,)).astype(np.float32)) for b in (low, high)]
        if not (torch.isfinite(bounds[0]) & torch.isfinite(bounds[1]) & (bounds[0] < bounds[1])).all():
            raise ValueError(f"actions lie between {low} and {high}; give finite bounds, the low below the high")
        self._middle, self._reach = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
        draw = torch.Generator().manual_seed(seed)
        self.actor = _Networks(1, (obs_size, *hidden, act_size), draw)
        self.log_std = nn.Parameter(torch.zeros(act_size))
        self.value = _Networks(1, (obs_size, *hidden, 1), draw)
        self.critics = _Networks(2, (obs_size + act_size, *hidden, 1), draw)
        self.targets = _Networks(2, (obs_size + act_size, *hidden, 1), draw)
        self.targets.load_state_dict(self.critics.state_dict())
        self._parts = {"actor": self.actor, "value": self.value, "critics": self.critics, "targets": self.targets}
        trained = [self.log_std, *(p for part in (self.actor, self.value, self.critics) for p in part.parameters())]
        self._opt = torch.optim.Adam(trained, lr=rate, fused=True)
        self._mean, self._std = torch.zeros(obs_size), torch.ones(obs_size)
        self.steps = 0
        self._rng = np.random.default_rng(seed)

    def fit(
        self, data: Transitions, steps: int, progress: Callable[[int], object] = lambda n: None
    ) -> dict[str, float]:
        """Train for `steps` batches; returns their mean losses, and the mean `weight` of an imitated action.

        Everything that is carried is in the state, so fit(a); fit(b) equals fit(a + b) bit for bit on CPU. Raises
        ValueError for data of other sizes, and when a loss is no longer finite.
        """
        if steps < 0 or not len(data):
            raise ValueError(f"steps is {steps} and the data holds {len(data)} transitions; give at least 0 and 1")
        if (data.obs.shape[1], data.act.shape[1]) != (self._sizes[0], self._sizes[-1]):
            raise ValueError(
                f"the data has observations of {data.obs.shape[1]} and actions of {data.act.shape[1]} numbers, this "
                f"policy {self._sizes[0]} and {self._sizes[-1]}; make it for this data"
            )
        if not self.steps:
            std = data.obs.std(0, correction=0)
            self._mean, self._std = data.obs.mean(0), torch.where(std > 1e-6, std, 1.0)
        # Standardised once, not in every batch.
        obs, following = self._standard(data.obs), self._standard(data.next_obs)
        act = (data.act - self._middle) / self._reach
        sums = np.zeros(4)
        for step in range(steps):
            rows = torch.from_numpy(self._rng.integers(len(data), size=self.batch))
            report = self._step(obs[rows], act[rows], data.reward[rows], following[rows], data.over[rows])
            if not np.isfinite(report).all():
                raise ValueError(
                    f"the losses are {np.round(report, 4).tolist()} at step {self.steps}; lower the learning rate, or "
                    "scale the reward to about 1 per step"
                )
            sums += report
            self.steps += 1
            progress(step + 1)
        mean = sums / max(steps, 1) if steps else np.full(4, math.nan)
        return dict(zip(("value", "policy", "critic", "weight"), mean.tolist(), strict=True))

    def _step(self, obs: Tensor, act: Tensor, reward: Tensor, following: Tensor, over: Tensor) -> Array:
        # One descent on the sum: what one network learns from another is cut off, so each has its own loss.
        both = torch.cat([obs, act], -1)
        value = self.value(obs)[0, :, 0]
        with torch.no_grad():
            gap = self.targets(both)[..., 0].min(0).values - value
            wanted = reward + self.gamma * (1 - over) * self.value(following)[0, :, 0]
            weight = torch.exp(self.temperature * gap).clamp(max=MOST_WEIGHT)
            taken = gap + value
        losses = (
            (torch.where(gap > 0, self.expectile, 1 - self.expectile) * (taken - value) ** 2).mean(),
            -(weight * self._log_prob(obs, act)).mean(),
            ((self.critics(both)[..., 0] - wanted) ** 2).mean(1).sum(),
        )
        self._opt.zero_grad()
        torch.stack(losses).sum().backward()
        self._opt.step()
        with torch.no_grad():
            for target, critic in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                target.lerp_(critic, self.tau)
        report: Array = torch.stack([*losses, weight.mean()]).detach().numpy()
        return report

    def _standard(self, obs: Tensor) -> Tensor:
        return (obs - self._mean) / self._std

    def _log_prob(self, obs: Tensor, act: Tensor) -> Tensor:
        """Of actions in units of their bounds; obs standardised."""
        log_std = self.log_std.clamp(*LOG_STD)
        miss = (act - torch.tanh(self.actor(obs)[0])) * torch.exp(-log_std)
        return (-0.5 * miss**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def log_prob(self, segments: Segments) -> Tensor:
        """Log-density [B,K,T] of the stored actions before they are clipped to their bounds, differentiable."""
        if isinstance(segments.obs, dict):
            raise ValueError(f"observations are a dict of {', '.join(segments.obs)}; encode them to one tensor first")
        act = (segments.act - self._middle) / self._reach
        return self._log_prob(self._standard(segments.obs), act) - torch.log(self._reach).sum()

    @torch.no_grad()
    def act(self, obs: Array, deterministic: bool = True) -> Array:
        """Actions [...,A] within the bounds for observations [...,O]; stochastic ones draw from the own stream."""
        seen = self._standard(torch.as_tensor(np.asarray(obs, np.float32)))
        act = torch.tanh(self.actor(seen)[0])
        if not deterministic:
            noise = torch.from_numpy(self._rng.standard_normal(act.shape).astype(np.float32))
            act = (act + noise * torch.exp(self.log_std.clamp(*LOG_STD))).clamp(-1, 1)
        chosen: Array = (self._middle + self._reach * act).numpy()
        return chosen

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self._parts.items()},
            "log_std": self.log_std.detach(),
            "optimiser": self._opt.state_dict(),
            "mean": self._mean,
            "std": self._std,
            "steps": self.steps,
            "stream": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        with torch.no_grad():
            self.log_std.copy_(state["log_std"])
        self._opt.load_state_dict(state["optimiser"])
        self._mean, self._std = state["mean"].clone(), state["std"].clone()
        self.steps = int(state["steps"])
        self._rng.bit_generator.state = state["stream"]

    def fingerprint(self) -> str:
        """What must agree for a saved state to fit."""
        bounds = [(self._middle + sign * self._reach).tolist() for sign in (-1, 1)]
        return f"Iql of {'-'.join(map(str, self._sizes))}, actions from {bounds[0]} to {bounds[1]}"


class _Networks(nn.Module):
    """n rectified perceptrons of one shape as one batched product, [...,I] -> [n,...,O]; first weights as torch's."""

    def __init__(self, n: int, sizes: tuple[int, ...], draw: torch.Generator) -> None:
        super().__init__()

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(shape, generator=draw) - 1) / math.sqrt(fan_in))

        self.n = n
        self.weights = nn.ParameterList(uniform(n, a, b, fan_in=a) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(uniform(n, 1, b, fan_in=a) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(1, -1, x.shape[-1]).expand(self.n, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = torch.baddbmm(bias, torch.relu(y) if layer else y, weight)
        return y.reshape(self.n, *x.shape[:-1], -1)
