"""The simulated arm under a virtual clock: the same numbers on every run, and no second waited for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.arm import BusLost, NoAnswer, Refused
from hardware.arms.twin import Link, Twin, chain
from hardware.clock import VirtualClock

LINKS = [
    Link("pan", (0, 0, 1), (0, 0, 0.1)),
    Link("lift", (0, 1, 0), (0.2, 0, 0.05)),
    Link("elbow", (0, 1, 0), (0.2, 0, 0)),
]
NAMES = ("pan", "lift", "elbow")


def a_twin(**more) -> tuple[Twin, VirtualClock]:
    clock = VirtualClock()
    twin = Twin(LINKS, clock=clock, **more)
    twin.open()
    return twin, clock


def ticks(twin: Twin, clock: VirtualClock, target, n: int) -> None:
    for _ in range(n):
        twin.write(target)
        clock.sleep_until(clock.now_ns() + 10_000_000)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-2.5, 2.5), min_size=3, max_size=3), st.floats(0.3, 3.0))
def test_it_gets_there_no_faster_than_it_may_and_holds_against_gravity(target, speed):
    twin, clock = a_twin(speed=speed)
    twin.enable()
    fastest = 0.0
    for _ in range(round(2.5 / speed * 100) + 60):
        ticks(twin, clock, target, 1)
        fastest = max(fastest, np.abs(twin.read().velocity).max())
    assert fastest <= speed * 1.05
    np.testing.assert_allclose(twin.read().position, target, atol=2e-3)


def test_the_same_orders_give_the_same_bits():
    ends = []
    for _ in range(2):
        twin, clock = a_twin()
        twin.enable()
        ticks(twin, clock, [0.5, -0.4, 1.0], 37)
        ends.append(twin.read().position)
    np.testing.assert_array_equal(*ends)


def test_opening_powers_nothing_and_without_power_it_falls():
    twin, clock = a_twin()
    assert not twin.read().powered.any()
    clock.sleep_until(400_000_000)
    state = twin.read()
    assert abs(state.position[1]) > 0.1 and (state.effort == 0).all()


def test_enabling_makes_where_it_is_the_goal():
    twin, clock = a_twin(start=[0.3, -0.2, 0.1])
    twin.enable()
    clock.sleep_until(500_000_000)
    np.testing.assert_allclose(twin.read().position, [0.3, -0.2, 0.1], atol=1e-6)
    assert twin.read().powered.all() and twin.spec.names == NAMES


def test_a_file_with_other_joints_and_its_own_actuators(tmp_path):
    file = tmp_path / "arm.xml"
    other = '<body pos="1 0 0"><freejoint/><geom size="0.01" mass="1"/></body></worldbody>'
    motors = '<actuator><motor joint="lift" gear="100" ctrlrange="-1 1"/></actuator></mujoco>'
    file.write_text(chain(LINKS).replace("</worldbody>", other).replace("</mujoco>", motors))
    twin = Twin(file, joints=["elbow", "pan"], clock=(clock := VirtualClock()))
    twin.open()
    twin.enable()
    assert twin.spec.names == ("elbow", "pan")
    ticks(twin, clock, [0.4, -0.3], 100)
    np.testing.assert_allclose(twin.read().position, [0.4, -0.3], atol=0.02)  # lift is limp, and pulls at both


@pytest.mark.parametrize("category", [0, 1, 2])
def test_stops(category):
    twin, clock = a_twin()
    twin.enable()
    ticks(twin, clock, [1.0, 1.0, 1.0], 10)
    report = twin.stop(category)
    assert report.seconds <= 0.1 and set(report.done) | set(report.unsure) == set(NAMES)
    assert twin.read().powered.all() == (category == 2)
    clock.sleep_until(clock.now_ns() + 200_000_000)
    if category == 2:
        assert np.abs(twin.read().velocity).max() < 1e-3 and twin.read().position[0] < 0.7
        assert twin.stop(2).done == NAMES
    else:
        assert twin.stop(category).done == NAMES


def test_a_silent_joint_is_named_and_the_others_still_stop():
    twin, _ = a_twin()
    twin.enable()
    twin.silence("lift")
    for call in (twin.read, lambda: twin.write(np.zeros(3)), twin.enable):
        with pytest.raises(NoAnswer, match="lift did not answer") as caught:
            call()
        assert caught.value.joints == ("lift",)
    report = twin.stop(0)
    assert report.done == ("pan", "elbow") and report.unsure == ("lift",)
    twin.silence()
    np.testing.assert_array_equal(twin.read().powered, [False, True, False])


def test_a_pulled_cable_is_lost_until_it_is_opened_again():
    twin, _ = a_twin()
    twin.pull()
    with pytest.raises(BusLost):
        twin.read()
    with pytest.raises(BusLost, match="cable is out"):
        twin.open()
    assert twin.stop(0).unsure == NAMES
    twin.pull(False)
    with pytest.raises(BusLost, match="close and open"):
        twin.read()
    twin.open()
    twin.read()


def test_a_frozen_twin_repeats_itself():
    twin, clock = a_twin()
    twin.freeze()
    first = twin.read()
    clock.sleep_until(clock.now_ns() + 100_000_000)
    assert twin.read().seq == first.seq and twin.read().time_ns == first.time_ns
    twin.freeze(False)
    assert twin.read().seq > first.seq


def test_a_locked_joint_and_an_encoder_that_jumps():
    twin, clock = a_twin()
    twin.enable()
    twin.lock("pan")
    ticks(twin, clock, [0.5, 0.2, 0.2], 60)
    assert twin.read().position[0] == 0 and twin.read().position[1] == pytest.approx(0.2, abs=0.01)
    twin.lock()
    twin.jump("pan", 0.4)
    assert twin.read().position[0] - twin.position[0] == pytest.approx(0.4)
    with pytest.raises(ValueError, match="has no joint 'wrist'; it has pan, lift, elbow"):
        twin.lock("wrist")


def test_an_estop_takes_the_power_and_refuses_until_it_is_cleared():
    twin, _ = a_twin()
    twin.enable()
    twin.report("estop")
    assert twin.read().faults == ("estop",) and not twin.read().powered.any()
    with pytest.raises(Refused, match="estop"):
        twin.enable()
    twin.report()
    twin.enable()


@pytest.mark.parametrize("bad", [[0.0] * 2, [0, 0, np.nan], "go"])
def test_what_is_no_target_is_not_sent(bad):
    twin, _ = a_twin()
    with pytest.raises(ValueError, match="position is"):
        twin.write(bad)
    assert not twin.told


def test_models_that_cannot_be_one():
    with pytest.raises(ValueError, match="neither may be zero"):
        Twin([Link("a", (0, 0, 0), (0, 0, 1))])
    with pytest.raises(ValueError, match="no hinge or slide 'b'; it has pan"):
        Twin(LINKS, joints=["b"])
