"""What the examples lead robots with; they are run whole in tests/examples."""

import http.server
import threading

import pytest

from rapport.robot.client import RefusedError, Robot, client, started


class Refusing(http.server.BaseHTTPRequestHandler):
    """Says no to every POST and is never at rest."""

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
        self.answer(200, b'{"mode": "RUNNING", "episode": "", "cause": "a policy leads"}')

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
    with pytest.raises(TimeoutError, match=r"not at rest after 0\.1 s: RUNNING a policy leads"):
        refusing.at_rest(0.1)


def test_a_verb_that_does_not_begin(tmp_path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"`rapport robot run .*robot\.toml` ended with [12]"),
        started("run", tmp_path / "robot.toml"),
    ):
        pass
