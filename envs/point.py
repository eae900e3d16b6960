"""PointMass: a point pushed about a plane, x' = A x + B u. Its best policy is known in closed form, so what is learned
can be compared with the truth. The environment itself pays nothing: the goal lives in the reward that one brings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

Array = npt.NDArray[Any]

HORIZON = 20
DT = 0.1  # s
FORCE = 20.0  # m/s^2 at action 1
EFFORT = 5.0  # usual price of an action, m^2
START_POSITION, START_VELOCITY = 1.0, 0.2  # m, m/s: starts are uniform within +- these
POSITION, VELOCITY, CLOCK = slice(0, 2), slice(2, 4), slice(4, 5)

_I = np.eye(2)
A: Array = np.kron([[1.0, DT], [0.0, 1.0]], _I)  # [4,4]
B: Array = FORCE * np.kron([[DT**2 / 2], [DT]], _I)  # [4,2]


class PointMass(VectorEnv[Array, Array, Array]):
    """n points. Observation [n,5]: position (m), velocity (m/s), clock 2t/20-1; action [n,2] in [-1,1], clipped. Every
    episode has 20 steps and ends as terminated; its last observation is ``info["final_obs"]`` [n,5] then, and the one
    returned is the next episode's first (autoreset SAME_STEP). Reward: 0."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, n: int, *, seed: int) -> None:
        if n < 1:
            raise ValueError(f"PointMass needs at least 1 point, got {n}")
        self.num_envs = n
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float64)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, n)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, n)
        self._rng = np.random.default_rng(seed)
        self._state, self._t = np.zeros((n, 4)), 0
        self._begin(None)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """``options={"state": [n,4]}`` chooses positions and velocities; otherwise they come from the own stream."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._begin((options or {}).get("state"))
        return self._observe(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        action = np.asarray(actions, np.float64)
        if action.shape != (self.num_envs, 2) or not np.isfinite(action).all():
            raise ValueError(
                f"actions have shape {action.shape}{'' if np.isfinite(action).all() else ' and are not all finite'}; "
                f"give finite numbers in [-1, 1] of shape ({self.num_envs}, 2)"
            )
        self._state = self._state @ A.T + np.clip(action, -1, 1) @ B.T
        self._t += 1
        over = self._t == HORIZON
        info: dict[str, Any] = {}
        if over:
            info = {"final_obs": self._observe(), "_final_obs": np.ones(self.num_envs, bool)}
            self._begin(None)
        ends = np.full(self.num_envs, over)
        return self._observe(), np.zeros(self.num_envs), ends, np.zeros(self.num_envs, bool), info

    def state_dict(self) -> dict[str, Any]:
        return {"state": self._state.copy(), "t": self._t, "stream": self._rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._begin(state["state"])
        self._t = int(state["t"])
        self._rng.bit_generator.state = state["stream"]

    def fingerprint(self) -> str:
        return f"PointMass({self.num_envs}) 1"

    def _begin(self, state: Array | None) -> None:
        if state is None:
            scale = np.array([START_POSITION, START_POSITION, START_VELOCITY, START_VELOCITY])
            state = self._rng.uniform(-1, 1, (self.num_envs, 4)) * scale
        state = np.array(state, np.float64)
        if state.shape != (self.num_envs, 4):
            raise ValueError(f"state has shape {state.shape}; give ({self.num_envs}, 4): position and velocity")
        self._state, self._t = state, 0

    def _observe(self) -> Array:
        clock = np.full((self.num_envs, 1), 2 * self._t / HORIZON - 1)
        return np.concatenate([self._state, clock], 1)


def quadratic_reward(goal: Array, effort: float = EFFORT) -> Callable[[Array, Array], Array]:
    """(obs [...,5], act [...,2]) -> [...]: -|position - goal|^2 - effort |action|^2, the action clipped as it acts."""
    goal = np.asarray(goal, np.float64)

    def reward(obs: Array, act: Array) -> Array:
        miss, push = obs[..., POSITION] - goal, np.clip(act, -1, 1)
        return np.asarray(-(miss**2).sum(-1) - effort * (push**2).sum(-1))

    return reward


@dataclass(frozen=True, eq=False)
class Lqr:
    """The optimum for one goal: action_t = -(gain_t x + offset_t), value_t(x) = -(x'P_t x + 2 q_t'x + r_t).
    gain [T,2,4], offset [T,2], p [T+1,4,4], q [T+1,4], r [T+1]; T = HORIZON."""

    gain: Array
    offset: Array
    p: Array
    q: Array
    r: Array

    def act(self, obs: Array) -> Array:
        """Best actions [n,2] for observations [n,5]; the clock says which step it is."""
        t = np.minimum(_step(obs), HORIZON - 1)
        return np.asarray(-(self.gain[t] @ obs[:, :4, None])[..., 0] - self.offset[t])

    def value(self, obs: Array) -> Array:
        """Sum of rewards [n] that remains to be had from observations [n,5]."""
        t, x = _step(obs), obs[:, :4]
        return np.asarray(-(np.einsum("ni,nij,nj->n", x, self.p[t], x) + 2 * (self.q[t] * x).sum(1) + self.r[t]))


def lqr(goal: Array, effort: float = EFFORT) -> Lqr:
    """Best policy and its value for ``quadratic_reward(goal, effort)``, by the Riccati recursion with affine terms
    (Anderson and Moore, Optimal Control, 1990, chapter 4).

    The recursion knows no box. With goals within +-1 m, the starts of PointMass and the usual effort its actions reach
    .76 at most (they are linear in start and goal, so a test takes the maximum over all of them): there it is the
    optimum under the box too."""
    if effort <= 0:
        raise ValueError(f"effort is {effort}; the optimum is only defined for a positive one")
    goal = np.asarray(goal, np.float64)
    look = np.eye(2, 4)
    p, q, r = np.zeros((HORIZON + 1, 4, 4)), np.zeros((HORIZON + 1, 4)), np.zeros(HORIZON + 1)
    gain, offset = np.zeros((HORIZON, 2, 4)), np.zeros((HORIZON, 2))
    for t in reversed(range(HORIZON)):
        curve = effort * _I + B.T @ p[t + 1] @ B
        gain[t] = np.linalg.solve(curve, B.T @ p[t + 1] @ A)
        offset[t] = np.linalg.solve(curve, B.T @ q[t + 1])
        closed = A - B @ gain[t]
        p[t] = look.T @ look + A.T @ p[t + 1] @ closed
        q[t] = closed.T @ q[t + 1] - look.T @ goal
        r[t] = r[t + 1] + goal @ goal - q[t + 1] @ B @ offset[t]
    return Lqr(gain, offset, p, q, r)


def _step(obs: Array) -> Array:
    return np.rint((obs[:, 4] + 1) * HORIZON / 2).astype(int)
