"""Whatever is sent, by the interface's own description and besides it, is answered as described, and the arm stays."""

import msgpack
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from hardware.chunks import Chunk
from hardware.gateway.gate import Rates
from hardware.link import Leader, LinkError, Scene, pack, unpack
from tests.hardware.gateway import robot as robots

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
EXAMPLES = 8


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    with robots.running(robots.two_joints(tmp_path_factory.mktemp("r"), scene={"goal": 3})) as running:
        yield running


@pytest.mark.parametrize("role", [None, "observe", "operate"])
def test_every_route(robot, role, monkeypatch):
    monkeypatch.setattr(Rates, "too_many", lambda self, who: False)
    with robot.http("admin") as http:
        description = http.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=robot.address)
    headers = {"Authorization": f"Bearer {robot.tokens.of(role)}"} if role else {}
    for operation in schema.get_all_operations():
        call = operation.ok()
        if call.method.upper() == "GET" and call.path not in ("/v1/state", "/v1/episodes", "/metrics"):
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                cases = call.as_strategy(generation_mode=mode)

                @settings(
                    max_examples=EXAMPLES,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=cases)
                def sent(case):
                    answer = case.call(headers={**(case.headers or {}), **headers})
                    assert answer.status_code in {200, 400, 401, 403, 404, 405, 409, 413, 422}, answer.text
                    if role is None:
                        assert answer.status_code in (400, 401, 405), answer.text

                sent()
            except schemathesis.errors.SchemathesisError:
                continue  # nothing can be sent that the description forbids
    assert robot.state()["mode"] in ("READY", "ESTOP")


GOOD = [
    pack(Leader("l" * 32, 1, np.zeros(2)), 3)[4:],
    pack(Chunk("l" * 32, 1, 5, 5, 10_000_000, np.zeros((3, 2))), 4)[4:],
    pack(Scene("l" * 32, {"goal": (1.0, 2.0, 3.0)}), 5)[4:],
]


@given(st.data())
@settings(max_examples=300)
def test_frames_that_were_damaged_are_messages_or_refused(data):
    frame = bytearray(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(1, 6))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    except LinkError:
        return


def test_frames_that_make_no_sense_end_nothing(robot):
    rng = np.random.default_rng(0)
    with robot.socket("operate", max_queue=None) as ws:
        for i in range(300):
            frame = bytearray(GOOD[i % 3])
            frame[rng.integers(len(frame))] = rng.integers(256)
            ws.send(bytes(frame))
        deep = msgpack.packb(["Scene", 9, {"lease": "x", "values": {"goal": [[[[]]]]}}])
        ws.send(deep)
        while True:
            found, number = unpack(ws.recv(timeout=5))
            if type(found).__name__ == "Reply" and found.to == 9:
                break
    assert robot.state()["holder"] == ""
