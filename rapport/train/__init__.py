"""Preference learning in any Gymnasium environment, from Python: the same as `rapport train`.

from rapport.train import Settings, pebble, train
train(Settings(env="Reacher-v5", method=pebble(), answers=100, steps=20_000), "runs/reacher")
"""

from rapport.train.methods import (
    METHODS,
    Method,
    by_regret,
    contrast,
    ensemble,
    pebble,
    rune,
    surf,
    transformer,
    true_reward,
)
from rapport.train.people import Asking
from rapport.train.settings import Settings
from rapport.train.training import Trained, train

__all__ = [
    "METHODS",
    "Asking",
    "Method",
    "Settings",
    "Trained",
    "by_regret",
    "contrast",
    "ensemble",
    "pebble",
    "rune",
    "surf",
    "train",
    "transformer",
    "true_reward",
]
