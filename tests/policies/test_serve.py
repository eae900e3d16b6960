"""A policy behind a WebSocket: who may ask, what it answers, and openpi's own client at the other end."""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from embodied import contract as contracts
from embodied.contract import Contract, ContractError, Joint, Source
from policies import serve, wire
from policies.export import export, load_policy
from policies.mlp import Layers
from rapport.cup.handover import PARTS, agreed, cartesian

REST = np.array(cartesian().rest)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    rng = np.random.default_rng(1)
    weights = (rng.normal(0, 0.3, (16, 26)).astype("f4"), rng.normal(0, 0.3, (5, 16)).astype("f4"))
    export(folder, Layers(weights, (np.zeros(16, "f4"), np.zeros(5, "f4"))), cartesian(), agreed("nothing yet"), PARTS)
    return load_policy(folder)


@contextmanager
def client(served, token="secret", given="secret", **headers):
    with serve.serving(served, token) as server:
        host, port = server.socket.getsockname()
        with connect(
            f"ws://{host}:{port}", compression=None, additional_headers={"Authorization": f"Api-Key {given}", **headers}
        ) as socket:
            yield socket


def looks(clock=0.0, **scene):
    scene = scene or {"goal": np.array([0.5, 0.4, 0.2]), "laptop": np.array([0.5, 0.0])}
    return {
        wire.STATE: REST,
        wire.VELOCITY: np.zeros(7),
        wire.CLOCK: clock,
        "prompt": "carry the cup",
        **{f"{wire.SCENE}{name}": value for name, value in scene.items()},
    }


def test_the_contract_comes_first_and_then_a_chunk(policy):
    with client(serve.exported(policy)) as socket:
        told = contracts.parse(wire.unpack(socket.recv())["contract"])
        assert [s.name for s in told.observation if s.origin == "scene"] == ["goal", "laptop"]
        socket.send(wire.pack(looks()))
        answer = wire.unpack(socket.recv())
    assert answer["actions"].shape == (serve.STEPS + 1, 7)
    np.testing.assert_array_equal(answer["actions"][0], REST)
    np.testing.assert_allclose(answer["actions"][1], policy.joint_targets(answer["obs"], REST), rtol=0, atol=1e-12)
    np.testing.assert_allclose(answer["act"], policy.act(answer["obs"]), rtol=0, atol=0)


def test_the_chunk_is_what_looking_at_every_step_would_give(policy):
    one, step = serve.exported(policy).begin(), 1 / policy.contract.rate
    chunk = one(looks())["actions"]
    each, joints, velocities = serve.exported(policy, steps=1).begin(), REST, np.zeros(7)
    for t in range(serve.STEPS):
        answer = each({**looks(t * step), wire.STATE: joints, wire.VELOCITY: velocities})
        velocities = (answer["actions"][1] - joints) / step
        joints = answer["actions"][1]
        np.testing.assert_allclose(joints, chunk[t + 1], atol=1e-6, rtol=0)


def test_a_new_start_forgets_the_last_action(policy):
    infer = serve.exported(policy).begin()
    first = infer(looks())["actions"]
    infer(looks(0.4))
    np.testing.assert_array_equal(infer(looks())["actions"], first)


def test_what_is_missing_is_said_and_the_connection_stays(policy):
    with client(serve.exported(policy)) as socket:
        socket.recv()
        socket.send(wire.pack(looks(goal=np.zeros(3))))
        assert "'laptop'" in socket.recv()
        socket.send(wire.pack({"prompt": "x"}))
        assert "lacks observation/state" in socket.recv()
        socket.send(b"\xc1")
        assert "no message" in socket.recv()
        socket.send("text")
        assert "send msgpack" in socket.recv()
        socket.send(wire.pack(looks()))
        assert "actions" in wire.unpack(socket.recv())


@pytest.mark.parametrize("given", ["", "other", "secret2", "ü"])
def test_without_its_token_nobody_hears_anything(policy, given):
    with pytest.raises((InvalidStatus, UnicodeEncodeError)), client(serve.exported(policy), given=given):
        pass


def test_no_page_of_a_browser_and_no_huge_message(policy):
    with pytest.raises(InvalidStatus), client(serve.exported(policy), Origin="http://localhost"):
        pass
    with client(serve.exported(policy)) as socket:
        socket.recv()
        socket.send(bytes(wire.MOST_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            socket.recv()


def test_a_policy_without_parts_is_not_served(policy):
    with pytest.raises(ContractError, match="does not say how its observation is made"):
        serve.exported(replace(policy, parts=()))


class Reach(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-10, 10, (5,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(5, np.float32), {}

    def step(self, action):
        return np.zeros(5, np.float32), 0.0, True, False, {}


def test_an_agent_that_stable_baselines3_saved(tmp_path):
    from stable_baselines3 import SAC

    saved = SAC("MlpPolicy", Reach(), seed=0, policy_kwargs={"net_arch": [8]}, buffer_size=10)
    saved.save(tmp_path / "agent.zip")
    sources = (Source("q", 2, "rad", "joint"), Source("goal", 3, "m", "scene"))
    joints = (Joint("a", -0.01, 0.01), Joint("b", -1, 1))
    contracts.write(
        Contract("reach", joints, 20.0, "joint_position", sources, (0.0,) * 5, (2.0,) * 5, (), "to be there"), tmp_path
    )
    infer = serve.agent(tmp_path / "agent.zip", "SAC", tmp_path).begin()
    state = np.array([0.1, 0.2])
    answer = infer({wire.STATE: state, wire.VELOCITY: np.zeros(2), wire.CLOCK: 0.0, f"{wire.SCENE}goal": np.ones(3)})
    said, _ = saved.predict(np.array([0.05, 0.1, 0.5, 0.5, 0.5], "f4"), deterministic=True)
    assert answer["actions"].shape == (serve.STEPS + 1, 2)
    np.testing.assert_allclose(answer["actions"][1], np.clip(said, [-0.01, -1], [0.01, 1]), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="no 'Magic'"):
        serve.agent(tmp_path / "agent.zip", "Magic", tmp_path)
    with pytest.raises(ValueError, match="no agent of PPO"):
        serve.agent(tmp_path / "contract.json", "PPO", tmp_path)


CLIENT = """
import sys, numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
client = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]), api_key="secret")
assert "contract" in client.get_server_metadata()
obs = {"observation/state": np.array(%s), "observation/velocity": np.zeros(7), "observation/clock": 0.0,
       "observation/scene/goal": np.array([.5, .4, .2]), "observation/scene/laptop": np.array([.5, 0.]), "prompt": "x"}
print(client.infer(obs)["actions"].shape, np.__version__[0])
"""


@pytest.mark.slow
@pytest.mark.peer
def test_openpis_own_client_is_answered(policy, tmp_path):
    """In an environment of its own: it needs numpy 1, and a package that it does not name."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "openpi"], check=True)
    python = tmp_path / "openpi" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "openpi-client==0.1.2", "typing_extensions"], check=True)
    with serve.serving(serve.exported(policy), "secret") as server:
        port = server.socket.getsockname()[1]
        code = CLIENT % REST.tolist()
        told = subprocess.run([python, "-I", "-c", code, str(port)], capture_output=True, text=True)
    assert (told.stdout.strip(), told.returncode) == ("(9, 7) 1", 0), told.stderr


def test_a_push_changes_the_first_second_alone_and_says_what_it_did(policy):
    """The same push for the same step of an episode, whenever it is asked; of other episodes, another."""
    served, calm = serve.exported(policy, push=0.3, seed=4), serve.exported(policy)
    first, other, still = served.begin(), served.begin(), calm.begin()
    again = serve.exported(policy, push=0.3, seed=4).begin()
    extra = []
    for k in range(40):
        message = looks(k / 20)
        pushed, said = first(message), still(message)
        extra.append(pushed["act"] - said["act"])
        np.testing.assert_array_equal(again(message)["actions"], pushed["actions"])
        np.testing.assert_allclose(
            pushed["actions"][1], policy.reached(pushed["act"], REST), atol=1e-12
        )  # what it says is what it does
    assert np.abs(extra[:20]).max() > 0.1 and len({tuple(e) for e in extra[:20]}) == 20
    assert np.abs(first(looks(0.0))["act"] - other(looks(0.0))["act"]).max() > 0.01
    path = first(looks(0.5))["actions"]
    assert np.abs(path - still(looks(0.5))["actions"]).max() > 1e-3


def test_pushes_have_unit_variance_and_the_memory_that_they_say():
    drawn = np.stack([serve.pushed(20.0, np.random.default_rng(k)) for k in range(4000)])
    assert drawn.shape == (4000, 20, 5)
    assert abs(drawn.std() - 1) < 0.02 and abs(drawn.mean()) < 0.02  # 4 standard deviations: .013 and .018
    for lag in (1, 12):
        found = (drawn[:, lag:] * drawn[:, :-lag]).mean()
        assert abs(found - np.exp(-lag / (20 * serve.PUSH_MEMORY))) < 0.03
