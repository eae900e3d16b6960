"""Small runs about videos of a dot, real from the first picture to the report."""

from pathlib import Path

import pytest

from rapport.visual import Settings

HERE = Path(__file__).parent / "worlds.py"


@pytest.fixture
def settings():
    """Of a run that costs about a second."""

    def made(kind="Dot", **kwargs):
        small = dict(
            answers=8, pool=24, frames=4, steps=128, sessions=2, episodes=2, pretraining=10, copies=2, algorithm="sac"
        )
        return Settings(**{"env": f"{HERE}:{kind}", "horizon": 8, **small, **kwargs})

    return made
