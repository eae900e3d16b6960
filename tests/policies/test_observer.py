"""A robot makes the main job's observation as its environment made it; what does not fit is refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from embodied.contract import Contract, ContractError, Joint, Source
from envs.arm import HORIZON, CupArms
from envs.arm_control import DT
from policies.observer import Part, Raw, asked, check, from_json, observe, plain, to_json
from rapport.cup.handover import PARTS, agreed, cartesian

AGREED, STEP = agreed("nothing yet"), cartesian()


def raw(envs, i, t, last):
    layouts = envs._layouts
    scene = {"goal": layouts.goal[i], "laptop": layouts.laptop[i]}
    return Raw(envs.qpos[i], envs._qd[i], scene, t * DT, last[i])


def test_it_is_the_observation_of_the_environment_over_an_episode():
    envs = CupArms(3, seed=2)
    obs, _ = envs.reset(seed=2)
    rng, last = np.random.default_rng(0), np.zeros((3, 5))
    for t in range(HORIZON):
        made = np.stack([observe(PARTS, AGREED, raw(envs, i, t, last), STEP) for i in range(3)])
        np.testing.assert_allclose(made, obs, atol=2e-6, rtol=0)
        last = rng.uniform(-1, 1, (3, 5))
        obs, *_ = envs.step(last)


def test_the_parts_are_the_same_after_a_file():
    assert from_json(to_json(PARTS)) == PARTS
    check(PARTS, AGREED, STEP)


def test_a_robot_is_asked_for_what_it_can_have():
    told = asked(PARTS, AGREED)
    assert [(s.name, s.size, s.unit, s.origin) for s in told.observation] == [
        ("joint angles", 7, "rad", "joint"),
        ("joint velocities", 7, "rad/s", "joint"),
        ("goal", 3, "m", "scene"),
        ("laptop", 2, "m", "scene"),
        ("time since the start", 1, "s", "clock"),
    ]


def test_an_arm_without_velocities_is_enough_for_who_does_not_look_at_them():
    sees = (Source("goal - tool", 3, "m", "scene"), Source("joint angles", 7, "rad", "joint"))
    still = replace(AGREED, observation=sees, mean=(0.0,) * 10, std=(1.0,) * 10)
    parts = (Part("to", scene="goal"), Part("joints"))
    assert [s.name for s in asked(parts, still).observation] == ["joint angles", "goal", "time since the start"]
    has = Raw(np.zeros(7), np.full(7, np.nan), {"goal": np.zeros(3)}, 0.0, np.zeros(5))
    assert np.isfinite(observe(parts, still, has, STEP)).all()
    with pytest.raises(ValueError, match="velocities are"):
        observe((parts[0], Part("velocities")), still, has, STEP)


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(ValueError, match=r"joints are .*'goal'.*3 numbers.*'laptop'.*2 numbers"):
        observe(PARTS, AGREED, Raw(np.full(7, np.nan), np.zeros(7), {"goal": np.zeros(2)}, 0.0, np.zeros(5)), STEP)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (PARTS[:-1], "7 parts for 8 sources"),
        ((Part("action"), *PARTS[1:]), "comes from joint, and its part from action"),
        ((*PARTS[:5], Part("pointing"), *PARTS[6:]), "has 7 numbers, and pointing 3"),
    ],
)
def test_parts_of_another_contract(parts, says):
    with pytest.raises(ContractError, match=says):
        check(parts, AGREED, STEP)


@pytest.mark.parametrize(
    "odd",
    [
        {"of": "smell"},
        {"of": "joints", "scale": np.nan},
        {"of": "joints", "scene": "goal"},
        {"of": "to"},
        {"of": "joints", "seconds": 1.0},
        {"of": "clock", "seconds": -1.0},
    ],
)
def test_a_part_that_cannot_be(odd):
    with pytest.raises(ContractError):
        Part(**odd)


def test_a_policy_of_plain_sources():
    sources = (
        Source("q", 2, "rad", "joint"),
        Source("dq", 2, "rad/s", "joint"),
        Source("goal", 3, "m", "scene"),
        Source("t", 1, "s", "clock"),
        Source("last", 2, "rad", "action"),
    )
    joints = (Joint("a", -1, 1), Joint("b", -1, 1))
    made = Contract("x", joints, 20.0, "joint_position", sources, (0.0,) * 10, (1.0,) * 10, (), "nothing")
    saw = observe(
        plain(made), made, Raw(np.array([1, 2]), np.array([3, 4]), {"goal": np.array([5, 6, 7])}, 8, np.array([9, 10]))
    )
    assert saw.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    odd = replace(made, observation=(*sources[:3], Source("share", 1, "1", "clock"), sources[4]))
    with pytest.raises(ContractError, match=r"'share' \(clock, 1\)"):
        plain(odd)
