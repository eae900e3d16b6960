"""LeRobot's environment: RAPPORT_LEROBOT_PYTHON names its interpreter. Without it `.venv-lerobot` is made from
benchmarks/lerobot.txt the first time (several GB with PyTorch's default build)."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def lerobot_python() -> str:
    if named := os.environ.get("RAPPORT_LEROBOT_PYTHON"):
        return named
    spec = importlib.util.spec_from_file_location("peer_env", ROOT / "benchmarks/peer_env.py")
    assert spec and spec.loader
    peer_env = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer_env)
    return str(peer_env.interpreter(ROOT / ".venv-lerobot", ROOT / "benchmarks/lerobot.txt"))
