"""The laws of the envelope, for any action, any clock and any reading."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import braking
from hardware.arm import Refused
from hardware.envelope import CUTS, REJECTS, begin, brake, envelope
from hardware.limits import Limits
from policies.chain import Chain
from tests.hardware.small_arm import BENT, SMALL, later, limits, reading, with_tool

TICK = 10_000_000  # ns, nominal


class Rude:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")


TRASH = [
    None, ["1"] * 6, [None] * 6, [1.0] * 5, [[1.0] * 6], 3.0, {}, {1: 2}, Rude(), [Rude()] * 6, [1j] * 6, b"123456",
    [True] * 6, [float("nan")] * 6, [0, 0, 0, 0, 0, float("inf")], [-float("inf")] * 6, [10**400] * 6, np.zeros((6, 0)),
    [[1], [1, 2]], np.array(["nan"] * 6), lambda: 0, ..., np.zeros(6, "M8[s]"), np.zeros(6, [("a", float)]),
]  # fmt: skip
numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)
actions = st.one_of(
    st.sampled_from(range(len(TRASH))).map(TRASH.__getitem__),
    st.lists(numbers, min_size=5, max_size=7),
    st.lists(st.floats(-2.5, 2.5), min_size=6, max_size=6),
    st.lists(st.floats(-0.02, 0.02), min_size=6, max_size=6).map(lambda step: BENT + step),
)
pauses = st.one_of(st.just(TICK), st.integers(-TICK, 3 * TICK), st.sampled_from([0, 1, 10**12, -(10**12)]))


def laws(lim, old, new, command, now_ns):
    """One tick's: positions, speeds, changes of speed, with the tick's length as it counts."""
    dt = min(max((now_ns - old.now_ns) * 1e-9, 0.2 / lim.rate), 2 / lim.rate)
    assert command.dtype == np.float64 and command.shape == old.command.shape and np.isfinite(command).all()
    assert (command >= lim.lower).all() and (command <= lim.upper).all()
    velocity = (command - old.command) / dt
    assert (np.abs(velocity) <= lim.velocity + 2e-9).all()
    assert (np.abs(velocity - old.velocity) <= lim.acceleration * dt + 1e-8).all()
    np.testing.assert_allclose(velocity, new.velocity, atol=1e-12)
    assert new.now_ns == now_ns
    return dt


def tool_laws(lim, start, stop, dt):
    """Of the way between two commands, by the chain itself at many points of it."""
    way = start[:5] + np.linspace(0, 1, 9)[:, None] * (stop - start)[:5]
    point, _, jacobian = lim.chain.frames(way)
    if lim.box is not None:
        assert (point >= lim.box[0] - 1e-8).all() and (point <= lim.box[1] + 1e-8).all()
    speed = np.linalg.norm(jacobian[:, :3] @ ((stop - start)[:5] / dt), axis=-1)
    assert speed.max() <= lim.tool_speed + 1e-7


def stops(lim, memory, rng):
    """From here, at whatever ticks, the arm can be braked, within every limit."""
    ticks = rng.choice([0.2, 1, 2, rng.uniform(0.2, 2)], 10_000) / lim.rate * 1e9
    for length in ticks:
        old, now_ns = memory, memory.now_ns + int(length)
        memory, command = brake(lim, old, now_ns)
        dt = laws(lim, old, memory, command, now_ns)
        if lim.chain is not None:
            tool_laws(lim, old.command, command, dt)
        if memory.at_rest:
            return
    raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("made", [limits, with_tool], ids=["joints", "tool"])
@given(st.lists(st.tuples(actions, pauses), max_size=60), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_whatever_is_asked_every_command_is_within_the_limits_and_can_be_stopped(made, asked, seed):
    lim, rng, state, now_ns = made(), np.random.default_rng(seed), reading(BENT), 0
    memory = begin(lim, state, now_ns)
    for action, pause in asked:
        old, now_ns = memory, now_ns + pause
        state = later(state, memory.command, now_ns)
        memory, command, verdict = envelope(lim, old, action, state, now_ns)
        dt = laws(lim, old, memory, command, now_ns)
        if lim.chain is not None:
            tool_laws(lim, old.command, command, dt)
        if verdict.word == "ok":
            assert (command == np.asarray(action)).all()
        if verdict.word == "rejected":
            np.testing.assert_allclose(memory.velocity, braking.braked(lim, old.velocity, dt), atol=1e-9)
        assert (verdict.word == "clipped") <= any(verdict.kinds)
        assert bool(verdict.stop) <= (verdict.word == "rejected")
    stops(lim, memory, rng)


@pytest.mark.parametrize("made", [limits, with_tool], ids=["joints", "tool"])
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_an_arm_at_its_limits_and_at_full_speed_can_be_stopped_too(made, seed):
    """Long pushes towards corners of what is allowed: the states that random actions seldom reach."""
    rng = np.random.default_rng(seed)
    lim = made(**({"tool_speed": float(rng.uniform(0.1, 1.5))} if made is with_tool else {}))
    memory, now_ns = replace(begin(lim, reading(BENT), 0), first=False), 0
    for _ in range(6):
        goal = rng.uniform(-3, 3, 6)
        for _ in range(rng.integers(1, 60)):
            old, now_ns = memory, now_ns + int(rng.choice([TICK, TICK // 5, 2 * TICK, rng.integers(0, 3 * TICK)]))
            memory, command, verdict = envelope(
                lim, old, goal, later(reading(old.command), old.command, now_ns), now_ns
            )
            memory = replace(memory, often=0)  # here it may be cut for as long as it likes
            dt = laws(lim, old, memory, command, now_ns)
            assert verdict.stop is None
            if lim.chain is not None:
                tool_laws(lim, old.command, command, dt)
        stops(lim, memory, rng)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_any_arm_at_any_rate_is_kept(seed):
    rng = np.random.default_rng(seed)
    n, rate = int(rng.integers(5, 8)), float(rng.choice([50, 100, 125, 500]))
    axes = rng.normal(size=(5, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    chain = Chain(tuple(map(tuple, rng.normal(0, 0.2, (5, 3)))), tuple(map(tuple, axes)), tuple(rng.normal(0, 0.2, 3)))
    start = rng.uniform(-1, 1, n)
    corners = chain.point(start[:5]) + rng.uniform(0.001, 0.3, 3) * np.array([[-1], [1]])
    lim = Limits(
        names=tuple("abcdefg"[:n]),
        lower=start - rng.uniform(0.01, 2, n),
        upper=start + rng.uniform(0.01, 2, n),
        velocity=rng.uniform(0.1, 8, n),
        acceleration=rng.uniform(0.5, 80, n),
        tracking=np.full(n, 0.5),
        start=np.full(n, 0.5),
        rate=rate,
        chain=chain,
        tool_speed=float(rng.uniform(0.05, 2)),
        box=corners,
    )
    memory, now_ns = replace(begin(lim, reading(start), 0), first=False), 0
    for _ in range(8):
        goal = start + rng.uniform(-3, 3, n)
        for _ in range(rng.integers(1, 80)):
            old, now_ns = memory, now_ns + int(rng.uniform(0, 2.5) / rate * 1e9)
            goal = goal + rng.normal(0, rng.choice([0.0, 0.1]), n)
            memory, command, verdict = envelope(
                lim, old, goal, later(reading(old.command), old.command, now_ns), now_ns
            )
            memory = replace(memory, often=0)
            assert verdict.stop is None
            tool_laws(lim, old.command, command, laws(lim, old, memory, command, now_ns))
        stops(lim, memory, rng)


def follow(lim, path, measured=None):
    """Verdicts and commands of a path asked at nominal ticks; the arm is where it was told to be."""
    memory, found = begin(lim, reading(path[0]), 0), []
    for k, action in enumerate(path, start=1):
        at = memory.command if measured is None else measured(k, memory.command)
        memory, command, verdict = envelope(lim, memory, action, later(reading(at), at, k * TICK), k * TICK)
        found.append((command, verdict))
    return found


def smooth(ticks, size=0.15):
    """From rest to rest and back, well inside the limits."""
    return BENT + size * (1 - np.cos(np.linspace(0, 4 * np.pi, ticks)))[:, None] * np.array([0.5, -0.3, 0.4, 0.2, 1, 1])


@pytest.mark.parametrize("lim", [limits(), with_tool(tool_speed=0.5)], ids=["joints", "tool"])
def test_what_is_safe_passes_to_the_last_bit(lim):
    for action, (command, verdict) in zip(path := smooth(400), follow(lim, path), strict=True):
        assert (command == action).all() and verdict.word == "ok" and verdict.stop is None


def test_a_limit_can_be_reached_exactly_and_is_left_again():
    lim = limits()
    path = np.concatenate(
        [np.linspace(BENT, lim.upper, 300), np.tile(lim.upper, (20, 1)), np.linspace(lim.upper, BENT, 300)]
    )
    found = follow(lim, path)
    assert (found[319][0] == lim.upper).all() and found[319][1].word == "ok"
    np.testing.assert_allclose(found[-1][0], BENT, atol=1e-3)


def test_single_precision_and_whole_numbers_are_numbers():
    lim = limits()
    memory = replace(begin(lim, reading(np.zeros(6)), 0), first=False)
    for action in (np.zeros(6, np.float32), [0] * 6, np.zeros(6, np.int8), np.full(6, 5e-324)):
        assert envelope(lim, memory, action, reading(np.zeros(6)), TICK)[2].word == "ok"


def test_the_first_command_is_where_the_arm_is_and_a_far_first_action_stops_it():
    lim, state = limits(), reading(BENT)
    near, far = BENT + 0.09, BENT + np.array([0, 0, 0.2, 0, 0, 0])
    _, command, verdict = envelope(lim, begin(lim, state, 0), near, state, TICK)
    assert (command == BENT).all() and verdict.word == "clipped" and verdict.kinds[0] == ("start",)
    _, command, verdict = envelope(lim, begin(lim, state, 0), far, state, TICK)
    assert (command == BENT).all() and "the first action has joint 'joint 2' at 1.6 rad" in verdict.stop
    ramp = [command for command, _ in follow(lim, np.concatenate([[BENT], np.tile(near, (40, 1))]))]
    assert (ramp[-1] == near).all() and np.abs(np.diff(ramp, axis=0)).max() < 0.02


def test_an_arm_that_cannot_be_is_not_begun():
    with pytest.raises(Refused, match=r"joint 'joint 1' is at 2.5 rad, beyond its limit"):
        begin(limits(), reading([0, 2.5, 0, 0, 0, 0]), 0)
    with pytest.raises(Refused, match="what the arm measured is"):
        begin(limits(), reading([0, np.nan, 0, 0, 0, 0]), 0)
    with pytest.raises(Refused, match="outside its box; move the arm by hand"):
        begin(with_tool(), reading([0, 0, 0, 0, 0, 0]), 0)
    just_beyond = limits().upper + 0.05
    assert (begin(limits(), reading(just_beyond), 0).command == limits().upper).all()


def test_rejects_in_a_row_stop_and_others_do_not():
    lim, memory, state = limits(), begin(limits(), reading(BENT), 0), reading(BENT)
    memory, _, _ = envelope(lim, memory, BENT, state, 0)
    for k, action in enumerate([None, [np.nan] * 6, BENT, None, "x"], start=1):
        memory, command, verdict = envelope(lim, memory, action, state, k * TICK)
        assert verdict.stop is None and (command == BENT).all()
    assert verdict.word == "rejected" and "give floating-point numbers" in verdict.why
    assert f"{REJECTS} actions in a row" in envelope(lim, memory, None, state, 6 * TICK)[2].stop


def test_a_policy_that_is_cut_too_often_is_stopped():
    lim, memory, state = limits(), replace(begin(limits(), reading(BENT), 0), first=False), reading(BENT)
    for k in range(1, 201):
        state = later(state, memory.command, k * TICK)
        memory, _, verdict = envelope(lim, memory, BENT + (-1) ** k * 0.5, state, k * TICK)
        if verdict.stop:
            break
    assert k == round(CUTS * 100) + 102 and "more than 20% of the actions were cut" in verdict.stop


def test_an_arm_that_does_not_follow_is_stopped_after_its_time_not_before():
    lim = limits()
    path = BENT + np.linspace(0, 0.6, 80)[:, None] * np.array([1, 0, 0, 0, 0, 0])
    path = np.concatenate([[BENT] * 2, BENT + (path - BENT) ** 2 / 0.6])
    found = follow(lim, path, measured=lambda k, command: BENT)
    told = [k for k, (_, verdict) in enumerate(found) if verdict.stop]
    first = next(k for k, (command, _) in enumerate(found) if command[0] - BENT[0] > 0.2)
    assert told[0] == first + 7 and "'joint 0' has been 0.2" in found[told[0]][1].stop  # seen, then 50 ms and more
    braked = np.diff([command[0] for command, _ in found[told[0] - 1 :]])
    assert (np.diff(braked) <= 1e-15).all()


@pytest.mark.parametrize("wrong", [[np.nan] * 6, [0.0] * 5, [np.inf] * 6])
def test_a_reading_that_is_none_stops(wrong):
    lim, memory = limits(), begin(limits(), reading(BENT), 0)
    memory, command, verdict = envelope(lim, memory, BENT, replace(reading(BENT), position=np.array(wrong)), TICK)
    assert "what the arm measured" in verdict.stop and (command == BENT).all()


def test_a_leap_of_what_is_measured_stops_in_the_same_tick():
    lim, memory = limits(), begin(limits(), reading(BENT), 0)
    leapt = later(reading(BENT), BENT + np.array([0, 0, 0, 0.15, 0, 0]), TICK)
    _, command, verdict = envelope(lim, memory, BENT, leapt, TICK)
    assert "'joint 3' was measured 0.15 rad away 0.01 s later" in verdict.stop and (command == BENT).all()
    moved = later(reading(BENT), BENT + 0.02, TICK)
    assert envelope(lim, memory, BENT, moved, TICK)[2].stop is None


def test_a_joint_that_was_cut_catches_up_without_overshoot_and_goes_along():
    lim = limits(1)
    path = np.concatenate([np.zeros(5), np.arange(1, 100) * 0.01])[:, None]  # at once 1 rad/s
    found = follow(lim, path)
    behind = path[:, 0] - np.array([command[0] for command, _ in found])
    assert (behind >= -1e-12).all() and behind.max() < 0.06
    assert sum(verdict.word == "clipped" for _, verdict in found) < 25
    assert (behind[40:] == 0).all()


def test_a_tool_at_rest_near_its_wall_gets_away_and_does_not_get_through():
    lim = with_tool(box=[[-0.3, -0.3, 0.02], [0.3, 0.3, SMALL.point(BENT[:5])[2] + 0.002]])
    up, down = BENT + np.array([0, 0, -0.09, 0, 0, 0]), BENT + np.array([0, 0, 0.09, 0, 0, 0])
    memory, heights = replace(begin(lim, reading(BENT), 0), first=False), []
    for k, action in enumerate([up] * 60 + [down] * 60, start=1):
        state = later(reading(memory.command), memory.command, k * TICK)
        memory, command, verdict = envelope(lim, replace(memory, often=0), action, state, k * TICK)
        heights.append(SMALL.point(command[:5])[2])
        assert verdict.stop is None
    assert max(heights) <= lim.box[1, 2] and heights[59] > lim.box[1, 2] - 0.001
    assert (command == down).all()
