"""What the examples lead robots with; they are run whole in tests/examples."""

import http.server
import threading

import pytest

from hardware.config import read
from hardware.gateway.shown import Shown, shown
from rapport.robot.client import RefusedError, Robot, client, started
from rapport.robot.emulating import emulate


class Refusing(http.server.BaseHTTPRequestHandler):
    """Says no to every POST, and `state` to whoever looks."""

    state = b""

    def answer(self, code: int, text: bytes) -> None:
        assert self.headers["Authorization"] == "Bearer told"
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(409, b"the guard does not live")

    def do_GET(self) -> None:
        self.answer(200, self.state)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing():
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with client(f"http://127.0.0.1:{server.server_port}/#token=told") as robot:
            yield robot
        server.shutdown()


def test_what_is_refused_says_why(refusing: Robot) -> None:
    with pytest.raises(RefusedError, match="arm: the guard does not live"):
        refusing.ask("arm")


def test_an_arm_that_goes_on_moving_is_not_waited_for_for_ever(refusing: Robot) -> None:
    Refusing.state = b'{"connected": true, "mode": "RUNNING", "episode": "", "cause": "a policy leads"}'
    with pytest.raises(RefusedError, match=r"not at rest after 0\.1 s: RUNNING a policy leads"):
        refusing.at_rest(0.1)


def test_an_arm_of_which_nothing_is_known_is_not_at_rest(refusing: Robot, tmp_path) -> None:
    """What the gateway says while the daemon is gone, or hangs with the arm in motion."""
    emulate("cup", tmp_path, 8600)
    state = Shown(**shown(read(tmp_path / "robot.toml"), None, None, "the daemon is gone; start it", "", {}))
    Refusing.state = state.model_dump_json().encode()
    with pytest.raises(RefusedError, match="nothing is known of the arm: the daemon is gone"):
        refusing.at_rest()


def test_a_gateway_that_is_gone_is_said(refusing: Robot) -> None:
    with (
        client("http://127.0.0.1:9/#token=told", seconds=1.0) as robot,
        pytest.raises(RefusedError, match="arm: the gat"),
    ):
        robot.ask("arm")


def test_an_address_without_a_token() -> None:
    with pytest.raises(ValueError, match="has no /#token="), client("http://127.0.0.1:8600/"):
        pass


def test_a_verb_that_does_not_begin(tmp_path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"`rapport robot run .*robot\.toml` ended with [12]"),
        started("run", tmp_path / "robot.toml"),
    ):
        pass
