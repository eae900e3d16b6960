"""Leases and answers, in SQLite and PostgreSQL: all exactly once, sides kept, nothing lost that is late or twice."""

import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import human_ui
from embodied.episodes import Episode, Episodes, cut
from embodied.records import Compare, Query, Rate, RecordError, Skip
from embodied.store import Store, StoreError
from human_ui import desk, people, tables
from human_ui.study import Study

STUDY = Study("test", lease=60.0)
RNG = np.random.default_rng


@pytest.fixture
def store(tmp_path, place):
    episodes = Episodes(tmp_path / "episodes")
    rng = RNG(0)
    episodes.save(Episode(f"e{i}", rng.normal(size=(20, 3)), rng.normal(size=(20, 2))) for i in range(4))
    with Store(place, episodes) as opened:
        opened.write(tables.create)
        desk.begin(opened, STUDY, 0.0)
        yield opened


def query(store, id, kind="compare", k=2):
    segments = tuple(cut(store.episodes.load(f"e{i}"), 0, 10) for i in range(k))
    return Query(id, segments, kind)


def offer(store, n, want=1, prefix="q", **kwargs):
    queries = [query(store, f"{prefix}{i}") for i in range(n)]
    desk.offer(store, queries, {q.id: ("0" * 64, "1" * 64) for q in queries}, want=want, **kwargs)


def lend(store, person="ann", n=3, now=0.0, study=STUDY, seed=0):
    return desk.lend(store, study, person, n, now, RNG(seed))


def take(store, lent, id, value=None, person="ann", now=1.0, supersedes=""):
    return desk.take(store, person, lent.lease, id, value or Compare(1.0), {"ms": 9}, supersedes, now)


@pytest.fixture
def ann(store):
    people.invite(store, "ann")
    people.invite(store, "bob")


def test_a_reload_gives_the_same_again(store, ann):
    offer(store, 5)
    first = lend(store)
    assert len(first) == 3 and len({one.query for one in first}) == 3
    again = lend(store, now=10.0, seed=1)
    assert [replace(one, until=0) for one in again] == [replace(one, until=0) for one in first]
    assert again[0].until == 70.0


def test_a_query_goes_to_as_many_people_as_are_wanted_and_to_each_once(store, ann):
    offer(store, 2)
    assert {one.query for one in lend(store)} == {"q0", "q1"} and lend(store, "bob") == []
    offer(store, 1, want=2, prefix="both")
    (mine,), (theirs,) = ([o for o in lend(store, who) if o.query == "both0"] for who in ("ann", "bob"))
    take(store, mine, "a")
    take(store, theirs, "b", person="bob")
    assert all(one.query != "both0" for who in ("ann", "bob") for one in lend(store, who, n=8))


def test_what_is_not_answered_in_time_is_free_again_and_a_late_answer_counts(store, ann):
    offer(store, 1)
    (mine,) = lend(store)
    assert lend(store, "bob", now=59.0) == []
    (theirs,) = lend(store, "bob", now=61.0)
    assert theirs.query == mine.query
    assert take(store, mine, "late", now=62.0) == 1
    assert take(store, theirs, "b", person="bob", now=63.0) == 2
    with store.read() as connection:
        late = {row.answer: row.late for row in connection.execute(tables.DETAIL.select())}
    assert late == {"late": True, "b": False}


def test_whoever_looks_keeps_it_and_a_rest_gives_it_back(store, ann):
    offer(store, 1)
    lend(store)
    desk.renew(store, STUDY, "ann", 50.0)
    assert lend(store, "bob", now=100.0) == []
    desk.give_back(store, "ann")
    assert len(lend(store, "bob", now=101.0)) == 1 and lend(store, now=102.0) == []
    desk.give_back(store, "bob")
    assert len(lend(store, now=103.0)) == 1, "one who gave it back may have it again"


def test_an_answer_is_taken_once_and_means_the_querys_own_order(store, ann):
    offer(store, 40)
    sides = Counter()
    for i in range(40):
        (one,) = lend(store, n=1, seed=i)
        seq = take(store, one, f"a{i}")
        assert seq == i + 1 == take(store, one, f"a{i}")
        sides[one.shown] += 1
        assert store.answers(after=i)[0].value == Compare(1.0 if one.shown == (0, 1) else 0.0)
    assert min(sides[0, 1], sides[1, 0]) >= 10
    with pytest.raises(StoreError, match="another answer of id 'a39'"):
        take(store, one, "a39", Compare(0.5))


def test_the_clips_are_in_the_order_in_which_they_are_shown(store, ann):
    offer(store, 8)
    for one in lend(store, n=8):
        assert one.clips == tuple(str(i) * 64 for i in one.shown) and one.anchor == ""


def test_undo_is_a_row_that_supersedes(store, ann):
    offer(store, 2)
    (one, _) = lend(store)
    take(store, one, "a")
    ((lent, id, value),) = desk.last(store, "ann", 10)
    assert (lent.lease, id, value) == (one.lease, "a", Compare(1.0))
    assert take(store, lent, "b", Skip("unsure"), supersedes="a") == 2
    assert [(id, value) for _, id, value in desk.last(store, "ann", 10)] == [("b", Skip("unsure"))]
    assert [a.supersedes for a in store.answers()] == ["", "a"]


def test_somebody_elses_lease_is_nobodys(store, ann):
    offer(store, 1)
    (mine,) = lend(store)
    with pytest.raises(desk.Gone, match="load the page again"):
        take(store, mine, "x", person="bob")
    with pytest.raises(RecordError, match="asks to compare: compare its segments or skip"):
        take(store, mine, "x", Rate((1.0, 2.0)))
    assert store.last_seq() == 0


def test_withdrawn_queries_are_not_lent_and_priorities_come_first(store, ann):
    offer(store, 3)
    offer(store, 1, prefix="first", priority=1.0)
    desk.withdraw(store, ["q0"])
    assert {one.query for one in lend(store, n=2)} == {"first0", "q1"}
    assert {one.query for one in lend(store, n=8)} == {"first0", "q1", "q2"}


def test_gold_comes_at_its_rate_and_to_everybody(store, ann):
    offer(store, 300)
    offer(store, 40, prefix="gold", truth={f"gold{i}": Compare(1.0) for i in range(40)})
    golden = Study("test", gold=0.2)
    for person in ("ann", "bob"):
        seen = []
        for i in range(60):
            (one,) = lend(store, person, 1, study=golden, seed=i)
            take(store, one, f"{person}{i}", person=person)
            seen.append(one.query.startswith("gold"))
        assert 4 <= sum(seen) <= 22  # 12, four deviations about it


def test_an_erased_person_leaves_a_number_and_no_more(store, ann):
    offer(store, 2)
    for i, one in enumerate(lend(store)):
        take(store, one, f"a{i}")
    assert people.erase(store, "ann") == 2
    assert store.answers() == [] and store.erased(2) == 2 and store.last_seq() == 2
    with store.read() as connection:
        (stone,) = connection.execute(tables.TOMBSTONE.select())
        assert stone.answers == 2
        for table in (tables.DETAIL, tables.LEASE, tables.SESSION):
            assert not connection.execute(table.select()).all()
        assert [row.id for row in connection.execute(tables.PERSON.select())] == ["bob"]
    assert len(lend(store, "bob")) == 2, "what they answered may be asked again"


def test_tokens_are_kept_as_hashes_and_a_revoked_one_is_dead_at_once(store):
    token = people.invite(store, "cleo")
    session = people.enter(store, token)
    assert people.of_session(store, session).id == people.of_token(store, token).id == "cleo"
    assert people.enter(store, "guess") is None and people.of_session(store, token) is None
    with store.read() as connection:
        text = str(connection.execute(tables.PERSON.select()).all()) + str(
            connection.execute(tables.SESSION.select()).all()
        )
    assert token not in text and session not in text
    people.revoke(store, "cleo")
    assert people.of_session(store, session) is None and people.of_token(store, token) is None
    assert people.enter(store, token) is None
    with pytest.raises(StoreError, match="there is a person 'cleo' already"):
        people.invite(store, "cleo")


def test_many_people_at_once_get_every_query_once(store):
    offer(store, 60)
    names = [f"p{i}" for i in range(12)]
    for name in names:
        people.invite(store, name)
    seen, lock = [], threading.Lock()

    def work(name, seed):
        while True:
            lent = desk.lend(store, STUDY, name, 3, 0.0, RNG(seed))
            if not lent:
                return
            for one in lent:
                take(store, one, f"{name}-{one.query}", person=name)
                with lock:
                    seen.append(one.query)

    threads = [threading.Thread(target=work, args=(name, i)) for i, name in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(f"q{i}" for i in range(60)) and store.last_seq() == 60


def test_the_gui_loads_no_torch():
    code = "import rapport.ask, rapport.cli, sys; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(human_ui.__file__).parents[1])
