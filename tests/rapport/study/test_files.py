"""What the columns say, what is left out unless asked for, and what is refused with nothing written."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from embodied.records import Compare, Skip
from human_ui import desk, people, returns
from human_ui.site import open_site
from human_ui.study import Study
from rapport.cli import main
from rapport.study.rows import COLUMNS
from tests.human_ui.served import ask, make_study
from tests.rapport.study import worlds

TOLD = {"ms": 2500, "seen": [1000, 1200], "early": False, "note": "I am Ann", "speed": 1, "names": {"Ann": 1}}


def say(site, person, query, id, first, told, supersedes="", late=False):
    """Said as somebody sees it who is shown the pair in the query's own order."""
    lent = [one for one in desk.lend(site.store, site.study(), person, 8, 0.0, site.rng) if one.query == query]
    (one,) = lent or [one for one, _, _ in desk.last(site.store, person, 9) if one.query == query]
    if late:
        returns.give_back(site.store, person)
    value = first if isinstance(first, Skip) else desk.as_shown(Compare(first), one.shown)
    desk.take(site.store, person, one.lease, id, value, told, supersedes, 1.0)
    return list(one.shown)


@pytest.fixture(scope="module")
def cups(tmp_path_factory):
    """Ann answers q0, revises it, and q1 late; Bob cannot tell of q0 and ties on a gold question after the wording was
    edited; q2 waits."""
    folder = make_study(tmp_path_factory.mktemp("study") / "cups", 'name = "Cups"\nwant = 3\ngold = 0.5\n')
    site = open_site(folder)
    with site.store:
        for name in ("ann", "bob"):
            people.invite(site.store, name)
        ask(site, 3, want=3)
        shown = say(site, "ann", "q0", "a0", 0.0, TOLD)
        assert say(site, "ann", "q0", "a1", 1.0, {"ms": 3000, "seen": [1000, None]}, "a0") == shown
        say(site, "ann", "q1", "a2", 0.25, {}, late=True)
        say(site, "bob", "q0", "b0", Skip("no idea"), {"ms": 10**400, "early": "yes"})
        make_study(folder, 'name = "Cups"\nquestion = "Which is safer?"\nwant = 3\ngold = 0.5\n')
        os.utime(folder / "study.toml", (1, 1))  # another second than before, however quick this was
        ask(site, 1, prefix="g", want=3, truth={"g0": Compare(1.0)})
        returns.give_back(site.store, "bob")
        for _ in range(60):
            if any(one.query == "g0" for one in desk.lend(site.store, site.study(), "bob", 8, 0.0, site.rng)):
                break
            returns.give_back(site.store, "bob")
        say(site, "bob", "g0", "b1", 0.5, {"ms": 1000, "seen": [400, 400]})
    return folder


def rapport(capsys, *args):
    code = main(["data", *map(str, args)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def exported(capsys, folder, *args):
    with tempfile.TemporaryDirectory() as name:
        assert rapport(capsys, "export", folder, f"{name}/a.jsonl", *args)[0] == 0
        return worlds.json_lines(Path(name) / "a.jsonl")


def test_every_column_says_what_it_should(cups, capsys):
    first, second, late, skip, gold = rows = exported(capsys, cups)
    assert all([*row] == [*COLUMNS] for row in rows) and [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["annotator"] for row in rows] == ["p1", "p1", "p1", "p2", "p2"]
    assert [row["stands"] for row in rows] == [False, True, True, True, True] and second["supersedes"] == "a0"
    assert (first["value"], second["value"], late["value"], skip["value"]) == (
        {"compare": 0.0},
        {"compare": 1.0},
        {"compare": 0.25},
        {"skip": "no idea"},
    )
    parts = [{"episode": f"q0-{k}", "start": 0, "stop": 20} for k in range(2)]
    assert (second["segments"], second["chosen"], second["rejected"]) == (parts, *parts)
    assert late["chosen"] == late["segments"][1], "decided for the second"
    assert all(row["chosen"] is row["rejected"] is None for row in (first, skip, gold)), "revised, skipped, tied"
    assert (first["ms"], first["t_decide"], first["early"]) == (2500, 1300, False)
    assert (second["ms"], second["t_decide"], second["early"]) == (3000, None, None), "one clip was not seen to its end"
    assert (skip["ms"], skip["early"]) == (None, None), "what only another program than ours would send"
    assert [row["late"] for row in rows] == [False, False, True, False, False]
    assert [row["gold"] for row in rows] == [None, None, None, None, {"compare": 1.0}]
    assert first["question"] == "Which is better?" and gold["question"] == "Which is safer?"
    assert first["version"] == Study("Cups", want=3, gold=0.5).version != gold["version"] and gold["study"] == "Cups"
    assert sorted(first["shown"]) == [0, 1] and len(first["clips"]) == 2 and len(first["clips"][0]) == 64
    assert first["anchor"] is None and first["source"] == "person" and first["kind"] == "compare"


def test_names_and_words_are_left_out_unless_asked_for(cups, capsys):
    quiet = exported(capsys, cups)
    assert not {"ann", "bob", "Ann"} & set(json.dumps(quiet).replace('"', " ").split())
    assert quiet[0]["note"] == "" and quiet[0]["told"] == {"ms": 2500, "seen": [1000, 1200], "early": False, "speed": 1}
    told = exported(capsys, cups, "--names", "--notes")
    assert told[0]["note"] == "I am Ann" and told[0]["told"] == TOLD
    assert [row["annotator"] for row in told] == ["ann", "ann", "ann", "bob", "bob"]
    assert len(exported(capsys, cups, "--no-gold")) == 4


def test_mixed_wordings_are_warned_of(cups, capsys, tmp_path):
    code, said, warned = rapport(capsys, "export", cups, tmp_path / "a.parquet")
    assert (code, said) == (0, f"{tmp_path / 'a.parquet'}: 5 answers of 2 annotators to 3 questions\n")
    assert warned == (
        "warning: not all were asked the same (“Which is better?” 4 times, “Which is safer?” 1 times): "
        "look at the column question before mixing answers\n"
    )
    assert rapport(capsys, "export", cups, tmp_path / "b.parquet", "--no-gold")[2] == ""


def test_the_path_says_the_format(cups, capsys, tmp_path):
    for name, args in (("a.jsonl", []), ("b.parquet", []), ("c/", []), ("d", []), ("e.v2", ["--format", "hf"])):
        assert rapport(capsys, "export", cups, f"{tmp_path}/{name}", *args)[0] == 0
    assert {(tmp_path / name / "data" / "answers.parquet").is_file() for name in ("c", "d", "e.v2")} == {True}
    table = parquet.read_table(tmp_path / "b.parquet")
    rows = [
        row | {name: json.loads(row[name] or "null") for name in ("value", "gold", "told")} for row in table.to_pylist()
    ]
    assert rows == worlds.json_lines(tmp_path / "a.jsonl")
    pairs = table.filter(pyarrow.compute.is_valid(table["chosen"])).to_pylist()
    assert [row["id"] for row in pairs] == ["a1", "a2"]
    with np.load(tmp_path / "c" / "episodes" / f"{pairs[0]['chosen']['episode']}.npz") as file:
        assert file["obs"].shape == (20, 1)
    for args, sentence in (
        (["a.csv"], "a.csv: what is .csv? end it in .jsonl, .parquet, .npz or /, or give --format"),
        (["a.jsonl"], "a.jsonl is there already; give another name, or remove it"),
        (["c/"], "c is there already; give another name, or remove it"),
        (["p.npz", "--notes"], "--names, --notes, --no-gold are not for pairs"),
    ):
        code, said, error = rapport(capsys, "export", cups, f"{tmp_path}/{args[0]}", *args[1:])
        assert code == 2 and said == "" and sentence in error and error.count("\n") == 1, args
    assert not list(tmp_path.glob(".*"))


def changed(row, **columns):
    return {**row, **columns}


BAD = {
    "seq is '1'; give a whole number from 1": lambda row: changed(row, seq="1"),
    "has no value; give these too": lambda row: {key: value for key, value in row.items() if key != "value"},
    "nothing is called 'stars'; leave it out": lambda row: changed(row, stars=5),
    "{'stars': 5} is not the value of an answer": lambda row: changed(row, value={"stars": 5}),
    "value is '3'; give one key and its value": lambda row: changed(row, value=3),
    "first of a comparison is 7.0; give a probability": lambda row: changed(row, value={"compare": 7}),
    "has source 'nobody'; use one of": lambda row: changed(row, source="nobody"),
    "annotator of answer 'a1' has 0 characters": lambda row: changed(row, annotator=""),
    "id of an answer is 3; give text": lambda row: changed(row, id=3),
    "a segment is {'episode': 'q1-0'}; give episode, start and stop": lambda row: changed(
        row, segments=[{"episode": "q1-0"}] * 2
    ),
    "no episode '../q1-0'": lambda row: changed(row, segments=[{"episode": "../q1-0", "start": 0, "stop": 2}] * 2),
    "[0, 99) is no stretch of episode 'q1-0'": lambda row: changed(
        row, segments=[{"episode": "q1-0", "start": 0, "stop": 99}] * 2
    ),
    "of kind 'compare' has 1 segments": lambda row: changed(row, segments=row["segments"][:1], shown=[0]),
    "query 'q0' is another one elsewhere": lambda row: changed(row, clips=[]),
    "shown is [0, 0]; name each of the 2": lambda row: changed(row, shown=[0, 0]),
    "late or told says nothing": lambda row: changed(row, late=None),
    "question is 'Why?', context ''": lambda row: changed(row, shown=[], question="Why?"),
    "has question 'Why?', elsewhere 'Which is better?'": lambda row: changed(row, question="Why?"),
    "has kind 'stars'": lambda row: changed(row, kind="stars"),
    "supersedes 'a9', which is no answer of 'p1'": lambda row: changed(row, supersedes="a9"),
    "seq is 1 after 1; sort the rows by seq": lambda row: changed(row, seq=1),
    "told has 10009 characters": lambda row: changed(row, told={"x": "x" * 10_000}),
    "which is no valid Unicode": lambda row: changed(row, study="\ud800"),
    "is '[]'; give an object": lambda row: [],
    "is no JSON (NaN is no number of JSON)": lambda row: changed(row, told={"ms": float("nan")}),
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_bad_row_is_named_and_nothing_is_written(cups, tmp_path, capsys, sentence):
    rows = exported(capsys, cups)
    line = 3 if "q1-0" in sentence or "segments" in sentence or "kind" in sentence else 2  # of q1 there is one row
    rows[line - 1] = BAD[sentence](rows[line - 1])
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = tmp_path / "other"
    os.makedirs(other)
    os.symlink(cups / "episodes", other / "episodes")
    code, said, error = rapport(capsys, "import", tmp_path / "bad.jsonl", other)
    assert code == 2 and said == "" and error.count("\n") == 1, error
    assert f"{tmp_path / 'bad.jsonl'}, line {line}" in error and sentence in error
    assert [path.name for path in other.iterdir()] == ["episodes"]


def test_bytes_from_anywhere_are_refused(tmp_path, capsys):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense PAR1")
    (tmp_path / "a.jsonl").write_bytes(b"\x80\x04\x95 a pickle\n")
    (tmp_path / "b.jsonl").write_bytes(b"[" * 100_000)
    (tmp_path / "c.jsonl").write_bytes(b"\n\n")
    parquet.write_table(pyarrow.table({"id": ["a"], "value": ["{"]}), tmp_path / "d.parquet")
    for name, sentence in (
        ("a.parquet", "a.parquet is not a whole Parquet file"),
        ("a.jsonl", "a.jsonl, line 1 is no JSON"),
        ("b.jsonl", "b.jsonl, line 1 is no JSON"),
        ("c.jsonl", "c.jsonl holds no answer; export it again"),
        ("d.parquet", "d.parquet, row 1, value is no JSON"),
        ("gone.jsonl", "gone.jsonl cannot be read (No such file or directory)"),
        ("gone.npz", "--prefix is for the answers of a study, and"),
    ):
        code, said, error = rapport(capsys, "import", tmp_path / name, tmp_path / "study", "--prefix", "x")
        assert code == 2 and said == "" and sentence in error and error.count("\n") == 1, error
    assert not (tmp_path / "study").exists()


def test_two_studies_of_pseudonyms_are_two_groups_of_people(cups, tmp_path, capsys):
    """p1 here and p1 there; the same study exported again is known by its answers."""
    path = tmp_path / "a.jsonl"
    assert rapport(capsys, "export", cups, path)[0] == 0
    rows = worlds.json_lines(path)
    other = make_study(tmp_path / "other", 'name = "Other"\n')
    os.symlink(cups / "episodes", other / "episodes")
    assert rapport(capsys, "import", path, other)[1] == f"{other}: 5 answers read, 5 of them new\n"
    assert rapport(capsys, "import", path, other)[1] == f"{other}: 5 answers read, 0 of them new\n"
    strangers = [
        changed(row, id=f"x{row['id']}", supersedes="x" * bool(row["supersedes"]) + row["supersedes"]) for row in rows
    ]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in strangers))
    code, _, error = rapport(capsys, "import", tmp_path / "b.jsonl", other)
    assert code == 2 and "b.jsonl, line 1: somebody else is called 'p1' here already" in error
    assert rapport(capsys, "import", tmp_path / "b.jsonl", other, "--prefix", "b-")[0] == 0
    assert {row["annotator"] for row in exported(capsys, other, "--names")} == {"p1", "p2", "b-p1", "b-p2"}


def test_what_does_not_go_with_what_is_there_is_refused(cups, tmp_path, capsys):
    """Other clips, another pair of the same id, a question that somebody looks at: nothing changes."""
    rows = exported(capsys, cups, "--names")
    for change, sentence in (
        ({"clips": []}, "offers query 'q0' with other clips or another known answer"),
        ({"segments": rows[0]["segments"][::-1]}, "has another query of id 'q0'"),
        ({"value": {"compare": 0.75}}, "line 1: "),
        ({"shown": rows[0]["shown"][::-1]}, "line 1: 'ann' has query 'q0' here in another way"),
    ):
        path = tmp_path / "b.jsonl"
        path.write_text("".join(json.dumps(changed(row, **change)) + "\n" for row in rows if row["query"] == "q0"))
        code, _, error = rapport(capsys, "import", path, cups)
        assert code == 2 and sentence in error, error
        assert exported(capsys, cups, "--names") == rows


def test_a_folder_with_a_damaged_part_is_refused_before_anything_is_copied(cups, tmp_path, capsys):
    assert rapport(capsys, "export", cups, f"{tmp_path}/whole/")[0] == 0
    whole = tmp_path / "whole"
    clip = next(path for path in (whole / "clips").rglob("*") if path.is_file() and not path.suffix)
    for path, sentence in (
        (clip, "is damaged"),
        (whole / "episodes" / "q2-1.npz", "q2-1.npz is not a whole episode file"),
        (whole / "questions.jsonl", "questions.jsonl, line 1"),
        (whole / "study.json", "study.json is no JSON"),
        (whole / "study.toml", "study.toml is no TOML"),
    ):
        data = path.read_bytes()
        path.write_bytes(b"{" + data[:40])
        code, _, error = rapport(capsys, "import", whole, tmp_path / "moved")
        assert code == 2 and sentence in error and error.count("\n") == 1, error
        assert not (tmp_path / "moved").exists()
        path.write_bytes(data)
    assert rapport(capsys, "import", whole, tmp_path / "moved")[0] == 0


def test_without_pyarrow_a_sentence_says_what_to_install(cups, tmp_path):
    code = "import sys; sys.modules['pyarrow'] = None; from rapport.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "data", "export", str(cups)]
    for name, found in (("a.parquet", 2), ("a.jsonl", 0)):
        shown = subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True)
        assert shown.returncode == found, shown.stderr
        assert ("Parquet needs pyarrow: pip install 'rapport[parquet]', or export to .jsonl" in shown.stderr) == bool(
            found
        )


@pytest.mark.slow
def test_the_real_library_loads_the_folder(cups, capsys, tmp_path):
    assert rapport(capsys, "export", cups, f"{tmp_path}/whole/")[0] == 0
    code = (
        "import sys, json, datasets\n"
        "rows = datasets.load_dataset(sys.argv[1], split='train')\n"
        "pairs = rows.filter(lambda row: row['chosen'] is not None)\n"
        "print(json.dumps([rows.column_names, list(rows['id']), [row['chosen'] for row in pairs]]))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(tmp_path / "whole")]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    names, ids, chosen = json.loads(shown.stdout.splitlines()[-1])
    assert names == [*COLUMNS] and ids == ["a0", "a1", "a2", "b0", "b1"]
    assert chosen == [{"episode": "q0-0", "start": 0, "stop": 20}, {"episode": "q1-1", "start": 0, "stop": 20}]
