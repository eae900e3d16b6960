"""People answer while training goes on: when what is asked, what they are shown, resume, what answers are made of."""

import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.feedback import feedback
from embodied.label_models import EM, as_given
from embodied.loop import Round
from embodied.records import Answer, Compare, Skip
from embodied.rewards.ensemble import RewardEnsemble
from human_ui import desk, people
from human_ui.clips import decode
from human_ui.site import open_site
from policies.recorder import Trajectory
from rapport.cli import main
from rapport.run import RunError
from rapport.train import METHODS, Asking, Settings, by_regret, contrast, pebble, train
from rapport.train.pace import Open, Pace, next_turn
from rapport.train.people import foretold, known, labelled, learner
from rapport.train.pictures import drawing, frames
from rapport.train.spaces import SpaceError, world
from rapport.train.training import progress_row
from tests.human_ui.served import ask

WORLDS = Path(__file__).with_name("worlds.py")
SMALL = {"batch_size": 8, "learning_starts": 12, "policy_kwargs": {"net_arch": [8]}}


def settings(name="Drawn", method="pebble", **kwargs):
    values = {"answers": 8, "steps": 96, "sessions": 2, "clip": 6, "episodes": 2, "horizon": 12, "seed": 3, **kwargs}
    return Settings(env=f"{WORLDS}:{name}", method=METHODS[method](), **values)


# ---- when what is asked


@pytest.mark.parametrize(
    ("turns", "now", "given_up", "then"),
    [
        ([], Open(0, 0), False, "explore"),
        (["explore"], Open(0, 0), False, "ask"),
        (["explore", "ask"], Open(4, 4), False, "wait"),
        (["explore", "ask"], Open(3, 3), False, "wait"),  # more than half of the next four
        (["explore", "ask"], Open(2, 2), False, "ask"),
        (["explore", "ask"], Open(0, 4), False, "ask"),  # each has an answer: others may still give theirs
        (["explore", "ask", "ask"], Open(0, 1), False, "wait"),
        (["explore", "ask", "wait", "ask"], Open(0, 0), False, "end"),
        (["explore", "ask", "wait"], Open(4, 4), True, "end"),
        (["explore", "ask", "ask", "end"], Open(0, 0), False, None),
        (["explore", "ask", "end"], Open(4, 4), True, None),
    ],
)
def test_what_comes_next(turns, now, given_up, then):
    assert next_turn([4, 4], turns, now, given_up) == then


def test_the_steps_of_a_run_that_is_answered_at_once_are_those_planned(study):
    site = open_site(study)
    planned = [Round(0, 20), Round(3, 40), Round(3, 40)]
    pace = Pace(planned, 4, site.store, "run", want=1, patience=60)
    pace.turns = ["explore", "ask", "ask", "end"]
    assert pace.between == 8
    assert [pace.steps(n) for n in range(5)] == [0, 20, 60, 68, 108]
    site.store.close()


# ---- what is shown


def test_what_is_drawn_is_what_happened():
    place = world(f"{WORLDS}:Drawn", {}, 12, 0)
    copies = place.copies(2, 7, seeded=True)
    obs, _ = copies.reset()
    seeds, seen, acts = [copies.begun(i) for i in range(2)], [], []
    for _ in range(12):
        seen.append(obs.astype(np.float32))
        acts.append(copies.action_space.sample())
        obs, *_ = copies.step(acts[-1])
    assert len({*seeds, *(copies.begun(i) for i in range(2))}) == 4, "every episode has a seed of its own"
    t = Trajectory(0, np.stack(seen)[:, 1], np.stack(acts)[:, 1], np.zeros(12), False, seeds[1])
    with drawing(place) as env:
        shown = frames(place, env, t, 3, 9)
        again = frames(place, env, t, 0, 12)
        with pytest.raises(SpaceError, match=r"does something else when it is reset with the same seed .*step 5"):
            frames(place, env, replace(t, act=t.act + 0.1 * (np.arange(12) == 4)[:, None]), 0, 9)
        with pytest.raises(SpaceError, match=r"it is not known how episode 0 of .* began"):
            frames(place, env, replace(t, seed=-1), 0, 9)
    assert shown.shape == (6, 48, 96, 3) and (shown == again[3:9]).all()
    at = (shown[:, 24, :, 0] == 250).argmax(1)
    np.testing.assert_array_equal(at, np.clip(48 + 24 * t.obs[3:9, 0], 0, 90).astype(int))
    copies.close()


def test_without_opengl_only_what_needs_it_is_refused(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr("envs.arm_render.gl", lambda: None)
    with drawing(world(f"{WORLDS}:Drawn", {}, 12, 0)) as env:
        assert env is not None
    with pytest.raises(SpaceError, match="no off-screen OpenGL was found"), drawing(world("Reacher-v5", {}, 0, 0)):
        pass


def test_frames_that_are_observations_are_shown_as_they_are():
    place = world(f"{WORLDS}:Frames", {}, 12, 0)
    t = Trajectory(
        0, np.arange(3 * 36 * 36 * 3).reshape(3, 36, 36, 3).astype(np.uint8), np.zeros(3), np.zeros(3), False
    )
    with drawing(place) as env:
        assert (frames(place, env, t, 1, 3) == t.obs[1:]).all()
        grey = Trajectory(0, t.obs[..., :1], t.act, t.own, False)
        assert frames(place, env, grey, 0, 3).shape == (3, 36, 36, 3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Line", r"Line cannot be drawn, and people would see nothing \(TypeError: .*it has to take render_mode"),
        ("Fickle", "Fickle does something else when it is reset with the same seed and given the same actions"),
        ("Wire", r"Wire draws str, and people are shown uint8 \[H, W, 3\]"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_anything_is_written(study, tmp_path, name, sentence):
    with pytest.raises(SpaceError, match=sentence):
        train(settings(name), tmp_path / "run", ask=Asking(study), kwargs=SMALL)
    assert not (tmp_path / "run").exists() and sorted(p.name for p in study.iterdir()) == ["study.toml"]


# ---- people


class Crowd(threading.Thread):
    """People who answer through the desk, as the server does: late, out of order, with second thoughts, and skips."""

    def __init__(self, folder, names=("ann",), most=10**6, store=None):
        super().__init__(daemon=True)
        self.site, self.names, self.most = open_site(folder, store), names, most
        self.rng, self.over, self.given = np.random.default_rng(0), threading.Event(), 0
        for name in names:
            people.invite_again(self.site.store, name)

    def run(self):
        while not self.over.is_set() and self.given < self.most:
            for name in self.names:
                self.look(name)
            time.sleep(0.01)

    def look(self, name):
        store, study = self.site.store, self.site.study()
        lent = desk.lend(store, study, name, 3, time.time(), self.rng)
        for n, one in enumerate(self.rng.permutation(len(lent))[:2]):
            lease, id = lent[one], f"{name}-{self.given}"
            (query,) = store.queries([lease.query])
            nearer = [float(np.abs(part.obs[:, 0]).sum()) for part in query.segments]
            first = float(nearer[lease.shown[0]] < nearer[lease.shown[1]])
            value = Skip("") if self.given % 7 == 5 else Compare(first)
            self.give(name, lease, id, value)
            if n and self.given % 5 == 0:
                self.give(name, lease, f"{id}-again", Compare(first), supersedes=id)
            self.given += 1

    def give(self, name, lease, id, value, supersedes=""):
        desk.take(self.site.store, name, lease.lease, id, value, {}, supersedes, time.time())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.site.store.close()


def files(folder):
    newest = max((folder / "checkpoints").glob("step-*"))
    return [(newest / name).read_bytes() for name in ("arrays.safetensors", "state.json")]


class Stop(Exception):
    pass


ROLLS = {"n_steps": 12, "batch_size": 12}


@pytest.mark.parametrize(
    ("name", "method", "kwargs"),
    [
        ("Drawn", pebble(), SMALL),
        ("Drawn", by_regret(pebble()), SMALL),
        ("Drawn", contrast(), ROLLS),
        ("Frames", pebble(), {**ROLLS, "n_epochs": 1}),
    ],
)
def test_people_answer_while_it_trains_and_the_run_can_be_replayed(study, tmp_path, name, method, kwargs):
    """Stopped after rounds and within them; then played again without anybody, from its logs: bit for bit the same."""
    made = replace(settings(name, answers=8 if name == "Drawn" else 4), method=method)

    def stopped_at(index):
        def told(row):
            if row["round"] == index:
                raise Stop

        return told

    def killed(n):
        raise Stop

    with Crowd(study, ("ann", "bob")) as crowd:
        for index in (1, 3):
            with pytest.raises(Stop):
                train(made, tmp_path / "run", ask=Asking(study), told=stopped_at(index), kwargs=kwargs)
            with pytest.raises(Stop):
                train(made, tmp_path / "run", ask=Asking(study), progress=killed, kwargs=kwargs)
        rows = []
        found = train(made, tmp_path / "run", ask=Asking(study), told=rows.append, kwargs=kwargs).result
        shas = [p.name for p in (study / "clips").rglob("*") if p.is_file() and not p.name.endswith(".json")]
        assert len(list(decode(crowd.site.clips.path(shas[0])))) == 6
    budget = found["budget"]
    assert budget["asked"] == made.answers == budget["answered"] + budget["skipped"]
    assert 1 <= rows[-1]["people"] <= 2 and rows[-1]["open"] == 0 and found["steps"] >= 96
    all_rows = json.loads((tmp_path / "run" / "rounds.json").read_text())
    (told, *_) = [row for row in all_rows if "loss" in row["metrics"]]
    assert {"answers", "steps", "return", "loss"} <= set(progress_row(told))
    replayed = train(made, tmp_path / "again", ask=Asking(study, run="run"), kwargs=kwargs)
    assert files(tmp_path / "run") == files(tmp_path / "again")
    assert [r["returns"] for r in replayed.rows] == [r["returns"] for r in all_rows]


@pytest.mark.parametrize(
    ("method", "kind", "sentence"),
    [
        (contrast(), "stop", "With cpl, people can be asked in kinds compare and survey, and kind is 'stop'"),
        (contrast(), "grade", "With cpl, people can be asked in kinds compare and survey, and kind is 'grade'"),
    ],
)
def test_kinds_that_a_preference_cannot_learn_from_are_refused(study, tmp_path, method, kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(replace(settings(), method=method), tmp_path / "run", ask=Asking(study, kind=kind))
    assert not (tmp_path / "run").exists()


def test_two_runs_share_a_study(study, tmp_path):
    with Crowd(study):
        one, two = (
            train(settings(seed=seed), tmp_path / f"run-{seed}", ask=Asking(study), kwargs=SMALL).result
            for seed in (1, 2)
        )
    assert one["budget"]["asked"] == two["budget"]["asked"] == 8
    site = open_site(study)
    assert len(site.store.queries()) == 16 and len(site.store.queries(prefix="run-1:")) == 8
    site.store.close()
    with pytest.raises(RunError, match=r"seed is 1 there and 3 here.*--run gives this one another"):
        train(settings(seed=3), tmp_path / "other", ask=Asking(study, run="run-1"), kwargs=SMALL)


def test_every_question_is_answered_by_as_many_people_as_are_wanted(study, tmp_path, place):
    store = place if isinstance(place, str) else None
    (study / "study.toml").write_text('name = "Lines"\nlook = 0.0\nwant = 2\n')
    with Crowd(study, ("ann", "bob", "cleo"), store=store):
        found = train(settings(), tmp_path / "run", ask=Asking(study, store), kwargs=SMALL)
    budget = found.result["budget"]
    assert budget["asked"] == 8 and budget["answered"] + budget["skipped"] == 16
    assert found.reward.label_model is as_given, "what is saved does not depend on who answered"


def test_nobody_answers(study, tmp_path):
    said = []
    started = time.monotonic()
    asking = Asking(study, patience=0.01)
    found = train(settings(), tmp_path / "run", ask=asking, says=said.append, kwargs=SMALL)
    assert time.monotonic() - started >= 0.6 and found.result["budget"]["asked"] == 4
    assert said == [f"4 questions wait, and nobody answers; serve them with: rapport ask {study}"]
    assert "No answer had come for 0.01 minutes" in found.result["warnings"][-1]
    site = open_site(study)
    people.invite(site.store, "ann")
    lent = desk.lend(site.store, site.study(), "ann", 3, time.time(), np.random.default_rng(0))
    site.store.close()
    assert lent == [], "what nobody waits for is given to nobody"
    again = train(settings(), tmp_path / "again", ask=Asking(study, run="run"), kwargs=SMALL)
    assert files(tmp_path / "run") == files(tmp_path / "again") and len(again.rows) == len(found.rows)


def test_erased_answers_are_told_and_the_run_goes_on(study, tmp_path):
    said = []

    def stop(row):
        if row["answers"] >= 2:
            raise Stop

    with Crowd(study, most=3), pytest.raises(Stop):
        train(settings(), tmp_path / "run", ask=Asking(study), told=stop, kwargs=SMALL)
    site = open_site(study)
    read = site.store.last_seq()
    gone = people.erase(site.store, "ann")
    site.store.close()
    with Crowd(study, ("bob",)):
        found = train(settings(), tmp_path / "run", ask=Asking(study), says=said.append, kwargs=SMALL).result
    # Who erases does not wait for the run, which counts what it had read.
    told = [
        re.findall(r"^run is no longer replayable: (\d) answers erased\.", text) for text in (*said, *found["warnings"])
    ]
    counts = [int(one) for texts in told for one in texts]
    assert gone == read and len(counts) == 2 and all(2 <= n <= gone for n in counts)
    assert any("It goes on from its last checkpoint." in text for text in said)
    assert found["budget"]["answered"] + found["budget"]["skipped"] == 8


# ---- what is made of what they say


def test_who_errs_is_believed_less_by_gold_and_overlap(study):
    site, rng = open_site(study), np.random.default_rng(0)
    ask(site, 20, prefix="gold", want=2, truth={f"gold{i}": Compare(1.0) for i in range(20)})
    site.store.add_answers(
        Answer(f"{name}{i}", f"gold{i}", name, "person", Compare(float(name == "right" or rng.random() < 0.5)))
        for i in range(20)
        for name in ("right", "coin")
    )
    right, coin, stranger = known(site.store, ["right", "coin", "stranger"], site.store.last_seq())
    assert right[0] / sum(right) > 0.9 and coin[0] / sum(coin) < 0.75 and stranger == (4.0, 1.0)
    assert known(site.store, ["right"], 0) == [(4.0, 1.0)]
    site.store.close()


def test_an_annotator_who_errs_does_not_spoil_the_reward(study):
    """Everything is said twice, once right and once wrong; gold knows by whom."""
    site = open_site(study)
    ask(site, 40, want=2)
    ask(site, 20, prefix="gold", want=2, truth={f"gold{i}": Compare(1.0) for i in range(20)})
    for name, first in (("right", 0.0), ("wrong", 1.0)):  # of each pair the second segment shows the larger number
        said = [(f"q{i}", first) for i in range(40)] + [(f"gold{i}", 1 - first) for i in range(20)]
        site.store.add_answers(Answer(f"{name}-{q}", q, name, "person", Compare(value)) for q, value in said)
    queries, answers = site.store.queries(prefix="q"), site.store.answers(prefix="q")
    data, _ = feedback(answers, queries)
    model = RewardEnsemble(1, 1, seed=0, steps=200)
    metrics = learner(model, site.store, lambda: data.segments)(data, answers, 0, np.random.default_rng(0))
    liked = model.utilities(data.segments).mean(0).diff()[:, 0] > 0
    assert set(metrics) >= {"loss", "agreement"} and float(liked.float().mean()) > 0.95
    site.store.close()


def test_accuracy_is_of_new_decided_answers_before_they_are_learned(study):
    site = open_site(study)
    ask(site, 4)
    values = [Compare(1.0), Compare(0.0), Compare(0.5), Skip("")]
    site.store.add_answers(Answer(f"a{i}", f"q{i}", "ann", "person", value) for i, value in enumerate(values))
    answers = site.store.answers()
    data, _ = feedback(answers, site.store.queries())
    model = RewardEnsemble(1, 1, seed=0)
    model.anchor(np.linspace(0, 4, 20)[:, None], np.zeros((20, 1)))
    (first,) = (float(u) for u in (model.utilities(data[[1]].segments).mean(0).diff()[:, 0] > 0))
    assert foretold(model, [data], answers, 1) == {"accuracy": first, "decided": 1.0}
    assert foretold(model, [data], answers, 0) == foretold(model, [data], answers, 2) == {}
    site.store.close()


def test_a_label_model_is_only_lent():
    model = RewardEnsemble(2, 1, seed=0)
    before = model.state_dict().keys()
    with labelled(model, EM()):
        assert isinstance(model.label_model, EM)
    assert model.label_model is as_given and model.state_dict().keys() == before


# ---- the command line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--teacher", "noisy"], "--teacher are of a simulated teacher, and --ask asks people"),
        (["--tie-rate", "0.3", "--teacher", "noisy"], "--teacher, --tie-rate are of a simulated teacher"),
        (["--method", "true"], "The method true asks nobody"),
        (["--clip", "20"], "--clip is 20, and with --ask the study says how long clips are: set clip_seconds and fps"),
        (["--patience", "0"], "A patience of 0.0 minutes"),
        (["--run", "a b"], "A run called 'a b'"),
        (["--data", "x"], "both of them is given"),
    ],
)
def test_flags_that_do_not_go_together(study, tmp_path, capsys, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--env", f"{WORLDS}:Drawn", "--ask", str(study), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["study"]


def test_a_folder_of_another_run_is_refused(study, tmp_path):
    train(settings("Line"), tmp_path / "run", kwargs=SMALL)
    with pytest.raises(RunError, match=r"made with other settings \(asked is None there"):
        train(settings("Drawn"), tmp_path / "run", ask=Asking(study), kwargs=SMALL)


def test_a_study_that_is_none_yet_says_how_it_becomes_one(tmp_path, capsys):
    assert main(["train", "--env", "Pendulum-v1", "--ask", str(tmp_path / "new")]) == 2
    assert f"`rapport ask {tmp_path / 'new'}` makes one and serves it" in capsys.readouterr().err
    assert main(["train", "--env", "Pendulum-v1", "--run", "x"]) == 2
    assert "--run say how people are asked: give --ask STUDY too" in capsys.readouterr().err


def test_a_run_from_the_command_line(study, tmp_path, capsys):
    (study / "study.toml").write_text('name = "Lines"\nlook = 0.0\nclip_seconds = 0.4\nfps = 20\n')
    call = [
        "train",
        "--env",
        f"{WORLDS}:Drawn",
        "--horizon",
        "12",
        "--ask",
        str(study),
        "--answers",
        "4",
        "--sessions",
        "2",
    ]
    call += ["--steps", "60", "--out", str(tmp_path / "run"), "--json"]
    with Crowd(study):
        assert main(call) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["asked"] == 4 and config["clip"] == 8
    assert config["asked"] == {"study": str(study), "run": "run", "want": 1, "kind": "compare"}
    assert "People gave" in (tmp_path / "run" / "report.html").read_text()
    # An edit of the study is for other runs.
    (study / "study.toml").write_text('name = "Lines"\nwant = 3\nclip_seconds = 1.0\n')
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == told
