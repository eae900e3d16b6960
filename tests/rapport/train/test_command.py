"""`rapport train` from the command line: the JSON, the report, a finished run, bad input, off-line."""

import json
from pathlib import Path

import numpy as np
import pytest

from embodied import Answer, Compare, Episode, Episodes, Query, Store, cut
from rapport.cli import main

WORLD = f"{Path(__file__).with_name('worlds.py')}:Timed"
SHORT = ["train", "--env", WORLD, "--answers", "4", "--steps", "60", "--sessions", "2", "--clip", "6"]


def test_a_run_prints_json_last_and_writes_a_report(tmp_path, capsys):
    call = [*SHORT, "--out", str(tmp_path / "run"), "--json"]
    assert main(call) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["asked"] == first["answered"] == 4 and first["exact"] and first["steps"] == 60
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Where the questions went" in page and "<svg" in page
    assert main(call) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1]) == first and "is finished" in told.err


def data_folder(folder, said=lambda i: i % 2):
    rng, episodes = np.random.default_rng(0), Episodes(folder / "episodes")
    made = [Episode(f"e{i}", rng.normal(size=(20, 2)), rng.uniform(-1, 1, (20, 1))) for i in range(6)]
    episodes.save(made)
    with Store(folder / "answers.sqlite", episodes) as store:
        queries = [Query(f"q{i}", (cut(made[i], 0, 10), cut(made[5 - i], 5, 15))) for i in range(3)]
        store.add_queries(queries)
        store.add_answers([Answer(f"a{i}", q.id, "me", "person", Compare(said(i))) for i, q in enumerate(queries)])


def test_off_line_from_a_data_folder(tmp_path, capsys):
    data_folder(tmp_path / "data")
    assert main(["train", "--data", str(tmp_path / "data"), "--steps", "20", "--out", str(tmp_path / "out")]) == 0
    assert "6 episodes, 3 answers" in capsys.readouterr().out
    assert (tmp_path / "out" / "result.json").exists()


def test_off_line_tells_what_is_wrong_with_the_answers(tmp_path, capsys):
    data_folder(tmp_path / "data", lambda i: 0.5)
    call = ["train", "--data", str(tmp_path / "data"), "--steps", "20", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    told = capsys.readouterr()
    assert "Note: all 3 answers are the same (compare 0.5)" in told.err and "3 answers, all ties" in told.out
    assert main([*call, "--json"]) == 0
    assert "NaN" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "none of them is given: give one"),
        (["--env", "Pendulum-v1", "--data", "somewhere"], "both of them is given: give one"),
        (["--env", "Pendulm-v1"], "Gymnasium knows no environment 'Pendulm-v1'"),
        (["--env", "CartPole-v1", "--algorithm", "sac"], "SAC acts with numbers"),
        (["--data", ".", "--tie-rate", "0.1", "--copies", "2"], "--tie-rate, --copies say how an environment is"),
        (["--env", "Pendulum-v1", "--bounds", "0", "1"], "--bounds are of the actions in --data"),
        (["--env", "Pendulum-v1", "--answers", "0"], "A budget of 0 answers"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, capsys, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
