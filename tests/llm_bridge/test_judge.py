"""A judge behind a server: what it says in both orders, whatever the server does, and nothing is lost or paid twice."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_bridge.endpoint import EndpointError, Server
from llm_bridge.judge import Judging, judge, question, read
from llm_bridge.messages import Message, user
from llm_bridge.replies import RepliesError
from llm_bridge.verdicts import Verdicts, report
from tests.llm_bridge.scripted import Heard, Reply, asked, chat, letter, serving

KEY = "sk-very-secret-0123456789"


def settings(heard: Heard, cache: Path | None = None, **more: Any) -> Judging:
    ours = {name: more.pop(name) for name in list(more) if name in Server.__dataclass_fields__}
    return Judging(Server(heard.url, "tiny", **({"timeout": 20.0, "retries": 2} | ours)), cache=cache, **more)


def quality(text: str) -> float:
    """What answers are worth here: the number in them."""
    return float(text.split()[-1])


def fair(body: dict[str, Any]) -> float:
    first, second = map(quality, asked(body))
    return 1 / (1 + math.exp(second - first))


def honest(number: int, body: dict[str, Any]) -> Reply:
    return Reply(letter(fair(body)))


def pairs(n: int, seed: int = 0) -> tuple[list[str], list[str], list[str]]:
    rng = np.random.default_rng(seed)
    a, b = ([f"answer {x:.6f}" for x in rng.normal(size=n)] for _ in range(2))
    return [f"question {i}?" for i in range(n)], a, b


def truth(a: list[str], b: list[str]) -> np.ndarray[Any, Any]:
    return np.array([1 / (1 + math.exp(quality(y) - quality(x))) for x, y in zip(a, b, strict=True)])


def quiet(_: str) -> None:
    pass


def test_it_says_what_the_log_probabilities_say_in_both_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompts, a, b = pairs(6)
    told: list[str] = []
    with serving(honest) as heard:
        found = judge(prompts, a, b, settings(heard), tell=lambda line: told.append(f"{line} ({len(heard.seen)} sent)"))
    assert np.abs(found.p_first - truth(a, b)).max() < 1e-12
    assert found.valid.all() and found.consistent.all() and not found.hard.any() and not any(found.why)
    assert sorted(asked(one.body) for one in heard.seen) == sorted([*zip(a, b, strict=True), *zip(b, a, strict=True)])
    assert {one.key for one in heard.seen} == {f"Bearer {KEY}"} and {one.path for one in heard.seen} == {
        "/v1/chat/completions"
    }
    body = heard.seen[0].body
    assert (body["max_tokens"], body["temperature"], body["logprobs"], body["top_logprobs"]) == (1, 0, True, 20)
    assert len(told) == 1 and "12 calls of tiny" in told[0] and told[0].endswith("(0 sent)")


def test_a_liking_for_the_first_place_cancels_and_is_reported() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.21, 0.79, 40)
    a, b = [f"answer {x:.17g}" for x in p], ["answer 0"] * 40

    def biased(number: int, body: dict[str, Any]) -> Reply:
        first, second = map(quality, asked(body))
        return Reply(letter((first if first else 1 - second) + 0.2))

    with serving(biased) as heard:
        found = judge(["which?"] * 40, a, b, settings(heard), tell=quiet)
    assert np.abs(found.p_first - p).max() < 1e-12
    seen = report(found, a, b)
    assert abs(seen.first - 0.7) < 1e-12
    near = np.abs(p - 0.5) < 0.2  # where the place outweighs the answers
    assert (found.consistent == ~near).all() and abs(seen.consistent - (~near).mean()) < 1e-12


A_PAGE = b"<html><body>Sign in to the proxy</body></html>"


@pytest.mark.parametrize(
    ("reply", "p", "why"),
    [
        (Reply(A_PAGE, headers={"Content-Type": "text/html"}), None, "status 200 with text/html in place of JSON"),
        (Reply(b'{"choices": [{"mess'), None, "in place of JSON"),
        (Reply({"error": {"message": "overloaded"}}), None, "status 200 without choices"),
        (Reply({"choices": [{"text": "A"}]}), None, "a reply of another form (KeyError: 'message')"),
        (Reply(chat("A")), 1.0, ""),
        (Reply(chat(" b.")), 0.0, ""),
        (Reply(chat("**A**")), 1.0, ""),
        (Reply(chat("I cannot compare these.")), None, "neither A nor B in the reply"),
        (Reply(chat(None, refusal="No.")), None, "the judge refused"),
        (Reply(chat("比較できません 🙂")), None, "neither A nor B in the reply"),
        (Reply(letter(0.9, others=0.6)), None, "A and B together have less than half of the probability"),
        (Reply(letter(0.9, others=0.4)), 0.9, ""),
        (Reply(chat(None, {"content": [{"token": "A", "logprob": "high", "top_logprobs": []}]})), None, "another form"),
        (Reply({"error": {"message": "maximum context length is 10"}}, 400), None, "400: maximum context length is 10"),
    ],
    ids=lambda value: None,
)
def test_a_reply_that_is_no_verdict_is_invalid_and_not_a_half(reply: Reply, p: float | None, why: str) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        return reply if "odd" in body["messages"][1]["content"] else Reply(letter(fair(body)))

    prompts, a, b = pairs(4)
    prompts[2] = "an odd one"
    with serving(script) as heard:
        found = judge(prompts, a, b, settings(heard), tell=quiet)
    assert heard.times("odd") == 2  # nothing of this is tried again
    others = [0, 1, 3]
    assert found.valid[others].all() and np.abs(found.p_first - truth(a, b))[others].max() < 1e-12
    if p is None:
        assert not found.valid[2] and not found.consistent[2] and math.isnan(found.p_first[2])
        assert why in found.why[2]
        assert sum(report(found, a, b).invalid.values()) == 1
    else:  # in either order for whoever is shown in the same place: the mean is a half, and the orders disagree
        assert found.valid[2] and found.why[2] == "" and not found.consistent[2]
        assert np.abs(found.shown[2] - p).max() < 1e-12


def test_letters_in_other_clothes_count_together() -> None:
    top = [
        {"token": t, "logprob": math.log(x)} for t, x in ((" A", 0.3), ("A", 0.2), ("a", 0.1), ("B", 0.2), ("Z", 0.2))
    ]
    found = read(json.dumps(chat("A", {"content": [{"token": " A", "logprob": math.log(0.3), "top_logprobs": top}]})))
    assert abs(found.p - 0.75) < 1e-12 and not found.hard


@pytest.mark.parametrize(
    "first",
    [
        Reply({"error": {"message": "slow down"}}, 429, {"retry-after-ms": "30"}),
        Reply({"error": {"message": "slow down"}}, 429),
        Reply(b"oops", 500),
        Reply(b"", 503),
        Reply(letter(0.001), wait=1.5),
        Reply(reset=True),
    ],
    ids=["429 that says when", "429", "500", "503", "too slow", "reset"],
)
def test_what_passes_is_tried_again(first: Reply) -> None:
    tried: set[str] = set()

    def script(number: int, body: dict[str, Any]) -> Reply:
        text = body["messages"][1]["content"]
        if text not in tried:
            tried.add(text)
            return first
        return Reply(letter(fair(body)))

    prompts, a, b = pairs(1)
    with serving(script) as heard:
        found = judge(prompts, a, b, settings(heard, timeout=0.7 if first.wait else 20.0, retries=6), tell=quiet)
    assert abs(found.p_first[0] - truth(a, b)[0]) < 1e-12
    assert len(heard.seen) >= 4


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            401,
            "refuses the key: 401: no [key] here. Put one that it takes into the environment variable OPENAI_API_KEY",
        ),
        (403, "refuses the key"),
        (404, "has no model 'tiny', or no such page"),
        (400, "The server refuses a setting of the request"),
    ],
)
def test_a_wrong_setting_is_named_and_not_tried_again(
    status: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompts, a, b = pairs(40)
    refusal = Reply({"error": {"message": f"no {KEY} here"}}, status)
    with (
        serving(lambda number, body: refusal) as heard,
        pytest.raises(EndpointError, match=re.escape(sentence)) as error,
    ):
        judge(prompts, a, b, settings(heard, concurrency=4), tell=quiet)
    assert KEY not in str(error.value)
    assert len(heard.seen) <= 4 + 8  # what was on its way, and what give_up allows


def test_the_key_is_nowhere_but_in_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompts, a, b = pairs(2)
    with serving(honest) as heard:
        ours = settings(heard, tmp_path / "replies.sqlite")
        found = judge(prompts, a, b, ours, tell=quiet)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert KEY not in repr(ours) + repr(found) + str(report(found, a, b)) and KEY.encode() not in kept
    with pytest.raises(EndpointError, match=r"url holds a password for example\.org"):
        Server("http://me:hush@example.org/v1", "tiny")


def test_a_dead_server_stops_it_and_a_bad_pair_does_not() -> None:
    prompts, a, b = pairs(60)

    def dies(number: int, body: dict[str, Any]) -> Reply:
        return Reply(letter(fair(body))) if number < 20 else Reply(b"", 500)

    with serving(dies) as heard:
        with pytest.raises(
            EndpointError, match=r"5 calls of http.* failed one after another, the last: 500.*20 of 120"
        ):
            judge(prompts, a, b, settings(heard, give_up=5, retries=0, concurrency=1), tell=quiet)
        assert len(heard.seen) == 25
        gone = heard.url
    with pytest.raises(EndpointError, match=r"no connection .*is the server up at this url"):
        judge(prompts, a, b, Judging(Server(gone, "tiny", retries=0), cache=None), tell=quiet)

    def sometimes(number: int, body: dict[str, Any]) -> Reply:
        return Reply(b"", 500) if "question 7?" in json.dumps(body) else Reply(letter(fair(body)))

    with serving(sometimes) as heard:
        found = judge(prompts, a, b, settings(heard, retries=0), tell=quiet)
    assert found.valid.sum() == 59 and found.why[7].startswith("no reply: 500")


def test_pairs_that_are_never_answered_do_not_stop_a_second_run(tmp_path: Path) -> None:
    """Ten texts are too long, and all others are kept from before: a server that replies so is not dead, one that is
    gone is."""
    prompts, a, b = pairs(30)
    a[20:] = ["long " * 50 + text for text in a[20:]]

    def script(number: int, body: dict[str, Any]) -> Reply:
        long = "long long" in json.dumps(body)
        return Reply({"error": {"message": "too long"}}, 400) if long else Reply(letter(fair(body)))

    cache = tmp_path / "replies.sqlite"
    with serving(script) as heard:
        found = [judge(prompts, a, b, settings(heard, cache, concurrency=1), tell=quiet) for _ in range(2)]
        for one in found:
            assert one.valid.sum() == 20 and one.why[23].startswith("no reply: 400: too long.")
        assert len(heard.seen) == 60 + 20
        gone = settings(heard, cache, retries=0)
    with pytest.raises(EndpointError, match="is the server up at this url"):
        judge(prompts, a, b, gone, tell=quiet)


def test_who_never_comes_is_waited_for_once() -> None:
    prompts, a, b = pairs(3)

    def script(number: int, body: dict[str, Any]) -> Reply:
        slow = "question 0?" in json.dumps(body)
        return Reply(letter(fair(body)), wait=60.0 if slow else 0.0, reset="question 1?" in json.dumps(body))

    with serving(script) as heard:
        found = judge(prompts, a, b, settings(heard, retries=0, timeout=4.0), tell=quiet)
    assert found.valid.tolist() == [False, False, True] and len(heard.seen) == 6
    assert found.why[0].startswith("no reply: none within 4 s, 1 times") and "no connection" in found.why[1]


def test_the_deadline_ends_it(tmp_path: Path) -> None:
    prompts, a, b = pairs(20)
    with serving(lambda number, body: Reply(letter(0.5), wait=0.0 if number < 4 else 60.0)) as heard:
        ours = settings(heard, tmp_path / "replies.sqlite", deadline=2.0, concurrency=2)
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"the deadline of 2 s is over with . of 40 calls answered"):
            judge(prompts, a, b, ours, tell=quiet)
        assert time.monotonic() - began < 50  # the requests on their way are not waited for


def test_requests_come_no_faster_than_told_tried_again_or_not() -> None:
    """By the server's clock: when the k-th comes, k pauses are over. Being late is allowed, being early is not."""
    prompts, a, b = pairs(90)

    def script(number: int, body: dict[str, Any]) -> Reply:
        refused = number % 9 == 4
        return Reply(b"", 429, {"retry-after-ms": "1"}) if refused else Reply(letter(fair(body)))

    with serving(script) as heard:
        began = time.monotonic()
        found = judge(prompts, a, b, settings(heard, per_minute=6000, retries=8, concurrency=32), tell=quiet)
    assert found.valid.all()
    came = np.sort([one.at for one in heard.seen]) - began
    assert len(came) > 180  # 20 or so were tried again
    assert (came >= 0.01 * np.arange(len(came)) - 1e-3).all()


def test_a_second_run_asks_nothing_and_another_question_does(tmp_path: Path) -> None:
    prompts, a, b = pairs(5)
    cache = tmp_path / "deep" / "replies.sqlite"
    with serving(honest) as heard:
        first = judge(prompts, a, b, settings(heard, cache), tell=quiet)
        asked_once = len(heard.seen)
        told: list[str] = []
        again = judge(prompts, a, b, settings(heard, cache, most_calls=0), tell=told.append)
        assert len(heard.seen) == asked_once == 10 and "0 calls" in told[0] and "10 replies are kept" in told[0]
        swapped = judge(prompts, b, a, settings(heard, cache), tell=quiet)
        assert len(heard.seen) == 10  # the same two questions
        judge(prompts, a, b, settings(heard, cache, rubric="The longer the better."), tell=quiet)
        assert len(heard.seen) == 20
    elsewhere = Judging(Server("http://127.0.0.1:9/v1", "tiny"), cache=cache)
    assert np.array_equal(judge(prompts, a, b, elsewhere, tell=quiet).shown, first.shown)  # nothing is asked
    assert np.array_equal(again.shown, first.shown) and again.raw == first.raw
    assert np.abs(swapped.p_first - (1 - first.p_first)).max() < 1e-12


def test_failures_are_not_kept(tmp_path: Path) -> None:
    prompts, a, b = pairs(3)
    well = False

    def script(number: int, body: dict[str, Any]) -> Reply:
        return Reply(letter(fair(body))) if well or "question 1?" not in json.dumps(body) else Reply(A_PAGE)

    with serving(script) as heard:
        ours = settings(heard, tmp_path / "replies.sqlite")
        assert judge(prompts, a, b, ours, tell=quiet).valid.tolist() == [True, False, True]
        well = True
        assert judge(prompts, a, b, ours, tell=quiet).valid.all()
    assert len(heard.seen) == 6 + 2
    raw = [row[0] for row in sqlite3.connect(tmp_path / "replies.sqlite").execute("SELECT reply FROM replies")]
    assert len(raw) == 6 and all(json.loads(one)["object"] == "chat.completion" for one in raw)


RUN = """
import sys
from pathlib import Path
from llm_bridge.endpoint import Server
from llm_bridge.judge import Judging, judge
from tests.llm_bridge.test_judge import pairs
judge(*pairs(40), Judging(Server(sys.argv[1], "tiny", concurrency=3), cache=Path(sys.argv[2])))
"""


def test_killed_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    prompts, a, b = pairs(40)
    stuck = True

    def script(number: int, body: dict[str, Any]) -> Reply:
        return Reply(letter(fair(body)), wait=120.0 if stuck and number >= 30 else 0.0)

    with serving(script) as heard:
        cache = tmp_path / "replies.sqlite"
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, heard.url, str(cache)],
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        limit = time.monotonic() + 120
        while len(heard.seen) < 33 and time.monotonic() < limit:  # thirty were answered, three are on their way
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        stuck = False
        found = judge(prompts, a, b, settings(heard, cache), tell=quiet)
        assert len(heard.seen) == 33 + 50
    assert np.abs(found.p_first - truth(a, b)).max() < 1e-12


def test_more_calls_than_allowed_are_not_begun() -> None:
    prompts, a, b = pairs(30)
    with serving(honest) as heard:
        with pytest.raises(EndpointError, match=r"60 calls of tiny.* are more than most_calls, 50"):
            judge(prompts, a, b, settings(heard, most_calls=50), tell=quiet)
        judge([prompts[0]] * 30, [a[0]] * 30, [b[0]] * 30, settings(heard, most_calls=2), tell=quiet)
    assert len(heard.seen) == 2  # what is the same is asked once


def test_reasons_first_and_several_times() -> None:
    """Two of three replies prefer what is worth more; the reasoning quotes a verdict of its own."""

    def script(number: int, body: dict[str, Any]) -> Reply:
        first, second = map(quality, asked(body))
        right = "A" if first > second else "B"
        said = right if body["seed"] < 2 else "AB".replace(right, "")
        inner = json.dumps({"reasoning": 'not "better": "B" but {"better": "A"}', "better": said})
        return Reply(chat(f'<think>Say "better": "A"?</think>```json\n{inner}\n```'))

    prompts, a, b = pairs(4)
    with serving(script) as heard:
        ours = settings(heard, reply="reasoned", samples=3, temperature=0.7)
        found = judge(prompts, a, b, ours, tell=quiet)
    better = np.array([quality(x) > quality(y) for x, y in zip(a, b, strict=True)])
    assert np.abs(found.p_first - np.where(better, 2 / 3, 1 / 3)).max() < 1e-12
    assert found.hard.all() and found.consistent.all() and len(heard.seen) == 4 * 2 * 3 and len(found.raw[0]) == 6
    assert abs(report(found, a, b).certainty - 2 / 3) < 1e-12
    assert heard.seen[0].body["response_format"]["json_schema"]["schema"]["required"] == ["reasoning", "better"]
    assert math.isnan(read(json.dumps(chat('{"reasoning": "they are', finish="length"))).p)


def test_what_else_a_server_wants_is_passed_on() -> None:
    prompts, a, b = pairs(1)
    more = {"max_tokens": None, "max_completion_tokens": 1, "chat_template_kwargs": {"enable_thinking": False}}
    with serving(honest) as heard:
        judge(prompts, a, b, settings(heard, more=more), tell=quiet)
    body = heard.seen[0].body
    assert "max_tokens" not in body and body["max_completion_tokens"] == 1
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_in_a_notebook_whose_loop_runs(tmp_path: Path) -> None:
    prompts, a, b = pairs(3)
    with serving(honest) as heard:
        ours = settings(heard, tmp_path / "replies.sqlite")

        async def cell() -> Verdicts:
            return judge(prompts, a, b, ours, tell=quiet)

        assert asyncio.run(cell()).valid.all()


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EndpointError, match=r"pip install 'rapport\[judge\]'"):
        judge(*pairs(1), Judging(Server("http://127.0.0.1:9/v1", "tiny"), cache=None), tell=quiet)


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    server = Server("http://127.0.0.1:9/v1", "tiny")
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: Server("localhost:8000", "tiny"), "url is 'localhost:8000'"),
        (lambda: replace(server, concurrency=0), "concurrency is 0"),
        (lambda: replace(server, timeout=0), "timeout is 0; give seconds above 0"),
        (lambda: Judging(server, samples=3), "3 samples at temperature 0 are all the same"),
        (lambda: Judging(server, reply="essay"), "reply is 'essay'"),  # type: ignore[arg-type]
        (lambda: Judging(server, more={"model": "other"}), "more holds model or messages"),
    ]
    for make, sentence in wrong:
        with pytest.raises(EndpointError, match=re.escape(sentence)):
            make()
    with pytest.raises(ValueError, match="2 prompts, 1 answers a and 1 answers b"):
        judge(["a", "b"], ["x"], ["y"], Judging(server), tell=quiet)
    (tmp_path / "notes.txt").write_text("my own notes, which are no database" * 100)
    with pytest.raises(RepliesError, match=r"notes.txt cannot hold replies"):
        judge(["a"], ["x"], ["y"], Judging(server, cache=tmp_path / "notes.txt"), tell=quiet)
    assert (tmp_path / "notes.txt").read_text().startswith("my own notes")


@given(st.lists(st.text("`\nAB: ", max_size=30), min_size=3, max_size=3))
def test_no_text_ends_its_own_fence(texts: list[str]) -> None:
    prompt, first, second = texts
    shown = question((Message("system", "Be kind."), *user(prompt)), first, second)[1].content
    fence = next(line for line in shown.split("\n") if line.startswith("```"))
    assert shown.count(fence) == 6 and not any(fence in text for text in texts)
    assert f"Answer A:\n{fence}\n{first}\n{fence}\n\nAnswer B:\n{fence}\n{second}\n{fence}" in shown
