"""Whatever is sent, by the interface's own description and besides it, is answered as described, and the arm stays."""

from contextlib import suppress

import msgpack
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from hardware.chunks import Chunk
from hardware.gateway.gate import Rates
from hardware.link import Leader, LinkError, Scene, pack, unpack
from tests.hardware.gateway import robot as robots

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
EXAMPLES = 8


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    with robots.running(robots.two_joints(tmp_path_factory.mktemp("r"), scene={"goal": 3}), inside=True) as running:
        yield running


@pytest.mark.parametrize("role", [None, "observe", "operate"])
def test_every_route(robot, role, monkeypatch):
    monkeypatch.setattr(Rates, "too_many", lambda self, who: False)
    with robot.http("admin") as http:
        description = http.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=robot.address)
    headers = {"Authorization": f"Bearer {robot.tokens.of(role)}"} if role else {}
    # Only what a stranger may have anyway is left out.
    operations = [found.ok() for found in schema.get_all_operations()]
    for call in [call for call in operations if call.path != "/healthz"]:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=call.as_strategy(generation_mode=mode))
            def sent(case):
                answer = case.call(headers={**(case.headers or {}), **headers})
                case.validate_response(
                    answer, checks=[not_a_server_error, status_code_conformance, content_type_conformance]
                )
                if role is None:
                    assert answer.status_code in (400, 401), answer.text

            with suppress(Unsatisfiable):  # nothing can be sent that the description forbids
                sent()
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
        ws.send(msgpack.packb(["Scene", 8, {"lease": "x", "values": {"goal": [[[[]]]]}}]))
        ws.send(pack(Scene("l" * 32, {}), 9)[4:])
        while True:
            found, _number = unpack(ws.recv(timeout=5))
            if type(found).__name__ == "Reply" and found.to == 9:
                break
    assert robot.state()["mode"] in ("READY", "ESTOP")
