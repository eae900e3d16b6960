"""SweepEnv: a body sweeps objects about a square seen from above, after X-MAGICAL (Zakka et al., XIRL, CoRL 2021).

What is wanted is a preference of whole videos: keep the objects out of a square, keep them together, or spend the time
evenly over the width. Unlike there, bodies do not turn and go where the action says, and the long stick is shorter, so
that every body can do every task in twenty decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from envs.pixels.films import Films
from envs.pixels.nuisance import Level, Nuisance, nuisance_of
from envs.pixels.sweep_draw import SIZES, look_of, pictures
from envs.pixels.sweep_physics import Body, Shape, X, advance
from envs.pixels.sweep_scripts import films
from envs.pixels.sweep_tasks import Starts, Task, features, observe, setup_of, start, step_reward, success, uneven

Array = npt.NDArray[Any]


class SweepEnv(gymnasium.Env[Array, Array]):
    """Observation float32 [O], see `sweep_tasks.observe`; action [2] in [-1,1], velocity to the right and up, and a
    third number for the gripper, which closes it. Reward: the true one of the task. An episode has `steps` decisions
    and ends as terminated, with info["success"]. render(): uint8 [size,size,3], the nuisance of this episode in it.

    `reset(options={"state": [B,6]})` begins from a state of the physics (`sweep_physics.placed`).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(
        self,
        task: Task = "avoiding",
        body: Body = "medium",
        nuisance: Nuisance | Level = "none",
        size: int = 64,
        steps: int = 20,
        starts: Starts = "wide",
        shape: Shape = "round",
        render_mode: str | None = None,
    ) -> None:
        self.setup, self.task = setup_of(task, body, shape), task
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}; take None or 'rgb_array'")
        if steps < 2:
            raise ValueError(f"steps is {steps}; an episode needs at least 2")
        if not SIZES[0] <= size <= SIZES[1]:
            raise ValueError(f"size is {size}; give from {SIZES[0]} to {SIZES[1]} pixels")
        self.nuisance, self.size, self.steps, self.starts = nuisance_of(nuisance), size, steps, starts
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-2.0, 2.0, (features(task, self.setup),), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.setup.actions,), np.float32)
        start(task, self.setup, starts, np.random.default_rng(0))  # raises where there are no such starts
        self._states: list[Array] = []  # of this episode, the start first
        self._look_seed = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._look_seed = int(self.np_random.integers(2**31))
        state = start(self.task, self.setup, self.starts, self.np_random)
        if options and "state" in options:
            given = np.array(options["state"], np.float64)
            if given.shape != state.shape or not np.isfinite(given).all():
                raise ValueError(f"the state has shape {given.shape}; give finite numbers of shape {state.shape}")
            state = given
        self._states = [state]
        return self._observe(), {"success": False}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        act = np.asarray(action, np.float64)
        if act.shape != self.action_space.shape or not np.isfinite(act).all():
            raise ValueError(f"the action is {action}; give {self.setup.actions} finite numbers in [-1, 1]")
        if not self._states or len(self._states) > self.steps:
            raise RuntimeError(f"the episode of {self.steps} steps is over; call reset() first")
        self._states.append(advance(self.setup, self._states[-1], np.clip(act, -1, 1)))
        over = len(self._states) > self.steps
        reward, done = float(step_reward(self.task, self.setup, self._states[-1])), False
        if over:
            whole = np.stack(self._states[1:])
            done = bool(success(self.task, self.setup, whole))
            if self.task == "covering":
                reward = -float(uneven(whole[:, 0, X]))
        return self._observe(), reward, over, False, {"success": done}

    def render(self) -> Array | None:
        if self.render_mode is None:
            return None
        if not self._states:
            raise RuntimeError("there is nothing to draw yet; call reset() first")
        look = look_of(self.nuisance, self.steps + 1, np.random.default_rng(self._look_seed))
        return pictures(self.task, self.setup, self._states[-1][None], look, self.size, len(self._states) - 1)[0]

    def films(self, n: int, rng: np.random.Generator) -> Films:
        """n videos of scripted behaviour in this world, of this body and nuisance."""
        return films(
            self.task,
            self.setup.body,
            n,
            rng,
            nuisance=self.nuisance,
            size=self.size,
            steps=self.steps,
            starts=self.starts,
            shape=self.setup.shape,
        )

    def state_dict(self) -> dict[str, Any]:
        """The whole state; `load_state_dict` goes on from it bit for bit, pictures too."""
        return {
            "states": np.array(self._states),
            "look": self._look_seed,
            "stream": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._states, self._look_seed = list(np.array(state["states"])), int(state["look"])
        self.np_random.bit_generator.state = state["stream"]

    def _observe(self) -> Array:
        begun = np.arange(len(self._states))
        return observe(self.task, self.setup, np.stack(self._states), begun, self.steps)[-1]
