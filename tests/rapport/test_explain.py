"""`rapport explain` on people of whom it is known how they came to their answers."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from embodied.episodes import Episode, cut
from embodied.explain import explain
from embodied.importers import DataError
from embodied.records import Answer, Compare, Query, Rate, Skip
from envs.delivery import board
from rapport import cli
from rapport.data_folder import open_folder
from rapport.explain import boards
from rapport.explain.answers import comparisons
from rapport.explain.planted import PEOPLE, person, save

HOME = board()


def said(kind, n, seed, errors=True):
    data = person(HOME, kind, n, seed, errors)
    first = data.target[:, 0].double().numpy()
    return explain(boards.models(HOME, data.segments), first, np.arange(n), n=5, rng=np.random.default_rng(0))


def recorded(folder, shape=(20, 3)):
    """Random walks, judged by ann for where they are, by ben with a coin."""
    rng = np.random.default_rng(24)
    made = []
    for i in range(40):
        obs = np.cumsum(rng.normal(size=(20, *shape[1:])), 0)
        made.append(Episode(f"e{i}", obs, rng.normal(size=(20, 2))))
    with open_folder(folder, make=True) as store:
        store.episodes.save(made)
        for name, n in (("ann", 40), ("ben", 24)):
            cuts = [cut(made[rng.integers(40)], t, t + 8) for t in rng.integers(0, 12, 2 * n)]
            asked = [Query(f"{name}{b}", (cuts[2 * b], cuts[2 * b + 1])) for b in range(n)]
            means = [[float(s.obs.mean()) for s in q.segments] for q in asked]
            first = [float(one > two) if name == "ann" else float(rng.random() < 0.5) for one, two in means]
            store.add_queries(asked)
            store.add_answers(
                [Answer(f"{q.id}-said", q.id, name, "person", Compare(x)) for q, x in zip(asked, first, strict=True)]
            )
    return folder


@pytest.fixture
def folder(tmp_path):
    return recorded(tmp_path / "study")


def run(folder, *args):
    return cli.main(["explain", str(folder), "--folds", "2", "--out", str(folder.parent / "out"), *args])


def test_the_command_judges_each_and_all_and_draws_them(folder, capsys):
    assert run(folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["people"]) == {"ann", "ben", "everyone"} and found["people"]["everyone"]["answers"] == 64
    ann = found["people"]["ann"]
    assert (
        ann["named"] != "coin"
        and ann["models"][0]["nats"] > -0.5
        and {m["model"] for m in ann["models"]} == {"return", "regret", "cpl", "mixture"}
    )
    assert all(m["over_coin"]["low"] <= m["over_coin"]["mean"] <= m["over_coin"]["high"] for m in ann["models"])
    page = (folder.parent / "out" / "report.html").read_text()
    assert ann["advice"].split(";")[0] in page.replace("&#x27;", "'") and "http" not in page.replace("http-equiv", "")
    assert (folder.parent / "out" / "calibration.png").read_bytes().startswith(b"\x89PNG")

    assert run(folder, "--json", "--annotator", "ben") == 0  # alone, the same as beside others
    assert json.loads(capsys.readouterr().out)["people"] == {"ben": found["people"]["ben"]}


def test_revised_answers_skips_and_other_kinds_do_not_count(folder):
    with open_folder(folder) as store:
        before = comparisons(store)
        old = next(a for a in store.answers() if a.annotator == "ann")
        one = store.queries()[0].segments[0]
        store.add_queries([Query("rated", (one,), "rate"), Query("again", store.queries()[1].segments[::-1])])
        store.add_answers(
            [
                Answer("new", old.query, "ann", "person", Compare(1 - old.value.first), supersedes=old.id),
                Answer("skip", "again", "ben", "person", Skip()),
                Answer("rate", "rated", "ann", "person", Rate((3.0,))),
                Answer("turned", "again", "ann", "person", Compare(0.5)),
            ]
        )
        after = comparisons(store)
    assert (len(before.first), len(after.first), after.left_out) == (64, 65, 1)
    assert len(set(after.question)) == 64  # the same two clips in the other order are the same question
    assert sorted(after.first.tolist()) != sorted(before.first.tolist())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: replace(a, value=Compare(0.5)), "are ties; ask about clips that differ more"),
        (lambda a: replace(a, value=Compare(1.0)), "are for the first clip, which is a habit and no wish"),
        (lambda a: replace(a, value=Skip()), "no comparison of two clips among them"),
    ],
)
def test_answers_that_tell_nothing_are_a_sentence(tmp_path, capsys, change, sentence):
    with open_folder(tmp_path / "made", make=True) as store:
        save(store, HOME, {"ann": person(HOME, "regret", 30, 23)})
        queries, answers, episodes = store.queries(), store.answers(), store.episodes
        made = [episodes.load(id) for id in episodes.ids()]
    with open_folder(tmp_path / "study", make=True) as store:
        store.episodes.save(made)
        store.add_queries(queries)
        store.add_answers([replace(change(a), seq=0) for a in answers])
    assert run(tmp_path / "study") == 2
    assert sentence in capsys.readouterr().err


def test_too_few_answers_unknown_people_and_no_folder_are_sentences(folder, capsys):
    assert run(folder, "--annotator", "ben", "--folds", "20") == 2
    assert "24 different questions were answered, too few for 20 folds" in capsys.readouterr().err
    assert run(folder, "--annotator", "zoe") == 2
    assert "nobody called 'zoe' compared clips; there are ann, ben" in capsys.readouterr().err
    assert run(folder, "--folds", "1") == 2
    assert "--folds is 1: give at least 2" in capsys.readouterr().err
    assert run(folder / "nowhere") == 2
    assert "is no data folder" in capsys.readouterr().err


def test_who_cannot_be_judged_is_named_beside_those_who_can(folder, capsys):
    assert cli.main(["explain", str(folder), "--folds", "13", "--out", str(folder.parent / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["people"]) == {"ann", "everyone"} and "24 different questions" in found["not_judged"]["ben"]


def test_walks_on_a_board_are_explained_with_its_values(tmp_path, capsys):
    with open_folder(tmp_path / "study", make=True) as store:
        save(store, HOME, {"ann": person(HOME, "regret", 40, 21)})
    assert cli.main(["explain", str(tmp_path / "study"), "--folds", "2", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "ann: 40 answers to 40 questions, 0 of them ties" in told
    assert {line.split()[0] for line in told.splitlines()[2:6]} == {"return", "regret", "cpl", "mixture"}
    with open_folder(tmp_path / "study") as store:
        store.episodes.save([Episode("zz", np.zeros((3, 8)), np.zeros((3, 1)))])
    assert run(tmp_path / "study") == 2
    assert "'zz' is no walk on a delivery board" in capsys.readouterr().err


def test_pictures_are_refused(tmp_path, capsys):
    assert run(recorded(tmp_path / "study", (20, 4, 4)), "--json") == 2
    assert "encode pictures first" in capsys.readouterr().err


def test_a_store_without_comparisons_says_so(tmp_path):
    with open_folder(tmp_path / "study", make=True) as store, pytest.raises(DataError, match="no comparison"):
        comparisons(store)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "regret" else pytest.mark.long) for kind in PEOPLE]
)
def test_planted_people_are_found_on_seeds_that_nothing_was_tuned_on(kind):
    right = "coin" if kind == "random" else kind
    assert said(kind, 300, 31).named in (right, "coin", None)  # few answers may tell nothing, never something else
    # of ten mixtures of half and half, one was not told from regret by 2000 answers
    assert said(kind, 2000, 32).named in ((right, None) if kind == "mixture" else (right,))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_table_of_planted_people_has_a_command():
    command = [sys.executable, "benchmarks/planted.py", "--answers", "60", "--seeds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert all(kind in done.stdout for kind in PEOPLE)
