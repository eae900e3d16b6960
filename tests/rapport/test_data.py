"""`rapport data` as a user types it: in, out, looked at, checked; what is broken is named, and nothing is written."""

import contextlib
import io
import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from embodied.episodes import Episode, cut
from embodied.records import Answer, Compare, Query, Skip
from rapport import cli, data
from rapport.data_folder import look, open_folder, problems

LABELS = Path(__file__).parents[1] / "data" / "preference_transformer_human_labels"


def rapport(*args: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(a) for a in args])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("verb", [data.Import, data.Export, data.Inspect, data.Validate])
def test_help_explains_every_flag(verb: type) -> None:
    code, shown, _ = rapport("data", verb.__name__.lower(), "--help")
    text = " ".join(re.sub("[─│╭╮╰╯•]", " ", shown).split())
    source = Path(data.__file__).read_text()
    body = source[source.index(f"class {verb.__name__}:") :]
    assert code == 0 and verb.__doc__ and verb.__doc__ in text
    for field in fields(verb):
        explained = re.search(rf'\n    {field.name}: .*\n    """([^"]*)"""\n', body)
        assert explained and " ".join(explained[1].split()) in text, field.name


def d4rl_file(path: Path) -> Path:
    rows = 120
    draw = np.random.default_rng(0)
    over = np.arange(rows) % 30 == 29
    np.savez(
        path,
        observations=draw.normal(size=(rows, 3)),
        actions=draw.uniform(-1, 1, (rows, 2)),
        rewards=draw.normal(size=rows),
        terminals=over,
        timeouts=np.zeros(rows, bool),
    )
    return path


def test_arrays_with_labels_become_a_data_folder_and_pairs_and_a_folder_again(tmp_path: Path) -> None:
    source, labels = d4rl_file(tmp_path / "hop v2.npz"), tmp_path / "hop.csv"
    labels.write_text("query,start_1,start_2,label\n0,0,31,0\n1,60,35,1\n2,90,2,-1\n")
    folder = tmp_path / "folder"
    code, said, _ = rapport("data", "import", source, folder, "--labels", labels, "--steps", 10)
    assert (code, said) == (0, f"{folder}: 4 episodes, 120 steps, 3 questions, 3 answers\n")
    code, said, _ = rapport("data", "import", source, folder, "--labels", labels, "--steps", 10)
    assert code == 0 and look(folder).budget.asked == 3  # again changes nothing
    code, said, _ = rapport("data", "export", folder, tmp_path / "pairs.npz")
    assert (code, said) == (0, f"{tmp_path / 'pairs.npz'}: 3 pairs\n")
    with np.load(tmp_path / "pairs.npz") as pairs, np.load(source) as arrays:
        assert pairs["target"].tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
        assert np.array_equal(pairs["obs"][1, 0], arrays["observations"][60:70])
        first = {name: pairs[name] for name in ("obs", "act", "mask", "target", "weight", "annotator", "query")}
    assert rapport("data", "import", tmp_path / "pairs.npz", tmp_path / "again")[0] == 0
    assert rapport("data", "export", tmp_path / "again", tmp_path / "pairs2.npz")[0] == 0
    with np.load(tmp_path / "pairs2.npz") as pairs:
        for name, value in first.items():
            assert np.array_equal(pairs[name], value), name
    for sound in (folder, tmp_path / "again"):
        assert rapport("data", "validate", sound) == (0, f"{sound}: sound\n", "")


def test_recordings_alone_become_episodes(tmp_path: Path) -> None:
    code, said, _ = rapport("data", "import", d4rl_file(tmp_path / "hop.npz"), tmp_path / "folder")
    assert code == 0 and "4 episodes, 120 steps, 0 questions, 0 answers" in said
    _, said, _ = rapport("data", "inspect", tmp_path / "folder")
    assert said.splitlines()[0] == "episodes  4, 120 steps; lengths 30 to 30; 4 ended by the task"


def test_what_is_broken_is_one_sentence_and_nothing_is_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", observations=np.zeros((3, 1)))
    source = d4rl_file(tmp_path / "hop.npz")
    (tmp_path / "bad.csv").write_text("query,start_1,start_2,label\n0,25,31,0\n")
    for args, sentence in (
        (["a.npz"], "has no actions, rewards, terminals, timeouts, only observations"),
        (["gone.npz"], "gone.npz is not there"),
        (["hop.npz", "--labels", tmp_path / "bad.csv", "--steps", 10], "1 of 1 labels (the first is 0) have a segment"),
        (["hop.npz", "--labels", tmp_path / "bad.csv"], "label 0 is about rows 25 to 125, the arrays have 119"),
    ):
        code, said, error = rapport("data", "import", tmp_path / args[0], tmp_path / "folder", *args[1:])
        assert code == 2 and said == "" and sentence in error and error.count("\n") == 1
    assert not (tmp_path / "folder").exists()
    code, said, _ = rapport(
        "data",
        "import",
        source,
        tmp_path / "folder",
        "--labels",
        tmp_path / "bad.csv",
        "--steps",
        10,
        "--crossing",
        "drop",
    )
    assert code == 0 and said.startswith("1 of 1 labels left out")


def study(folder: Path, *answers: Answer, uneven: bool = False) -> Path:
    a, b = (Episode(n, np.random.default_rng(i).normal(size=(20, 2)), np.zeros((20, 1))) for i, n in enumerate("ab"))
    x, y, z = cut(a, 0, 5), cut(b, 5, 10), cut(b, 0, 7 if uneven else 5)
    with open_folder(folder, make=True) as store:
        store.episodes.save([a, b])
        store.add_queries([Query("xy", (x, y)), Query("yx", (y, x)), Query("xz", (x, z))])
        store.add_answers(answers)
    return folder


def said(id: str, query: str, value: Compare | Skip, annotator: str = "ann") -> Answer:
    return Answer(id, query, annotator, "person", value)


def test_inspect_counts_the_budget_and_the_agreement_of_repeats(tmp_path: Path) -> None:
    folder = study(
        tmp_path,
        said("1", "xy", Compare(1.0)),
        said("2", "yx", Compare(0.0)),  # the same, the other way round
        said("3", "xy", Compare(0.0), "bob"),  # against both
        said("4", "xz", Compare(0.5)),
        said("5", "xz", Skip(), "bob"),
    )
    seen = look(folder)
    assert vars(seen.budget) == dict(asked=3, answered=4, skipped=1, ties=1, duplicates=0, revised=0, repeated=1)
    assert (seen.repeated, seen.agreeing, seen.contradictory) == (3, 1, ("xy and yx",))
    assert seen.annotators == {"ann": 3, "bob": 2}
    _, text, _ = rapport("data", "inspect", folder)
    assert "repeated  3 times the same pair decided again; 33% agree" in text
    assert "warning   1 pairs were answered both ways (xy and yx)" in text
    assert json.loads(rapport("data", "inspect", folder, "--json")[1])["budget"]["ties"] == 1


def test_inspect_warns_of_lengths_that_differ_and_of_answers_that_do_not(tmp_path: Path) -> None:
    folder = study(tmp_path, said("1", "xy", Compare(1.0)), said("2", "xz", Compare(1.0)), uneven=True)
    one, two = look(folder).warnings
    assert one.startswith("1 of 3 questions compare segments of unequal length")
    assert two.startswith("all 2 answers are the same (compare 1.0)")


def test_validate_lists_all_that_is_wrong(tmp_path: Path) -> None:
    folder = study(tmp_path, said("1", "xy", Compare(1.0)))
    assert problems(folder) == []
    (folder / "episodes" / "a.npz").write_bytes(b"PK")
    (folder / "episodes" / "b.npz").unlink()
    with open_folder(folder) as store:
        store.episodes.save([Episode("b", np.zeros((3, 2)), np.zeros((3, 1)))])
    np.savez(folder / "episodes" / "c.npz", obs=np.full((2, 1), np.nan), act=np.zeros((2, 1)), terminated=False)
    code, text, _ = rapport("data", "validate", folder)
    lines = text.splitlines()
    assert code == 1 and len(lines) == 5
    assert "a.npz is not a whole episode file" in lines[0] and "obs[0, 0] is nan" in lines[1]
    assert lines[2] == ("question 'xy': [5, 10) is no stretch of episode 'b' of 3 steps; put the right file back")
    (folder / "episodes" / "b.npz").unlink()
    assert sum("its episode 'b' is not there" in line for line in problems(folder)) == 3
    (folder / "answers.sqlite").write_bytes(b"no store at all")
    assert "is not a store" in problems(folder)[-1]


def test_what_is_no_data_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    for verb in ("inspect", "validate"):
        code, _, error = rapport("data", verb, tmp_path)
        assert code == 2 and f"{tmp_path} is no data folder" in error
    assert not list(tmp_path.iterdir())
    (tmp_path / "config.json").write_text("{}")
    code, _, error = rapport("data", "import", d4rl_file(tmp_path / "hop.npz"), tmp_path)
    assert code == 2 and "is the folder of a run" in error


def test_label_files_are_counted_with_intervals(tmp_path: Path) -> None:
    code, text, _ = rapport("data", "inspect", LABELS, "--plot", tmp_path / "rates.png")
    assert code == 0 and len(text.splitlines()) == 20
    assert " ".join(text.splitlines()[-1].split()) == "all 2232 2422 2746 37.1 [36.0, 38.2] 48.0 [46.5, 49.4]"
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    one = json.loads(rapport("data", "inspect", LABELS / "Lift_ph.csv", "--json")[1])
    assert [r["name"] for r in one] == ["Lift_ph"] and one[0]["first_rate"] == 35 / 45


def test_the_table_in_the_docs_is_what_the_command_prints() -> None:
    page = (Path(cli.__file__).parents[1] / "docs" / "human_labels.md").read_text()
    assert rapport("data", "inspect", LABELS)[1] in page
