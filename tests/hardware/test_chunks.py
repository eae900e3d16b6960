"""A path of chunks: no seam, no speed beyond the joints', nothing of the past, and nothing that is no chunk."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import envelope
from hardware.chunks import ROUND_NS, Chunk, ChunkError, Following, accept, begin, hand_over, handed, straight, target
from tests.hardware.small_arm import BENT, later, limits, reading
from tests.hardware.test_envelope import TRASH

MS = 1_000_000
TICK = 10 * MS
HOW = Following(velocity=(2.0, 2.5, 3.0))


def chunk_of(function, seq=0, obs_seq=0, at=0, dt=50 * MS, steps=20):
    times = at + dt * np.arange(steps)
    return Chunk("lease", seq, obs_seq, at, dt, np.array([function(t / 1e9) for t in times], dtype=np.float64))


def line(t):
    return np.array([0.4, -0.2, 0.1]) * t


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_no_seam_and_no_delay_makes_a_joint_leap(seed):
    """Chunks of noise, at any rate and age, some of them late, some of them in the middle of another's blend."""
    rng = np.random.default_rng(seed)
    path, now, last = begin(rng.uniform(-1, 1, 3), 0), 0, None
    observed = {}
    for k in range(150):
        now += int(rng.integers(2 * MS, 20 * MS))
        observed[k] = now
        before = target(HOW, path, now)[0]
        if rng.random() < 0.2:
            age = int(rng.integers(0, min(k + 1, 20)))
            dt, steps = int(rng.integers(20 * MS, 100 * MS)), int(rng.integers(1, 30))
            walk = rng.uniform(-1.5, 1.5, 3) + np.cumsum(rng.normal(0, rng.choice([0.02, 0.5]), (steps, 3)), axis=0)
            try:
                path = accept(HOW, path, Chunk("a", k, k - age, observed[k - age], dt, walk), observed, now)
            except ChunkError as error:
                assert "are past" in str(error)
        np.testing.assert_allclose(target(HOW, path, now)[0], before, atol=1e-9)
        if last is not None:
            moved = np.abs(before - last[0]) / ((now - last[1]) / 1e9)
            assert (moved <= np.array(HOW.velocity) + 1e-6).all()
        last = (before, now)
        assert (np.diff(path.times_ns) > 0).all() and np.isfinite(path.points).all()


def test_late_chunks_of_one_motion_are_that_motion():
    """Each 130 ms late and overlapping the last: what is past is dropped, and the rest is where it belongs."""
    observed, path, off = {}, begin(line(0.0), 0), []
    for k in range(1, 300):
        now = k * TICK
        observed[k] = now
        if k % 20 == 14:
            path = accept(HOW, path, chunk_of(line, seq=k, obs_seq=k - 13, at=(k - 13) * TICK), observed, now)
        asked, starved = target(HOW, path, now)
        off.append(np.abs(asked - line(now / 1e9)).max())
        assert not starved
    assert max(off[40:]) < 1e-9


def test_between_steps_it_is_straight_and_corners_are_rounded_within_what_was_said():
    corner = chunk_of(lambda t: [abs(t - 0.5), 0, 0], steps=21)
    path = accept(HOW, begin(np.array([0.5, 0, 0]), 0), corner, {0: 0}, 0)
    times = range(300 * MS, 900 * MS, MS)
    asked = np.array([target(HOW, path, t)[0][0] for t in times])
    exact = np.abs(np.array(times) / 1e9 - 0.5)
    near = np.abs(np.array(times) - 500 * MS) < ROUND_NS // 2
    np.testing.assert_allclose(asked[~near], exact[~near], atol=1e-9)
    assert (asked >= 0).all() and asked.min() == pytest.approx(ROUND_NS / 1e9 / 4)
    assert np.abs(np.diff(asked, 2)).max() < 2 * 1e-3 * 1.01 * (1e-3 / (ROUND_NS / 1e9))


def test_a_leap_of_the_policy_takes_the_time_that_the_joints_need():
    leap = chunk_of(lambda t: [0.0 if t < 0.4 else 1.0, 0, 0], steps=10)
    path = accept(HOW, begin(np.zeros(3), 0), leap, {0: 0}, 0)
    asked = np.array([target(HOW, path, k * TICK)[0][0] for k in range(150)])
    assert np.diff(asked).max() <= 2.0 * 0.01 + 1e-9 and asked[-1] == pytest.approx(1.0)
    assert path.end_ns == pytest.approx(450 * MS + (500 - 50) * MS, abs=10)


def test_it_stays_at_the_end_and_is_starved_after_its_time():
    path = accept(HOW, begin(line(0.0), 0), chunk_of(line, steps=5), {0: 0}, 0)
    assert path.end_ns == 200 * MS
    for now, starved in ((200 * MS, False), (400 * MS, False), (400 * MS + 1, True), (10**12, True)):
        asked, told = target(HOW, path, now)
        assert told == starved
    np.testing.assert_allclose(asked, line(0.2), atol=1e-12)
    assert target(HOW, begin(line(0.0), 0), 201 * MS)[1]


GOOD = chunk_of(line, seq=3, obs_seq=7, at=40 * MS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seq": 2}, "chunk 2 comes after chunk 2; number them upwards"),
        ({"seq": 1}, "chunk 1 comes after chunk 2"),
        ({"seq": True}, "seq is True; send a whole number"),
        ({"seq": 2**80}, "send a whole number"),
        ({"obs_seq": 8}, "observation 8 was never sent"),
        ({"obs_time_ns": 41 * MS}, "observation 7 is of 40000000 ns, not of 41000000"),
        ({"obs_seq": 9, "obs_time_ns": 200 * MS}, "its observation is -100 ms old"),
        ({"dt_ns": 0}, "dt is 0 ms"),
        ({"dt_ns": -5}, "dt is -5e-06 ms"),
        ({"dt_ns": 50.0}, "dt_ns is 50.0; send a whole number"),
        ({"actions": np.full((4, 3), np.nan)}, "not finite"),
        ({"actions": np.full((4, 3), 1e9)}, "beyond 1000 rad"),
        ({"actions": np.zeros((4, 2))}, r"actions are float64 \(4, 2\); send floating-point numbers \[1 to 1000,3\]"),
        ({"actions": np.zeros((0, 3))}, "send floating-point"),
        ({"actions": np.zeros((1001, 3))}, "send floating-point"),
        ({"actions": np.zeros((4, 3), int)}, "actions are int64"),
        ({"actions": np.zeros((4, 3), "O")}, "actions are object"),
        ({"actions": GOOD.actions[:2]}, "all 2 steps of chunk 3 are past"),
    ],
)
def test_what_is_stale_repeated_or_no_chunk_is_refused(change, said):
    path = replace(begin(np.zeros(3), 0), seq=2)
    observed = {7: 40 * MS, 9: 200 * MS}
    accept(HOW, path, GOOD, observed, 100 * MS)
    with pytest.raises(ChunkError, match=said):
        accept(HOW, path, replace(GOOD, **change), observed, 100 * MS)


def test_an_old_observation_is_refused():
    with pytest.raises(ChunkError, match="its observation is 1001 ms old, and 0 to 1000 are followed"):
        accept(HOW, begin(np.zeros(3), 0), chunk_of(line, steps=100), {0: 0}, 1001 * MS)


@given(
    st.sampled_from(["seq", "obs_seq", "obs_time_ns", "dt_ns", "actions"]),
    st.one_of(st.sampled_from(range(len(TRASH))).map(TRASH.__getitem__), st.floats(), st.text(), st.binary()),
)
def test_whatever_a_chunk_is_made_of_nothing_but_a_chunk_error_comes_of_it(name, trash):
    with pytest.raises(ChunkError):
        accept(HOW, begin(np.zeros(3), 0), replace(GOOD, **{name: trash}), {7: 40 * MS}, 100 * MS)


def test_a_path_is_never_changed_by_what_comes_later():
    actions = GOOD.actions.copy()
    path = accept(HOW, begin(np.zeros(3), 0), replace(GOOD, actions=actions), {7: 40 * MS}, 100 * MS)
    before = straight(path, np.array([500 * MS]))
    actions[:] = 9.0
    assert (straight(path, np.array([500 * MS])) == before).all()


def test_a_policy_of_half_the_acceleration_is_hardly_cut_by_the_envelope():
    """20 Hz, chunks of one second renewed every 300 ms, 80 ms late; 100 Hz loop. This is what corners are rounded for:
    along straight lines the envelope cuts so many ticks that it stops the arm."""
    lim = limits()
    how, half = Following(velocity=tuple(lim.velocity)), 0.5 * lim.acceleration
    swing = 2 * np.pi * 0.8

    def policy(t):
        return BENT + half / swing**2 * (1 - np.cos(swing * t)) * np.array([0.5, 0.5, -0.5, 0.5, 1, 1])

    def play(asks):
        path, memory, observed, words = begin(BENT, 0), envelope.begin(lim, reading(BENT), 0), {}, []
        for k in range(1, 501):
            now = k * TICK
            observed[k] = now
            if k % 30 == 9:
                sent = chunk_of(policy, seq=k, obs_seq=k - 8, at=(k - 8) * TICK)
                path = accept(how, path, sent, observed, now)
            state = later(reading(memory.command), memory.command, now)
            memory, command, verdict = envelope.envelope(lim, memory, asks(how, path, now), state, now)
            words.append(verdict.word)
            if verdict.stop:
                break
        return words.count("clipped") / len(words), verdict.stop, np.abs(command - policy(now / 1e9)).max()

    share, stop, off = play(lambda how, path, now: target(how, path, now)[0])
    assert share < 0.03 and stop is None and off < 0.02
    share, stop, _ = play(lambda how, path, now: straight(path, np.array([now]))[0])
    assert share > 0.2 and "of the actions were cut" in stop


@given(st.integers(0, 2**32 - 1))
def test_a_hand_over_begins_where_the_arm_is_and_leaps_nowhere(seed):
    rng = np.random.default_rng(seed)
    command, wanted = rng.uniform(-2, 2, (2, 3))
    hand, last = hand_over(HOW, command, wanted, 0), command
    assert (handed(hand, wanted, 0) == command).all() and (handed(hand, wanted, -TICK) == command).all()
    for k in range(1, int(hand.seconds * 100) + 2):
        asked = handed(hand, wanted, k * TICK)
        assert (np.abs(asked - last) <= np.array(HOW.velocity) * 0.01 + 1e-12).all()
        last = asked
    assert (last == wanted).all()


def test_from_a_person_back_to_the_policy_begins_at_the_command_too():
    command = np.array([0.3, 0.2, 0.1])
    path = begin(command, 0)
    path = accept(HOW, path, chunk_of(line), {0: 0}, 0)
    np.testing.assert_allclose(target(HOW, path, 0)[0], command, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"velocity": ()}, {"velocity": (1.0, -1.0)}, {"blend": 0}, {"starve_ms": np.nan}])
def test_how_is_checked(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        replace(HOW, **wrong)
