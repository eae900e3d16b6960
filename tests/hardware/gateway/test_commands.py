"""What is asked over HTTP and over the WebSocket reaches the arm, under one lease, and why not if not."""

import json
import signal
import socket
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hardware.gateway.server import MOST_STRANGERS
from hardware.link import Ask, Chunk, Estop, Hello, Leader, Reply, Scene, Snapshot, Stop, pack, unpack
from tests.hardware.gateway import robot as robots

pytestmark = pytest.mark.slow  # three processes, in real time


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    file = robots.two_joints(tmp_path_factory.mktemp("r"), scene={"goal": 3})
    with robots.running(file) as running:
        yield running


@pytest.fixture
def robot(whole):
    """At rest, without power and without a lease."""
    yield whole
    with whole.http("admin") as http:
        http.post("/v1/stop")
        http.delete("/v1/lease")
        whole.until(holder="")
        if whole.state()["mode"] in ("FAULT", "ESTOP"):
            lease = http.post("/v1/lease", json={}).json()["lease"]
            assert http.post("/v1/reset", headers={"X-Lease": lease}).json() == {"done": True}
            http.delete("/v1/lease")
        whole.until(holder="")
        if whole.state()["mode"] != "READY":
            whole.until(mode="HOLD")
            lease = http.post("/v1/lease", json={}).json()["lease"]
            assert http.post("/v1/disarm", headers={"X-Lease": lease}).json() == {"done": True}
            http.delete("/v1/lease")
        whole.until(mode="READY", holder="")


def lease(http, **length):
    answer = http.post("/v1/lease", json=length)
    assert answer.status_code == 200, answer.text
    http.headers["X-Lease"] = answer.json()["lease"]
    return http.headers["X-Lease"]


def did(answer):
    assert (answer.status_code, answer.json()) == (200, {"done": True})


def test_the_state_says_what_may_be_asked_and_why_not(robot):
    state = robot.state()
    assert (state["mode"], state["names"], state["connected"], state["guarded"]) == ("READY", ["a", "b"], True, True)
    assert state["may"]["arm"] == "" and "HOLD" in state["may"]["start"]
    assert "hardware e-stop" in state["notice"]
    assert len(state["position"]) == 2 and state["temperature"] == [30, 30]


def test_home_and_back_under_a_lease(robot):
    with robot.http() as http:
        refused = http.post("/v1/arm")
        assert refused.status_code == 409 and "lease" in refused.json()["detail"]
        lease(http)
        did(http.post("/v1/arm"))
        did(http.post("/v1/home"))
        state = robot.until(mode="HOLD")
        assert state["command"] == pytest.approx([0.0, 0.2], abs=1e-6)
        did(http.post("/v1/disarm"))
        renewed = http.patch("/v1/lease", json={"seconds": 5}).json()
        assert renewed == {"lease": http.headers["X-Lease"], "seconds": 5.0}
        did(http.delete("/v1/lease"))
        listed = http.get("/v1/episodes").json()
    assert listed[0]["task"] == "home" and not listed[0]["growing"] and not listed[0]["amiss"]


def test_one_commands_at_a_time_and_an_admin_ends_it(robot):
    with robot.http() as http, robot.http("admin") as admin:
        lease(http)
        second = admin.post("/v1/lease", json={})
        assert second.status_code == 409 and "operate holds the lease" in second.json()["detail"]
        did(admin.delete("/v1/lease"))
        lease(admin)
        assert http.post("/v1/arm").status_code == 409
        admin.delete("/v1/lease")


def test_anybody_with_a_token_stops_and_the_estop_latches(robot):
    with robot.http() as http, robot.http("observe") as looks_on:
        lease(http)
        did(http.post("/v1/arm"))
        did(http.post("/v1/home"))
        did(looks_on.post("/v1/stop", json={"category": 1, "why": "enough"}))
        robot.until(mode="READY")
        did(looks_on.post("/v1/estop"))
        state = robot.until(mode="ESTOP")
        assert state["cause"] == "an e-stop by observe"
        refused = http.post("/v1/arm")
        assert refused.status_code == 409 and "reset it first" in refused.json()["detail"]
        did(http.post("/v1/reset"))
        assert looks_on.post("/v1/reset").status_code == 403


def answered(ws, number):
    while (told := json.loads(ws.recv(timeout=5))).get("to") != number:
        pass
    return told


def test_a_page_stops_over_its_stream(robot):
    with robot.http() as http, robot.socket("observe", "rapport.json") as ws:
        lease(http)
        did(http.post("/v1/arm"))
        did(http.post("/v1/home"))
        ws.send(json.dumps({"ask": "stop", "number": 1, "why": "enough"}))
        assert answered(ws, 1) == {"to": 1, "refused": ""}
        assert robot.until(mode="HOLD")["cause"] == "enough"
        ws.send(json.dumps({"ask": "estop", "number": 2}))
        assert answered(ws, 2)["refused"] == ""
        assert robot.until(mode="ESTOP")["cause"] == "an e-stop by observe"


def test_start_needs_a_policy(robot):
    with robot.http() as http:
        lease(http)
        did(http.post("/v1/arm"))
        refused = http.post("/v1/start", json={"task": "x"})
        assert refused.status_code == 409 and "no policy server" in refused.json()["detail"]


def hear(ws, kind):
    while True:
        found, _ = unpack(ws.recv(timeout=5))
        if isinstance(found, kind):
            return found


def ask(ws, message, number=7):
    ws.send(pack(message, number)[4:])
    return hear(ws, Reply)


def test_a_leader_arm_over_the_websocket(robot):
    with robot.http() as http, robot.socket() as ws:
        assert hear(ws, Hello).names == ("a", "b")
        mine = lease(http)
        did(http.post("/v1/arm"))
        did(http.post("/v1/teleop", json={"task": "wave"}))
        for seq in range(60):
            snapshot = hear(ws, Snapshot)
            reply = ask(ws, Leader(mine, seq, np.array([0.1, 0.1])), seq + 1)
            assert (reply.to, reply.refused) == (seq + 1, "")
            time.sleep(0.01)
        assert snapshot.mode == "TELEOP" and abs(snapshot.command[0] - 0.1) < 0.05
        stale = ask(ws, Leader(mine, 3, np.array([0.5, 0.5])))
        assert "number them upwards" in stale.refused
        foreign = ask(ws, Leader("other", 100, np.array([0.5, 0.5])))
        assert "lease" in foreign.refused
        assert ask(ws, Stop(2)).refused == ""
        assert robot.until(mode="HOLD")["command"][0] < 0.2


def test_the_scene_is_told_and_comes_back(robot):
    with robot.http() as http, robot.socket() as ws:
        mine = lease(http)
        did(http.post("/v1/scene", json={"values": {"goal": [1, 2, 3]}}))
        assert robot.until(scene={"goal": [1.0, 2.0, 3.0]})
        assert ask(ws, Scene(mine, {"goal": (3.0, 2.0, 1.0)})).refused == ""
        assert "knows goal" in http.post("/v1/scene", json={"values": {"cup": [1]}}).json()["detail"]


def test_who_looks_on_moves_nothing_over_the_websocket(robot):
    with robot.http() as http, robot.socket("observe") as ws:
        mine = lease(http)
        for message in (
            Leader(mine, 1, np.zeros(2)),
            Chunk(mine, 2, 0, 0, 10_000_000, np.zeros((2, 2))),
            Scene(mine, {"goal": (0.0, 0.0, 0.0)}),
            Ask("arm", mine),
        ):
            assert "is not heard here" in ask(ws, message).refused
        assert ask(ws, Estop()).refused == ""
    robot.until(mode="ESTOP")


@pytest.mark.parametrize("said", [pack(Estop())[4:], '{"ask": "arm", "number": 1}', "estop", '{"ask": "stop"}'])
def test_pages_are_told_in_json_and_only_their_stops_are_heard(robot, said):
    with robot.socket("observe", "rapport.json") as ws:
        assert '"mode": "READY"' in ws.recv(timeout=5)
        ws.send(said)
        with pytest.raises(ConnectionClosed):
            while True:
                ws.recv(timeout=5)
    assert robot.state()["mode"] == "READY"


def test_strangers_keep_nobody_from_stopping(robot):
    """More than the gateway keeps of those without a token; the oldest go, and whoever has shown one stays."""
    with ExitStack() as held, robot.http("observe") as known, robot.socket("observe", "rapport.json") as page:
        known.get("/v1/state")
        idle = [
            held.enter_context(socket.create_connection(("127.0.0.1", robot.config.port)))
            for _ in range(MOST_STRANGERS + 6)
        ]
        did(robot.http("observe").post("/v1/estop"))
        did(known.post("/v1/estop"))
        page.send(json.dumps({"ask": "estop", "number": 1}))
        assert answered(page, 1)["refused"] == ""
        idle[0].settimeout(5)
        with suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""
    robot.until(mode="ESTOP")


def test_a_flood_ends_its_own_connection_and_no_others(robot):
    with robot.socket() as quiet, robot.socket(max_queue=None) as loud:
        hear(quiet, Hello)
        with pytest.raises(ConnectionClosed):
            for _ in range(20_000):
                loud.send(b"\xc0")
            while True:
                loud.recv(timeout=5)
        assert hear(quiet, Snapshot).mode == "READY"


def test_eight_look_on_and_the_ninth_is_told(robot):
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(robot.socket("observe"))
        with pytest.raises(InvalidStatus) as told:
            held.enter_context(robot.socket("observe"))
        assert told.value.response.status_code == 429


def test_a_slow_reader_loses_the_oldest(robot):
    """Nothing is read for a while; what then comes in one go is little, and after it the present."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", robot.config.port))
        raw.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{robot.config.port}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n"
            f"Authorization: Bearer {robot.tokens.of('observe')}\r\n\r\n".encode()
        )
        time.sleep(4.5)  # at 100 Hz and about 1 kB each, 450 kB
        late, begun = bytearray(), time.monotonic()
        while time.monotonic() - begun < 1.0:
            late += raw.recv(1 << 16)
    seqs = [unpack(body)[0].seq for body in bodies(late) if b"Snapshot" in body[:12]]
    gaps = np.diff(seqs)
    assert gaps.max() > 50 and gaps.argmax() < 400  # what was sent before nobody read, then a leap to the present
    assert (gaps > 0).all() and seqs[-1] >= robot.state()["seq"] - 60


def bodies(stream):
    """Of the binary frames of a server."""
    at = stream.index(b"\r\n\r\n") + 4
    while at + 4 <= len(stream):
        size, head = stream[at + 1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(stream[at + 2 : at + 4], "big"), 4
        if at + head + size > len(stream):
            return
        if stream[at] & 0x0F == 2:
            yield bytes(stream[at + head : at + head + size])
        at += head + size


def test_metrics(robot):
    with robot.http("observe") as http:
        text = http.get("/metrics").text
    for line in (
        "robot_daemon_up 1.0",
        "robot_loop_lateness_seconds_count",
        "robot_loop_overruns_total",
        'robot_bus_transactions_total{result="missed"}',
        'robot_bus_roundtrip_seconds_bucket{le="0.01"}',
        "robot_chunk_starved_ticks_total",
        'robot_state{state="READY"} 1.0',
        "robot_estop_latched 0.0",
        "robot_disk_free_bytes",
        "robot_gateway_refused",
    ):
        assert line in text, line


def test_a_daemon_that_hangs_is_not_shown_as_well(robot):
    """The last of these tests: without power the arm falls meanwhile."""
    with robot.http() as http:
        daemon = robot.processes["armd"]
        daemon.send_signal(signal.SIGSTOP)
        try:
            state = robot.until(connected=False)
            assert "the daemon is silent" in state["why"] and "hardware e-stop" in state["why"]
            asked = time.monotonic()
            refused = http.post("/v1/estop")
            assert refused.status_code == 503 and "not stopped: use the hardware e-stop" in refused.json()["detail"]
            assert time.monotonic() - asked < 4.0
        finally:
            daemon.send_signal(signal.SIGCONT)
        robot.until(connected=True, mode="ESTOP")  # it was heard in the end
