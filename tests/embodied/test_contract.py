"""The policy contract: it comes back as it was, and nothing that it does not keep is let through."""

import json
import os
import resource
from dataclasses import replace

import numpy as np
import pytest

from embodied.contract import Contract, ContractError, Joint, Source, mismatch, read, sha256, write


def contract(**changes):
    whole = {
        "environment": "Arm-v0",
        "joints": (Joint("shoulder", -1.5, 1.5), Joint("elbow", 0.0, 2.5), Joint("rail", 0.0, 0.3, "m")),
        "rate": 20.0,
        "action": "joint_position",
        "observation": (
            Source("cup", 3, "m", "scene"),
            Source("joints", 3, "rad", "joint"),
            Source("time", 1, "1", "clock"),
        ),
        "mean": (0.1 + 0.2, 0.0, -1e-17, 1.0, 2.0, 3.0, 0.5),
        "std": (1.0, 1e-3, 3.0, 1.0, 1.0, 1.0, 1.0),
        "cameras": ("wrist",),
        "reward": "Brings the cup to the goal, upright.",
    }
    return Contract(**{**whole, **changes})


@pytest.fixture
def folder(tmp_path):
    """A folder with weights and their contract."""
    (tmp_path / "policy.safetensors").write_bytes(b"weights" * 1000)
    write(contract(hashes={"policy.safetensors": sha256(tmp_path / "policy.safetensors")}), tmp_path)
    return tmp_path


def change(folder, **changes):
    path = folder / "contract.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **changes}))


def test_a_contract_comes_back_as_it_was(folder, tmp_path):
    found = read(folder)
    assert found == contract(hashes=found.hashes) and list(found.hashes) == ["policy.safetensors"]
    assert (found.mean, found.joints[2].unit, found.version) == (contract().mean, "m", 1)
    assert read(write(contract(), tmp_path / "new" / "folder").parent) == contract()
    assert replace(found, rate=5).rate == 5.0


def test_numbers_may_come_from_numpy(tmp_path):
    joint = Joint("j", np.float32(-1.5), np.float64(1.5))
    made = contract(mean=np.arange(7, dtype=np.float32), std=np.ones(7), rate=np.float32(2), joints=[joint])
    write(made, tmp_path)
    assert read(tmp_path) == made and made.mean == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def test_a_changed_or_missing_file_is_refused(folder):
    weights = folder / "policy.safetensors"
    weights.write_bytes(b"Weights" + weights.read_bytes()[7:])
    with pytest.raises(
        ContractError, match=r"policy\.safetensors has sha256 \w{12}\.\.\., the contract says .* export"
    ):
        read(folder)
    weights.unlink()
    with pytest.raises(
        ContractError, match=r"policy\.safetensors cannot be read \(No such file.*\), and the contract needs"
    ):
        read(folder)


def test_what_is_not_there_or_no_contract_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"contract\.json is missing; export the policy again, or name the folder"):
        read(tmp_path)
    write(contract(), tmp_path)
    whole = (tmp_path / "contract.json").read_bytes()
    for part in (whole[:-30], b"", b"\xff\xfe", b"PK\x03\x04"):
        (tmp_path / "contract.json").write_bytes(part)
        with pytest.raises(ContractError, match=r"contract\.json is not readable JSON .*; export the policy again"):
            read(tmp_path)
    (tmp_path / "contract.json").write_text("[1]")
    with pytest.raises(ContractError, match="has version None, not a whole number"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": 2}, "has version 2, this program reads up to 1; update the program"),
        ({"version": 2, "gripper": "soft"}, "has version 2"),
        ({"version": "1"}, "has version '1', not a whole number"),
        ({"version": 0}, "has version 0"),
        ({"gripper": "soft"}, "the contract has the unknown key 'gripper'; known are action, cameras"),
        ({"joints": [{"name": "a", "lower": 0, "upper": 1}]}, r"joints\[0\] lacks the key 'unit'"),
        (
            {"joints": [{"name": "a", "lower": 0, "upper": 1, "unit": "m", "x": 1}]},
            r"joints\[0\] has the unknown key 'x'",
        ),
        ({"joints": ["shoulder"]}, r"joints\[0\] is 'shoulder'; give an object"),
        ({"joints": "shoulder"}, "joints is 'shoulder'; give a list"),
        ({"mean": "0000000"}, "mean is '0000000'; give a list"),
        ({"hashes": ["a"]}, r"hashes is \['a'\]; give an object"),
        (
            {"hashes": {"../../etc/passwd": "0" * 64}},
            r"hashes names '\.\./\.\./etc/passwd'; give the name of a file in",
        ),
        ({"std": [1, 1, 1, 0, 1, 1, 1]}, "std has 0.0; give positive numbers"),
        ({"mean": [float("nan")] * 7}, "mean has nan; give finite numbers"),
    ],
)
def test_contracts_on_disk_that_cannot_be(folder, changes, sentence):
    change(folder, **changes)
    with pytest.raises(ContractError, match=r"contract\.json:? .*" + sentence):
        read(folder)


@pytest.mark.parametrize("key", ["environment", "joints", "observation", "mean", "cameras", "reward", "hashes"])
def test_a_contract_that_lacks_a_key_names_it(folder, key):
    data = json.loads((folder / "contract.json").read_text())
    del data[key]
    (folder / "contract.json").write_text(json.dumps(data))
    with pytest.raises(ContractError, match=f"the contract lacks the key '{key}'; export the policy again"):
        read(folder)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Joint("", 0, 1), "a joint's name is ''; give a text that says it"),
        (lambda: Joint("j", 1, 1), "joint 'j' ranges from 1.0 to 1.0; give lower < upper"),
        (lambda: Joint("j", -np.inf, 1), "range of joint 'j' has -inf; give finite numbers"),
        (lambda: Joint("j", 0, 1, ""), "unit of joint 'j' is ''"),
        (lambda: Source("s", 0, "m", "joint"), "source 's' has size 0; give a whole number, 1 or more"),
        (lambda: Source("s", 1, "m", "magic"), "source 's' has origin 'magic'; use one of joint, scene, clock, action"),
        (lambda: contract(rate=0), "rate is 0.0 Hz; give a positive number"),
        (lambda: contract(reward=" "), "reward is ' '; give a text that says it"),
        (lambda: contract(observation=()), "observation has no source; name what the policy sees"),
        (lambda: contract(mean=(0.0,)), "mean has 1 numbers, the observation 7; give one for each"),
        (lambda: contract(std=(1.0,) * 6 + (-1.0,)), "std has -1.0; give positive numbers"),
        (
            lambda: contract(joints=(Joint("j", 0, 1),) * 2),
            "joint 'j' is there twice; give every joint a name of its own",
        ),
        (lambda: contract(cameras=("a", "a")), "camera 'a' is there twice"),
        (lambda: contract(cameras=(3,)), "a camera's name is 3"),
        (lambda: contract(hashes={"w": "abc"}), "hash of 'w' is 'abc'; give its sha256 in 64 hexadecimal digits"),
        (lambda: contract(version=2), "version is 2, this program writes 1; leave it out"),
    ],
)
def test_contracts_that_cannot_be(make, sentence):
    with pytest.raises(ContractError, match=sentence):
        make()


def test_a_contract_is_written_only_for_the_files_that_are_there(tmp_path):
    with pytest.raises(ContractError, match=r"policy\.safetensors cannot be read"):
        write(contract(hashes={"policy.safetensors": "0" * 64}), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_contract_before(folder):
    before = (folder / "contract.json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(
            ContractError, match=r"contract\.json cannot be written: the disk is full .*; free some space"
        ):
            write(contract(rate=5), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (folder / "contract.json").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["contract.json", "policy.safetensors"]


def test_what_belongs_to_the_policy_alone_is_no_mismatch():
    other = contract(
        mean=(0.0,) * 7, std=(2.0,) * 7, reward="Nothing.", cameras=("top", "wrist"), hashes={"w": "0" * 64}
    )
    assert mismatch(contract(), other) == []


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"environment": "Leg-v0"}, ["environment: the policy is for Arm-v0, here it is Leg-v0"]),
        ({"rate": 50}, ["rate: the policy is for 20.0 Hz, here it is 50.0 Hz"]),
        ({"action": "torque"}, ["action: the policy is for joint_position, here it is torque"]),
        (
            {"joints": contract().joints[::-1]},
            ["joints come in another order: the policy has shoulder, elbow, rail, here it is rail, elbow, shoulder"],
        ),
        (
            {"joints": (*contract().joints[:2], Joint("wrist", -1, 1))},
            ["joint 'rail' of the policy is not here", "joint 'wrist' is here, but the policy does not know it"],
        ),
        (
            {"joints": (Joint("shoulder", -1.0, 1.5, "deg"), *contract().joints[1:])},
            [
                "joint 'shoulder': lower is -1.5 for the policy, here it is -1.0",
                "joint 'shoulder': unit is rad for the policy, here it is deg",
            ],
        ),
        (
            {"observation": (Source("cup", 3, "mm", "scene"), *contract().observation[1:])},
            ["observation source 'cup': unit is m for the policy, here it is mm"],
        ),
        ({"cameras": ()}, ["camera: the policy sees through wrist, which is not here"]),
        (
            {"rate": 50, "cameras": ("top",)},
            [
                "rate: the policy is for 20.0 Hz, here it is 50.0 Hz",
                "camera: the policy sees through wrist, which is not here",
            ],
        ),
    ],
)
def test_every_mismatch_is_a_sentence(changes, sentences):
    assert mismatch(contract(), contract(**changes)) == sentences
