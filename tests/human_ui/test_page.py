"""The page in a real browser: every kind by keys alone, nothing moves, nothing is lost, sides are what was seen."""

import json

import pytest

from embodied.records import Compare, Rank, Rate, Skip
from tests.human_ui.served import ask, shot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SHOWN = "() => document.querySelectorAll('#stage:not([aria-busy=true]) figure').length"


def wait_for_question(page):
    page.wait_for_function(SHOWN)
    page.wait_for_timeout(300)  # no answer counts just after a question has come


def answers(site):
    return [a.value for a in site.store.answers()]


def saved(page, n):
    page.wait_for_function(
        "(n) => document.querySelector('#saved').textContent === 'Saved' && "
        "document.querySelector('#count').textContent === n",
        arg=str(n),
    )


def test_a_person_compares_by_keys_alone(page, served):
    ask(served.site, 4)
    wait_for_question(page)
    assert page.url == served.url + "/", "the code has left the address"
    shot(page, "compare")
    for key in ("1", "0", "2", "x"):
        wait_for_question(page)
        page.keyboard.press(key)
    saved(page, 4)
    page.wait_for_function("() => document.querySelector('#question').textContent.startsWith('There is no question')")
    shot(page, "waiting")
    values = answers(served.site)
    assert len(values) == 4 and isinstance(values[3], Skip) and values[1] == Compare(0.5)
    with served.site.store.read() as connection:
        rows = connection.exec_driver_sql("select told from detail").all()
    told = [json.loads(row[0]) for row in rows]
    assert all(t["ms"] >= 250 and len(t["seen"]) == 2 for t in told)


def test_left_is_the_clip_on_the_left(page, served):
    """The hash of the clip on the left, as the page has it, against what the core says was preferred."""
    ask(served.site, 6)
    for i in range(6):
        wait_for_question(page)
        with page.expect_response(lambda r: "/api/answers/" in r.url):
            page.keyboard.press("1")
        (answer,) = served.site.store.answers(after=i)
        with served.site.store.read() as connection:
            row = connection.exec_driver_sql(f"select shown from lease where query = '{answer.query}'").one()
        assert answer.value.first == (1.0 if json.loads(row[0])[0] == 0 else 0.0)


def test_ranking_rating_and_an_anchor(page, served):
    ask(served.site, 1, "rank", 4, prefix="rank")
    wait_for_question(page)
    shot(page, "rank")
    for key in ("3", "1", "4"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    saved(page, 1)
    ask(served.site, 1, "rate", 2, prefix="rate")
    wait_for_question(page)
    shot(page, "rate")
    page.get_by_role("radio").nth(1).check()
    page.get_by_role("radio").nth(7 + 5).check()
    page.get_by_role("button", name="Confirm").click()
    saved(page, 2)
    ask(served.site, 1, prefix="near", anchor=True)
    wait_for_question(page)
    assert page.locator("#anchor video").is_visible()
    shot(page, "anchor")
    page.keyboard.press("2")
    saved(page, 3)
    ranked, rated, near = answers(served.site)
    assert isinstance(ranked, Rank) and isinstance(rated, Rate) and sorted(rated.values) == [2.0, 6.0]
    assert isinstance(near, Compare)


def test_undo_shows_the_question_again_and_the_new_answer_supersedes(page, served):
    ask(served.site, 3)
    wait_for_question(page)
    page.keyboard.press("1")
    wait_for_question(page)
    page.keyboard.press("z")
    wait_for_question(page)
    assert page.locator("[aria-pressed=true]").inner_text().startswith("Left better")
    page.keyboard.press("0")
    saved(page, 1)
    first, second = served.site.store.answers()
    assert second.supersedes == first.id and second.value == Compare(0.5)
    page.reload()
    wait_for_question(page)
    page.keyboard.press("z")
    page.keyboard.press("1")  # too soon: it would be about another question
    page.wait_for_function("() => document.querySelector('#said').textContent.startsWith('You are changing')")
    wait_for_question(page)
    page.keyboard.press("x")
    page.wait_for_function("() => !document.querySelector('#said').textContent.startsWith('You are changing')")
    page.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'")
    assert [a.supersedes for a in served.site.store.answers()] == ["", first.id, second.id]


def test_answers_without_a_network_are_kept_and_sent_once(page, served):
    ask(served.site, 4)
    wait_for_question(page)
    page.wait_for_timeout(500)  # the next ones are here
    page.context.set_offline(True)
    for key in ("1", "2"):
        wait_for_question(page)
        page.keyboard.press(key)
    page.wait_for_function("() => document.querySelector('#saved').textContent.startsWith('Offline, 2')")
    shot(page, "offline")
    page.context.set_offline(False)
    page.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'")
    assert len(answers(served.site)) == 2


def test_nothing_moves_and_no_other_host_is_asked(page, served):
    ask(served.site, 8)
    hosts = set()
    page.on("request", lambda r: hosts.add(r.url.split("/")[2] if r.url.startswith("http") else "blob"))
    problems = []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    wait_for_question(page)
    page.evaluate(
        "() => { window.moved = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) "
        "window.moved += e.value; }).observe({ type: 'layout-shift' }); }"
    )
    for _ in range(6):
        wait_for_question(page)
        page.keyboard.press("1")
    saved(page, 6)
    assert page.evaluate("() => window.moved") <= 0.01
    assert hosts <= {served.url.split("/")[2], "blob"} and problems == []


def test_both_clips_show_the_same_frame(page, served):
    ask(served.site, 1)
    wait_for_question(page)
    apart = page.evaluate(
        """async () => {
          const [a, b] = document.querySelectorAll("#stage video");
          document.querySelector("#again").click();
          const found = [];
          for (let i = 0; i < 60; i++) {
            await new Promise(requestAnimationFrame);
            found.push(Math.abs(a.currentTime - b.currentTime));
          }
          return found;
        }"""
    )
    assert sum(x <= 1 / 20 for x in apart) >= 0.95 * len(apart)
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Space") if page.locator("#play[data-playing=true]").count() else None
    page.evaluate(
        "() => { const s = document.querySelector('#seek'); s.value = 7; s.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_timeout(200)
    times = page.evaluate(
        "() => [...document.querySelectorAll('#stage video')].map((v) => Math.floor(v.currentTime * 20))"
    )
    assert times == [7, 7]
    page.keyboard.press(".")
    page.wait_for_timeout(200)
    assert page.locator("#frame").inner_text() == "9/20"
