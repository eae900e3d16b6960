"""A gymnasium vector environment as stable-baselines3 wants it, lean: SB3's loop is in Python and runs once a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from policies.recorder import Recorder

Array = npt.NDArray[Any]
Reward = Callable[[Array, Array, Array], Array]
"""(observation before the step [n,O], clipped action [n,A], the environment's own reward [n]) -> reward [n]."""


class NotFinite(ValueError):
    """A policy, an environment or a reward came to NaN or infinity; names step, environment and value."""


class VecAdapter(VecEnv):
    """A gymnasium vector environment (reset in the same step) as SB3's VecEnv, with its reward replaced by `reward`.

    Observations are a Box: of one dimension, which SB3 gets as float32, or frames [H,W,C] of bytes, which it gets with
    the channels first. `recorder` keeps what happened, and `reward` may read it: the present step is there already.
    An episode ends when `terminated` or `truncated`; SB3 bootstraps the latter alone, with `hide_ends` both, so that an
    end by itself is worth nothing. An environment of fixed horizon whose observation tells the time should say
    `terminated`. Raises NotFinite, and ValueError for a wrong shape.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        reward: Reward | None = None,
        *,
        seed: int = 0,
        recorder: Recorder | None = None,
        hide_ends: bool = False,
    ) -> None:
        name, mode = type(env).__name__, env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"{name}'s autoreset_mode is {mode}; an agent needs an environment that resets in the step that ends "
                "an episode: build it with autoreset_mode=AutoresetMode.SAME_STEP"
            )
        seen, acts = env.single_observation_space, env.single_action_space
        self.frames = isinstance(seen, spaces.Box) and len(seen.shape) == 3 and seen.dtype == np.uint8
        if not isinstance(seen, spaces.Box) or not (self.frames or len(seen.shape) == 1):
            raise ValueError(
                f"{name}'s observation space is {seen}; wrap it so that it is a Box of one dimension, or frames "
                "[H,W,C] of bytes"
            )
        if not isinstance(acts, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) and not (
            isinstance(acts, spaces.Box) and len(acts.shape) == 1
        ):
            raise ValueError(f"{name}'s action space is {acts}; wrap it so that it is a Box of one dimension")
        self.env, self.reward, self.seed_of_reset, self.steps = env, reward, seed, 0
        self.recorder, self.hide_ends = recorder, hide_ends
        self.obs: Array | None = None  # as the environment gives it
        self.running = np.zeros((2, env.num_envs))  # own and given return of the episodes under way
        self.ended: list[Array] = []  # [3, episodes] each: success, own return, given return
        self._quiet: list[dict[str, Any]] = [{}] * env.num_envs  # shared: SB3 only reads them
        self._dtype = np.uint8 if self.frames else np.float32
        low, high = (self.present(np.asarray(bound, self._dtype)) for bound in (seen.low, seen.high))
        super().__init__(env.num_envs, spaces.Box(low, high, dtype=self._dtype), acts)

    def present(self, obs: Array) -> Array:
        """Observations [...,*O] of the environment as SB3 sees them."""
        return np.moveaxis(obs, -1, -3) if self.frames else obs

    def original(self, obs: Array) -> Array:
        """The inverse of `present`."""
        return np.moveaxis(obs, -3, -1) if self.frames else obs

    @property
    def exact(self) -> bool:
        """Whether the environment can tell its whole state; if not, a resumed run starts new episodes."""
        return hasattr(self.env, "state_dict") and hasattr(self.env, "load_state_dict")

    def reset(self) -> Array:
        """First observations [n,O] of new episodes in all copies."""
        # An environment that tells its state carries its stream too; any other is seeded, so that runs can be repeated.
        obs, _ = self.env.reset(seed=None if self.exact else self.seed_of_reset + self.steps)
        self.running[:] = 0.0
        if self.recorder is not None:
            self.recorder.begin()
        self.obs = self._finite("observation", np.array(obs, dtype=self._dtype))
        return self.present(self.obs)

    def step_async(self, actions: Array) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        before = self.obs
        obs, own, terminated, truncated, info = self.env.step(self.actions)
        self.steps += 1
        # Copied: SB3 stores the observation it acted on after this step, and an environment may use its arrays again.
        self.obs = self._finite("observation", np.array(obs, dtype=self._dtype))
        self._finite("own reward", own)
        if self.recorder is not None:
            self.recorder.step(before, np.array(self.actions), own)  # type: ignore[arg-type]
        reward = np.array(own if self.reward is None else self.reward(before, self.actions, own), dtype=np.float32)  # type: ignore[arg-type]
        if reward.shape != (self.num_envs,):
            raise ValueError(
                f"the reward of step {self.steps} has shape {reward.shape}; return one number for each of the "
                f"{self.num_envs} environments"
            )
        self._finite("reward", reward)
        self.running += np.stack([own, reward])
        done = np.logical_or(terminated, truncated)
        if self.recorder is not None:
            for i in np.flatnonzero(done):
                self.recorder.end(int(i), bool(terminated[i]))
        seen = self.present(self.obs)
        return seen, reward, done, self._end(done, truncated, info) if done.any() else self._quiet

    def _end(self, done: Array, truncated: Array, info: dict[str, Any]) -> list[dict[str, Any]]:
        index = np.flatnonzero(done)
        told = info.get("final_info", info).get("success", np.full(self.num_envs, np.nan))
        self.ended.append(np.vstack([np.asarray(told, dtype=np.float64)[index], self.running[:, index]]))
        self.running[:, index] = 0.0
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in index:
            last = self._finite("final observation", np.array(info["final_obs"][i], dtype=self._dtype)[None])[0]
            infos[i] = {
                "terminal_observation": self.present(last),
                "TimeLimit.truncated": bool(truncated[i]) or self.hide_ends,
            }
        return infos

    def _finite(self, what: str, values: Array) -> Array:
        if not np.isfinite(values).all():
            where = tuple(np.argwhere(~np.isfinite(values))[0])
            entry = f", entry {where[1]}" if len(where) > 1 else ""
            mend = "mend the reward function" if what == "reward" else "mend the environment"
            raise NotFinite(f"{what} of step {self.steps}, environment {where[0]}{entry} is {values[where]}; {mend}")
        return values

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError(f"{attr_name} belongs to all copies together: set it on the environment itself")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError(f"{method_name} belongs to all copies together: call it on the environment itself")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs
