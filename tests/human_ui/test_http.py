"""The interface over HTTP: who may do what, what is refused and with which sentence, and what no answer reveals."""

import json
import re

import pytest
from fastapi.testclient import TestClient

from embodied.records import Compare
from human_ui import people
from human_ui.app import create_app
from human_ui.site import TERMS, Limits, open_site
from tests.human_ui.served import ask, make_study

OURS = {"X-Rapport": "1"}


def client(site, token=None):
    """A browser of somebody who has entered with this token, or of nobody."""
    made = TestClient(create_app(site), headers=OURS, raise_server_exceptions=False)
    if token is not None:
        assert made.post("/api/session", json={"token": token}).status_code == 204
    return made


@pytest.fixture
def ann(site):
    return client(site, people.invite(site.store, "ann"))


def answered(who, lease, id="a1", value=None, **body):
    return who.put(f"/api/answers/{id}", json={"lease": lease, "value": value or {"compare": 1}, **body})


ANYBODY = {None, *people.ROLES}
ROUTES = [
    ("POST", "/api/leases", {"n": 1}, {"annotator", "owner"}),
    ("POST", "/api/leases/renew", None, {"annotator", "owner"}),
    ("DELETE", "/api/leases", None, {"annotator", "owner"}),
    ("GET", "/api/answers", None, {"annotator", "owner"}),
    ("GET", "/api/me", None, {"annotator", "owner"}),
    ("GET", "/", None, ANYBODY),
    ("GET", "/owner", None, ANYBODY),  # but another page for others, below
    ("POST", "/api/session", {"token": "guess"}, set()),
    ("POST", "/api/consent", None, {"annotator", "owner"}),
    ("POST", "/api/quiz", {"chosen": []}, {"annotator", "owner"}),
    ("POST", "/api/leases/{lease}/unshown", {"reason": "why"}, {"annotator", "owner"}),
    ("PUT", "/api/answers/{answer}", {"lease": "x", "value": {"compare": 1}}, {"annotator", "owner"}),
    ("GET", "/clips/{sha}", None, {"annotator", "owner"}),
    ("GET", "/api/learner/answers", None, {"learner", "owner"}),
    ("GET", "/api/learner/queue", None, {"learner", "owner"}),
    ("POST", "/api/learner/withdraw", {"queries": []}, {"learner", "owner"}),
    ("POST", "/api/learner/progress", {"run": "a", "step": 0, "row": {"answers": 1}}, {"learner", "owner"}),
]


def test_every_route_asks_who_it_is(site):
    tokens = {role: people.invite(site.store, role, role) for role in people.ROLES}
    described = create_app(site).openapi()["paths"]
    assert {(m, p) for m, p, *_ in ROUTES} == {(m.upper(), p) for p, methods in described.items() for m in methods}
    for method, path, body, allowed in ROUTES:
        for role in (None, *people.ROLES):
            headers = {"Authorization": f"Bearer {tokens[role]}"} if role else {}
            names = {"lease": "x", "answer": "x", "sha": "0" * 64}
            found = client(site).request(method, path.format(**names), json=body, headers=headers).status_code
            # Whoever may, may still name what is not there.
            refused = 401 if role is None or path == "/api/session" else 403
            assert found in ({200, 204, 404, 409, 410} if role in allowed else {refused}), (method, path, role, found)


def test_the_owners_page_is_the_owners(site, ann):
    assert "paste the code" in ann.get("/owner").text and "People" not in ann.get("/owner").text
    owner = client(site, people.invite(site.store, "me", "owner"))
    assert "People" in owner.get("/owner").text


def test_a_dead_invitation_and_a_dead_session(site, ann):
    assert client(site).post("/api/session", json={"token": "guess"}).json() == {
        "detail": "This invitation is not valid any more. Ask whoever sent it for a new one."
    }
    people.revoke(site.store, "ann")
    told = ann.post("/api/leases", json={"n": 1})
    assert told.status_code == 401 and "Open your invitation link again" in told.json()["detail"]


def test_the_cookie_is_out_of_reach_of_scripts_and_of_plain_http_when_public(site):
    token = people.invite(site.store, "ann")
    for public in (False, True):
        site.address = "https://example.org" if public else ""
        cookie = client(site).post("/api/session", json={"token": token}).headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and ("Secure" in cookie) == public


def test_writes_from_other_pages_are_refused(site, ann):
    body = {"json": {"n": 1}}
    without = TestClient(create_app(site), cookies=ann.cookies)
    assert without.post("/api/leases", **body).status_code == 403
    foreign = ann.post("/api/leases", headers={"Origin": "http://evil.example"}, **body)
    assert foreign.status_code == 403 and "evil.example" in foreign.json()["detail"]
    assert ann.post("/api/leases", headers={"Origin": "http://testserver"}, **body).status_code == 200
    assert "access-control-allow-origin" not in foreign.headers


def test_what_is_too_much_is_refused(site, ann):
    large = ann.put("/api/answers/a", content=b"{" + b" " * site.limits.body)
    assert large.status_code == 413 and f"send at most {site.limits.body}" in large.json()["detail"]

    def pieces():
        yield b"{}"

    assert ann.put("/api/answers/a", content=pieces()).status_code == 413, "of unknown length"
    # Twice what a minute allows: should the minute turn meanwhile, one of the two still has too many.
    answers = [ann.post("/api/leases/renew") for _ in range(2 * Limits().post + 2)]
    assert {answer.status_code for answer in answers} == {204, 429} and answers[0].status_code == 204
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"20"}


def test_an_answer_is_saved_once_whatever_is_sent_twice(site, ann):
    ask(site, 1)
    (lent,) = ann.post("/api/leases", json={"n": 1}).json()
    first = answered(ann, lent["lease"])
    assert first.status_code == 200 and first.json() == {"seq": 1, "late": False} == answered(ann, lent["lease"]).json()
    other = answered(ann, lent["lease"], value={"compare": 0})
    assert other.status_code == 409 and "another answer of id 'a1'" in other.json()["detail"]
    assert len(site.store.answers()) == 1


def test_what_makes_no_sense_is_a_sentence(site, ann):
    ask(site, 1)
    (lent,) = ann.post("/api/leases", json={"n": 1}).json()
    for value in ({"compare": 2}, {"rank": [0, 1]}, {"rate": [1]}, {"nonsense": 1}, {"compare": "1"}):
        told = answered(ann, lent["lease"], value=value)
        assert told.status_code == 422 and len(told.json()["detail"]) > 10, value
    assert answered(ann, "nobodys").status_code == 410
    assert answered(ann, lent["lease"], id="../../etc").status_code in (404, 405)
    assert answered(ann, lent["lease"], told={"note": "x" * 20_000}).status_code == 409
    assert answered(ann, lent["lease"], whatever=1).status_code == 422
    assert site.store.answers() == []


def test_clips_are_for_those_who_were_given_them_and_in_ranges(site, ann):
    ask(site, 2)
    (lent, *_) = ann.post("/api/leases", json={"n": 1}).json()
    sha = lent["clips"][0]["sha256"]
    whole = ann.get(f"/clips/{sha}")
    assert whole.status_code == 200 and whole.headers["content-type"] == "video/webm"
    assert "immutable" in whole.headers["cache-control"] and "private" in whole.headers["cache-control"]
    part = ann.get(f"/clips/{sha}", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole.content[10:20]
    bob = client(site, people.invite(site.store, "bob"))
    assert bob.get(f"/clips/{sha}").status_code == 404 and client(site).get(f"/clips/{sha}").status_code == 401
    for path in ("../study.toml", "..%2f..%2fstudy.toml", sha.upper(), sha + "0", "%00", "a" * 63):
        assert ann.get(f"/clips/{path}").status_code in (401, 404, 422), path
    site.clips.path(sha).unlink()
    gone = ann.get(f"/clips/{sha}")
    assert gone.status_code == 404 and "go on with the next" in gone.json()["detail"]


def test_nothing_tells_who_made_a_clip(site, ann):
    ask(site, 1, prefix="agent-seven-")
    told = ann.post("/api/leases", json={"n": 1})
    assert "seven" not in told.text and "seven" not in json.dumps(dict(told.headers))


def test_words_of_others_are_never_code(tmp_path):
    bad = "<script>alert(1)</script>"
    site = open_site(make_study(tmp_path / "s", f'name = "{bad}"\nquestion = "{bad}"\nconsent = "{bad}"\n'))
    page = client(site, people.invite(site.store, "ann")).get("/").text
    assert bad not in page and "&lt;script&gt;" in page and not re.search(r"<script(?![^>]*src=)", page)
    site.store.close()


def test_headers_allow_nothing_from_elsewhere(site, ann):
    for path in ("/", "/static/ask.js", "/api/me", "/nowhere"):
        headers = ann.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert ann.get("/").headers["cache-control"] == "no-store"


def test_consent_and_a_quiz_come_first(tmp_path):
    terms = """
name = "Cups"
consent = "You may stop at any time."
tries = 2
[[quiz]]
question = "What do you look at?"
choices = ["cups", "cars"]
right = 0
"""
    site = open_site(make_study(tmp_path / "s", terms))
    ask(site, 1)
    ann = client(site, people.invite(site.store, "ann"))
    assert "You may stop at any time." in ann.get("/").text
    early = ann.post("/api/leases", json={"n": 1})
    assert early.status_code == 409 and "something to read first" in early.json()["detail"]
    assert ann.post("/api/consent").status_code == 204
    assert "What do you look at?" in ann.get("/").text
    assert ann.post("/api/quiz", json={"chosen": [1]}).json() == {"passed": False, "left": 1}
    assert ann.post("/api/quiz", json={"chosen": [0]}).json() == {"passed": True, "left": 0}
    assert len(ann.post("/api/leases", json={"n": 1}).json()) == 1
    bob = client(site, people.invite(site.store, "bob"))
    bob.post("/api/consent")
    for left in (1, 0):
        assert bob.post("/api/quiz", json={"chosen": [1]}).json()["left"] == left
    assert "Thank you" in bob.get("/").text and bob.post("/api/leases", json={"n": 1}).status_code == 409
    site.store.close()


def test_an_edited_study_is_a_new_version_from_the_next_lease_on(site, ann):
    ask(site, 2)
    (first,) = ann.post("/api/leases", json={"n": 1}).json()
    terms = site.folder / "study.toml"
    terms.write_text('name = "Cups"\nquestion = "Which is safer?"\n')
    (_, second) = ann.post("/api/leases", json={"n": 2}).json()
    assert second["question"] == "Which is safer?"
    assert answered(ann, first["lease"]).status_code == 200
    with site.store.read() as connection:
        versions = list(connection.exec_driver_sql("select version from lease order by given").scalars())
        known = list(connection.exec_driver_sql("select hash from study_version").scalars())
    assert len(set(versions)) == 2 and set(versions) <= set(known)
    terms.write_text("name = 3")
    assert ann.post("/api/leases", json={"n": 2}).status_code == 200, "an edit that makes no sense waits"


def test_a_learner_reads_every_answer_exactly_once(site, ann):
    ask(site, 3)
    learner = client(site)
    learner.headers["Authorization"] = f"Bearer {people.invite(site.store, 'learner', 'learner')}"
    leases = ann.post("/api/leases", json={"n": 3}).json()
    assert learner.get("/api/learner/queue").json()["leased"] == 3
    for i, lent in enumerate(leases[:2]):
        answered(ann, lent["lease"], f"a{i}", {"compare": 0.5})
    first = learner.get("/api/learner/answers", params={"limit": 1}).json()
    rest = learner.get("/api/learner/answers", params={"after": first[-1]["seq"], "wait": 5}).json()
    assert [a["seq"] for a in first + rest] == [1, 2] and first[0]["value"] == {"compare": 0.5}
    assert learner.get("/api/learner/answers", params={"after": 2, "wait": 0.2}).json() == []
    assert site.store.answers()[0].value == Compare(0.5)
    learner.post("/api/learner/withdraw", json={"queries": ["q0", "q1", "q2"]})
    assert learner.get("/api/learner/queue").json()["open"] == 0


def test_a_survey_answers_what_the_study_asks(site, ann):
    (site.folder / TERMS).write_text('name = "Cups"\n[[survey]]\nname = "cave"\nquestion = "Did it?"\n')
    ask(site, 1, "survey")
    (lent,) = ann.post("/api/leases", json={"n": 1}).json()
    assert lent["survey"] == [{"name": "cave", "question": "Did it?", "of": "each"}]
    body = {"lease": lent["lease"], "value": {"survey": {"first": 1, "items": {"hill": None}, "why": ""}}}
    refused = ann.put("/api/answers/a", json=body)
    assert refused.status_code == 422 and "nothing called 'hill'" in refused.json()["detail"]
    body["value"]["survey"]["items"] = {"cave": [True, None]}
    assert ann.put("/api/answers/a", json=body).status_code == 200


def test_ratings_are_of_the_scale_that_people_see(site, ann):
    ask(site, 1, "rate", 1)
    (lent,) = ann.post("/api/leases", json={"n": 1}).json()
    for wrong in (0, 8, 1e300, 2.5):
        told = ann.put("/api/answers/a", json={"lease": lent["lease"], "value": {"rate": [wrong]}})
        assert told.status_code == 422 and "give a whole number, 1 to 7" in told.json()["detail"]
    assert ann.put("/api/answers/a", json={"lease": lent["lease"], "value": {"rate": [7]}}).status_code == 200


def test_a_question_with_an_anchor_asks_what_is_more_like_it(site, ann):
    ask(site, 1, anchor=True)
    (lent,) = ann.post("/api/leases", json={"n": 1}).json()
    assert lent["question"] == "Which is more like the one above?"
