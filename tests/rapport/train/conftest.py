"""A study that people of a training answer in."""

import pytest


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.toml").write_text('name = "Lines"\nlook = 0.0\n')
    return folder
