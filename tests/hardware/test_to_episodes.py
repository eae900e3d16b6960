"""An episode says what the journal says, once per step, and the same however often it is made."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied.episodes import EpisodeError, Episodes
from hardware.journal import SOURCES, End, Event, Journal, JournalError, Tick, recover
from hardware.to_episodes import about, episode, export, own_terms, scene
from tests.hardware.walked import PERIOD, RATE, N, header, ticks, write

MIXED = [
    *ticks([("homing", 3), ("policy", 20)], look=1),
    Event("takeover", who="ann"),
    *ticks([("human", 9)], seed=1),
    Event("handback", who="ann"),
    *ticks([("policy", 6)], seed=2),
    Event("estop", "button", "ann"),
    *ticks([("brake", 4)], seed=3),
]


def numbered(records):
    out, seq = [], 0
    for record in records:
        out.append(replace(record, seq=seq) if isinstance(record, Tick) else record)
        seq += isinstance(record, Tick)
    return out


MIXED = numbered(MIXED)


def test_a_step_for_every_look(tmp_path):
    path = write(tmp_path / "day1-a.journal", MIXED, end=End("stopped"))
    made, found = episode(recover(path)), recover(path)
    given_ticks = [r for r in MIXED if isinstance(r, Tick)]
    assert made.id == "day1-a" and len(made) == len(given_ticks) and not made.terminated
    assert np.array_equal(made.act, [t.command for t in given_ticks])
    assert np.array_equal(made.obs, [t.obs for t in given_ticks])
    for name in ("requested", "position", "velocity"):
        assert np.array_equal(made.info[name], [getattr(t, name) for t in given_ticks])
    assert np.isnan(made.info["effort"]).all()
    assert [SOURCES[k] for k in made.info["source"]] == [t.source for t in given_ticks]
    assert np.allclose(made.info["time"], np.arange(len(made)) / RATE) and not made.info["age"].any()
    assert made.info["offset"].tolist() == [t.offset for t in found.ticks]
    assert np.flatnonzero(made.info["stopped"]).tolist() == [37] == np.flatnonzero(made.info["pressed"]).tolist()
    assert SOURCES[made.info["source"][37]] == "policy" and SOURCES[made.info["source"][38]] == "brake"
    said = made.info["said"]
    assert np.isnan(said[:3]).all() and np.array_equal(said[3], [0.1, -0.2]) and np.isnan(said[25]).all()
    told = about(made)
    assert (
        told["task"] == header().task
        and told["journal"] == "day1-a.journal"
        and told["hands"] == {"22": "ann", "31": "ann", "37": "ann"}
    )
    assert told["scene"] == {"goal": [0.3, 0.1, 0.2]} and told["outcome"] == "stopped"


def test_things_that_are_told_to_be_elsewhere_are_there_from_the_next_step_on(tmp_path):
    there = {"goal": [0.5, 0.1, 0.2]}
    parts = [list(ticks([("policy", 10)], seed=k)) for k in range(3)]
    same, told = Event("note", "scene", data={"goal": [0.3, 0.1, 0.2]}), Event("note", "scene", data=there)
    records = numbered([*parts[0], same, *parts[1], told, *parts[2], Event("note", "scene", data={"goal": [0, 0, 0]})])
    made = episode(recover(write(tmp_path / "a.journal", records)))
    assert scene(made, 19) == about(made)["scene"] == {"goal": [0.3, 0.1, 0.2]}
    assert scene(made, 20) == scene(made, 29) == there
    (own,) = own_terms(made)
    assert scene(own, 19) == {"goal": [0.3, 0.1, 0.2]} and scene(own, 20) == there
    late = episode(recover(write(tmp_path / "b.journal", numbered([told, *parts[0]]))))
    assert scene(late, 0) == scene(own_terms(late)[0], 0) == there


def test_a_policy_that_sends_chunks_has_the_steps_of_its_rate(tmp_path):
    """It looks every 20th tick of a loop at 50 Hz, and its contract says 25 Hz: ten steps of two ticks each."""
    records = list(ticks([("policy", 40)], look=20))
    made = episode(recover(write(tmp_path / "a.journal", records, contract={"rate": 25.0})))
    assert made.info["seq"].tolist() == list(range(0, 40, 2))
    assert np.array_equal(made.act, [r.command for r in records[1::2]])
    assert np.array_equal(made.obs, [records[20 * (k // 20)].obs for k in range(0, 40, 2)])
    assert np.allclose(made.info["age"], np.tile(np.arange(10) / 25, 2))


def test_looks_that_come_unevenly_make_no_steps_between(tmp_path):
    """20 Hz in a loop of 50: 3 ticks, 2 ticks, 3, 2, ..."""
    at = {0, 3, 5, 8, 10, 13, 15, 18}
    records = [replace(t, obs=t.obs if t.seq in at else None) for t in ticks([("policy", 20)])]
    made = episode(recover(write(tmp_path / "a.journal", records, contract={"rate": 20.0})))
    assert set(made.info["seq"].tolist()) == at


def test_nobody_looked_and_what_was_measured_stands_in(tmp_path):
    records = list(ticks([("human", 12)], look=10**6))[1:]
    made = episode(recover(write(tmp_path / "a.journal", records)))
    assert len(made) == 11 and made.obs.shape == (11, 2 * N)
    assert np.array_equal(made.obs[4], np.r_[records[4].position, records[4].velocity].astype(np.float32))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(SOURCES), st.integers(1, 15)), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from([10.0, 20.0, 25.0, 50.0, 100.0]),
)
def test_steps_cover_the_ticks_and_never_mix_sources(tmp_path_factory, parts, look, rate):
    records = list(ticks(parts, look=look))
    path = write(tmp_path_factory.mktemp("j") / "a.journal", records, contract={"rate": rate})
    made = episode(recover(path))
    begins = [*made.info["seq"].tolist(), len(records)]
    assert begins[0] == 0 and begins == sorted(set(begins))
    for k, (a, b) in enumerate(pairwise(begins)):
        assert {r.source for r in records[a:b]} == {SOURCES[made.info["source"][k]]}
        assert np.array_equal(made.act[k], records[b - 1].command)
        assert 0 <= made.info["age"][k] <= made.info["time"][k]
        assert b - a <= max(look, 1.5 * RATE / rate + 1)
        assert (records[a].obs is not None) == (made.info["age"][k] == 0)
    assert {r.seq for r in records if r.obs is not None} <= set(begins)


def test_twice_changes_nothing_and_torn_ones_count_as_far_as_they_are_whole(tmp_path):
    folder, store = tmp_path / "journals", Episodes(tmp_path / "episodes")
    whole = write(folder / "a.journal", MIXED)
    torn = write(folder / "b.journal", MIXED)
    torn.write_bytes(torn.read_bytes()[:-700])
    (folder / "c.journal").write_bytes(b"nothing of the sort")
    write(folder / "d.journal", [Event("start")])
    growing = Journal(folder / "e.journal", header(), 0)
    growing.append(next(ticks([("policy", 1)])), 1)
    paths = sorted(folder.glob("*.journal"))
    first = export(paths, store)
    files = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in store.folder.iterdir()}
    assert first.ids == ("a", "b") == tuple(store.ids()) and set(first.left) == {"c.journal", "d.journal", "e.journal"}
    assert "still being written" in first.left["e.journal"] and "is no rapport journal" in first.left["c.journal"]
    assert export(paths, store) == first
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in store.folder.iterdir()} == files
    growing.close()
    assert export(paths, store).ids == ("a", "b", "e")
    a, b = store.load("a"), store.load("b")
    assert a.terminated and not b.terminated and 0 < len(b) < len(a) and np.array_equal(a.act[: len(b)], b.act)
    assert about(a)["whole"] and not about(b)["whole"] and about(b)["outcome"] == "unknown"
    recover(torn, truncate=True)
    assert export(paths, store).ids == ("a", "b", "e")  # cut off, it says the same
    write(tmp_path / "other" / "a.journal", MIXED[:9])
    with pytest.raises(EpisodeError, match="another episode"):
        export([tmp_path / "other" / "a.journal"], store)
    assert whole.exists()


def test_an_observation_of_another_size_is_said(tmp_path):
    records = list(ticks([("policy", 6)]))
    records[3] = replace(records[3], obs=np.zeros(2, np.float32))
    with pytest.raises(JournalError, match="is no episode"):
        episode(recover(write(tmp_path / "a.journal", records)))


def test_clipped_and_missed_are_shares_of_the_step(tmp_path):
    records = list(ticks([("policy", 8)], look=4))
    records[1] = replace(records[1], verdict="clipped", clipped=(("velocity",), (), ()))
    records[6] = replace(records[6], missed=True)
    made = episode(recover(write(tmp_path / "a.journal", records, contract={"rate": RATE / 4}, period=PERIOD)))
    assert made.info["clipped"].tolist() == [0.25, 0.0] and made.info["missed"].tolist() == [0.0, 0.25]


def test_what_the_policy_said_by_itself(tmp_path):
    """Its two stretches, with its own actions, and the hands that belong to them."""
    whole = episode(recover(write(tmp_path / "a.journal", MIXED)))
    first, second = own_terms(whole)
    assert (first.id, len(first), second.id, len(second)) == ("a.1", 20, "a.2", 6)
    assert np.array_equal(first.act, np.tile([0.1, -0.2], (20, 1))) and np.array_equal(first.obs, whole.obs[3:23])
    assert np.array_equal(second.info["offset"], whole.info["offset"][32:38])
    assert about(first)["hands"] == {"19": "ann"} and about(second)["hands"] == {"5": "ann"}
    assert second.info["pressed"].tolist() == [False] * 5 + [True] and not second.terminated
    silent = [replace(t, act=None) for t in ticks([("policy", 9)])]
    assert own_terms(episode(recover(write(tmp_path / "b.journal", silent)))) == []


def test_a_look_that_came_late_ends_no_stretch_and_a_pause_does(tmp_path):
    """Steps 3 and 7 have no look; between 12 and 13 the loop stood still."""
    records = [replace(t, act=None, obs=None) if t.seq in (3, 7) else t for t in ticks([("policy", 20)])]
    now, journal = 10**9, Journal(tmp_path / "a.journal", header(), 10**9)
    for tick in records:
        now += PERIOD * (5 if tick.seq == 13 else 1)
        assert journal.append(replace(tick, missed=tick.seq == 7), now)
    journal.close()
    whole = episode(recover(tmp_path / "a.journal"))
    first, second = own_terms(whole)
    seqs = [t for t in range(13) if t not in (3, 7)]
    assert first.info["seq"].tolist() == seqs and second.info["seq"].tolist() == list(range(13, 20))
    assert first.info["missed"].tolist() == [float(t == 6) for t in seqs]  # it lies in the step before
    assert np.isfinite(first.act).all() and about(first)["own"]
