"""stable-baselines3's stock PPO as an agent that is advanced in chunks and whose whole state can be saved.

Nothing of PPO is written again here. SB3 draws its action noise and its shuffling from the process-wide streams of
torch and numpy; the agent swaps its own in while it works and the others back afterwards. So agents and learners in
one process never disturb each other, and a resumed run equals an uninterrupted one bit for bit on CPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

from policies.mlp import Layers, mean
from policies.vec_adapter import NotFinite, Reward, VecAdapter

if TYPE_CHECKING:
    from embodied.feedback import Segments

__all__ = ["NotFinite", "Reward", "Rollout", "Sb3", "Sb3Policy", "VecAdapter"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rollout:
    """What happened while the agent was advanced; an episode counts in the rollout in which it ended.

    steps: environment steps, all copies together. success [episodes]: 1, 0, or NaN where the environment does not
    tell. own_returns [episodes]: undiscounted sums of the environment's own reward. returns [episodes]: sums of the
    reward that PPO was given. metrics: what SB3 logged in the last update (train/approx_kl, train/value_loss, ...).
    """

    steps: int
    success: Array
    own_returns: Array
    returns: Array
    metrics: Mapping[str, float] = field(default_factory=dict)


class _Clamp(BaseCallback):
    """Keeps log_std in a range; before a rollout, so that the noise that acts has the density that is stored."""

    def __init__(self, log_std: Tensor, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.log_std, self.bounds = log_std, bounds

    def _on_rollout_start(self) -> None:
        with torch.no_grad():
            self.log_std.clamp_(*self.bounds)

    def _on_step(self) -> bool:
        return True


class Sb3Policy:
    """An agent's Gaussian policy as algorithms see it (`embodied.policy.Policy`); its parameters are the agent's."""

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module

    def log_prob(self, segments: Segments) -> Tensor:
        """Log density [B,K,T] of the stored actions, unaware of the bounds they were clipped to; differentiable."""
        obs, act = segments.obs, segments.act
        if not isinstance(obs, Tensor):
            raise ValueError(f"observations are a dict of {sorted(obs)}; encode them into one array [B,K,T,O]")
        density: Tensor = self.module.get_distribution(obs.flatten(0, 2)).log_prob(act.flatten(0, 2))
        return density.view(act.shape[:3])

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the mean, and log_std; not the value function's."""
        yield from self.mean_parameters()
        yield self.module.log_std

    def mean_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the mean alone: cloning with these leaves the exploration noise as it is."""
        yield from self.module.mlp_extractor.policy_net.parameters()
        yield from self.module.action_net.parameters()


class Sb3:
    """PPO on a gymnasium vector environment, on CPU.

    seed: of the networks and of the agent's own streams. reward: replaces the environment's (see `Reward`).
    log_std_range: the log standard deviation of the actions is clamped to it at the start of each rollout.
    ppo_kwargs: arguments of stable_baselines3.PPO (the policy is its MlpPolicy with tanh). Rates are numbers:
    a schedule would see a chunk and not the run. Assign `learning_rate` between chunks instead.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        *,
        seed: int,
        reward: Reward | None = None,
        log_std_range: tuple[float, float] | None = None,
        learning_rate: float = 3e-4,
        **ppo_kwargs: Any,
    ) -> None:
        for name, value in {"learning_rate": learning_rate, **ppo_kwargs}.items():
            if name in ("learning_rate", "clip_range", "clip_range_vf") and callable(value):
                raise ValueError(f"{name} is a schedule, which would see each chunk and not the run; give a number")
        if ppo_kwargs.get("use_sde"):
            raise ValueError("use_sde is True, and noise that depends on the state has no log_std; leave it out")
        if log_std_range is not None and not log_std_range[0] <= log_std_range[1]:
            raise ValueError(f"log_std_range is {log_std_range}; give (lowest, highest)")
        self.learning_rate = learning_rate
        self.env = VecAdapter(env, reward, seed=seed)
        self._streams = _streams()  # replaced by seeded ones as PPO is made
        rate = lambda _: self.learning_rate  # noqa: E731
        with self._own_streams():
            self.ppo = PPO("MlpPolicy", self.env, seed=seed, device="cpu", learning_rate=rate, **ppo_kwargs)
        self.module: Any = self.ppo.policy
        if not all(isinstance(part, nn.Linear | nn.Tanh) for part in self.module.mlp_extractor.policy_net):
            raise ValueError("activation_fn is not torch.nn.Tanh; leave it out: exported policies are tanh networks")
        self.ppo.set_logger(Logger(folder=None, output_formats=[]))  # the default makes a folder at every call of learn
        self.policy = Sb3Policy(self.module)
        self._clamp = None if log_std_range is None else _Clamp(self.module.log_std, log_std_range)
        self._low, self._high = self.env.action_space.low, self.env.action_space.high  # type: ignore[attr-defined]
        self._layers = Layers.of(self._arrays())  # views, which follow the parameters

    @property
    def rollout_steps(self) -> int:
        """Environment steps of one rollout: n_steps times the number of copies."""
        return self.ppo.n_steps * self.env.num_envs

    def advance(self, steps: int, between: Callable[[Rollout], None] | None = None) -> Rollout:
        """Train for `steps` environment steps, a multiple of `rollout_steps` (else ValueError).

        advance(a); advance(b) equals advance(a + b). between: called after each rollout and its update with what
        happened in it; may change the reward, the learning rate, or what the reward reads.
        """
        if steps < 1 or steps % self.rollout_steps:
            raise ValueError(
                f"steps is {steps}, and PPO advances by whole rollouts; give a multiple of {self.rollout_steps} "
                f"({self.ppo.n_steps} steps of {self.env.num_envs} environments)"
            )
        rollouts: list[Rollout] = []
        for _ in range(steps // self.rollout_steps):
            rollouts.append(self._rollout())
            if between is not None:
                between(rollouts[-1])
        return _joined(rollouts)

    def _rollout(self) -> Rollout:
        try:
            with self._own_streams():
                self.ppo.learn(self.rollout_steps, callback=self._clamp, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
        finally:
            self._check_parameters()  # also where torch refused them in words of its own
        success, own, given = np.hstack([np.empty((3, 0)), *self.env.ended])
        self.env.ended.clear()
        metrics = {name: float(value) for name, value in self.ppo.logger.name_to_value.items()}
        return Rollout(self.rollout_steps, success, own, given, metrics)

    def _check_parameters(self) -> None:
        for name, parameter in self.module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise NotFinite(
                    f"{name} is not finite at step {self.env.steps}: the policy has diverged; go back to the last "
                    f"checkpoint with a learning rate below {self.learning_rate}"
                )

    def reward_changed(self, reward: Reward | None) -> None:
        """The reward from the next step on; None: the environment's. PPO keeps no old steps, so none are relabelled."""
        self.env.reward = reward

    def act(self, obs: Array, deterministic: bool = True) -> Array:
        """Actions [...,A] within the bounds for observations [...,O]; stochastic ones draw from the agent's streams."""
        if deterministic:
            return np.clip(self.mean_action(obs), self._low, self._high)
        flat = torch.as_tensor(np.asarray(obs, dtype=np.float32).reshape(-1, obs.shape[-1]))
        with self._own_streams(), torch.no_grad():
            sample: Array = self.module.get_distribution(flat).sample().numpy()
        return np.clip(sample, self._low, self._high).reshape(*obs.shape[:-1], -1)

    def mean_action(self, obs: Array, snapshot: Mapping[str, Array] | None = None) -> Array:
        """Mean [...,A], not clipped, for observations [...,O]; of an earlier `snapshot` if one is given."""
        return mean(self._layers if snapshot is None else Layers.of(snapshot), obs)

    def snapshot(self) -> dict[str, Array]:
        """A copy of the parameters of policy and value function."""
        return {name: value.copy() for name, value in self._arrays().items()}

    def restore(self, snapshot: Mapping[str, Array]) -> None:
        """Take the parameters of a snapshot; optimiser, counters and streams stay as they are."""
        self.module.load_state_dict({name: torch.as_tensor(value) for name, value in snapshot.items()})

    def fingerprint(self) -> str:
        """What a checkpoint of this agent fits."""
        env, obs, act = self.env.env, self.env.observation_space.shape, self.env.action_space.shape
        name = (
            env.fingerprint()
            if hasattr(env, "fingerprint")
            else f"{type(env).__name__}({env.num_envs}) of {_made(env)}"
        )
        size = sum(parameter.numel() for parameter in self.module.parameters())
        return f"PPO on {name}, observation {obs}, action {act}, {size} parameters"

    def state_dict(self) -> dict[str, Any]:
        """The whole state but for the reward, which is a part of its own."""
        env, starts = self.env, self.ppo._last_episode_starts
        return {
            "policy": dict(self.module.state_dict()),
            "optimizer": self.module.optimizer.state_dict(),
            "learning_rate": self.learning_rate,
            "timesteps": self.ppo.num_timesteps,
            "updates": self.ppo._n_updates,
            "obs": None if env.obs is None else env.obs.copy(),
            "starts": None if starts is None else starts.copy(),
            "running": env.running.copy(),
            "steps": env.steps,
            "streams": dict(self._streams),
            "env": env.env.state_dict() if env.exact else None,  # type: ignore[attr-defined]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; an environment that cannot tell its state (`env.exact`) starts anew."""
        env = self.env
        self.module.load_state_dict(state["policy"])
        self.module.optimizer.load_state_dict(state["optimizer"])
        self.learning_rate = state["learning_rate"]
        self.ppo.num_timesteps, self.ppo._n_updates = state["timesteps"], state["updates"]
        self._streams = dict(state["streams"])
        env.steps = state["steps"]
        env.ended.clear()
        env.obs = self.ppo._last_obs = None  # SB3 then resets
        if env.exact:
            env.env.load_state_dict(state["env"])  # type: ignore[attr-defined]
            if state["obs"] is not None:
                env.obs = self.ppo._last_obs = np.array(state["obs"])
                env.running[:] = state["running"]
                self.ppo._last_episode_starts = np.array(state["starts"])

    def _arrays(self) -> dict[str, Array]:
        return {name: value.detach().numpy() for name, value in self.module.state_dict().items()}

    @contextmanager
    def _own_streams(self) -> Iterator[None]:
        outside = _streams()
        _set_streams(self._streams)
        try:
            yield
        finally:
            self._streams = _streams()
            _set_streams(outside)


def _joined(rollouts: Sequence[Rollout]) -> Rollout:
    return Rollout(
        sum(rollout.steps for rollout in rollouts),
        np.concatenate([rollout.success for rollout in rollouts]),
        np.concatenate([rollout.own_returns for rollout in rollouts]),
        np.concatenate([rollout.returns for rollout in rollouts]),
        rollouts[-1].metrics,
    )


def _made(env: Any) -> str:
    """The id and the arguments by which the copies were made, as far as Gymnasium knows them."""
    spec = next((e.spec for e in (*getattr(env, "envs", ()), env) if getattr(e, "spec", None)), None)
    return "an unregistered environment" if spec is None else f"{spec.id} {dict(sorted(spec.kwargs.items()))}"


def _streams() -> dict[str, Any]:
    """The process-wide random states as arrays and numbers."""
    name, key, *counters, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": {"name": name, "key": np.array(key), "counters": [int(c) for c in counters], "cached": float(cached)},
        "python": {"version": version, "internal": np.array(internal, dtype=np.uint32), "gauss": gauss},
    }


def _set_streams(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(torch.as_tensor(state["torch"]))
    numpy, python = state["numpy"], state["python"]
    np.random.set_state((numpy["name"], np.asarray(numpy["key"]), *numpy["counters"], numpy["cached"]))
    random.setstate((python["version"], tuple(int(i) for i in python["internal"]), python["gauss"]))
