"""`--ask`: a person at the page, played by a script in a real browser; store, clips and server are real."""

import threading

import pytest

from embodied.records import Compare, Skip
from rapport.cup.page import ANNOTATOR, asker
from rapport.cup.train import open_store
from tests.rapport.test_terminal import study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_batch_is_asked_on_the_page_and_the_rest_after_a_stop(tiny_run, tmp_path, browser):
    links = []
    with study(tiny_run, tmp_path) as (store, queries):
        for batch, keys in ((queries[:2], "12"), (queries[:4], "0x")):
            with asker(store, tmp_path / "asked", lambda: None, links.append) as ask:
                waiting = threading.Thread(target=ask, args=(batch[-2:],))
                waiting.start()
                page = browser.new_context().new_page()
                page.goto(links[-1])
                for key in keys:
                    page.wait_for_function("() => document.querySelectorAll('#stage video').length === 2")
                    page.wait_for_timeout(400)
                    with page.expect_response(lambda r: "/api/answers/" in r.url):
                        page.keyboard.press(key)
                waiting.join(timeout=60)
                assert not waiting.is_alive()
            page.wait_for_function("() => document.querySelector('#said').textContent.includes('That was all')")
            page.context.close()
    with open_store(tmp_path) as (store, _):
        answers = store.answers()
    assert {a.query for a in answers} == {q.id for q in queries[:4]}
    assert {(a.annotator, a.source) for a in answers} == {(ANNOTATOR, "person")}
    assert answers[2].value == Compare(0.5) and answers[3].value == Skip("")
    assert len(set(links)) == 2
