"""Walks on delivery boards: boards from files, the ready study, labels as people bring or publish them."""

import json
from itertools import islice

import numpy as np
import pytest
from fastapi.testclient import TestClient

from embodied.feedback import feedback
from embodied.importers import DataError
from embodied.planning import expected_features, optimal
from embodied.records import Compare
from embodied.regret import utility
from embodied.walks import steps
from envs.delivery import DELIVERY, BoardError, board, picture
from human_ui import people
from human_ui.app import create_app
from human_ui.site import open_site
from human_ui.study import StudyError, load
from rapport import board_labels, board_study
from rapport.boards import board_of, question, read_board, walk
from rapport.cli import main
from rapport.data_folder import open_folder

UP, DOWN, LEFT, RIGHT = range(4)
SMALL = "0 4 0 0\n0 2 3 0\n6 6 0 1\n"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.txt"
    path.write_text(SMALL)
    return path


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(board_study.terms("Trips", board()))
    site = open_site(folder)
    yield site
    site.store.close()


def test_a_board_comes_from_text_or_json(tmp_path, small):
    codes = [[0, 4, 0, 0], [0, 2, 3, 0], [6, 6, 0, 1]]
    assert read_board(str(small)).codes.tolist() == codes
    (tmp_path / "b.json").write_text(json.dumps([[float(code) for code in row] for row in codes]))
    assert read_board(str(tmp_path / "b.json")).codes.tolist() == codes
    assert (read_board("delivery").codes == DELIVERY).all()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0 1\n0\n", "no grid of numbers"),
        ("0 x\n1 0\n", "no grid of numbers"),
        ("[[0, 1], [0, null]]", "no grid of numbers|not all of its codes"),
        ('[{"a": 1}]', "no grid of numbers"),
        ("0 1.5\n", "not all of its codes are whole numbers"),
        ("0 12\n1 0\n", "a code is 12; give 0 to 5, on brick 6 to 11"),
        ("0 0\n0 0\n", "the board has no goal; put a 1"),
        ("1 2 0\n2 2 0\n", "the goal cannot be reached"),
        ("", "no grid of numbers|of shape"),
        ("[1, 0]", "of shape"),
    ],
)
def test_a_board_that_makes_no_sense_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "b.txt").write_text(text)
    with pytest.raises(BoardError, match=sentence) as caught:
        read_board(str(tmp_path / "b.txt"))
    assert "b.txt" in str(caught.value)
    with pytest.raises(BoardError, match=r"none\.txt cannot be read"):
        read_board(str(tmp_path / "none.txt"))


def test_a_walk_is_what_the_tables_say():
    world = board()
    found = walk(world, (2, 1), [UP, DOWN, RIGHT])
    assert found.obs[:, :2].tolist() == [[21, 11], [11, 21], [21, 22]] and found.terminated
    assert found.obs[:, 2:].astype(int).tolist() == [[1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    assert walk(world, (2, 1), [UP]).id != walk(world, (2, 1), [DOWN]).id
    assert walk(world, (2, 1), [UP]).id != walk(read_board("delivery"), (1, 1), [UP]).id
    assert walk(world, (0, 0), [UP]).obs[0, :2].tolist() == [0, 0], "it stays at the edge"
    assert [len(s) for s in question(found, walk(world, (0, 0), [UP])).segments] == [3, 1]


@pytest.mark.parametrize(
    ("start", "actions", "sentence"),
    [
        ((10, 0), [UP], "starts at 10 0; rows go to 9, columns to 9"),
        ((0, -1), [UP], "starts at 0 -1"),
        ((6, 1), [UP], "starts at 6 1, in a house; start it on a road"),
        ((8, 9), [UP], "at the goal or a sheep, where trips end"),
        ((2, 1), [RIGHT, UP], "is over after 1 steps, at the goal or a sheep, and has 2; leave out what comes after"),
        ((2, 1), [], "has no step"),
    ],
)
def test_a_walk_that_cannot_be_is_refused(start, actions, sentence):
    with pytest.raises(DataError, match=sentence):
        walk(board(), start, actions)


def test_the_study_picks_pairs_at_random_opposed_and_known():
    """Held against eq. 3 of the paper, V(s0) - sum r - V(sT), while the pairs are picked by eq. 4."""
    world = board()
    chosen = list(islice(board_study.picks(world), 200))
    best = optimal(world, expected_features(world) @ world.weights).value
    powers = world.gamma ** np.arange(4)

    def earned(w):
        return float((w.obs[:, 2:] @ world.weights).sum())

    def fell(w):
        got = (w.obs[:, 2:] @ world.weights) @ powers[:3] + powers[3] * best[int(w.obs[-1, 1])]
        return best[int(w.obs[0, 0])] - got

    assert all(len(p.first) == len(p.second) == 3 and p.first.id != p.second.id for p in chosen)
    assert len({frozenset((p.first.id, p.second.id)) for p in chosen}) == 200
    for i, p in enumerate(chosen):
        more, less = earned(p.first) - earned(p.second), fell(p.second) - fell(p.first)
        assert p.kind == ("known" if i % 10 == 9 else "opposed" if i % 2 else "at random")
        if p.kind == "opposed":
            assert more * less < 0 and min(abs(more), abs(less)) > 0.49, "one says the first, the other the second"
        if p.kind == "known":
            assert p.known == Compare(float(more > 0)) and more * less > 0 and min(abs(more), abs(less)) > 19.9
        else:
            assert p.known is None
    assert [p.first.id for p in islice(board_study.picks(world), 20)] == [p.first.id for p in chosen[:20]]


def test_a_simulated_person_answers_the_study_over_http(study, capsys):
    world = board()
    board_study.offer(study, world, 3)
    asked = [question(p.first, p.second) for p in board_study.offer(study, world, 5)]
    assert [q.id for q in study.store.queries()] == [q.id for q in asked], "the first three are the same"
    with TestClient(create_app(study), headers={"X-Rapport": "1"}) as ann:
        ann.post("/api/session", json={"token": people.invite(study.store, "ann")})
        assert ann.post("/api/leases", json={"n": 1}).status_code == 409, "there are instructions to read first"
        ann.post("/api/consent")
        assert ann.post("/api/quiz", json={"chosen": [1, 0]}).json()["passed"]
        lent = ann.post("/api/leases", json={"n": 8}).json()
        assert len(lent) == 5
        likes = utility(world, expected_features(world) @ world.weights, 2)
        by_clip = {}
        for query in asked:
            with study.store.read() as connection:
                clips = connection.exec_driver_sql(f"select clips from offer where query = '{query.id}'").scalar_one()
            by_clip |= {sha: part for sha, part in zip(json.loads(clips), query.segments, strict=True)}
        for n, one in enumerate(lent):
            left, right = (likes(by_clip[clip["sha256"]]) for clip in one["clips"])
            said = 0.5 if left == right else float(left > right)
            body = {"lease": one["lease"], "value": {"compare": said}}
            assert ann.put(f"/api/answers/a{n}", json=body).status_code == 200
    said = {answer.query: answer.value for answer in study.store.answers()}
    for query in asked:
        first, second = (likes(part) for part in query.segments)
        assert said[query.id].first == (0.5 if first == second else float(first > second))
    assert (board_of(study.store).codes == DELIVERY).all()
    assert main(["data", "inspect", str(study.folder)]) == 0
    assert "questions 5; answered 5" in capsys.readouterr().out
    with pytest.raises(DataError, match="another board"):
        board_study.offer(study, board(np.array([[0, 0, 0, 0], [0, 0, 0, 1]])), 1)


def test_known_answers_are_gold(study):
    """On a board whose goal can be reached within a clip."""
    board_study.offer(study, board(np.array([[0, 0, 0, 0, 3], [0, 0, 5, 0, 1]])), 10)
    with study.store.read() as connection:
        gold = connection.exec_driver_sql("select truth from offer where truth != ''").scalars().all()
    assert (study.study().gold == board_study.GOLD and gold == ['{"compare": 1.0}']) or gold == ['{"compare": 0.0}']


def test_a_clip_shows_the_walk():
    world = board()
    frames = list(board_study.frames(world, walk(world, (0, 0), [UP, RIGHT]), 16))
    assert len(frames) == 24 and frames[0].shape == (160, 160, 3)
    assert (frames[0] != frames[8]).any() and (frames[11] != frames[-1]).any(), "it tries the edge, comes back, drives"
    assert (frames[-1] == frames[-6]).all() and (frames[-1] != picture(world, [0, 1], 16)).any(), "the try is seen"


@pytest.mark.parametrize("codes", [DELIVERY, np.array([[0, 0, 1]]), np.array([[6, 4, 5, 1]])])
def test_the_terms_say_what_the_board_holds(tmp_path, codes):
    (tmp_path / "study.toml").write_text(board_study.terms('A "town"', board(codes)))
    study = load(tmp_path / "study.toml")
    assert study.name == 'A "town"' and "\n\n" in study.instructions and "+50" in study.goal
    assert ("sheep" in study.instructions) == (codes == 3).any() == ("−50" in study.goal)
    assert ("brick (reddish) −2" in study.goal) == (codes >= 6).any()


@pytest.mark.parametrize(
    ("codes", "n", "error", "sentence"),
    [
        (DELIVERY, 0, StudyError, "0 questions about walks: give at least 1"),
        (np.array([[0, 1]]), 1000, StudyError, r"is good for \d+ questions, not for 1000; ask fewer"),
    ],
)
def test_more_than_a_board_is_good_for(study, codes, n, error, sentence):
    with pytest.raises(error, match=sentence):
        board_study.offer(study, board(codes), n)
    assert not study.store.queries()


def test_ask_refuses_a_board_without_walks(tmp_path, small, capsys):
    assert main(["ask", str(tmp_path / "s"), "--board", str(small)]) == 2
    assert "goes with --walks N" in capsys.readouterr().err and not (tmp_path / "s").exists()
    assert main(["ask", str(tmp_path / "s"), "--walks", "3", "--board", "nowhere.txt"]) == 2
    assert "nowhere.txt cannot be read" in capsys.readouterr().err and not (tmp_path / "s").exists()


GOOD = {"first": "0 0 right right", "second": "0 0 down down", "label": 1, "annotator": "ann"}


def lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_labels_of_ones_own_in_and_out_and_in_again(tmp_path, small, capsys):
    rows = [GOOD, {**GOOD, "annotator": "bob", "label": 0.5}, {**GOOD, "label": 0}, {**GOOD, "second": "2 2 right"}]
    path, out = lines(tmp_path / "mine.jsonl", *rows, ""), tmp_path / "data"
    arguments = ["data", "import", str(path), str(out), "--board", str(small)]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "3 walks, 3 questions, 4 answers" in told.out and "1 questions compare walks of unequal length" in told.err
    assert main(arguments) == 0, "again, and nothing is there twice"
    with open_folder(out) as store:
        assert [(a.annotator, a.value.first) for a in store.answers()] == [
            ("ann", 1),
            ("bob", 0.5),
            ("ann", 0),
            ("ann", 1),
        ]
        assert board_of(store).codes.tolist() == read_board(str(small)).codes.tolist()
        at = steps(feedback(store.answers(), store.queries())[0].segments)
        assert at.state[0, 0].tolist()[:2] == [0, 1] and at.found[0, 0, :2].sum() == 3
        before = [(q.id, [s.episode for s in q.segments]) for q in store.queries()]
    table = tmp_path / "mine.csv"
    table.write_text(
        "first,second,label,annotator\n0 0 right right,0 0 down down,1,ann\n0 0 right right,0 0 down down,.5,\n"
    )
    assert main(["data", "import", str(table), str(tmp_path / "csv"), "--board", str(small), "--prefix", "x-"]) == 0
    with open_folder(tmp_path / "csv") as store:
        assert [(a.annotator, a.value.first) for a in store.answers()] == [("x-ann", 1), ("x-mine", 0.5)]
    assert main(["data", "export", str(out), str(tmp_path / "hf") + "/"]) == 0
    assert main(["data", "export", str(out), str(tmp_path / "out.jsonl")]) == 0
    assert main(["data", "import", str(tmp_path / "hf"), str(tmp_path / "there")]) == 0
    with open_folder(tmp_path / "there") as store:
        assert [(q.id, [s.episode for s in q.segments]) for q in store.queries()] == before
        assert (board_of(store).codes == read_board(str(small)).codes).all()
    with open_folder(out) as old, open_folder(tmp_path / "bare", make=True) as bare:
        bare.episodes.save([old.episodes.load(id) for id in old.episodes.ids()])
    assert main(["data", "import", str(tmp_path / "out.jsonl"), str(tmp_path / "bare")]) == 0
    with open_folder(tmp_path / "bare") as store:
        assert len(store.answers()) == 4 and (board_of(store).codes == read_board(str(small)).codes).all()
    capsys.readouterr()
    assert main(["data", "import", str(lines(path, GOOD)), str(out), "--board", "delivery"]) == 2
    assert "walks on another board" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{", "line 2: "),
        ("[]", r"line 2: it has \[\]; give first, second, label"),
        ({"first": "0 0 up"}, "line 2: it has first; give first, second, label"),
        ({**GOOD, "who": 1}, "line 2: it has first, second, label, annotator, who"),
        ({**GOOD, "label": 2}, r"line 2: the label is 2; give 1 \(the first is better\), 0 \(the second\) or .5"),
        ({**GOOD, "label": "left"}, "line 2: the label is 'left'"),
        ({**GOOD, "label": None}, "line 2: the label is None"),
        ({**GOOD, "first": "0 0 north"}, "line 2: first: the action 'north' is none of up, down, left, right"),
        ({**GOOD, "first": "up up"}, "line 2: first is 'up up'; give the row, the column and the actions"),
        ({**GOOD, "second": [0, 0]}, r"line 2: second is \[0, 0\]"),
        ({**GOOD, "second": "4 0 up"}, "line 2: second: the walk starts at 4 0; rows go to 2, columns to 3"),
        ({**GOOD, "second": "1 1 up"}, "line 2: second: the walk starts at 1 1, in a house"),
        ({**GOOD, "second": "0 2 down left"}, "line 2: second: the walk from 0 2 is over after 1 steps"),
        ({**GOOD, "annotator": ""}, "line 2: the annotator is ''; give a name"),
    ],
)
def test_a_label_that_makes_no_sense_is_named_by_its_line(tmp_path, small, row, sentence, capsys):
    path = lines(tmp_path / "mine.jsonl", GOOD, row)
    with pytest.raises(DataError, match=sentence):
        board_labels.read(path, read_board(str(small)))
    assert main(["data", "import", str(path), str(tmp_path / "d"), "--board", str(small)]) == 2
    assert not (tmp_path / "d").exists(), "what is refused leaves nothing behind"


def test_files_without_labels(tmp_path, small):
    world = read_board(str(small))
    for name, text in [("a.jsonl", "\r\n \n"), ("a.csv", ""), ("a.csv", "first,second,label\n")]:
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="holds no label; give at least one line"):
            board_labels.read(tmp_path / name, world)
    (tmp_path / "b.csv").write_text("first,second,label\n0 0 right,0 0 down,1,ann,more\n")
    with pytest.raises(DataError, match=r"b\.csv, line 2: it has first, second, label, None"):
        board_labels.read(tmp_path / "b.csv", world)
    with pytest.raises(DataError, match=r"holds no labels of walks; give \.jsonl, \.csv"):
        board_labels.read(tmp_path / "a.txt", world)


@pytest.fixture
def published(tmp_path):
    """What a condition of the follow-up study looks like: int64 [N,2,4,2], float64 [N], float64 [N,3]."""
    d, r, u, none = [1, 0], [0, 1], [-1, 0], [0, 0]
    pairs = [
        [[[3, 1], d, r, u], [[3, 1], u, r, u]],  # the second ends at a sheep and goes on
        [[[8, 8], r, none, none], [[0, 0], u, u, d]],
        [[[8, 8], r, none, none], [[0, 0], u, u, d]],
    ]
    np.save(tmp_path / "Some_full_filtered_segment_pairs.npy", np.array(pairs))
    np.save(tmp_path / "Some_full_filtered_Y.npy", np.array([0, 0.5, 1]))
    # On brick, road, a roadblock: -2 -1 -2; a step on the road and a sheep: -1 -50. The goal, and three steps.
    np.save(tmp_path / "Some_full_filtered_X.npy", np.array([[-46.0, 0, 0], [-53, 0, 0], [-53, 0, 0]]))
    return tmp_path


def test_published_preferences(published):
    path = published / "Some_full_filtered_segment_pairs.npy"
    assert main(["data", "import", str(path), str(published / "out")]) == 0
    with open_folder(published / "out") as store:
        said = [(a.annotator, a.source, a.value.first) for a in store.answers()]
        assert said == [("Some", "import", 1.0), ("Some", "import", 0.5), ("Some", "import", 0.0)]
        queries = store.queries()
        assert [[len(s) for s in q.segments] for q in queries] == [[3, 2], [1, 3], [1, 3]]
        assert queries[2].id == queries[1].id + "-2", "the same pair, asked again"
        assert (board_of(store).codes == DELIVERY).all()


def test_published_files_that_do_not_hold_together(published):
    path = published / "Some_full_filtered_segment_pairs.npy"
    pairs, returns = np.load(path), np.load(published / "Some_full_filtered_X.npy")

    def refused(sentence, world=None, **arrays):
        for name, array in arrays.items():
            np.save(published / f"Some_full_filtered_{name}.npy", array)
        with pytest.raises(DataError, match=sentence):
            board_labels.read(path, world or board())
        np.save(path, pairs)
        np.save(published / "Some_full_filtered_Y.npy", np.array([0, 0.5, 1]))
        np.save(published / "Some_full_filtered_X.npy", returns)

    refused(
        "row 1: the second walk earns -52 more than the first, and on this board -53",
        X=returns + np.array([[0], [1], [0]]),
    )
    refused("give 0, .5 or 1 for each of 3 pairs", Y=np.array([0, 2, 1]))
    refused(r"is int64 \[3, 2, 8\]; give whole numbers \[N,2,1\+T,2\]", segment_pairs=pairs.reshape(3, 2, 8))
    refused("holds no pair", segment_pairs=pairs[:0], Y=np.zeros(0))
    refused(r"row 1: the move \[1, 1\] is none of", segment_pairs=pairs + moved(pairs))
    refused("is no plain array .* would have to be unpickled", Y=np.array([{}], object))
    stays = pairs.copy()
    stays[1, 0, 0] = 0, 0
    refused("row 1: a walk stops before the goal or a sheep", segment_pairs=stays)
    off = pairs.copy()
    off[2, 1, 0] = 12, 0
    refused("row 2: the walk starts at 12 0", segment_pairs=off)
    (published / "Some_full_filtered_Y.npy").unlink()
    with pytest.raises(DataError, match=r"Some_full_filtered_Y\.npy is no plain array"):
        board_labels.read(path, board())
    with pytest.raises(DataError, match=r"is no file of published walks; give NAME_segment_pairs\.npy"):
        board_labels.read(published / "other.npy", board())


def moved(pairs):
    change = np.zeros_like(pairs)
    change[1, 1, 1] = 2, 1  # up becomes down and right
    return change
