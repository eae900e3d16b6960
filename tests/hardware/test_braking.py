"""How far a joint still goes, and what is demanded of a step so that every stop after it is within the limits."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import braking
from hardware.envelope import begin, envelope
from tests.hardware.small_arm import SMALL, limits, reading, with_tool

TICK = 10_000_000  # ns, nominal


@given(st.integers(0, 2**32 - 1))
def test_a_tick_of_braking_is_allowed_whatever_its_length_and_the_longest_way_is_that_of_the_shortest_ticks(seed):
    rng = np.random.default_rng(seed)
    lim = limits(2)
    shortest, speed, reached = 0.2 / lim.rate, rng.uniform(0, 3, 2), np.zeros(2)
    way = braking.way(speed, lim.acceleration, shortest)
    exact, u = np.zeros(2), speed
    while u.any():
        u = braking.braked(lim, u, shortest)
        exact += u * shortest
    np.testing.assert_allclose(way, exact, atol=1e-12)
    while speed.any():
        dt = rng.uniform(0.2, 2) / lim.rate
        speed = braking.braked(lim, speed, dt)
        reached += speed * dt
        assert (reached + braking.way(speed, lim.acceleration, shortest) <= way + 1e-12).all()


@given(st.floats(0, 3), st.floats(0.5, 100), st.floats(0.2, 2))
def test_room_is_the_greatest_speed_whose_way_fits(gap, acceleration, share):
    shortest, dt = 0.002, share * 0.01
    speed = braking.room(np.array(gap), np.array(acceleration), dt, shortest)
    assert speed * dt + braking.way(speed, acceleration, shortest) <= gap + 1e-12
    more = speed * (1 + 1e-6) + 1e-9
    assert more * dt + braking.way(more, acceleration, shortest) > gap - 1e-12


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_nothing_a_stop_can_do_is_beyond_what_is_demanded_of_a_step(seed):
    """Of all places in the cuboid, and all moments of braking: where the tool is furthest and fastest, limits that are
    ever so little tighter are not kept."""
    rng = np.random.default_rng(seed)
    lim, command, velocity = (
        with_tool(box=None),
        rng.uniform(-1.5, 1.5, 6),
        rng.uniform(-3, 3, 6) * rng.choice([1, 0.01]),
    )
    ahead = velocity * 0.01 + np.sign(velocity) * braking.way(np.abs(velocity), lim.acceleration, 0.002)
    corners = np.array(np.meshgrid(*[[0, 1]] * 5)).reshape(5, -1).T
    shares = np.concatenate([corners, rng.uniform(0, 1, (200, 5))])
    point, _, jacobian = SMALL.frames(command[:5] + shares * ahead[:5])
    moments = np.concatenate([np.linspace(0, 0.3, 50), np.abs(velocity) / lim.acceleration])
    left = np.array([braking.braked(lim, velocity, t)[:5] for t in moments])
    fastest = np.linalg.norm(left @ jacobian[:, :3].swapaxes(-1, -2), axis=-1).max()
    low, high = point.min(axis=0), point.max(axis=0)
    if fastest < 2:
        tight = with_tool(box=None, tool_speed=fastest * (1 - 1e-6))
        assert not braking.tool_keeps(tight, command, velocity[None], 0.01)[0][0]
    for axis in range(3):
        for side, sign, edge in ((0, 1, low), (1, -1, high)):
            box = np.array([[-9.0] * 3, [9.0] * 3])
            box[side, axis] = edge[axis] + sign * 1e-6
            assert not braking.tool_keeps(with_tool(box=box), command, velocity[None], 0.01)[1][0]


@given(st.integers(0, 2**32 - 1))
def test_a_state_that_should_not_be_is_braked_and_leaves_no_position_limit(seed):
    """Faster than can be stopped, as after limits were made narrower in the middle of a motion."""
    rng = np.random.default_rng(seed)
    lim = limits()
    command = np.where(rng.random(6) < 0.5, lim.upper, lim.lower) * rng.uniform(0.95, 1.0, 6)
    memory = replace(begin(lim, reading(command), 0), first=False, velocity=rng.uniform(-5, 5, 6))
    low, high = braking.interval(lim, command, memory.velocity, 0.01)
    hard = braking.braked(lim, memory.velocity, 0.01)
    assert ((low <= hard) & (hard <= high)).all()
    for k in range(1, 80):
        memory, command, _ = envelope(lim, memory, rng.uniform(-9, 9, 6), reading(command), k * TICK)
        assert ((command >= lim.lower) & (command <= lim.upper)).all()
