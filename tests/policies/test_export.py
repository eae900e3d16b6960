"""An exported policy acts as the agent did, loads without torch, and is refused when anything about it is wrong."""

import json
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import safetensors.numpy

from embodied.contract import Contract, ContractError, Joint, Source
from envs.arm import CupArms
from policies.cartesian import Cartesian
from policies.export import CARTESIAN, WEIGHTS, export, load_policy
from policies.mlp import Layers, mean
from policies.sb3 import Sb3

LIMIT = 2 * np.pi
STEP = Cartesian(
    offsets=tuple((0.0, 0.0, z) for z in (0.12, 0.20, 0.17, 0.17, 0.16, 0.16, 0.08)),
    axes=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0)) * 3 + ((0.0, 0.0, 1.0),),
    tool=(0.0, 0.0, 0.05),
    pointing=(-1.0, 0.0, 0.0),
    rest=(0.0, -0.3, 0.0, 1.75, 0.0, 0.12, 0.0),
    pull=(0.0, *[0.5] * 6),
    speed=0.6,
    turn=1.8,
    joint_speed=3.0,
    damping=1e-3,
    z=(0.20, 0.42),
    radius=(0.25, 0.75),
    tilt=1.2,
    give=0.2,
    rate=20.0,
)
CONTRACT = Contract(
    environment="rapport/CupArm-v0",
    joints=tuple(Joint(f"joint{i}", -LIMIT, LIMIT) for i in range(7)),
    rate=20.0,
    action="joint_position",
    observation=(
        Source("cup", 13, "m", "scene"),
        Source("joints", 7, "rad", "joint"),
        Source("last action", 5, "1", "action"),
        Source("clock", 1, "1", "clock"),
    ),
    mean=tuple(0.01 * i for i in range(26)),
    std=tuple(1 + 0.01 * i for i in range(26)),
    cameras=(),
    reward="carry the cup to the goal",
)
NETWORK = {"net_arch": [16, 16], "log_std_init": -1.0, "ortho_init": False}


@pytest.fixture
def agent():
    return Sb3(CupArms(2, seed=0), seed=1, n_steps=8, batch_size=16, policy_kwargs=NETWORK)


@pytest.fixture
def folder(agent, tmp_path):
    export(tmp_path, agent.snapshot(), STEP, CONTRACT)
    return tmp_path


def test_acts_as_the_agent_and_aims_one_period_ahead(agent, tmp_path):
    narrow = replace(CONTRACT, joints=tuple(Joint(f"joint{i}", -1, 0.5 + i) for i in range(7)))
    export(tmp_path, agent.snapshot(), STEP, narrow)
    policy, rng = load_policy(tmp_path, narrow), np.random.default_rng(0)
    obs, joints = rng.normal(size=(40, 26)), rng.uniform(-1, 0.5, (40, 7))
    action = policy.act(obs)
    expected = agent.act((obs - np.array(CONTRACT.mean)) / np.array(CONTRACT.std))
    np.testing.assert_allclose(action, expected, atol=1e-6)
    aim = policy.joint_targets(obs, joints)
    free = joints + STEP.velocity(joints, action) / 20
    assert 0 < (free < -1).sum() < 40 and 0 < (free[:, 0] > 0.5).sum() < 40
    np.testing.assert_allclose(aim, np.clip(free, -1, 0.5 + np.arange(7)), atol=1e-12)
    assert policy.joint_targets(obs[0], joints[0]).shape == (7,)


def test_joint_targets_are_where_the_environments_servos_nearly_arrive(folder):
    policy, arms, missed, moved = load_policy(folder), CupArms(4, seed=0), [], []
    obs, _ = arms.reset()
    for _ in range(40):
        before = arms.qpos
        aim = policy.joint_targets(obs, before)
        obs = arms.step(policy.act(obs))[0]
        missed.append(np.abs(aim - arms.qpos).mean())
        moved.append(np.abs(arms.qpos - before).mean())
    assert np.mean(missed) < 0.1 * np.mean(moved)


def test_loads_and_acts_without_torch(folder):
    code = f"""
import sys, numpy as np
from policies.export import load_policy
aim = load_policy({str(folder)!r}).joint_targets(np.zeros(26), np.zeros(7))
assert aim.shape == (7,) and not {{"torch", "stable_baselines3", "gymnasium", "mujoco"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [WEIGHTS, CARTESIAN])
def test_a_changed_or_missing_file_is_refused(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ContractError, match=rf"{name} has sha256 .* it is not the file that was exported"):
        load_policy(folder)
    (folder / name).unlink()
    with pytest.raises(ContractError, match=f"{name} cannot be read"):
        load_policy(folder)


def test_another_robot_is_refused(folder):
    with pytest.raises(ContractError, match=r"does not fit: rate: the policy is for 20\.0 Hz, here it is 50\.0 Hz"):
        load_policy(folder, replace(CONTRACT, rate=50.0))


def test_a_signed_file_that_is_no_policy_is_refused(folder):
    half = safetensors.numpy.save({"0.weight": np.ones((5, 26), np.float32)})
    for name, data in ((WEIGHTS, half), (WEIGHTS, b"no"), (CARTESIAN, b"{}")):
        good = (folder / name).read_bytes(), (folder / "contract.json").read_bytes()
        (folder / name).write_bytes(data)
        signed = json.loads(good[1])
        signed["hashes"][name] = sha256(data).hexdigest()
        (folder / "contract.json").write_text(json.dumps(signed))
        with pytest.raises(ContractError, match="cannot be read"):
            load_policy(folder)
        (folder / name).write_bytes(good[0])
        (folder / "contract.json").write_bytes(good[1])
    load_policy(folder)


def test_an_unsigned_file_is_refused(folder):
    signed = json.loads((folder / "contract.json").read_text())
    del signed["hashes"][CARTESIAN]
    (folder / "contract.json").write_text(json.dumps(signed))
    with pytest.raises(ContractError, match=r"no hash of cartesian.json; export the policy again"):
        load_policy(folder)


@pytest.mark.parametrize(
    ("contract", "change", "sentence"),
    [
        ({"action": "joint_velocity"}, {}, "action is joint_velocity, and joint_position is written"),
        ({"joints": CONTRACT.joints[:6]}, {}, "the contract has 6 joints and the chain 7"),
        ({"rate": 50.0}, {}, "the contract's rate is 50.0 Hz and the step's 20.0 Hz"),
        (
            {"observation": CONTRACT.observation[:3], "mean": (0.0,) * 25, "std": (1.0,) * 25},
            {},
            "observation has 25 numbers and the policy reads 26",
        ),
        ({}, {"action_net.weight": np.ones((4, 16)), "action_net.bias": np.ones(4)}, "the policy gives 4 numbers"),
        ({}, {"action_net.bias": np.array([0, 0, np.nan, 0, 0])}, "a weight is NaN"),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_nothing_is_written(agent, tmp_path, contract, change, sentence):
    with pytest.raises(ContractError, match=sentence):
        export(tmp_path / "new", {**agent.snapshot(), **change}, STEP, replace(CONTRACT, **contract))
    assert not (tmp_path / "new").exists()


def test_observations_that_are_not_the_contracts_are_refused(folder):
    policy = load_policy(folder)
    for bad in (np.zeros(25), np.full(26, np.nan)):
        with pytest.raises(ValueError, match="give 26 finite numbers in the order of the contract"):
            policy.act(bad)


def test_a_network_by_hand():
    layers = Layers((np.array([[2.0], [0.0]]), np.array([[1.0, 3.0]])), (np.array([0.0, 0.5]), np.array([-1.0])))
    np.testing.assert_allclose(mean(layers, np.array([[0.25]])), [[np.tanh(0.5) + 3 * np.tanh(0.5) - 1]])
    with pytest.raises(ValueError, match="do not follow each other"):
        Layers((np.ones((2, 1)), np.ones((1, 3))), (np.ones(2), np.ones(1)))
    with pytest.raises(ValueError, match=r"the policy has no action_net\.weight"):
        Layers.of({"mlp_extractor.policy_net.0.weight": np.ones((2, 1)), "mlp_extractor.policy_net.0.bias": np.ones(2)})
