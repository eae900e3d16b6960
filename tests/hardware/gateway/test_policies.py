"""The main job's policy behind its server leads the main job's arm; whatever the server does, the arm comes to rest."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from websockets.sync.server import serve as listen

from hardware.camera import Frame
from hardware.cameras import PAUSE_NS, STOP_NS
from hardware.clock import RealClock
from hardware.gateway.cameras import BLIND_NS, Watch
from hardware.journal import journals, recover
from hardware.to_episodes import episode, own_terms
from policies import serve, wire
from policies.export import export, load_policy
from policies.mlp import Layers
from rapport.cup.handover import PARTS, agreed, cartesian
from tests.hardware.gateway import robot as robots

pytestmark = pytest.mark.slow  # three processes each, in real time

SCENE = robots.SCENE


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """Carries to one side, whatever it sees."""
    folder = tmp_path_factory.mktemp("policy")
    weights = (np.zeros((4, 26), "f4"), np.zeros((5, 4), "f4"))
    layers = Layers(weights, (np.zeros(4, "f4"), np.array([0, 0.4, 0, 0, 0], "f4")))
    export(folder, layers, cartesian(), agreed("to turn"), PARTS)
    return load_policy(folder)


@contextmanager
def led(tmp_path, server, token="secret", *more, scene=SCENE):
    """The main job's arm at its rest, with power."""
    (tmp_path / "token").write_text(token)
    url = server if isinstance(server, str) else "ws://{}:{}".format(*server.socket.getsockname()[:2])
    given = ["--policy", url, "--policy-token", str(tmp_path / "token"), *more]
    with robots.running(robots.cup_arm(tmp_path / "r"), *given) as robot, robot.http() as http:
        lease = http.post("/v1/lease", json={"seconds": 60})
        http.headers["X-Lease"] = lease.json()["lease"]
        if scene:
            assert http.post("/v1/scene", json={"values": scene}).status_code == 200
        assert http.post("/v1/arm").status_code == 200
        assert http.post("/v1/home").status_code == 200
        robot.until(mode="HOLD", episode="", cause="")
        for path in journals(robot.config.journal):
            path.unlink()
        yield robot, http


def test_it_leads_and_what_it_saw_comes_back(tmp_path, policy):
    with (
        serve.serving(serve.exported(policy), "secret") as server,
        led(tmp_path, server) as (robot, http),
    ):
        begun = http.post("/v1/start", json={"task": "carry the cup"})
        assert begun.json() == {"done": True}
        assert robot.state()["mode"] == "RUNNING" and robot.state()["policy"] == "the policy leads"
        time.sleep(1.5)
        moved = robot.state()
        assert http.post("/v1/stop", json={"done": True}).status_code == 200
        robot.until(mode="HOLD", episode="")
        folder = robot.config.journal
    point, _, _ = cartesian().kinematics(np.array(moved["position"]))
    assert point[1] - SCENE["start"][1] > 0.05
    (path,) = journals(folder)
    found = recover(path)
    assert found.whole and found.header.task == "carry the cup" and found.header.scene["goal"] == tuple(SCENE["goal"])
    whole = max(own_terms(episode(found)), key=len)  # a server that was late once begins another
    assert whole.obs.shape[1] == 26 and whole.act.shape[1] == 5 and len(whole) >= 3
    np.testing.assert_allclose(
        whole.obs[:, :3], [cartesian().kinematics(2 * o[13:20])[0] for o in whole.obs], atol=1e-5
    )


@pytest.mark.parametrize("given", ["wrong", ""])
def test_another_token_starts_nothing(tmp_path, policy, given):
    with (
        serve.serving(serve.exported(policy), "secret") as server,
        led(tmp_path, server, given) as (robot, http),
    ):
        refused = http.post("/v1/start", json={"task": "x"})
        assert refused.status_code == 409 and "wants another token" in refused.json()["detail"]
        assert robot.state()["mode"] == "HOLD" and not journals(robot.config.journal)


def test_without_a_scene_it_refuses_and_names_what_is_missing(tmp_path, policy):
    with (
        serve.serving(serve.exported(policy), "secret") as server,
        led(tmp_path, server, scene={"goal": SCENE["goal"]}) as (robot, http),
    ):
        said = http.post("/v1/start", json={"task": "x"}).json()["detail"]
        assert "nobody has told where 'laptop' of the scene is" in said and "'goal'" not in said
        assert robot.state()["mode"] == "HOLD"


def test_all_of_a_mismatch_is_named(tmp_path, policy):
    joints = (replace(policy.contract.joints[0], name="hip"), *policy.contract.joints[1:])
    other = serve.Served(replace(serve.exported(policy).contract, joints=joints, rate=200.0), lambda: None)
    with (
        serve.serving(other, "secret") as server,
        led(tmp_path, server, scene=None) as (_, http),
    ):
        said = http.post("/v1/start", json={"task": "x"}).json()["detail"]
    for part in ("'hip' of the policy is not here", "'base' is here", "200 Hz", "'goal'", "'laptop'"):
        assert part in said, said


class Hanging:
    """A policy that answers, until it does not."""

    def __init__(self, policy):
        self.served, self.stuck = serve.exported(policy), threading.Event()

    def begin(self):
        infer = self.served.begin()

        def answer(message):
            if self.stuck.is_set():
                time.sleep(1.5)
            return infer(message)

        return answer


def test_a_server_that_hangs_stops_the_arm_and_does_not_start_it_again(tmp_path, policy):
    hanging = Hanging(policy)
    with (
        serve.serving(serve.Served(hanging.served.contract, hanging.begin), "secret") as server,
        led(tmp_path, server) as (robot, http),
    ):
        assert http.post("/v1/start", json={"task": "x"}).status_code == 200
        time.sleep(0.5)
        hanging.stuck.set()
        state = robot.until(mode="HOLD", seconds=3)
        assert "nothing new" in state["cause"]
        hanging.stuck.clear()
        time.sleep(2)
        assert robot.state()["mode"] == "HOLD"
        assert http.post("/v1/start", json={"task": "x"}).json() == {"done": True}
        assert robot.until(mode="RUNNING")


def test_a_server_that_is_killed_stops_the_arm_and_a_new_one_waits(tmp_path, policy):
    served, port = serve.exported(policy), robots.free_port()
    with led(tmp_path, f"ws://127.0.0.1:{port}") as (robot, http):
        assert "is no policy server" in http.post("/v1/start", json={"task": "x"}).json()["detail"]
        with serve.serving(served, "secret", port):
            assert http.post("/v1/start", json={"task": "x"}).status_code == 200
            time.sleep(0.4)
        robot.until(mode="HOLD", seconds=5)
        assert "not asked any more" in robot.state()["policy"]
        with serve.serving(served, "secret", port):
            time.sleep(0.5)
            assert robot.state()["mode"] == "HOLD"
            assert http.post("/v1/start", json={"task": "x"}).status_code == 200
            assert robot.until(mode="RUNNING")


@contextmanager
def foreign(answer):
    """Somebody else's server, as openpi's is: metadata of its own, no contract, chunks of H steps."""

    def handle(connection):
        connection.send(wire.pack({"model": "pi"}))
        for message in connection:
            said = answer(wire.unpack(message))
            connection.send(said if isinstance(said, str | bytes) else wire.pack(said))

    with listen(handle, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def contract(tmp_path, policy):
    (tmp_path / "contract.json").write_text(serve.to_text(serve.exported(policy).contract))
    return ["--contract", str(tmp_path / "contract.json")]


def test_somebody_elses_server_that_says_no_contract(tmp_path):
    with foreign(lambda observation: {}) as server, led(tmp_path, server, "") as (_, http):
        assert "says no contract" in http.post("/v1/start", json={"task": "x"}).json()["detail"]


def test_somebody_elses_server_with_a_contract_of_ours(tmp_path, policy):
    asked = []

    def answer(observation):
        asked.append(observation)
        return {"actions": np.repeat(observation["observation/state"][None], 10, 0).astype("f4")}

    with foreign(answer) as server, led(tmp_path, server, "", *contract(tmp_path, policy)) as (robot, http):
        assert http.post("/v1/start", json={"task": "fold the cloth"}).json() == {"done": True}
        time.sleep(1.5)
        assert robot.state()["mode"] == "RUNNING"
        http.post("/v1/stop")
    assert 5 <= len(asked) <= 9  # 10 steps of 50 ms, a new chunk after half of them
    assert asked[0]["prompt"] == "fold the cloth" and asked[0]["observation/scene/goal"].tolist() == SCENE["goal"]


def test_a_slow_server_is_followed_for_one_start_only(tmp_path, policy):
    """Stopped and started again while it still thinks."""
    asked = []

    def answer(observation):
        asked.append(observation["prompt"])
        time.sleep(0.9 if asked[-1] == "first" and len(asked) > 1 else 0.1)
        return {"actions": np.repeat(observation["observation/state"][None], 20, 0).astype("f4")}

    with foreign(answer) as server, led(tmp_path, server, "", *contract(tmp_path, policy)) as (robot, http):
        assert http.post("/v1/start", json={"task": "first"}).json() == {"done": True}
        while asked.count("first") < 2:
            time.sleep(0.01)
        http.post("/v1/stop")
        robot.until(mode="HOLD")
        assert http.post("/v1/start", json={"task": "second"}).json() == {"done": True}
        begun = len(asked)
        time.sleep(2.0)
        assert robot.state()["mode"] == "RUNNING"
        assert http.post("/v1/start", json={"task": "third"}).status_code == 409  # and the second leads on
        time.sleep(1.0)
        assert robot.state()["mode"] == "RUNNING" and robot.state()["policy"] == "the policy leads"
        http.post("/v1/stop")
    assert "first" not in asked[begun + 1 :] and asked[-1] == "second"


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory",
        b"\xc1",
        {"actions": [1, 2]},
        {"actions": np.full((4, 7), np.nan)},
        {"actions": np.zeros((4, 6))},
        {},
    ],
)
def test_a_server_that_makes_no_sense_moves_nothing(tmp_path, policy, said):
    with (
        foreign(lambda observation: said) as server,
        led(tmp_path, server, "", *contract(tmp_path, policy)) as (robot, http),
    ):
        before = np.array(robot.state()["command"])
        http.post("/v1/start", json={"task": "x"})
        state = robot.until(episode="", seconds=5)
        assert state["mode"] in ("HOLD", "FAULT")
        np.testing.assert_allclose(state["command"], before, atol=1e-9)


class Still:
    """A camera that froze."""

    def __init__(self):
        self.frame = Frame(np.full((4, 4, 3), 100, np.uint8), 1, RealClock().now_ns())

    def open(self):
        pass

    def latest(self):
        return self.frame

    def close(self):
        pass


def test_a_camera_that_froze_is_told_by_its_pictures_age():
    watch = Watch({"wrist": Still()}, {}, RealClock())
    watch.look()
    assert watch.amiss(("wrist",)) is None and watch.ages()["wrist"] < 1
    time.sleep(PAUSE_NS * 1e-9 + 0.02)
    watch.look()
    assert watch.amiss(("wrist",)).what == "stale" and "s old" in watch.sentences()["wrist"]
    assert watch.pictures(("wrist",))["wrist"].shape == (4, 4, 3)


def test_a_camera_that_nobody_looks_at_any_more_is_not_all_well():
    clock = Clock()
    watch = Watch({"wrist": Still(), "top": Broken()}, {}, clock)
    assert "nobody has looked" in watch.amiss(("wrist",)).sentence
    watch.look()
    assert watch.amiss(("wrist",)) is None and "ValueError('torn')" in watch.amiss(("wrist", "top")).sentence
    clock.now += BLIND_NS + 1
    assert not watch.amiss(("wrist",)).stop and "for 0.5 s" in watch.sentences()["wrist"]
    clock.now += STOP_NS
    assert watch.amiss(("wrist",)).stop


class Clock:
    def __init__(self):
        self.now = RealClock().now_ns()

    def now_ns(self):
        return self.now


class Broken(Still):
    def latest(self):
        raise ValueError("torn")
