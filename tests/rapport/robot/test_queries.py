"""What people may be shown of a robot, and never may, whatever happened to it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied.records import Compare, Stop
from hardware.journal import Event, Journal, Tick, recover
from hardware.to_episodes import episode
from rapport.robot.interventions import HELD, LEAST, UNNAMED, stops, takeovers
from rapport.robot.queries import POLICY, Rules, origin, pairs, question, step_seconds, stretches
from tests.hardware.walked import PERIOD, RATE, header, ticks, write

SOURCE = st.sampled_from(["policy", "policy", "policy", "human", "hold", "brake", "homing"])
ENDING = st.sampled_from(["", "", "", "stop", "fault", "estop", "takeover", "missed", "pause", "clip"])
RULES = Rules(seconds=0.3)


def made(path, parts, **changes):
    """An episode of (source, ticks, what happened at its last tick) one after another."""
    now, seq, journal = 10**9, 0, Journal(path, header(**changes), 10**9)
    for k, (source, count, ending) in enumerate(parts):
        for i, tick in enumerate(ticks([(source, count)], seed=k)):
            now += PERIOD
            last = i + 1 == count
            if last and ending == "pause":
                now += 5 * PERIOD
            clipped = ending == "clip" and i % 3 == 0
            tick = replace(tick, seq=seq, missed=last and ending == "missed", verdict="clipped" if clipped else "ok")
            assert journal.append(tick, now)
            seq += 1
        if ending in ("stop", "fault", "estop", "takeover"):
            assert journal.append(Event(ending, who="ann" if ending in ("estop", "takeover") else ""), now)
    journal.close()
    return episode(recover(path))


@settings(max_examples=60)
@given(st.lists(st.tuples(SOURCE, st.integers(1, 50), ENDING), min_size=1, max_size=7))
def test_no_stretch_holds_what_it_must_not(tmp_path_factory, parts):
    one = made(tmp_path_factory.mktemp("j") / "a.journal", parts)
    if len(one) < 2:
        return
    found, info = stretches(one, RULES), one.info
    for s in found:
        span = slice(s.start, s.stop)
        assert (info["source"][span] == POLICY).all()
        assert not info["stopped"][span].any() and not info["missed"][span].any()
        assert info["clipped"][span].mean() <= RULES.clipped and (info["age"][span] <= RULES.age).all()
        steps = round(RULES.seconds / step_seconds(one))
        assert 0.75 * steps - 1 < s.stop - s.start <= steps
        assert np.ptp(info["time"][span]) < RULES.seconds * 1.5  # no time was lost within
        assert np.isfinite(info["requested"][span]).all()
    places = [t for s in found for t in range(s.start, s.stop)]
    assert len(places) == len(set(places))
    for source, n, ending in parts[:1]:  # and what could be shown is: but for less than a half of one stretch
        if len(parts) == 1 and source == "policy" and ending in ("", "takeover") and n >= 0.75 * 15:
            assert 0 <= n - len(places) < 15 / 2


@pytest.mark.parametrize("ending", ["stop", "fault", "estop", "missed", "pause"])
def test_each_of_them_ends_a_stretch(tmp_path, ending):
    """Ten ticks, what happened, and ten more: never a stretch of fifteen, and always two of nine or ten."""
    one = made(tmp_path / "a.journal", [("policy", 10, ending), ("policy", 10, "")])
    assert stretches(one, Rules(seconds=15 / RATE)) == []
    assert len(stretches(one, Rules(seconds=9 / RATE))) == 2
    one = made(tmp_path / "b.journal", [("policy", 10, ""), ("policy", 10, "")])
    assert len(stretches(one, Rules(seconds=15 / RATE))) == 1


def test_things_that_are_told_to_be_elsewhere_end_a_stretch_and_are_another_beginning(tmp_path):
    walk = list(ticks([("policy", 40)]))
    told = Event("note", "scene", data={"goal": [0.9, 0.1, 0.2]})
    one = episode(recover(write(tmp_path / "a.journal", [*walk[:23], told, *walk[23:]])))
    found = stretches(one, RULES)
    assert not any(s.start < 23 < s.stop for s in found)
    assert {s.start >= 23: s.like[-1] for s in found} == {False: (("goal", 3, 1, 2),), True: (("goal", 9, 1, 2),)}


def test_what_the_envelope_changed_is_not_shown(tmp_path):
    one = made(tmp_path / "a.journal", [("policy", 15, "clip"), ("policy", 15, "")])
    assert [(s.start, s.stop) for s in stretches(one, RULES)] == [(15, 30)]
    assert [s.start for s in stretches(one, replace(RULES, clipped=0.4))] == [0, 15]


def test_a_policy_that_has_not_looked_for_long_is_not_shown(tmp_path):
    one = episode(recover(write(tmp_path / "a.journal", list(ticks([("policy", 100)], look=60)))))
    starts = [s.start for s in stretches(one, replace(RULES, age=0.5))]
    assert starts == [0, 13, 60, 73] and [s.start for s in stretches(one, RULES)] == [0, 15, 30, 60, 73, 86]


def test_pairs_began_alike_and_show_each_stretch_once(tmp_path):
    episodes = {}
    for k in range(6):
        where, task = ((0.0, 0.0, 0.0), "pour") if k < 3 else ((1.0, 0.0, 0.0), "pour" if k < 5 else "wipe")
        path = write(tmp_path / f"e{k}.journal", list(ticks([("policy", 40)], seed=k, start=where)), task=task)
        episodes[f"e{k}"] = episode(recover(path))
    found = [s for one in episodes.values() for s in stretches(one, RULES)]
    drawn = pairs(found, 99, np.random.default_rng(0))
    assert drawn == pairs(found, 99, np.random.default_rng(0)) and len(pairs(found, 1, np.random.default_rng(0))) == 1
    assert pairs(found, 0, np.random.default_rng(0)) == []
    shown = [(s.episode, s.start) for pair in drawn for s in pair]
    assert len(shown) == len(set(shown)) and drawn
    for a, b in drawn:
        assert a.like == b.like and a != b
        query = question(a, b, episodes)
        assert query.kind == "compare" and len(query.segments[0]) == len(query.segments[1])
        assert query.id == question(a, b, episodes).id != question(b, a, episodes).id
        at = [episodes[s.episode].info["position"][s.start] for s in query.segments]
        assert np.abs(at[0] - at[1]).max() <= RULES.joint
    assert "pour" in {q.context.rsplit(" ", 1)[-1] for q in (question(*p, episodes) for p in drawn)}
    other = episode(recover(write(tmp_path / "x.journal", list(ticks([("policy", 40)])), scene={"goal": (0.9, 0, 0)})))
    assert not {s.like for s in stretches(other, RULES)} & {s.like for s in found}


def test_a_segment_knows_where_in_the_journal_it_lies(tmp_path):
    path = tmp_path / "a.journal"
    one = made(path, [("homing", 7, ""), ("policy", 40, "")])
    (first, *_), found = stretches(one, RULES), recover(path)
    lies = origin(one, question(first, first, {"a": one}).segments[0])
    at = {t.offset: t.record for t in found.ticks}
    assert lies.journal == "a.journal" and at[lies.first].seq == 7 and at[lies.last].seq == 7 + 12
    assert lies.ends - lies.begins == pytest.approx(13 / RATE) and isinstance(at[lies.first], Tick)


def test_whoever_takes_over_says_that_theirs_is_better(tmp_path):
    one = made(tmp_path / "a.journal", [("policy", 40, "takeover"), ("human", 10, ""), ("policy", 30, "")])
    (done,) = takeovers(one, RULES)
    before, after = done.query.segments
    assert (before.start, before.stop, after.start, after.stop) == (30, 40, 40, 50)
    assert done.answer.value == Compare(0.0) and (done.answer.annotator, done.answer.source) == ("ann", "person")
    held = made(tmp_path / "b.journal", [("policy", 40, "takeover"), ("hold", 20, ""), ("human", 30, "")])
    (done,) = takeovers(held, RULES)
    assert [(s.start, s.stop) for s in done.query.segments] == [(25, 40), (60, 75)]
    assert done.answer.annotator == UNNAMED
    for parts in (
        [("policy", 40, ""), ("hold", round(HELD * RATE) + 1, ""), ("human", 30, "")],  # held for too long
        [("policy", 40, "stop"), ("hold", 20, ""), ("human", 30, "")],  # it had been stopped
        [("policy", 40, ""), ("brake", 9, ""), ("human", 30, "")],
        [("human", 30, "")],
        [("policy", LEAST - 1, ""), ("human", 30, "")],
        [("policy", 40, "clip"), ("human", 30, "")],
    ):
        assert takeovers(made(tmp_path / f"{len(list(tmp_path.iterdir()))}.journal", parts), RULES) == []


def test_an_estop_says_after_which_step(tmp_path):
    rules = Rules(seconds=0.6, reaction=0.1)  # five steps of fifty a second
    one = made(tmp_path / "a.journal", [("policy", 60, "estop"), ("brake", 10, "")])
    (done,) = stops(one, rules)
    (whole,) = done.query.segments
    assert (done.query.kind, whole.start, whole.stop, done.at) == ("stop", 30, 60, 59)
    assert done.answer.value == Stop(24) and done.answer.annotator == "ann"
    short = made(tmp_path / "b.journal", [("policy", 8, "estop"), ("brake", 10, "")])
    assert stops(short, rules)[0].answer.value == Stop(2)
    for k, parts in enumerate(
        [
            [("policy", 60, "stop"), ("brake", 9, "")],
            [("policy", 60, "fault"), ("brake", 9, "")],
            [("human", 60, "estop"), ("brake", 9, "")],
            [("policy", 5, "estop"), ("brake", 9, "")],  # sooner than anybody can have seen why
        ]
    ):
        assert stops(made(tmp_path / f"n{k}.journal", parts), rules) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(SOURCE, st.integers(1, 40), ENDING), min_size=1, max_size=7))
def test_what_was_done_fits_its_question_and_is_one_source_each(tmp_path_factory, parts):
    from embodied.records import check_answer

    one = made(tmp_path_factory.mktemp("j") / "a.journal", parts)
    for done in (*takeovers(one, RULES), *stops(one, RULES)):
        check_answer(done.answer, done.query)
        for s in done.query.segments:
            assert len(set(one.info["source"][s.start : s.stop].tolist())) == 1
            assert not one.info["stopped"][s.start : s.stop - (done.query.kind == "stop")].any()


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"clipped": 2}, {"age": float("nan")}, {"reaction": -1}])
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rules(**wrong)
