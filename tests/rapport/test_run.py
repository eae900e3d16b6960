"""The run's folder: other settings, strangers' files, two processes, a full disk are refused; nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from embodied import checkpoint
from embodied.checkpoint import CheckpointError
from embodied.episodes import Episodes
from embodied.store import Store
from rapport.cli import Demo
from rapport.cup import demo as demo_module
from rapport.cup.agent import CupAgent
from rapport.cup.demo import demo, run, summary
from rapport.cup.train import Settings, train
from rapport.run import RunError, read_json, run_folder, write_json


def digest(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, which holds nothing."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


def test_other_settings_are_refused_and_told(tmp_path):
    with run_folder(tmp_path / "run", {"seed": 1, "answers": 60}):
        pass
    before = digest(tmp_path)
    with (
        pytest.raises(
            RunError, match=r"made with other settings \(seed is 1 there and 2 here\): choose another folder"
        ),
        run_folder(tmp_path / "run", {"seed": 2, "answers": 60}),
    ):
        pass
    assert digest(tmp_path) == before
    with run_folder(tmp_path / "run", {"seed": 1, "answers": 60}) as folder:
        assert folder == tmp_path / "run"


def test_a_folder_of_other_files_is_not_written_into(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"holds thesis.tex, and no run of ours"), run_folder(tmp_path, {"seed": 1}):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_kill_while_the_config_is_written_bars_nothing(tmp_path):
    (tmp_path / ".config.json.123-0.tmp").write_text('{"se')
    with run_folder(tmp_path, {"seed": 1}):
        assert read_json(tmp_path / "config.json") == {"seed": 1}


def test_one_process_at_a_time(tmp_path):
    with run_folder(tmp_path, {"seed": 1}):
        code = (
            "import sys, pathlib; from rapport.run import run_folder\n"
            "with run_folder(pathlib.Path(sys.argv[1]), {'seed': 1}): pass"
        )
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert other.returncode == 1 and "is in use by another process" in other.stderr
    with run_folder(tmp_path, {"seed": 1}):
        pass


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(RunError, match=r"config.json is not JSON"), run_folder(tmp_path, {"seed": 1}):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run cannot be written"), run_folder(tmp_path / "file" / "run", {}):
        pass


def test_a_finished_run_is_shown_and_said_to_be_finished(tiny_run, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    settings = Settings(
        seed=5,
        answers=12,
        held_out=16,
        recipe=replace(Settings().recipe, **read_json(folder / "config.json")["recipe"]),
    )
    monkeypatch.setattr(demo_module, "Settings", lambda **given: settings)
    assert demo(Demo(out=folder, json=True, clips=False)) == 0
    out, err = capsys.readouterr()
    assert "finished on" in err and "Another --out makes a new run" in err
    last = json.loads(out.splitlines()[-1])
    assert list(last) == ["answers", "wishes_before", "wishes_after", "task_before", "task_after", "seconds"]
    assert last == summary(read_json(folder / "result.json")) and last["answers"] == 12
    assert (folder / "report.html").exists()


@pytest.mark.parametrize("reward", ["none", pytest.param("true", marks=[pytest.mark.slow, pytest.mark.long])])
def test_runs_without_questions_go_on_too(reward, tiny_recipe, tmp_path):
    settings = Settings(seed=2, answers=0, reward=reward, held_out=16, recipe=tiny_recipe)
    whole = train(settings, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(row):
        if row["round"] == 1:
            raise Stop

    with pytest.raises(Stop):
        train(settings, tmp_path / "stopped", told=stop)
    stopped = train(settings, tmp_path / "stopped")
    for name, value in whole.agent.sb3.snapshot().items():
        np.testing.assert_array_equal(value, stopped.agent.sb3.snapshot()[name])
    assert whole.after == stopped.after and stopped.budget.asked == 0


@pytest.mark.slow
def test_a_full_disk_stops_a_run_in_a_sentence_and_it_goes_on_afterwards(tiny_recipe, tiny_run, tmp_path):
    settings = Settings(seed=5, answers=12, held_out=16, recipe=tiny_recipe)
    code = (
        "import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from rapport.cup.agent import Recipe\n"
        "from rapport.cup.train import Settings, train; from rapport.run import run_folder\n"
        "from dataclasses import asdict\n"
        f"settings = {settings!r}\n"
        "with run_folder(Path(sys.argv[1]), asdict(settings)): train(settings, Path(sys.argv[1]))"
    )
    limited = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    last = limited.stderr.strip().splitlines()[-1]
    assert limited.returncode == 1 and "the disk is full or a file-size limit is reached" in last, limited.stderr
    assert "free some space or raise the limit" in last
    with run_folder(tmp_path / "run", asdict(settings)):
        run(settings, tmp_path / "run")
    ours, whole = (read_json(folder / "result.json") for folder in (tmp_path / "run", tiny_run))
    assert ours["after"] == whole["after"]
    with Store(tmp_path / "run" / "answers.sqlite", Episodes(tmp_path / "run" / "episodes")) as store:
        assert len({a.query for a in store.answers()}) == store.last_seq() == 12


def test_a_checkpoint_of_another_environment_is_refused(tiny_recipe, tiny_run):
    other = CupAgent(replace(tiny_recipe, arms=4), 5)
    with pytest.raises(
        CheckpointError, match=r"is of cup agent, PPO on CupArms\(8\).*is cup agent, PPO on CupArms\(4\)"
    ):
        checkpoint.load(tiny_run / "checkpoints", agent=other)


def test_json_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(RunError, match=r"missing/x.json cannot be written"):
        write_json(tmp_path / "missing" / "x.json", {})
