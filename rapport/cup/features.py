"""What the main job's reward may look at: five named groups of features of one step, all from observation and action.

This is the prior knowledge of the main job, and the report says so: the names of the groups, and how rough each may be.
How much each matters, and in which direction, comes from the answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from embodied.records import Array
from embodied.rewards.additive import Features, Prior
from envs.arm import decode

PLACE_X = np.arange(-0.40, 0.2401, 0.08)
PLACE_Y = np.arange(-0.54, 0.5401, 0.09)
CENTRES = np.stack(np.meshgrid(PLACE_X, PLACE_Y, indexing="ij"), -1).reshape(-1, 2)
WIDTH = 0.08
TILT_KNOTS = np.array([0.0, 5, 10, 15, 20, 30, 40, 55, 75])
BEND_LENGTH = 20.0  # degrees
SPEED_KNOTS = np.array([0.0, 0.15, 0.3, 0.45, 0.62])

_SIZES = {"place": len(CENTRES), "tilt": len(TILT_KNOTS), "speed": len(SPEED_KNOTS), "height": 2, "jerk": 1, "task": 2}
_ENDS = np.cumsum(list(_SIZES.values()))
GROUPS = {name: slice(int(end) - size, int(end)) for (name, size), end in zip(_SIZES.items(), _ENDS, strict=True)}


def bumps(xy: Array) -> Array:
    """Place relative to the laptop's centre, m, [..., 2] -> [..., 117] Gaussian bumps."""
    gx = np.exp(-(((xy[..., :1] - PLACE_X) / WIDTH) ** 2) / 2)
    gy = np.exp(-(((xy[..., 1:] - PLACE_Y) / WIDTH) ** 2) / 2)
    return (gx[..., :, None] * gy[..., None, :]).reshape(*xy.shape[:-1], -1)


def ramps(x: Array, knots: Array) -> Array:
    """How much of each stretch between two knots lies below x, [...] -> [..., len(knots) - 1] in [0, 1]."""
    return np.clip((x[..., None] - knots[:-1]) / np.diff(knots), 0, 1)


def tilt_features(degrees: Array) -> Array:
    return np.concatenate([degrees[..., None] / 40, ramps(degrees, TILT_KNOTS)], -1)


def step_features(obs: Array, act: Array) -> Array:
    """[..., T, 26], [..., T, 5] -> [..., T, 136]. Progress is known inside a clip only; its last step has none."""
    now = decode(obs)
    speed = np.linalg.norm(now["velocity"], axis=-1)
    height = (now["cup"][..., 2] - 0.25) / 0.1
    jerk = np.minimum(np.abs(act - now["last_action"]).sum(-1), 2.0)
    d = np.linalg.norm(now["goal_offset"], axis=-1)
    progress = np.concatenate([d[..., :-1] - d[..., 1:], np.zeros_like(d[..., :1])], -1)
    return np.concatenate(
        [
            bumps(-now["laptop_offset"]),
            tilt_features(np.degrees(now["tilt"])),
            speed[..., None] / 0.6,
            ramps(speed, SPEED_KNOTS),
            np.stack([height, height**2, jerk, progress, np.exp(-((d / 0.06) ** 2))], -1),
        ],
        -1,
    )


FEATURES = Features(step_features, GROUPS, nuisance=frozenset({"task"}))

SPEED_BEND = 0.3  # of the linear part, whose sum over a clip is the length of the path
TASK_SD = (5.0, 0.2)  # of progress per metre and of being at the goal per step
_MIDDLES = (TILT_KNOTS[1:] + TILT_KNOTS[:-1]) / 2
_PIECES = np.diff(TILT_KNOTS) / 10  # a longer stretch of the curve may rise more
_SMOOTH = _PIECES * _PIECES[:, None] * np.exp(-(((_MIDDLES[:, None] - _MIDDLES) / BEND_LENGTH) ** 2) / 2)
_DISTANCE2 = ((CENTRES[:, None] - CENTRES) ** 2).sum(-1)
_REFERENCE = bumps(np.array([-0.08, 0.0]))


def covariance(scales: Mapping[str, float]) -> Array:
    """The place utility is a smooth random surface, sd `place` at a point, correlation length `length` m.

    A hundred answers cannot fill 117 independent weights; a surface with a length of 10-20 cm they can. For the same
    reason the tilt curve is a line of slope sd `tilt` per 40 degrees and a smooth departure, `bend` times that:
    independent pieces would leave room for a false dip, in front of which a policy stays.
    """
    cov = np.zeros((int(_ENDS[-1]), int(_ENDS[-1])))
    surface = np.exp(-_DISTANCE2 / (2 * scales["length"] ** 2)) + 0.001 * np.eye(len(CENTRES))
    cov[GROUPS["place"], GROUPS["place"]] = scales["place"] ** 2 * surface / (_REFERENCE @ surface @ _REFERENCE)
    first, last = GROUPS["tilt"].start, GROUPS["tilt"].stop
    cov[first, first] = scales["tilt"] ** 2
    cov[first + 1 : last, first + 1 : last] = (scales["bend"] * scales["tilt"]) ** 2 * _SMOOTH
    sd = np.full(int(_ENDS[-1]) - last, scales["other"])
    sd[: len(SPEED_KNOTS)] = scales["speed"] * np.array([1.0, *[SPEED_BEND] * (len(SPEED_KNOTS) - 1)])
    sd[-2:] = TASK_SD
    cov[last:, last:] = np.diag(sd**2)
    return cov


PRIOR = Prior(
    covariance,
    grid={
        "length": (0.10, 0.15, 0.22),
        "place": (0.06, 0.12, 0.25, 0.5, 1.0, 2.0),
        "tilt": (0.25, 0.5, 1.0, 2.0),
        "bend": (0.025, 0.05, 0.1),
        "speed": (0.03, 0.1, 0.3, 1.0),
        "other": (0.03, 0.1, 0.3),
    },
    default={"length": 0.15, "place": 1.0, "tilt": 0.5, "bend": 0.05, "speed": 0.1, "other": 0.1},
)
