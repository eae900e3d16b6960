"""What the owner is told of people whose habits are planted."""

import numpy as np
import pytest

from embodied.episodes import Episode, Episodes, cut
from embodied.records import Compare, Query, Skip
from embodied.store import Store
from human_ui import desk, people, tables
from human_ui.overview import overview
from human_ui.study import Study

STUDY = Study("test", want=3, gold=0.2)


@pytest.fixture
def store(tmp_path):
    episodes = Episodes(tmp_path / "episodes")
    episodes.save(Episode(f"e{i}", np.full((20, 1), float(i)), np.zeros((20, 1))) for i in range(2))
    with Store(tmp_path / "answers.sqlite", episodes) as opened:
        opened.write(tables.create)
        yield opened


def test_habits_are_seen(store):
    """Ann is right in nine of ten, Bob always says left, Cleo cannot tell; the truth of every query is first better."""
    segments = tuple(cut(store.episodes.load(f"e{i}"), 0, 10) for i in range(2))
    queries = [Query(f"q{i}", segments) for i in range(80)]
    golden = [Query(f"g{i}", segments) for i in range(20)]
    clips = {q.id: ("0" * 64, "1" * 64) for q in (*queries, *golden)}
    desk.offer(store, queries, clips, want=3)
    desk.offer(store, golden, clips, want=3, truth={q.id: Compare(1.0) for q in golden})
    rng = np.random.default_rng(0)
    for name in ("ann", "bob", "cleo", "dan"):
        people.invite(store, name)
    for name in ("ann", "bob", "cleo"):
        for i in range(60):
            (one,) = desk.lend(store, STUDY, name, 1, 0.0, rng)
            side = one.shown.index(0)  # 0: the better one is on the left
            right = Compare(1.0 - side)
            wrong = Compare(float(side))
            value = {"ann": right if rng.random() < 0.9 else wrong, "bob": Compare(1.0), "cleo": Skip("")}[name]
            told = {"ms": 1500.0, "early": name == "bob"}
            desk.take(store, name, one.lease, f"{name}-{i}", value, told, "", 1.0)
    now = overview(store)
    rows = {row.name: row for row in now.people}
    assert list(rows) == ["ann", "bob", "cleo", "dan"] and now.answers == 180 and now.queries == 80
    assert rows["bob"].left == 1.0 and 0.3 < rows["ann"].left < 0.7 and rows["cleo"].left is None
    assert rows["cleo"].skips == 1.0 and rows["ann"].skips == 0.0 and rows["dan"].answers == 0
    assert rows["bob"].early == 1.0 and rows["ann"].seconds == 1.5
    found = {name: float(rows[name].reliability.split()[0]) for name in ("ann", "bob")}
    assert found["ann"] > 0.8 and found["bob"] < 0.75 and rows["cleo"].reliability == ""
    right, of = map(int, rows["ann"].gold.split(" of "))
    assert 0.6 * of <= right <= of and of >= 4
    assert -0.35 < now.alpha < 0.35 and now.covered >= 30 and len(now.disputed) == 10


def test_what_no_browser_of_ours_sends_breaks_nothing(store):
    segments = tuple(cut(store.episodes.load(f"e{i}"), 0, 10) for i in range(2))
    desk.offer(store, [Query("q", segments)], {"q": ("0" * 64, "1" * 64)}, want=1)
    people.invite(store, "ann")
    (one,) = desk.lend(store, STUDY, "ann", 1, 0.0, np.random.default_rng(0))
    desk.take(store, "ann", one.lease, "a", Compare(1.0), {"ms": 10**400, "early": "yes"}, "", 1.0)
    (row,) = overview(store).people
    assert row.seconds is None and row.early == 0.0


def test_an_empty_study_has_nothing_to_tell(store):
    now = overview(store)
    assert now.alpha is None and now.people == () and now.answers == now.done == 0
