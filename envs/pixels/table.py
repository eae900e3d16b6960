"""TableEnv: a seven-joint arm moves its hand over a table, to push things together, to push only some, or to wipe.

The arm is simulated joint by joint in MuJoCo, twenty corrections a second towards where the action sends the hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import gymnasium
import mujoco
import numpy as np
import numpy.typing as npt

from envs.pixels.films import Films
from envs.pixels.nuisance import Level, Nuisance, nuisance_of
from envs.pixels.table_arms import ARMS, Name
from envs.pixels.table_control import DT, TICK, TICKS, Hand, guarded
from envs.pixels.table_looks import CAMERAS, Camera
from envs.pixels.table_model import AREAS, CLEARANCE, LIKED, OTHERS, Task, build
from envs.pixels.table_tasks import STEPS, features, observe, start, step_reward, success, uneven

Array = npt.NDArray[Any]


class TableEnv(gymnasium.Env[Array, Array]):
    """Observation float32 [O], see `table_tasks.observe`; action [2] in [-1,1], velocity of the hand away from the
    robot and to its left, at most 0.4 m/s each. Reward: the true one of the task. An episode has `steps` steps of
    0.1 s (by default 45, in wipe 30) and ends as terminated, with info["success"]. render(): uint8 [size,size,3], the
    nuisance of this episode in it; raises RenderError where there is no OpenGL. What does not fit raises ValueError.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": round(1 / DT)}  # noqa: RUF012

    def __init__(
        self,
        task: Task = "group",
        arm: Name = "franka",
        nuisance: Nuisance | Level = "none",
        camera: Camera = "front",
        size: int = 64,
        steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        choices = (("task", task, get_args(Task)), ("arm", arm, tuple(ARMS)), ("camera", camera, CAMERAS))
        for name, value, known in choices:
            if value not in known:
                raise ValueError(f"{name} is {value!r}; take one of {', '.join(known)}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}; take None or 'rgb_array'")
        if not 16 <= size <= 1024:
            raise ValueError(f"size is {size}; give from 16 to 1024 pixels")
        if steps is not None and steps < 2:
            raise ValueError(f"steps is {steps}; an episode needs at least 2")
        self.task, self.arm, self.camera, self.size = task, arm, camera, size
        self.nuisance, self.steps, self.render_mode = nuisance_of(nuisance), steps or STEPS[task], render_mode
        self.observation_space = gymnasium.spaces.Box(-4.0, 4.0, (features(task),), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.model = build(task, arm)
        self.data = mujoco.MjData(self.model)
        self.renderer: Any = None
        self._hand = Hand(self.model, self.data, ARMS[arm], CLEARANCE)
        self._objects = LIKED[task] + OTHERS[task]
        # Plain values, and so a part of the state that `envs.state` saves:
        self._way = np.zeros((0, 2))  # the hand in this episode, the start first
        self._places = np.zeros((0, self._objects, 2))
        self._target = np.zeros(2)
        self._look_seed = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._look_seed = int(self.np_random.integers(2**31))
        hand, objects = start(self.task, self.np_random)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: 3 * self._objects] = objects.ravel()
        self._hand.place(hand)
        self._target = hand
        self._way, self._places = np.zeros((0, 2)), np.zeros((0, self._objects, 2))
        self._note()
        return self._observe(), {"success": False}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        act = np.asarray(action, np.float64)
        if act.shape != (2,) or not np.isfinite(act).all():
            raise ValueError(f"the action is {action}; give 2 finite numbers in [-1, 1]")
        if not 0 < len(self._way) <= self.steps:
            raise RuntimeError(f"the episode of {self.steps} steps has not begun or is over; call reset() first")
        act = np.clip(act, -1, 1)
        velocity = guarded(act, self._target, AREAS[self.task])
        for _ in range(TICKS):
            self._hand.go(self._target, velocity)
            self._target = self._target + velocity * TICK
        self._note()
        reward, over, done = float(step_reward(self.task, self._way[-1], self._places[-1], act)), False, False
        if len(self._way) > self.steps:
            over, done = True, success(self.task, self._way[1:], self._places[1:])
            if self.task == "wipe":
                reward = -float(uneven(self._way[1:, 1]))
        return self._observe(), reward, over, False, {"success": done}

    def films(self, n: int, rng: np.random.Generator) -> Films:
        """n videos of scripted behaviour at this table, of this arm and nuisance. Raises RenderError without OpenGL."""
        from envs.pixels.table_scripts import films  # which needs this file

        return films(
            self.task,
            self.arm,
            n,
            rng,
            nuisance=self.nuisance,
            camera=self.camera,
            size=self.size,
            steps=self.steps,
        )

    @property
    def qpos(self) -> Array:
        """The simulated model's positions [nq]: what a picture is made of."""
        return np.array(self.data.qpos)

    @property
    def look_seed(self) -> int:
        """Says how this episode looks, see `table_draw.Pictures.frames`."""
        return self._look_seed

    def render(self) -> Array | None:
        if self.render_mode is None:
            return None
        if not len(self._way):
            raise RuntimeError("there is nothing to draw yet; call reset() first")
        frames = self.pictures().frames(self.qpos[None], self._look_seed, self.steps + 1, len(self._way) - 1)
        return np.asarray(frames[0])

    def pictures(self) -> Any:
        """What draws this table (`table_draw.Pictures`); made when first asked for, closed with the environment."""
        if self.renderer is None:
            from envs.pixels.table_draw import Pictures  # loads OpenGL, which training must not need

            self.renderer = Pictures(self.task, self.arm, self.nuisance, self.camera, self.size)
        return self.renderer

    def close(self) -> None:
        if self.renderer is not None:
            self.renderer.close()
            self.renderer = None

    def _note(self) -> None:
        at = self._hand.look()[:2]
        self._way = np.concatenate([self._way, at[None]])
        places = self.data.qpos[: 3 * self._objects].reshape(1, self._objects, 3)[..., :2]
        self._places = np.concatenate([self._places, places])

    def _observe(self) -> Array:
        return observe(self.task, self._way, self._places[-1], self.steps)
