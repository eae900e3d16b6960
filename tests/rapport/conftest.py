"""One small run of the main job, trained for real, that the tests of what looks back on a run share."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from rapport.cup.agent import Recipe
from rapport.cup.demo import run
from rapport.cup.train import Settings
from rapport.run import run_folder

TINY = Recipe(
    arms=8,
    first_rounds=2,
    rounds=2,
    first_updates=2,
    updates=2,
    last_updates=2,
    first_layouts=8,
    later_layouts=6,
    clone_episodes=16,
    clone_steps=100,
)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written into; copy it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run") / "tiny"
    settings = Settings(seed=5, answers=12, held_out=16, recipe=TINY)
    with run_folder(folder, asdict(settings)):
        run(settings, folder)
    return folder
