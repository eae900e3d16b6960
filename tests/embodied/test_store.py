"""The store: what was acknowledged is there exactly once, whoever is killed or writes beside, whatever is full."""

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

import embodied
from embodied.episodes import Episode, EpisodeError, Episodes, cut
from embodied.records import Answer, Compare, Query, Rank, Rate, RecordError, Segment, Skip
from embodied.store import Store, StoreError

ROOT = Path(embodied.__file__).parents[1]


def make_episodes(folder, count=6):
    episodes = Episodes(folder / "episodes")
    rng = np.random.default_rng(0)
    episodes.save(Episode(f"e{i}", rng.normal(size=(20, 3)), rng.normal(size=(20, 2))) for i in range(count))
    return episodes


def make_query(episodes, id, first="e0", second="e1", **changes):
    segments = (cut(episodes.load(first), 0, 10), cut(episodes.load(second), 5, 15))
    return Query(**{"id": id, "segments": segments, **changes})


def say(id, query="q0", value=None, **changes):
    value = Compare(1.0) if value is None else value
    return Answer(**{"id": id, "query": query, "annotator": "ann", "source": "person", "value": value, **changes})


def fill(folder, queries=3):
    """A closed store with some queries and answers."""
    episodes = make_episodes(folder)
    with Store(folder / "store.sqlite", episodes) as store:
        store.add_queries(make_query(episodes, f"q{i}") for i in range(queries))
        store.add_answers(say(f"a{i}", f"q{i}") for i in range(queries))
    return folder / "store.sqlite", episodes


@pytest.fixture
def store(tmp_path, place):
    """In SQLite, and in PostgreSQL."""
    episodes = make_episodes(tmp_path)
    with Store(place, episodes) as store:
        store.add_queries(make_query(episodes, f"q{i}") for i in range(3))
        yield store


def test_queries_come_back_with_their_arrays(store):
    episodes = store.episodes
    anchored = make_query(
        episodes, "anchored é", kind="rank", context="upright?", anchor=cut(episodes.load("e2"), 0, 20)
    )
    store.add_queries([anchored])
    found = store.queries()
    assert [query.id for query in found] == ["q0", "q1", "q2", "anchored é"]
    assert [query.id for query in store.queries(["anchored é", "q1", "q1"])] == ["anchored é", "q1", "q1"]
    assert store.queries([]) == []
    last = found[-1]
    assert (last.kind, last.context) == ("rank", "upright?")
    for ours, theirs in zip((*anchored.segments, anchored.anchor), (*last.segments, last.anchor), strict=True):
        assert (ours.episode, ours.start, ours.stop) == (theirs.episode, theirs.start, theirs.stop)
        np.testing.assert_array_equal(ours.obs, theirs.obs)
        np.testing.assert_array_equal(ours.act, theirs.act)
    with pytest.raises(StoreError, match="has no query 'none'; add it first"):
        store.queries(["q0", "none"])


def test_a_query_is_added_once_and_never_changed(store):
    episodes = store.episodes
    store.add_queries([make_query(episodes, "q1"), make_query(episodes, "q0"), make_query(episodes, "q1")])
    assert [query.id for query in store.queries()] == ["q0", "q1", "q2"]
    for other in (
        make_query(episodes, "q1", second="e3"),
        make_query(episodes, "q1", kind="rank"),
        make_query(episodes, "q1", context="?"),
        make_query(episodes, "q1", anchor=cut(episodes.load("e0"), 0, 3)),
    ):
        with pytest.raises(StoreError, match="has another query of id 'q1'; give the new one its own id"):
            store.add_queries([make_query(episodes, "before it"), other])
    assert [query.id for query in store.queries()] == ["q0", "q1", "q2"]


def test_a_query_refers_to_what_is_saved(store):
    episodes = store.episodes
    lost = Segment("lost", 0, 5, np.zeros((5, 3)), np.zeros((5, 2)))
    with pytest.raises(EpisodeError, match="no episode 'lost' in"):
        store.add_queries([Query("x", (lost, lost))])
    true = cut(episodes.load("e0"), 0, 5)
    changed = Segment("e0", 0, 5, true.obs + 1e-9, true.act)
    with pytest.raises(StoreError, match=r"query 'x': segment \[0, 5\) of episode 'e0' is not what .*; cut it from"):
        store.add_queries([Query("x", (true, changed))])
    with pytest.raises(StoreError, match="is not what"):
        store.add_queries([Query("x", (true, Segment("e0", 0, 5, true.obs.astype(np.float32), true.act)))])
    long = Segment("e0", 15, 25, np.zeros((10, 3)), np.zeros((10, 2)))
    with pytest.raises(EpisodeError, match=r"\[15, 25\) is no stretch of episode 'e0' of 20 steps"):
        store.add_queries([Query("x", (true, long))])
    assert len(store.queries()) == 3


def test_answers_of_every_kind_come_back_in_order(store):
    store.add_queries(
        [
            make_query(store.episodes, "rank", kind="rank"),
            make_query(store.episodes, "rate", kind="rate", context="0-10"),
        ]
    )
    given = [
        say("a", "q0", Compare(0.1 + 0.2)),
        say("b", "rank", Rank((1, 0)), annotator="bob", source="teacher"),
        say("c", "rate", Rate((1e-300, -7.5)), source="judge"),
        say("d", "q1", Skip("tôo dark\n'\"\0"), source="import"),
    ]
    assert store.last_seq() == 0 and store.answers() == []
    assert store.add_answers(given) == [1, 2, 3, 4]
    assert store.add_answers([]) == []
    found = store.answers()
    assert [(answer.id, answer.seq, answer.value, answer.source, answer.annotator) for answer in found] == [
        (answer.id, seq, answer.value, answer.source, answer.annotator) for seq, answer in enumerate(given, 1)
    ]
    assert [answer.seq for answer in store.answers(after=1)] == [2, 3, 4]
    assert [answer.seq for answer in store.answers(after=1, upto=3)] == [2, 3]
    assert store.answers(after=4) == [] and store.last_seq() == 4


def test_sending_again_gives_the_same_number(store):
    assert store.add_answers([say("a"), say("b"), say("a")]) == [1, 2, 1]
    assert store.add_answers([say("b"), say("c", seq=99), say("a")]) == [2, 3, 1]
    assert [answer.id for answer in store.answers()] == ["a", "b", "c"]
    for other in (say("a", value=Compare(0.0)), say("a", "q1"), say("a", annotator="bob"), say("a", source="judge")):
        with pytest.raises(
            StoreError, match="has another answer of id 'a'; give the new one its own id, and supersedes"
        ):
            store.add_answers([say("d"), other])
    assert store.last_seq() == 3


def test_a_revision_names_what_it_revises(store):
    store.add_answers([say("a"), say("b", "q1"), say("c", annotator="bob")])
    assert store.add_answers([say("a2", value=Compare(0.0), supersedes="a"), say("a3", supersedes="a2")]) == [4, 5]
    assert [answer.supersedes for answer in store.answers(after=3)] == ["a", "a2"]
    for wrong in ("none", "b", "c", "later"):
        with pytest.raises(
            StoreError, match=f"'x' supersedes '{wrong}', which is no answer of 'ann' to query 'q0'; name"
        ):
            store.add_answers([say("x", supersedes=wrong), say("later")])
    assert store.last_seq() == 5


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (say("x", "none"), "answer 'x' is to query 'none', which .* has not; add that first"),
        (
            say("x", value=Rank((0, 1))),
            "answer 'x' is Rank.*; query 'q0' asks to compare: compare its segments or skip",
        ),
    ],
)
def test_an_answer_that_fits_nothing_stops_all_of_its_call_and_nobody_else(store, wrong, sentence):
    with pytest.raises((StoreError, RecordError), match=sentence):
        store.add_answers([say("before"), wrong, say("after")])
    assert store.answers() == []
    assert store.add_answers([say("next")]) == [1]


def test_the_cursor_log_replays(store):
    store.add_answers([say("a"), say("b")])
    assert store.cursor("loop", 0) is None
    assert store.log_cursor("loop", 0, 1) == 1
    store.add_answers([say("c")])
    assert store.log_cursor("loop", 0, store.last_seq()) == 1, "a second run reads what the first one read"
    assert store.log_cursor("loop", 1, store.last_seq()) == 3
    assert store.log_cursor("other", 0, 2) == 2
    assert (store.cursor("loop", 0), store.cursor("loop", 1), store.cursor("loop", 2)) == (1, 3, None)
    with pytest.raises(StoreError, match="cursor of 'loop' at step 2 is 4; the store holds answers 1 to 3"):
        store.log_cursor("loop", 2, 4)
    with pytest.raises(StoreError, match="step of cursor 'loop' is -1; give a whole number, 0 or more"):
        store.log_cursor("loop", -1, 0)
    path, episodes = place_of(store), store.episodes
    store.close()
    with Store(path, episodes) as again:
        assert (again.cursor("loop", 1), again.cursor("other", 0), again.last_seq()) == (3, 2, 3)


def test_a_closed_store_says_so_and_one_in_use_finishes_first(tmp_path):
    path, episodes = fill(tmp_path)
    store = Store(path, episodes)
    threads = [threading.Thread(target=store.add_answers, args=([say(f"t{i}")],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    store.close()
    for use in (store.last_seq, store.answers, store.queries, lambda: store.add_answers([say("late")])):
        with pytest.raises(StoreError, match=r"store\.sqlite is closed; open it again"):
            use()
    with Store(path, episodes) as again:
        assert again.last_seq() == 11
    assert sorted(os.listdir(tmp_path)) == ["episodes", "store.sqlite"]


def test_threads_add_while_others_read(store):
    writers, each, problems = 6, 40, []
    acknowledged = {}
    writing = threading.Event()
    writing.set()

    def write(k):
        for i in range(each):
            [seq] = store.add_answers([say(f"w{k}-{i}", f"q{i % 3}", annotator=f"w{k}")])
            acknowledged[f"w{k}-{i}"] = seq

    def read():
        before = []
        while writing.is_set():
            last = store.last_seq()
            found = store.answers()
            if [answer.seq for answer in found] != list(range(1, len(found) + 1)) or len(found) < last:
                problems.append("a gap")
            if found[: len(before)] != before:
                problems.append("what was read once has changed")
            before = found

    readers = [threading.Thread(target=read) for _ in range(2)]
    threads = [threading.Thread(target=write, args=(k,)) for k in range(writers)]
    for thread in readers + threads:
        thread.start()
    for thread in threads:
        thread.join()
    writing.clear()
    for thread in readers:
        thread.join()
    assert problems == []
    assert {answer.id: answer.seq for answer in store.answers()} == acknowledged
    assert sorted(acknowledged.values()) == list(range(1, writers * each + 1))
    for k in range(writers):
        order = [acknowledged[f"w{k}-{i}"] for i in range(each)]
        assert order == sorted(order)


def test_one_who_sends_nonsense_spoils_nobody_elses_answers(store):
    refused = []

    def good(k):
        for i in range(30):
            store.add_answers([say(f"good{k}-{i}")])

    def bad(k):
        for i in range(30):
            try:
                store.add_answers([say(f"bad{k}-{i}"), say("bad", "none")])
            except StoreError:
                refused.append(i)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3) for work in (good, bad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 90
    assert {answer.id for answer in store.answers()} == {f"good{k}-{i}" for k in range(3) for i in range(30)}


WRITER = """
import os, sys, threading
from pathlib import Path
from embodied.episodes import Episodes
from embodied.records import Answer, Compare
from embodied.store import Store

folder, name, start, count, threads = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
store = Store(folder / "store.sqlite", Episodes(folder / "episodes"))
store.add_queries([])

def work(k):
    for i in range(start, start + count):
        ids = [f"{name}-{k}-{i}-{j}" for j in range(1 + i % 3)]
        seqs = store.add_answers(Answer(id, "q0", f"{name}{k}", "person", Compare(i % 2)) for id in ids)
        os.write(1, "".join(f"{id} {seq}\\n" for id, seq in zip(ids, seqs)).encode())

workers = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
[w.start() for w in workers]
[w.join() for w in workers]
store.close()
"""


def writer(folder, name, start=0, count=100_000, threads=4):
    command = [sys.executable, "-c", WRITER, str(folder), name, str(start), str(count), str(threads)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def acknowledged(output):
    """What a process wrote before it died: id and number per line, a last half line cut off."""
    lines = output.decode().split("\n")[:-1]
    return {id: int(seq) for id, seq in (line.split() for line in lines)}


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_under_load_loses_nothing_and_doubles_nothing(tmp_path, kills):
    path, episodes = fill(tmp_path, queries=1)
    known = {"a0": 1}
    rng = np.random.default_rng(kills)
    start = 0
    for _ in range(kills):
        process = writer(tmp_path, "w", start=start)
        select.select([process.stdout], [], [], 60)  # it writes: now
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        output, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors.decode()
        for id, seq in acknowledged(output).items():
            assert known.setdefault(id, seq) == seq, "sent again, it keeps its number"
        assert len(known) > 1
        # The next one sends the last acknowledged ones, and those of which nobody knows, again.
        start = max(int(id.split("-")[2]) for id in known if "-" in id) - 3
        start = max(start, 0)
        with Store(path, episodes) as store:
            found = store.answers()
            ids = [answer.id for answer in found]
            assert len(set(ids)) == len(ids)
            assert [answer.seq for answer in found] == list(range(1, len(found) + 1))
            stored = {answer.id: answer.seq for answer in found}
            assert {id: stored.get(id) for id in known} == known
            for answer in found[1:]:
                assert answer.value == Compare(int(answer.id.split("-")[2]) % 2)
        known = stored


def test_kill_9_at_every_line_while_a_store_is_made_leaves_a_whole_one_or_none(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from embodied import atomic, database

lines = {atomic.__file__, database.__file__}
left = int(sys.argv[2])

def trace(frame, what, _):
    global left
    if frame.f_code.co_filename not in lines:
        return None
    if what == "line":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

while True:  # a fork for every line, until one gets to the end
    pid, start = os.fork(), left
    if not pid:
        path = Path(sys.argv[1]) / str(start) / "store.sqlite"
        sys.settrace(trace)
        database.create(path)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
    left += 1
print(left)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    count = int(run.stdout)
    made = [(tmp_path / str(line) / "store.sqlite").exists() for line in range(1, count + 1)]
    assert count > 20 and made == sorted(made) and made[-1] and not made[0]
    for line in range(1, count + 1):
        with Store(tmp_path / str(line) / "store.sqlite", Episodes(tmp_path)) as store:
            assert store.last_seq() == 0


def test_processes_that_open_a_new_store_and_write_at_once(tmp_path):
    episodes = make_episodes(tmp_path)
    code = """
import sys
from pathlib import Path
from embodied.episodes import Episodes, cut
from embodied.records import Query
from embodied.store import Store
folder = Path(sys.argv[1])
episodes = Episodes(folder / "episodes")
sys.stdin.readline()
with Store(folder / "store.sqlite", episodes) as store:
    segment = cut(episodes.load("e0"), 0, 5)
    store.add_queries([Query("q0", (segment, segment))])
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(3)]
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    writers = [writer(tmp_path, f"p{i}", count=20, threads=2) for i in range(2)]
    known = {}
    for process in writers:
        output, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        known |= acknowledged(output)
    with Store(tmp_path / "store.sqlite", episodes) as store:
        assert {answer.id: answer.seq for answer in store.answers()} == known
        assert sorted(known.values()) == list(range(1, len(known) + 1)) and len(known) == 2 * 2 * (20 + 13 + 6)
        assert [query.id for query in store.queries()] == ["q0"]


def test_a_forked_process_is_told_to_open_its_own(tmp_path):
    fill(tmp_path)
    code = """
import os, sys
from pathlib import Path
from embodied.episodes import Episodes
from embodied.records import Answer, Skip
from embodied.store import Store, StoreError
folder = Path(sys.argv[1])
with Store(folder / "store.sqlite", Episodes(folder / "episodes")) as store:
    pid = os.fork()
    if not pid:
        for use in (store.last_seq, lambda: store.add_answers([Answer("x", "q0", "a", "person", Skip())])):
            try:
                use()
            except StoreError as error:
                os.write(1, f"{error}\\n".encode())
        store.close()
        os._exit(0)
    os.waitpid(pid, 0)
    print(store.add_answers([Answer("y", "q0", "a", "person", Skip())]))
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert len(out) == 3 and all(line.endswith("by another process; open it in this one") for line in out[:2])
    assert out[2] == "[4]"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refuse(folder, episodes, sentence):
    before = contents(folder)
    with pytest.raises(StoreError, match=sentence):
        Store(folder / "store.sqlite", episodes)
    assert contents(folder) == before


def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path):
    path, episodes = tmp_path / "store.sqlite", Episodes(tmp_path / "episodes")
    path.write_text("Dear diary, " * 1000)
    refuse(tmp_path, episodes, r"store\.sqlite is not a store: it begins with b'Dear diary, Dear'; choose another path")
    path.write_bytes(b"")
    refuse(tmp_path, episodes, "is not a store: it is empty; choose another path, or put back a copy")
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipe (name TEXT)")
    connection.close()
    refuse(tmp_path, episodes, "is a database, but not a store: no version in a table 'meta'; choose another path")
    path.unlink()
    path.mkdir()
    refuse(tmp_path, episodes, "is not a file; choose another path")
    with pytest.raises(StoreError, match=r"cannot be written .*; mend that or choose another folder"):
        (tmp_path / "file").write_text("x")
        Store(tmp_path / "file" / "store.sqlite", episodes)


@pytest.mark.parametrize("version", ["3", "10"])
def test_a_newer_store_is_refused_and_left_as_it_is(tmp_path, version):
    path, episodes = fill(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", (version,))
    connection.execute("DROP TABLE cursor")
    connection.commit()
    connection.close()
    refuse(tmp_path, episodes, f"has schema version {version}, this program reads up to 2; update the program")


def test_an_older_store_gets_what_it_lacks(tmp_path):
    path, episodes = fill(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '1' WHERE name = 'version'")
    connection.execute("DROP TABLE erased")
    connection.commit()
    connection.close()
    with Store(path, episodes) as store:
        assert store.erase("ann") == 3
    with Store(path, episodes) as store:
        assert store.erased(2) == 2 and store.last_seq() == 3 and store.answers() == []


def test_what_is_erased_is_gone_and_its_numbers_are_never_given_place_of(store):
    store.add_answers([say("a0"), say("b0", annotator="bob"), say("a1", "q1")])
    assert store.log_cursor("loop", 0, 3) == 3
    assert store.erase("ann") == 2 and store.erase("ann") == 0 and store.erase("nobody") == 0
    assert [a.id for a in store.answers()] == ["b0"]
    assert store.last_seq() == 3 and store.erased(1) == 1 and store.erased(3) == 2
    assert store.add_answers([say("a0", annotator="cleo")]) == [4]
    assert store.cursor("loop", 0) == 3


def test_many_writers_of_one_database_give_every_number_once(store):
    """Each process has its own writer; here two stores are opened on one place."""
    with Store(place_of(store), store.episodes) as other:

        def write(which, name):
            for i in range(40):
                which.add_answers([say(f"{name}{i}", annotator=name)])

        threads = [threading.Thread(target=write, args=pair) for pair in ((store, "x"), (other, "y"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [a.seq for a in other.answers()] == list(range(1, 81))


def place_of(store):
    """Its place, to be opened once more."""
    return store.place if isinstance(store.place, Path) else store.place.render_as_string(hide_password=False)


def test_a_server_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(StoreError, match=r"localhost:1/x cannot be reached .*; start the server or mend the address"):
        Store("postgresql://me:secret@localhost:1/x", make_episodes(tmp_path))
    with pytest.raises(StoreError, match="is no address of a database; give postgresql://user:password@host/name"):
        Store("postgresql://me@host:port/x", make_episodes(tmp_path))


def test_a_newer_store_whose_version_is_only_in_the_log_beside_it(tmp_path):
    path, episodes = fill(tmp_path)
    code = f"""
import os, sqlite3
connection = sqlite3.connect({str(path)!r})
connection.execute("UPDATE meta SET value = '3' WHERE name = 'version'")
connection.commit()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / "store.sqlite-wal").stat().st_size
    before = path.read_bytes(), (tmp_path / "store.sqlite-wal").read_bytes()
    with pytest.raises(StoreError, match="has schema version 3"):
        Store(path, episodes)
    assert before == (path.read_bytes(), (tmp_path / "store.sqlite-wal").read_bytes())


@pytest.mark.parametrize("kept", [16, 50, 100, 4096, 0.5, -4096, -1])
def test_a_truncated_store_is_refused_and_left_as_it_is(tmp_path, kept):
    path, episodes = fill(tmp_path)
    whole = path.read_bytes()
    part = whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    path.write_bytes(part)
    refuse(tmp_path, episodes, rf"store\.sqlite is half-written: {len(part)} of \d+ bytes; choose another path, or put")


def test_a_damaged_page_is_found_on_opening(tmp_path):
    path, episodes = fill(tmp_path, queries=50)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    refuse(tmp_path, episodes, "damaged .*; choose another path, or put back a copy")
    path.write_bytes(bytes(data[:4096]) + bytes(len(data) - 4096))
    refuse(tmp_path, episodes, "damaged .*; choose another path, or put back a copy")


def test_a_query_of_a_lost_or_truncated_episode_names_the_file(tmp_path):
    path, episodes = fill(tmp_path)
    (tmp_path / "episodes" / "e1.npz").write_bytes(b"PK")
    with Store(path, episodes) as store, pytest.raises(EpisodeError, match=r"e1\.npz is not a whole episode file"):
        store.queries()
    (tmp_path / "episodes" / "e1.npz").unlink()
    with Store(path, episodes) as store, pytest.raises(EpisodeError, match="no episode 'e1' in"):
        store.queries()


def test_a_file_size_limit_loses_nothing_that_was_acknowledged(tmp_path):
    path, episodes = fill(tmp_path)
    code = """
import json, resource, sys
from pathlib import Path
from embodied.episodes import Episodes
from embodied.records import Answer, Skip
from embodied.store import Store, StoreError
folder = Path(sys.argv[1])
sizes = resource.getrlimit(resource.RLIMIT_FSIZE)
with Store(folder / "store.sqlite", Episodes(folder / "episodes")) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, sizes[1]))
    known, error, i = {}, None, 0
    while error is None:
        batch = [Answer(f"f{i}-{j}", "q0", "a", "person", Skip("x" * 500)) for j in range(20)]
        try:
            known |= zip((answer.id for answer in batch), store.add_answers(batch))
            i += 1
        except StoreError as refused:
            error = str(refused)
    print(json.dumps([known, error, len(store.answers())]), flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, sizes)
    if sys.argv[2] == "on":
        print(json.dumps(store.add_answers(batch)), flush=True)
    else:
        import os
        os.kill(os.getpid(), 9)
"""
    for end in ("killed", "on"):
        run = subprocess.run([sys.executable, "-c", code, str(tmp_path), end], cwd=ROOT, capture_output=True, text=True)
        lines = run.stdout.splitlines()
        known, error, count = json.loads(lines[0])
        assert "store.sqlite cannot be written: the disk is full or a limit on its size is reached (" in error
        assert error.endswith(
            "free some space or raise the limit, then send the same again: all that was acknowledged is there"
        )
        with Store(path, episodes) as store:
            found = {answer.id: answer.seq for answer in store.answers()}
            assert known.items() <= found.items() and len(known) >= 40
            assert sorted(found.values()) == list(range(1, len(found) + 1))
            if end == "on":
                assert json.loads(lines[1]) == list(range(count + 1, count + 21)), "the same store goes on"
            else:
                assert set(found) - set(known) == {"a0", "a1", "a2"}, "nothing of the refused call is there"
            store.add_answers([say(f"after {end}")])
        if end == "killed":
            os.remove(path)
            path, episodes = fill(tmp_path)


def test_a_full_database_loses_nothing_that_was_acknowledged(tmp_path):
    path, episodes = fill(tmp_path)

    def limit(connection, _):
        connection.execute("PRAGMA max_page_count = 40")

    event.listen(Engine, "connect", limit)
    try:
        with Store(path, episodes) as store:
            count = 0
            with pytest.raises(StoreError) as refused:
                while True:
                    store.add_answers(say(f"f{count}-{j}", value=Skip("x" * 500)) for j in range(10))
                    count += 1
            assert "store.sqlite cannot be written: the disk is full or a limit on its size is reached" in str(
                refused.value
            )
            assert store.last_seq() == 3 + 10 * count and count > 3, "nothing of the refused call is there"
            assert [answer.seq for answer in store.answers()] == list(range(1, store.last_seq() + 1))
    finally:
        event.remove(Engine, "connect", limit)
    with Store(path, episodes) as store:
        assert store.last_seq() == 3 + 10 * count
        more = [say(f"f{count}-{j}", value=Skip("x" * 500)) for j in range(10)]
        assert store.add_answers(more)[-1] == 13 + 10 * count


def test_a_store_held_by_another_program_says_so(tmp_path, monkeypatch):
    path, episodes = fill(tmp_path)
    monkeypatch.setattr("embodied.database.WAIT", 0.1)
    with Store(path, episodes) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"was held by another program for .* \(database is locked\); close that"):
            store.add_answers([say("x")])
        assert store.last_seq() == 3, "readers go on"
        other.execute("ROLLBACK")
        other.close()
        assert store.add_answers([say("x")]) == [4]


def test_work_that_nobody_waits_for_any_more_stops_no_other(store):
    begun, go = threading.Event(), threading.Event()

    def slow(connection):
        begun.set()
        go.wait(5)

    first = store.submit(slow)
    begun.wait(5)
    waiting, last = store.submit(lambda connection: "never"), store.submit(lambda connection: "done")
    assert waiting.cancel() and not first.cancel(), "what is begun is finished"
    go.set()
    assert last.result(5) == "done" and first.result(5) is None
