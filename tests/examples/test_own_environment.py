"""The example runs as it stands, only shorter."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_environment.py"


@pytest.mark.slow
def test_own_environment_policy_network_and_loss(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("own_environment", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(steps=900, answers=10, out=str(tmp_path / "run"))
    assert "true return" in capsys.readouterr().out
    assert (tmp_path / "run" / "result.json").exists()
