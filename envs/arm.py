"""CupArm: an arm carries a cup from one side of a table to the other, past a laptop. Batched MuJoCo physics.

Control at 20 Hz, episodes of 80 steps (4 s). The action is a Cartesian velocity of the cup; damped least squares
with guards turns it into joint velocities. World frame: the robot stands at the origin and looks along +x, z is up.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from envs import arm_model
from envs.arm_control import DT, NULL_GAIN, guarded, least_squares
from envs.arm_task import (
    ACTION,
    CLOCK,
    CUP,
    GOAL,
    HORIZON,
    JOINT_SCALE,
    JOINTS,
    LAPTOP,
    LAST_ACTION,
    NEAR,
    OBSERVATION,
    OFFSET_SCALE,
    OPENING,
    OPENING_SCALE,
    VELOCITY,
    Layouts,
    decode,
    draw,
    task_reward,
)

__all__ = [
    "ACTION",
    "CLOCK",
    "CUP",
    "DT",
    "GOAL",
    "HORIZON",
    "JOINTS",
    "LAPTOP",
    "LAST_ACTION",
    "NEAR",
    "OBSERVATION",
    "OPENING",
    "VELOCITY",
    "CupArm",
    "CupArms",
    "Layouts",
    "decode",
    "draw",
]

Array = npt.NDArray[Any]

_RESET_STEPS = 29
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class CupArms(VectorEnv[Array, Array, Array]):
    """n arms in one process. Every episode has 80 steps and ends as terminated (the clock is observed). At that step
    the observation is already the next episode's first (autoreset SAME_STEP) and ``info`` carries ``final_obs``
    [n,26], ``final_qpos`` [n,7] and ``success`` [n] (within 5 cm of the goal in all of the last 5 steps).
    ``state_dict`` holds everything; a run continued from it is bit-identical."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, n: int, *, seed: int) -> None:
        if n < 1:
            raise ValueError(f"CupArms needs at least 1 arm, got {n}")
        self.num_envs = n
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, n)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, n)
        self.model = arm_model.build()
        self._site = self.model.site("cup").id
        self._data = [mujoco.MjData(self.model) for _ in range(n)]
        # Views made once: attribute access on MjData costs more than the copy.
        self._views = [(d, d.ctrl) for d in self._data]
        self._qpos_views = [d.qpos for d in self._data]
        self._qvel_views = [d.qvel for d in self._data]
        self._cup_views = [d.site_xpos[self._site] for d in self._data]
        self._mat_views = [d.site_xmat[self._site] for d in self._data]
        self._jacobian = np.zeros((n, 6, 7))
        self._jac_views = [(d, j[:3], j[3:]) for d, j in zip(self._data, self._jacobian, strict=True)]
        self._q, self._qd = np.zeros((n, 7)), np.zeros((n, 7))
        self._cup, self._mat = np.zeros((n, 3)), np.zeros((n, 9))
        self._rng = np.random.default_rng(seed)
        self._begin(draw(self._rng, n))

    # -- the Gymnasium interface

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Starts an episode in all arms. ``options={"layouts": Layouts}`` chooses them; otherwise they come from the
        own stream, which ``seed`` restarts."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        layouts = (options or {}).get("layouts")
        self._begin(draw(self._rng, self.num_envs) if layouts is None else layouts)
        return self._observe(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """One control step of all arms; actions [n,5] are clipped to [-1,1]."""
        reward, over = self._advance(actions)
        ends = np.full(self.num_envs, over)
        info: dict[str, Any] = {}
        if over:
            everyone = np.ones(self.num_envs, bool)
            info = {"final_obs": self._observe(), "final_qpos": self.qpos, "success": self.success}
            info |= {f"_{key}": everyone for key in info}
            self._begin(draw(self._rng, self.num_envs))
        return self._observe(), reward, ends, np.zeros(self.num_envs, bool), info

    # -- what else one may ask

    @property
    def qpos(self) -> Array:
        """Joint angles [n,7] rad."""
        return self._q.copy()

    @property
    def layouts(self) -> Layouts:
        return self._layouts

    @property
    def t(self) -> int:
        """Control steps taken in this episode (the same in all arms)."""
        return self._t

    @property
    def success(self) -> Array:
        """[n] whether the cup was within 5 cm of the goal in all of the last 5 steps; false before the end."""
        return (self._near >= 5) & (self._t == HORIZON)

    @property
    def jacobian(self) -> Array:
        """[n,5,7]: cup velocity (m/s) and angular velocity about world x, y (rad/s) per joint velocity."""
        return self._jacobian[:, :5].copy()

    def command(self, actions: Array) -> Array:
        """Joint velocities [n,7] rad/s that actions [n,5] mean in the present state. Steps nothing."""
        twist = guarded(self._checked(actions), self._cup, self._opening)
        return least_squares(twist, self._jacobian[:, :5], self._q)

    def state_dict(self) -> dict[str, Any]:
        """Everything: physics, layouts, clock, last action, random stream."""
        physics = np.zeros((self.num_envs, mujoco.mj_stateSize(self.model, _STATE)))
        for d, row in zip(self._data, physics, strict=True):
            mujoco.mj_getState(self.model, d, row, _STATE)
        return {
            "physics": physics,
            "start": self._layouts.start.copy(),
            "goal": self._layouts.goal.copy(),
            "laptop": self._layouts.laptop.copy(),
            "last_action": self._last.copy(),
            "near": self._near.copy(),
            "t": self._t,
            "stream": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        physics = np.ascontiguousarray(state["physics"], np.float64)
        shape = (self.num_envs, mujoco.mj_stateSize(self.model, _STATE))
        if physics.shape != shape:
            raise ValueError(
                f"saved physics has shape {physics.shape}, this CupArms({self.num_envs}) needs {shape}; "
                f"load it into CupArms({len(physics)})"
            )
        for d, row in zip(self._data, physics, strict=True):
            mujoco.mj_setState(self.model, d, row, _STATE)
        self._layouts = Layouts(*(np.array(state[key]) for key in ("start", "goal", "laptop")))
        self._last, self._near = np.array(state["last_action"], np.float64), np.array(state["near"], np.int64)
        self._t = int(state["t"])
        self._rng.bit_generator.state = state["stream"]
        self._look()

    def fingerprint(self) -> str:
        return f"CupArms({self.num_envs}) 1"

    # -- inside

    def _advance(self, actions: Array) -> tuple[Array, bool]:
        if self._t >= HORIZON:
            raise RuntimeError("the episode is over; call reset() before the next step()")
        action = self._checked(actions)
        before = np.linalg.norm(self._cup - self._layouts.goal, axis=1)
        step, model, substeps = mujoco.mj_step, self.model, arm_model.SUBSTEPS
        for (d, ctrl), speed in zip(self._views, self.command(action), strict=True):
            ctrl[:] = speed
            step(model, d, substeps)
        self._look()
        after = np.linalg.norm(self._cup - self._layouts.goal, axis=1)
        reward = task_reward(before, after, self._t)
        self._last = action
        self._near = np.where(after < NEAR, self._near + 1, 0)
        self._t += 1
        return reward, self._t == HORIZON

    def _begin(self, layouts: Layouts) -> None:
        if not isinstance(layouts, Layouts):
            raise ValueError(f"layouts is a {type(layouts).__name__}; give envs.arm.Layouts")
        if len(layouts) != self.num_envs:
            raise ValueError(f"{len(layouts)} layouts for {self.num_envs} arms; give one layout per arm")
        q = np.tile(arm_model.REST, (self.num_envs, 1))
        q[:, 0] = np.arctan2(layouts.start[:, 1], layouts.start[:, 0])
        before = self.state_dict() if hasattr(self, "_t") else None
        for d in self._data:
            mujoco.mj_resetData(self.model, d)
        for k in range(_RESET_STEPS + 1):
            for view, row in zip(self._qpos_views, q, strict=True):
                view[:] = row
            self._look()
            if k < _RESET_STEPS:
                off = layouts.start - self._cup
                level = np.stack([self._opening[:, 1], -self._opening[:, 0]], 1)  # opening x up
                twist = np.concatenate([off, level], 1)
                # The damping lets the pull bias the cup by 2 mm, so the last steps go without it.
                gain = NULL_GAIN if k < 20 else 0.0
                q = q + np.clip(least_squares(twist, self._jacobian[:, :5], q, gain), -0.3, 0.3)
        miss = np.linalg.norm(layouts.start - self._cup, axis=1)
        if miss.max() > 1e-3:
            if before is not None:
                self.load_state_dict(before)
            i = int(miss.argmax())
            raise ValueError(
                f"layout {i} starts at {layouts.start[i].tolist()} m, {miss[i]:.3f} m out of the arm's reach; "
                "start within 0.25 to 0.7 m of the robot and 0.2 to 0.42 m above the table"
            )
        self._layouts = layouts
        self._last = np.zeros((self.num_envs, ACTION))
        self._near = np.zeros(self.num_envs, np.int64)
        self._t = 0

    def _look(self) -> None:
        """Kinematics of the present state: mj_step leaves those of its last substep's beginning."""
        model, site = self.model, self._site
        kinematics, com, jac = mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_jacSite
        for d, linear, angular in self._jac_views:
            kinematics(model, d)
            com(model, d)
            jac(model, d, linear, angular, site)
        np.concatenate(self._qpos_views, out=self._q.reshape(-1))
        np.concatenate(self._qvel_views, out=self._qd.reshape(-1))
        np.concatenate(self._cup_views, out=self._cup.reshape(-1))
        np.concatenate(self._mat_views, out=self._mat.reshape(-1))
        self._opening = self._mat[:, 2::3]

    def _observe(self) -> Array:
        obs = np.empty((self.num_envs, OBSERVATION), np.float32)
        obs[:, CUP] = self._cup
        obs[:, OPENING] = OPENING_SCALE * self._opening[:, :2]
        obs[:, VELOCITY] = (self._jacobian[:, :3] @ self._qd[:, :, None])[:, :, 0]
        obs[:, GOAL] = OFFSET_SCALE * (self._layouts.goal - self._cup)
        obs[:, LAPTOP] = OFFSET_SCALE * (self._layouts.laptop - self._cup[:, :2])
        obs[:, JOINTS] = JOINT_SCALE * self._q
        obs[:, LAST_ACTION] = self._last
        obs[:, CLOCK] = 2 * self._t / HORIZON - 1
        return obs

    def _checked(self, actions: Array) -> Array:
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self.num_envs, ACTION):
            raise ValueError(f"actions have shape {actions.shape}; give ({self.num_envs}, {ACTION}), a row per arm")
        if not np.isfinite(actions).all():
            arm = int(np.argmin(np.isfinite(actions).all(1)))
            raise ValueError(f"the action of arm {arm} is {actions[arm].tolist()}; give finite numbers in [-1, 1]")
        return np.clip(actions, -1.0, 1.0)


class CupArm(gymnasium.Env[Array, Array]):
    """One arm, the usual Gymnasium way: ``gymnasium.make("rapport/CupArm-v0")``. ``info["success"]`` at the end."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": round(1 / DT)}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None) -> None:
        self.arms = CupArms(1, seed=0)
        self.observation_space = self.arms.single_observation_space
        self.action_space = self.arms.single_action_space
        self.render_mode = render_mode
        self._seeded = False
        self._renderer: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        self._seeded = True
        obs, info = self.arms.reset(seed=seed, options=options)
        return obs[0], info

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        reward, over = self.arms._advance(np.asarray(action)[None])
        info = {"success": bool(self.arms.success[0])} if over else {}
        return self.arms._observe()[0], float(reward[0]), over, False, info

    def render(self) -> Array | None:
        """The present pose, uint8 [480,640,3]. For whole clips, and many times faster: ``envs.arm_render``."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            from envs.arm_draw import Renderer  # loads OpenGL, which training must not need

            self._renderer = Renderer()
        return np.asarray(self._renderer.frames(self.arms.qpos, self.arms.layouts)[0])

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
