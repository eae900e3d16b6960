"""The whole interface from its own description, by schemathesis: whatever anybody sends, no answer is an error of the
server's, every one is of a kind that the description knows, and the study is whole afterwards."""

from collections import defaultdict

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from human_ui import desk, people
from human_ui.app import create_app
from human_ui.site import Limits, open_site
from tests.human_ui.served import ask, make_study
from tests.human_ui.test_kill import fill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
EXAMPLES = 10  # of each kind, for each operation and role
NONE = 10**9
ANSWERING = "PUT /api/answers/{answer}"
TERMS = """
name = "Cups"
want = 100
tries = 10
consent = "You may stop at any time."
[[quiz]]
question = "What do you look at?"
choices = ["cups", "cars"]
right = 0
"""


@pytest.fixture
def fuzzed(tmp_path, place):
    opened = open_site(make_study(tmp_path / "study", TERMS), str(place) if "://" in str(place) else None)
    opened.limits = Limits(post=NONE, put=NONE, delete=NONE)
    fill(opened, 60)
    for kind in ("rank", "rate"):
        ask(opened, 2, kind, 3, prefix=kind)
    yield opened
    opened.store.close()


@pytest.mark.parametrize("role", [None, *people.ROLES])
def test_whatever_is_sent(fuzzed, role):
    token = people.invite(fuzzed.store, "fuzz", role) if role else "nobody's"
    headers = {"Authorization": f"Bearer {token}"}
    if role:
        people.consented(fuzzed.store, "fuzz", fuzzed.study().version)
        people.quizzed(fuzzed.store, "fuzz", True)
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(fuzzed))
    seen = defaultdict(set)

    def sent(case):
        if isinstance(case.query.get("wait"), int | float) and case.query["wait"] > 0.01:
            case.query["wait"] = 0.01  # it is a test of what is sent, not of patience
        # What value makes sense depends on the question, which a description of all of them cannot say.
        without = [positive_data_acceptance] if case.operation.label == ANSWERING else []
        response = case.call_and_validate(headers=headers, excluded_checks=without)
        assert response.status_code < 500, "the store is there all the time"
        seen[case.operation.label].add(response.status_code)

    def tried(case):
        sent(case)
        if role not in ("annotator", "owner") or "{" not in case.operation.path:
            return
        # Guessed names lead nowhere: the same again with those of what this person was lent.
        (lent, *_) = desk.lend(fuzzed.store, fuzzed.study(), "fuzz", 2, 0.0, fuzzed.rng)
        real = {"sha": lent.clips[0], "lease": lent.lease}
        case.path_parameters |= {name: real[name] for name in real if name in case.path_parameters}
        if isinstance(case.body, dict) and "lease" in case.body:
            case.body |= {"lease": lent.lease, "value": {"compare": 1} if lent.kind == "compare" else {"skip": ""}}
        sent(case)

    quiet = settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    for operation in (result.ok() for result in schema.get_all_operations()):
        takes = bool(operation.body) or any(True for _ in operation.iter_parameters())
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if takes else (GenerationMode.POSITIVE,):
            quiet(given(operation.as_strategy(generation_mode=mode))(tried))()
    if role in ("annotator", "owner"):
        assert seen[ANSWERING] >= {200, 422} and seen["GET /clips/{sha}"] >= {200, 404, 422}
    else:
        assert not fuzzed.store.answers()
    whole(fuzzed)


def whole(site):
    """Who reads afterwards reads all of it."""
    stored = site.store.answers()
    assert [a.seq for a in stored] == list(range(1, len(stored) + 1))
    owner = {"Authorization": f"Bearer {people.invite(site.store, 'me', 'owner')}"}
    with TestClient(create_app(site), headers=owner) as client:
        assert len(client.get("/api/learner/answers", params={"limit": 10_000}).json()) == len(stored)
        assert client.get("/owner").status_code == 200


def test_bytes_that_no_description_has(fuzzed):
    """JSON that is none, or that only some parsers take, and what one of the two databases has no room for."""
    headers = {"Authorization": f"Bearer {people.invite(fuzzed.store, 'ann', 'owner')}"}
    people.consented(fuzzed.store, "ann", fuzzed.study().version)
    people.quizzed(fuzzed.store, "ann", True)
    (lent, *_) = desk.lend(fuzzed.store, fuzzed.study(), "ann", 1, 0.0, fuzzed.rng)
    raw = TestClient(create_app(fuzzed), headers={**headers, "Content-Type": "application/json"})
    given = f'{{"lease": "{lent.lease}", "value": {{"compare": 1}}, "told": %s}}'
    bodies = {
        given % '{"x": NaN}': 422,
        given % '{"x": 1e999}': 422,
        given % ('{"x":' * 3000 + "1" + "}" * 3000): 400,
        given % ('{"x": ' + "1" * 5000 + "}"): 400,
        given % "[]": 422,
        f'{{"lease": "{lent.lease}", "value": {{"compare": NaN}}}}': 422,
        f'{{"lease": "{lent.lease}", "value": {{"rate": [1e999, 2]}}}}': 422,
        '{"lease": "\\ud800", "value": {}}': 422,
        "": 422,
        b'"\xff"': 400,
    }
    for body, status in bodies.items():
        found = raw.put("/api/answers/a", content=body)
        assert found.status_code == status and len(found.json()["detail"]) > 10, (body[:60], found.text)
    assert fuzzed.store.answers() == []
    odd = '{"note": "\\u0000 \\ud800 \\ud83d\\ude00", "ms": 1%s}' % ("0" * 400)
    kept = raw.put("/api/answers/a", content=given % odd)
    assert kept.json() == {"seq": 1, "late": False}
    for path, body in (
        ("/api/session", '{"token": "\\ud800"}'),
        ("/api/learner/withdraw", '{"queries": ["\\u0000"]}'),
        ("/api/leases/x/unshown", '{"reason": "\\u0000"}'),
    ):
        assert raw.post(path, content=body).status_code == 422, path
    assert raw.post("/api/session", content='{"token": "\\u0000"}').status_code == 401
    for range_, status in {"bytes=9999999-": 416, "bytes=5-2": 400, "nonsense": 400, "bytes=-5": 206}.items():
        assert raw.get(f"/clips/{lent.clips[0]}", headers={"Range": range_}).status_code == status, range_
    whole(fuzzed)
