"""Whoever has no token learns nothing and moves nothing, by any route; nor what is too large, too slow, too often."""

import asyncio
import json
import os
import socket
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from hardware.config import read
from hardware.gateway import gate
from hardware.gateway.server import GatewayError, Reached, doorway
from hardware.gateway.tokens import TokenError, tokens
from tests.hardware.gateway import robot as robots

OPEN = {"/", "/healthz", "/robot.css", "/page.js", "/api.js", "/shown.js", "/icon.svg"}


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    file = robots.two_joints(tmp_path_factory.mktemp("r"), scene={"goal": 3})
    with robots.running(file) as running:
        yield running


def routes(robot):
    with robot.http("observe") as http:
        paths = http.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_a_stranger_has_the_same_answer_everywhere(robot):
    before = robot.state()["seq"]
    found = routes(robot)
    assert len(found) > 15
    with robot.http(None) as http:
        others = [("GET", "/openapi.json"), ("GET", "/nothing"), ("PUT", "/v1/state"), ("GET", "/v1/stream")]
        for method, path in found + others:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
                answer = http.request(method, path, headers=headers)
                if path in OPEN:
                    assert answer.status_code == 200
                    continue
                assert answer.status_code == 401, (method, path)
                assert answer.json() == {
                    "detail": "A valid token is needed. Open the address that starting the robot told."
                }
                time.sleep(0.02)  # fifty a second are heard
    state = robot.state()
    assert state["mode"] == "READY" and state["holder"] == "" and state["seq"] > before


def test_nor_by_the_websocket(robot):
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}):
        with pytest.raises(InvalidStatus) as told, robot.socket(**headers):
            pass
        assert told.value.response.status_code == 401


def test_with_a_token_what_is_unknown_is_not_there(robot):
    with robot.http("observe") as http:
        for path in ("/nothing", "/v1/", "/v1/state/", "/static/../server.py", "/%2e%2e/server.py", "/docs"):
            assert http.get(path).status_code == 404, path
        assert http.put("/v1/state").status_code == 405


def test_every_command_of_an_operator_is_refused_to_who_looks_on(robot):
    commands = [(m, p) for m, p in routes(robot) if m != "GET" and p not in ("/v1/stop", "/v1/estop")]
    assert {path for _, path in commands} >= {f"/v1/{n}" for n in ("arm", "start", "home", "reset", "lease", "scene")}
    with robot.http("observe") as http:
        for method, path in commands:
            answer = http.request(method, path, json={"seconds": 5, "task": "x", "values": {}})
            assert answer.status_code == 403, (method, path)


def test_what_takes_the_power_says_that_the_arm_drops(robot):
    with robot.http("observe") as http:
        paths = http.get("/openapi.json").json()["paths"]
        for what in ("estop", "reset", "disarm"):
            assert "a raised arm drops" in paths[f"/v1/{what}"]["post"]["description"]
        for page in ("/page.js", "/shown.js"):
            text = http.get(page).text
            assert "a raised arm drops" in text and "never moves" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", ""])
def test_another_name_is_refused_before_the_token(robot, host):
    host = host.format(port=robot.config.port)
    with robot.http("admin", Host=host) as http:
        assert http.get("/v1/state").status_code in (400, 403)
        assert http.get("/").status_code in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1"])
def test_another_page_is_refused_also_at_the_websocket(robot, origin):
    origin = origin.format(port=robot.config.port)
    with robot.http("admin", Origin=origin) as http:
        assert http.post("/v1/lease", json={}).status_code == 403
    with pytest.raises(InvalidStatus) as told, robot.socket(Origin=origin):
        pass
    assert told.value.response.status_code == 403
    with robot.socket(Origin=robot.address):
        pass


def test_what_is_too_large_is_not_read_to_its_end(robot):
    with robot.http() as http:
        assert http.post("/v1/start", content=bytes(gate.MOST_BYTES + 1)).status_code == 413

        def pieces():
            for _ in range(gate.MOST_BYTES // (1 << 20) + 1):
                yield bytes(1 << 20)

        assert http.post("/v1/stop", content=pieces()).status_code == 413


def test_headers_that_keep_other_pages_out(robot):
    with robot.http(None) as http:
        headers = http.get("/").headers
    assert "script-src 'self'" in headers["content-security-policy"] and "server" not in headers
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"


def test_a_second_has_room_for_so_many(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(gate.time, "monotonic", lambda: now[0])
    rates = gate.Rates(3)
    assert [rates.too_many(who) for who in "aaabaa"] == [False, False, False, False, True, True]
    now[0] = 6.0
    assert not rates.too_many("a")


def test_too_often_is_refused_but_never_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(gate.Rates, "too_many", lambda self, who: True)
    with robots.running(robots.two_joints(tmp_path), daemon=False, inside=True) as alone:
        with alone.http(None) as http:
            assert http.get("/v1/state").status_code == 429
        with alone.http("observe") as http:
            assert http.get("/v1/state").status_code == 429 and "Retry-After" in http.get("/v1/state").headers
            for path in ("/v1/stop", "/v1/estop"):
                assert http.post(path).status_code == 503  # it came through to a daemon that is not there


def test_a_body_that_does_not_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)

    async def receive():
        await asyncio.sleep(10)

    answer = asyncio.run(gate._body(receive))
    assert answer.status_code == 408


@pytest.mark.slow
def test_who_connects_and_says_nothing_is_let_go(robot):
    with socket.create_connection(("127.0.0.1", robot.config.port)) as half:
        half.settimeout(20)
        half.sendall(b"GET /v1/state HTTP/1.1\r\n")
        assert half.recv(1) == b""


def test_the_file_of_tokens_is_its_owners_alone(tmp_path):
    path = tmp_path / "tokens.json"
    first = tokens(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert tokens(path) == first and len({secret for _, secret in first.known}) == 3
    assert first.whose(first.of("operate")).role == "operate"
    for wrong in ("", "x", "ü", first.of("operate")[:-1]):
        assert first.whose(wrong) is None
    path.chmod(0o640)
    with pytest.raises(TokenError, match="may be read by others"):
        tokens(path)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        '{"a": 1}',
        '{"a": {"role": "king", "token": "0123456789abcdef"}}',
        '{"a": {"role": "admin", "token": "x"}}',
    ],
)
def test_a_file_that_says_something_else(tmp_path, said):
    path = tmp_path / "tokens.json"
    path.write_text(said)
    path.chmod(0o600)
    with pytest.raises(TokenError):
        tokens(path)


def test_others_hear_nothing_unless_that_is_wanted(tmp_path):
    def at(host):
        return read(robots.two_joints(tmp_path, host=host, port=8600))

    assert "localhost:8600" in doorway(at("127.0.0.1"), Reached()).hosts
    with pytest.raises(GatewayError, match="could read the token"):
        doorway(at("192.0.2.7"), Reached())
    assert doorway(at("192.0.2.7"), Reached(plain=True)).hosts == {"192.0.2.7:8600"}
    assert doorway(at("192.0.2.7"), Reached(certificate=tmp_path)).origins == {"https://192.0.2.7:8600"}
    with pytest.raises(GatewayError, match="name the one address"):
        doorway(at("0.0.0.0"), Reached(plain=True))


def test_without_the_daemon_everything_says_so(tmp_path):
    with robots.running(robots.two_joints(tmp_path), daemon=False) as alone, alone.http("admin") as http:
        state = http.get("/v1/state").json()
        assert not state["connected"] and "daemon" in state["why"] and "daemon" in state["may"]["arm"]
        for path in ("/v1/estop", "/v1/stop", "/v1/lease", "/v1/arm"):
            answer = http.post(path, json={})
            assert answer.status_code == 503 and "hardware e-stop" in answer.json()["detail"]
        assert "robot_daemon_up 0.0" in http.get("/metrics").text
        with alone.socket("observe", "rapport.json") as page:
            assert json.loads(page.recv(timeout=5))["connected"] is False
        assert httpx.get(f"{alone.address}/healthz").text == "ok"
