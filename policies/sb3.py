"""stable-baselines3's stock algorithms as an agent that is advanced in chunks and whose whole state can be saved.

Nothing of PPO or SAC is written again here. The agent draws from random streams of its own (`policies.streams`), so
agents and learners in one process never disturb each other, and a resumed run equals an uninterrupted one bit for bit
on CPU, replay and environment included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from torch import Tensor, nn

from policies import replay
from policies.mlp import Layers, mean
from policies.recorder import Recorder
from policies.streams import Streams
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
    reward that the agent was given. metrics: what SB3 logged in the last update (train/approx_kl, ...).
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

    density = True

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
    """An algorithm of stable-baselines3 on a gymnasium vector environment, on CPU.

    seed: of the networks and of the agent's own streams. algorithm, policy: classes of SB3 or of the user's own that
    extend them. reward: replaces the environment's (see `Reward`). recorder: keeps what happened. hide_ends:
    see `VecAdapter`. log_std_range: the
    log standard deviation of an on-policy Gaussian's actions is clamped to it at the start of each rollout. kwargs:
    arguments of the algorithm. Rates are numbers: a schedule would see a chunk and not the run. Assign `learning_rate`
    between chunks instead.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        *,
        seed: int,
        algorithm: type[BaseAlgorithm] = PPO,
        policy: str | type[BasePolicy] = "MlpPolicy",
        reward: Reward | None = None,
        recorder: Recorder | None = None,
        hide_ends: bool = False,
        log_std_range: tuple[float, float] | None = None,
        learning_rate: float = 3e-4,
        **kwargs: Any,
    ) -> None:
        for name, value in {"learning_rate": learning_rate, **kwargs}.items():
            if name in ("learning_rate", "clip_range", "clip_range_vf") and callable(value):
                raise ValueError(f"{name} is a schedule, which would see each chunk and not the run; give a number")
        if kwargs.get("use_sde"):
            raise ValueError("use_sde is True, and noise that depends on the state has no log_std; leave it out")
        if isinstance(kwargs.get("action_noise"), OrnsteinUhlenbeckActionNoise):
            raise ValueError("noise that remembers would begin anew with every chunk; give a NormalActionNoise")
        if log_std_range is not None and not log_std_range[0] <= log_std_range[1]:
            raise ValueError(f"log_std_range is {log_std_range}; give (lowest, highest)")
        self.learning_rate = learning_rate
        self.env = VecAdapter(env, reward, seed=seed, recorder=recorder, hide_ends=hide_ends)
        self._streams = Streams()  # seeded as the model is made
        rate = lambda _: self.learning_rate  # noqa: E731
        make: Any = algorithm
        with self._streams.own():
            self.model: Any = make(policy, self.env, seed=seed, device="cpu", learning_rate=rate, **kwargs)
        if hasattr(self.model, "exploration_schedule"):
            raise ValueError(f"{algorithm.__name__}'s exploration follows a schedule, which would see chunks; take PPO")
        self.model.set_logger(Logger(folder=None, output_formats=[]))  # the default makes a folder at every learn
        self.module: Any = self.model.policy
        log_std = getattr(self.module, "log_std", None)
        if log_std_range is not None and not isinstance(log_std, Tensor):
            raise ValueError(
                f"log_std_range is {log_std_range}, and this {algorithm.__name__} has no log_std; leave it out"
            )
        self.policy = Sb3Policy(self.module)
        self._clamp = _Clamp(log_std, log_std_range) if log_std_range and isinstance(log_std, Tensor) else None
        self._layers = self._tanh_layers()  # views, which follow the parameters

    def _tanh_layers(self) -> Layers | None:
        """The mean as plain arrays where it is a tanh network, which acts much faster and can be exported."""
        net = getattr(getattr(self.module, "mlp_extractor", None), "policy_net", None)
        flat = type(getattr(self.module, "features_extractor", None)) is FlattenExtractor
        plain = net is not None and flat and all(isinstance(part, nn.Linear | nn.Tanh) for part in net)
        return Layers.of(self._arrays()) if plain and isinstance(self.env.action_space, spaces.Box) else None

    @property
    def on_policy(self) -> bool:
        return isinstance(self.model, OnPolicyAlgorithm)

    @property
    def rollout_steps(self) -> int:
        """Environment steps between two updates, all copies together; the agent advances by multiples of it."""
        if self.on_policy:
            return int(self.model.n_steps * self.env.num_envs)
        if self.model.train_freq.unit != TrainFrequencyUnit.STEP:
            raise ValueError(f"train_freq is {self.model.train_freq}, whose chunks have no fixed length; give steps")
        return int(self.model.train_freq.frequency * self.env.num_envs)

    def advance(self, steps: int, between: Callable[[Rollout], None] | None = None) -> Rollout:
        """Train for `steps` environment steps, a multiple of `rollout_steps` (else ValueError).

        advance(a); advance(b) equals advance(a + b). between: called after each rollout and its update (off-policy:
        once) with what happened in it; may change the reward, the learning rate, or what the reward reads.
        """
        if steps < 1 or steps % self.rollout_steps:
            raise ValueError(
                f"steps is {steps}, and {type(self.model).__name__} advances by whole rollouts; give a multiple of "
                f"{self.rollout_steps} ({self.rollout_steps // self.env.num_envs} steps of {self.env.num_envs} "
                "environments)"
            )
        chunk = self.rollout_steps if self.on_policy else steps
        rollouts: list[Rollout] = []
        for _ in range(steps // chunk):
            rollouts.append(self._rollout(chunk))
            if between is not None:
                between(rollouts[-1])
        return _joined(rollouts)

    def _rollout(self, steps: int) -> Rollout:
        try:
            with self._streams.own():
                self.model.learn(steps, callback=self._clamp, log_interval=None, reset_num_timesteps=False)
        finally:
            self._check_parameters()  # also where torch refused them in words of its own
        success, own, given = np.hstack([np.empty((3, 0)), *self.env.ended])
        self.env.ended.clear()
        metrics = {name: float(value) for name, value in self.model.logger.name_to_value.items()}
        return Rollout(steps, success, own, given, metrics)

    def _check_parameters(self) -> None:
        for name, parameter in self.module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise NotFinite(
                    f"{name} is not finite at step {self.env.steps}: the policy has diverged; go back to the last "
                    f"checkpoint with a learning rate below {self.learning_rate}"
                )

    def reward_changed(self, reward: Reward | None) -> None:
        """The reward from the next step on; None: the environment's. Steps in the replay keep theirs: see `relabel`."""
        self.env.reward = reward

    def relabel(self, reward: Callable[..., Array], history: int = 1) -> None:
        """Gives the whole replay new rewards; see `policies.replay.relabel`. ValueError for an on-policy agent."""
        unscale = self.module.unscale_action if isinstance(self.env.action_space, spaces.Box) else np.asarray
        seen = self.env.original
        replay.relabel(self._replay(), lambda obs, *rest: reward(seen(obs), *rest), unscale, history)

    def reset_critic(self, updates: int = 0) -> None:
        """New critics, then `updates` gradient steps on the replay: values of another reward mislead (PEBBLE)."""
        self._replay()
        with self._streams.own():
            kwargs = self.model.policy_kwargs
            fresh = self.model.policy_class(
                self.model.observation_space, self.model.action_space, self.model.lr_schedule, **kwargs
            )
            for name in ("critic", "critic_target"):
                getattr(self.module, name).load_state_dict(getattr(fresh, name).state_dict())
            self.module.critic.optimizer.load_state_dict(fresh.critic.optimizer.state_dict())
            if updates and self.model.replay_buffer.size():
                self.model.train(gradient_steps=updates, batch_size=self.model.batch_size)
        self._check_parameters()

    @property
    def remembers(self) -> bool:
        return isinstance(self.model, OffPolicyAlgorithm)

    def _replay(self) -> Any:
        if not isinstance(self.model, OffPolicyAlgorithm):
            raise ValueError(f"{type(self.model).__name__} keeps no replay; take an off-policy algorithm such as SAC")
        return self.model.replay_buffer

    def act(self, obs: Array, deterministic: bool = True) -> Array:
        """Actions [...,*A] within the bounds for observations [...,*O]; stochastic ones from the agent's streams."""
        if deterministic and self._layers is not None:
            return np.clip(self.mean_action(obs), self.env.action_space.low, self.env.action_space.high)  # type: ignore[attr-defined]
        one = self.env.env.single_observation_space.shape
        before = obs.shape[: obs.ndim - len(one)]  # type: ignore[arg-type]
        flat = np.asarray(obs).reshape(-1, *one)  # type: ignore[misc]
        with self._streams.own():
            act, _ = self.model.predict(self.env.present(flat), deterministic=deterministic)
        return np.asarray(act).reshape(*before, *np.shape(act)[1:])

    @torch.no_grad()
    def value(self, obs: Array) -> Array:
        """What the agent's own critics expect from observations [N,*O] on, [N], in units of the reward it is given.

        On-policy: of the present policy. Off-policy: of its most likely action, the least of the critics; SAC's count
        the entropy bonus in.
        """
        seen = torch.as_tensor(self.env.present(np.asarray(obs))).float()
        if self.on_policy:
            return np.asarray(self.module.predict_values(seen)[:, 0].numpy())
        act = self.module.actor._predict(seen, deterministic=True)
        return np.asarray(torch.cat(self.module.critic(seen, act), 1).min(1).values.numpy())

    def mean_action(self, obs: Array, snapshot: Mapping[str, Array] | None = None) -> Array:
        """Mean [...,A], not clipped, for observations [...,O]; of an earlier `snapshot` if one is given.

        Raises ValueError for a policy that is no Gaussian on a tanh network.
        """
        if self._layers is None:
            raise ValueError(f"{type(self.module).__name__} is no Gaussian on a tanh network; use act")
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
        return f"{type(self.model).__name__} on {name}, observation {obs}, action {act}, {size} parameters"

    def state_dict(self) -> dict[str, Any]:
        """The whole state but for the reward, which is a part of its own."""
        env, model = self.env, self.model
        starts, space = model._last_episode_starts, model.action_space
        _, variables = model._get_torch_save_params()
        return {
            "parameters": model.get_parameters(),
            "variables": {name: _attribute(model, name).detach().clone() for name in variables},
            "learning_rate": self.learning_rate,
            "counters": [int(model.num_timesteps), int(model._n_updates), int(model._episode_num)],
            "replay": replay.state(self._replay()) if isinstance(model, OffPolicyAlgorithm) else None,
            "obs": None if env.obs is None else env.obs.copy(),
            "starts": None if starts is None else starts.copy(),
            "running": env.running.copy(),
            "steps": env.steps,
            "recorder": None if env.recorder is None else env.recorder.state_dict(),
            "streams": self._streams.state_dict(),
            "random actions": space.np_random.bit_generator.state,
            "env": env.env.state_dict() if env.exact else None,  # type: ignore[attr-defined]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; an environment that cannot tell its state (`env.exact`) starts anew."""
        env, model = self.env, self.model
        model.set_parameters(state["parameters"], exact_match=True, device="cpu")
        with torch.no_grad():
            for name, value in state["variables"].items():
                _attribute(model, name).copy_(value)
        self.learning_rate = state["learning_rate"]
        model.num_timesteps, model._n_updates, model._episode_num = state["counters"]
        if state["replay"] is not None:
            replay.restore(self._replay(), state["replay"])
        self._streams.load_state_dict(state["streams"])
        model.action_space.np_random.bit_generator.state = state["random actions"]
        env.steps = state["steps"]
        env.ended.clear()
        env.obs = model._last_obs = None  # SB3 then resets
        if env.recorder is not None:
            env.recorder.load_state_dict(state["recorder"])
        if env.exact:
            env.env.load_state_dict(state["env"])  # type: ignore[attr-defined]
            if state["obs"] is not None:
                env.obs = np.array(state["obs"])
                model._last_obs = env.present(env.obs)
                env.running[:] = state["running"]
                model._last_episode_starts = np.array(state["starts"])
        elif state["replay"] is not None:
            replay.cut(self._replay())

    def _arrays(self) -> dict[str, Array]:
        return {name: value.detach().numpy() for name, value in self.module.state_dict().items()}


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


def _attribute(model: Any, name: str) -> Tensor:
    """SB3 names a variable by its path, `actor.log_std`."""
    for part in name.split("."):
        model = getattr(model, part)
    tensor: Tensor = model
    return tensor
