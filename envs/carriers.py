"""Scripted carriers for CupArm. A carrier is a function from observations [n,26] to actions [n,5]; it looks at nothing
else. ``hurried`` is what the arm does before anyone is asked; ``careful`` shows that every wish can be met."""

from collections.abc import Callable

import numpy as np

from envs.arm_control import SPEED, TURN
from envs.arm_task import Array, decode

Carrier = Callable[[Array], Array]

CORRIDOR = 0.25  # m, inner guard of the radius: the robot's end of the corridor
EDGE = 0.16  # m from the laptop's position to its near edge, 3 cm margin included
PAST = 0.22  # m beside the laptop's position where its sides, with margin, are behind


def hurried(
    rng: np.random.Generator,
    n: int,
    *,
    lean: tuple[float, float] = (35.0, 50.0),
    swing: float = 0.3,
    speed: float = 1.0,
) -> Carrier:
    """Straight to the goal, the cup leant ``lean`` degrees (drawn per arm) towards the motion, give or take ``swing``
    rad. ``speed`` is the share of the top speed: at about .3 the time no longer suffices."""
    angle = np.deg2rad(rng.uniform(*lean, n))
    aside = rng.uniform(-swing, swing, n)
    # The motion keeps its direction: at the goal it would be undefined.
    heading: list[Array] = []

    def carry(obs: Array) -> Array:
        now = decode(obs)
        if not heading or (now["clock"] < 0.5).all():
            heading[:] = [np.arctan2(now["goal_offset"][:, 1], now["goal_offset"][:, 0]) + aside]
        wanted = np.sin(angle)[:, None] * np.stack([np.cos(heading[0]), np.sin(heading[0])], 1)
        return _action(_towards(now["goal_offset"], speed * SPEED), wanted, now)

    return carry


def careful(*, speed: float = 0.55) -> Carrier:
    """Upright, through the corridor between robot and laptop, then to the goal. speed in m/s."""

    def carry(obs: Array) -> Array:
        now = decode(obs)
        cup, laptop = now["cup"], now["laptop_offset"]
        middle = (CORRIDOR + cup[:, 0] + laptop[:, 0] - EDGE) / 2
        to_corridor = middle - cup[:, 0]
        height = 0.24 - cup[:, 2]
        enter = np.stack([to_corridor, laptop[:, 1] - PAST + 0.06, height], 1)
        enter *= (speed / np.maximum(np.linalg.norm(enter, axis=1), 1e-9))[:, None]
        along = speed * np.clip(1.5 - np.abs(to_corridor) / 0.03, 0, 1)
        through = np.stack([5 * to_corridor, along, 3 * height], 1)
        before, after = laptop[:, 1] > PAST, laptop[:, 1] < -PAST
        velocity = np.where(before[:, None], enter, through)
        velocity = np.where(after[:, None], _towards(now["goal_offset"], speed), velocity)
        return _action(velocity, np.zeros((len(cup), 2)), now)

    return carry


def _towards(offset: Array, speed: float) -> Array:
    velocity = 4 * offset
    return np.asarray(velocity * np.minimum(1, speed / np.maximum(np.linalg.norm(velocity, axis=1), 1e-9))[:, None])


def _action(velocity: Array, opening: Array, now: dict[str, Array]) -> Array:
    """Actions for a cup velocity [n,3] m/s and a servo of the opening's x, y to ``opening`` [n,2]."""
    turn = 4 * (opening - now["opening"][:, :2])
    upright = np.maximum(now["opening"][:, 2], 0.3)
    spin = np.stack([-turn[:, 1], turn[:, 0]], 1) / upright[:, None]
    action = np.concatenate([velocity / SPEED, spin / TURN], 1)
    # Half of the last action: no jerk.
    return np.clip(0.5 * np.clip(action, -1, 1) + 0.5 * now["last_action"], -1, 1)
