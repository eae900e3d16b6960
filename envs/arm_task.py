"""What CupArm is about: where things stand, what is observed, what the task pays. Pure numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HORIZON = 80
NEAR = 0.05  # m; success: this near to the goal in all of the last 5 steps
GAMMA = 0.99  # of the potential in the task reward
LAPTOP_HALF = (0.11, 0.16)  # m, a 13-inch one, x and y
LAPTOP_SHIFT = -0.02  # its middle is this much nearer to the robot (x) than the layout's laptop position

OBSERVATION, ACTION = 26, 5
CUP, OPENING, VELOCITY, GOAL, LAPTOP = slice(0, 3), slice(3, 5), slice(5, 8), slice(8, 11), slice(11, 13)
JOINTS, LAST_ACTION, CLOCK = slice(13, 20), slice(20, 25), slice(25, 26)
OPENING_SCALE, OFFSET_SCALE, JOINT_SCALE = 1.5, 2.0, 0.5  # what these features are multiplied by in the observation


@dataclass(frozen=True, eq=False)
class Layouts:
    """Where things are, one row per episode: cup at the start [n,3], goal [n,3], laptop [n,2], all in m."""

    start: Array
    goal: Array
    laptop: Array

    def __post_init__(self) -> None:
        for name, size in (("start", 3), ("goal", 3), ("laptop", 2)):
            value = np.asarray(getattr(self, name), np.float64)
            object.__setattr__(self, name, value)
            if value.ndim != 2 or value.shape != (len(self.start), size):
                raise ValueError(f"layout {name} has shape {value.shape}; give ({len(self.start)}, {size})")
            if not np.isfinite(value).all():
                raise ValueError(f"layout {name} has a value that is not finite; give positions in m")

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: Any) -> "Layouts":
        """Rows chosen by a slice, an index array or a mask; an int gives one row, still batched."""
        rows = np.arange(len(self))[index].reshape(-1)
        return Layouts(self.start[rows], self.goal[rows], self.laptop[rows])


def draw(rng: np.random.Generator, n: int) -> Layouts:
    """n random layouts, uniform in a few cm around the usual places."""
    u = rng.uniform(-1, 1, (n, 8))
    return Layouts(
        np.array([0.50, -0.42, 0.27]) + u[:, :3] * [0.04, 0.04, 0.02],
        np.array([0.50, 0.42, 0.22]) + u[:, 3:6] * [0.04, 0.04, 0.0],
        np.array([0.54, 0.0]) + u[:, 6:] * [0.03, 0.06],
    )


def decode(obs: Array) -> dict[str, Array]:
    """Observations [...,26] in SI units: cup [...,3] m, opening [...,3] (unit vector along the cup's axis), tilt [...]
    rad, velocity [...,3] m/s, goal_offset [...,3] and laptop_offset [...,2] m (thing minus cup), joints [...,7] rad,
    last_action [...,5], clock [...] in steps. The opening counts as above the horizon: the guards see to that."""
    obs = np.asarray(obs, np.float64)
    if obs.shape[-1:] != (OBSERVATION,):
        raise ValueError(f"observations have shape {obs.shape}; the last axis must be {OBSERVATION}")
    xy = obs[..., OPENING] / OPENING_SCALE
    sine = np.minimum(np.linalg.norm(xy, axis=-1), 1.0)
    return {
        "cup": obs[..., CUP],
        "opening": np.concatenate([xy, np.sqrt(1 - sine**2)[..., None]], -1),
        "tilt": np.arcsin(sine),
        "velocity": obs[..., VELOCITY],
        "goal_offset": obs[..., GOAL] / OFFSET_SCALE,
        "laptop_offset": obs[..., LAPTOP] / OFFSET_SCALE,
        "joints": obs[..., JOINTS] / JOINT_SCALE,
        "last_action": obs[..., LAST_ACTION],
        "clock": (obs[..., 25] + 1) * (HORIZON / 2),
    }


def task_reward(before: Array, after: Array, step: int) -> Array:
    """Reward [n] of control step ``step`` (0..79) from the distances [n] in m to the goal before and after it: the
    potential leaves the best path free (Ng et al. 1999), the rest pays for being there at the end, not for hurry."""
    reward = 3 * (before - GAMMA * after)
    if step >= HORIZON - 20:
        reward = reward + 0.15 * np.exp(-((after / 0.06) ** 2))
    if step >= HORIZON - 5:
        reward = reward + 0.4 * (after < NEAR)
    return np.asarray(reward)


def over_laptop(cup: Array, laptop: Array) -> Array:
    """Depth (m) of the cup's centre [...,2+] inside the laptop's outline (laptop [...,2]); negative outside."""
    x = np.abs(cup[..., 0] - laptop[..., 0] - LAPTOP_SHIFT)
    y = np.abs(cup[..., 1] - laptop[..., 1])
    return np.minimum(LAPTOP_HALF[0] - x, LAPTOP_HALF[1] - y)
