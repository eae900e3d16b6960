"""Rewards of videos side by side: the cells are commands that `rapport train` takes."""

from hashlib import sha256

import pytest
import tyro

from rapport.cli import Compare, Train
from rapport.compare.cells import FILMED
from rapport.compare.command import plan
from rapport.visual.command import about_videos, settings_of


def test_every_cell_is_a_run_about_videos_of_one_agent():
    _, cells = plan(Compare(envs=("E",), methods=("rapl", "video", "true"), budgets=(10, 20), seeds=2, steps=500))
    assert len(cells) == 2 * (2 * 2 + 1) and len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        options = tyro.cli(Train, args=cell.arguments())
        own = settings_of(options)
        assert about_videos(options) and (own.reward, own.seed, own.steps) == (cell.method, cell.seed, 500)
        assert own.algorithm == "ppo" and own.answers == (cell.answers or 100)


def test_every_reward_of_videos_can_be_compared_and_trained():
    for method in FILMED:
        assert settings_of(tyro.cli(Train, args=["--env", "E", "--reward", method])).reward == method
        assert tyro.cli(Compare, args=["--envs", "E", "--methods", method]).methods == (method,)


def test_what_is_seen_is_passed_on_and_trunks_are_shared(tmp_path):
    seen = {"trunk": "resnet18@64=w.safetensors", "pool": 24, "frames": 4, "pay": "drop", "demos": tmp_path}
    _, cells = plan(Compare(envs=("E",), methods=("rapl", "true"), budgets=(5,), seeds=1, **seen))
    rapl, true = (settings_of(tyro.cli(Train, args=cell.arguments())) for cell in cells)
    assert [str(getattr(rapl, name)) for name in seen] == [str(value) for value in seen.values()]
    assert (true.trunk, true.pool, true.demos) == ("soft-argmax", 300, "")
    with pytest.raises(ValueError, match="--trunk, --pool: of rewards of videos, and none is compared"):
        plan(Compare(envs=("E",), methods=("pebble",), trunk="resnet18", pool=24))


def test_clips_and_videos_are_not_mixed():
    with pytest.raises(ValueError, match="compare them apart"):
        plan(Compare(envs=("E",), methods=("rapl", "pebble")))
    with pytest.raises(ValueError, match="see whole videos"):
        plan(Compare(envs=("E",), methods=("rapl",), clip=25))


def test_what_no_cell_could_be_run_with_is_refused_before_the_first():
    with pytest.raises(ValueError, match="--teacher skip does not rank videos"):
        plan(Compare(envs=("E",), methods=("rapl", "true"), teacher="skip"))
    with pytest.raises(ValueError, match="A budget of 5 answers: rapl take"):
        plan(Compare(envs=("E",), methods=("rapl", "true"), budgets=(5, 30)))
    with pytest.raises(ValueError, match="give at least 12"):
        plan(Compare(envs=("E",), methods=("rapl", "cycles"), budgets=(10, 30)))


def test_other_comparisons_keep_the_folders_that_they_had():
    _, (cell, *_) = plan(Compare(envs=("Pendulum-v1",), methods=("pebble",), budgets=(100,), seeds=1))
    assert (
        cell.name
        == "run-Pendulum-v1-pebble-100answers-seed0-"
        + sha256(
            b"Cell(env='Pendulum-v1', method='pebble', answers=100, seed=0, steps=20000, clip=50, teacher='oracle', "
            b"rate=0.0, sessions=10, copies=1, horizon=0, trial=False)"
        ).hexdigest()[:8]
    )
