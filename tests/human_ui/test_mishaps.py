"""What goes wrong while people answer, in a real browser: the page says what to do, and the store holds exactly what it
should. (A network that is lost is in `test_page`.)"""

import json
import resource
import signal
import time

import pytest

from embodied.records import Compare
from human_ui import desk, people
from human_ui.overview import overview
from human_ui.server import listen
from human_ui.site import TERMS, open_site
from tests.human_ui.served import ask, make_study, shot
from tests.human_ui.test_kill import start
from tests.human_ui.test_page import answers, saved, wait_for_question

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def says(page, *parts, where="#said"):
    page.wait_for_function(
        "([where, parts]) => parts.every((part) => document.querySelector(where).textContent.includes(part))",
        arg=[where, list(parts)],
    )


def clips_of(site, query):
    with site.store.read() as connection:
        found = connection.exec_driver_sql(f"select clips from offer where query = '{query}'").scalar_one()
    return [site.clips.path(sha) for sha in json.loads(found)]


def rows(site, what):
    with site.store.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(what)]


def click(page, action, click_count=1):
    box = page.locator(f"[data-action={action}]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down(click_count=click_count)
    page.mouse.up(click_count=click_count)


def test_two_tabs_of_one_person(page, served):
    ask(served.site, 3)
    wait_for_question(page)
    other = page.context.new_page()
    other.goto(served.url)
    wait_for_question(other)
    page.bring_to_front()
    page.keyboard.press("1")
    saved(page, 1)
    other.bring_to_front()
    other.keyboard.press("2")  # the same question
    says(other, "You answered this question already, perhaps in another tab", "Undo")
    saved(other, 1)
    for n in (2, 3):
        wait_for_question(other)
        other.keyboard.press("2")
        saved(other, n)
    assert sorted(a.query for a in served.site.store.answers()) == ["q0", "q1", "q2"]
    page.bring_to_front()
    page.keyboard.press("1")
    says(page, "You answered this question already")
    assert len(answers(served.site)) == 3


def test_an_undo_in_each_of_two_tabs(page, served):
    ask(served.site, 2)
    wait_for_question(page)
    page.keyboard.press("1")
    saved(page, 1)
    other = page.context.new_page()
    other.goto(served.url)
    for tab, key in ((other, "2"), (page, "0")):
        tab.bring_to_front()
        wait_for_question(tab)
        tab.keyboard.press("z")
        says(tab, "You are changing an earlier answer")
        wait_for_question(tab)
        tab.keyboard.press(key)
        tab.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'")
    says(page, "that answer stands")
    first, second = served.site.store.answers()
    assert second.supersedes == first.id and first.query == second.query


@pytest.mark.parametrize("apart", [50, 400])
def test_a_double_click_is_one_answer(page, served, apart):
    ask(served.site, 3)
    wait_for_question(page)
    click(page, "first")
    page.wait_for_timeout(apart)
    click(page, "first", click_count=2)
    saved(page, 1)
    wait_for_question(page)
    assert len(answers(served.site)) == 1
    page.locator("#rest").click()
    page.get_by_role("button", name="Go on").dblclick()
    for n in (2, 3):
        wait_for_question(page)
        click(page, "second")
        saved(page, n)
    assert len(answers(served.site)) == 3


def test_the_back_button(page, served):
    ask(served.site, 2)
    wait_for_question(page)
    page.keyboard.press("1")
    saved(page, 1)
    page.go_back()
    assert page.url == "about:blank"
    page.go_forward()
    wait_for_question(page)
    says(page, "You are back, and your answers are kept. To change the last one use Undo.")
    saved(page, 1)
    page.keyboard.press("2")
    saved(page, 2)
    assert sorted(a.query for a in served.site.store.answers()) == ["q0", "q1"]


def test_a_lease_that_runs_out(page, served):
    (served.site.folder / TERMS).write_text('name = "Cups"\nlease = 10.0\n')
    site = served.site
    people.invite(site.store, "bob")
    ask(site, 1)
    wait_for_question(page)
    page.wait_for_timeout(10_500)
    (theirs,) = desk.lend(site.store, site.study(), "bob", 1, time.time(), site.rng)
    desk.take(site.store, "bob", theirs.lease, "bobs", Compare(0.5), {}, "", time.time())
    page.keyboard.press("1")
    says(page, "Your last answer is kept, and marked late", "Take a break before you leave")
    shot(page, "late")
    saved(page, 1)
    assert sorted(rows(site, "select annotator, late from answer join detail on answer.id = detail.answer")) == [
        ("ann", 1),
        ("bob", 0),
    ]
    assert rows(site, "select taken from offer") == [(2,)]


def test_a_token_that_is_revoked(page, served):
    site = served.site
    ask(site, 3)
    wait_for_question(page)
    page.keyboard.press("1")
    saved(page, 1)
    wait_for_question(page)
    people.revoke(site.store, "ann")
    page.keyboard.press("2")
    says(page, "You are not signed in any more", "newest invitation link", "One answer waits in this browser")
    shot(page, "revoked")
    assert len(answers(site)) == 1
    page.goto(f"{served.url}/#{people.invite_again(site.store, 'ann')}")
    wait_for_question(page)
    saved(page, 2)
    assert [a.annotator for a in site.store.answers()] == ["ann", "ann"]
    assert page.evaluate("() => localStorage.getItem('rapport-outbox')") == "[]"


def test_a_clip_that_is_missing_before_its_question_is_lent(page, served):
    site = served.site
    ask(site, 8)
    for i in (0, 2, 3):
        clips_of(site, f"q{i}")[0].unlink()
    for n in range(1, 6):
        wait_for_question(page)
        page.keyboard.press("1")
        saved(page, n)
    says(page, "The next ones come by themselves")
    assert sorted(a.query for a in site.store.answers()) == ["q1", "q4", "q5", "q6", "q7"]
    assert sorted(query for query, _, reason in overview(site.store).trouble) == ["q0", "q2", "q3"]
    assert rows(site, "select query, taken from offer where query in ('q0', 'q2', 'q3')") == [
        ("q0", 0),
        ("q2", 0),
        ("q3", 0),
    ]


def test_a_clip_that_goes_missing_on_its_way(browser, served):
    """The file is deleted between the question and the request for its clip."""
    site = served.site
    ask(site, 2)
    gone = clips_of(site, "q0")[1]
    page = browser.new_context().new_page()

    def on_its_way(route):
        gone.unlink(missing_ok=True)
        route.continue_()

    page.route("**/clips/*", on_its_way)
    page.goto(f"{served.url}/#{people.invite(site.store, 'ann')}")
    wait_for_question(page)
    says(page, "A question was left out: A clip of it is missing. It went back, and whoever invited you can see why.")
    shot(page, "missing")
    page.keyboard.press("1")
    saved(page, 1)
    assert [a.query for a in site.store.answers()] == ["q1"]
    assert overview(site.store).trouble == (("q0", 1, "A clip of it is missing."),)
    page.context.close()
    page = browser.new_context().new_page()
    page.goto(f"{served.url}/owner#{people.invite(site.store, 'me', 'owner')}")
    page.get_by_text("to 1 person: A clip of it is missing.").wait_for()
    page.context.close()


def test_a_clip_whose_connection_breaks_comes_later(browser, served):
    ask(served.site, 1)
    page = browser.new_context().new_page()
    broken = []

    def breaks(route):
        broken.append(route.request.url)
        route.abort() if len(broken) <= 2 else route.continue_()

    page.route("**/clips/*", breaks)
    page.goto(f"{served.url}/#{people.invite(served.site.store, 'ann')}")
    says(page, "A clip could not be loaded: there is no connection to the study. It is tried again by itself.")
    says(page, "The next question is not here.", where="#question")
    wait_for_question(page)
    page.keyboard.press("1")
    saved(page, 1)
    assert len(answers(served.site)) == 1 and overview(served.site.store).trouble == ()
    page.context.close()


def test_a_study_that_is_edited_while_questions_are_lent(page, served):
    site = served.site
    ask(site, 7)
    wait_for_question(page)
    page.wait_for_timeout(500)  # the next ones are here
    held = [query for (query,) in rows(site, "select query from lease where state = 'open'")]
    (site.folder / TERMS).write_text('name = "Cups"\nquestion = "Which is safer?"\n')
    page.reload()
    asked = {}
    for n in range(1, 8):
        wait_for_question(page)
        question = page.locator("#question").inner_text()
        page.keyboard.press("1")
        saved(page, n)
        asked[site.store.answers()[-1].query] = question
    assert len(held) >= 3 and asked == {
        f"q{i}": "Which is better?" if f"q{i}" in held else "Which is safer?" for i in range(7)
    }
    under = dict(rows(site, "select lease.query, terms from lease join study_version on hash = version"))
    assert all(json.loads(under[query])["question"] == question for query, question in asked.items())


def test_a_study_that_gets_something_to_read_first(page, served):
    """What was answered before is taken; then the page is that of the new text."""
    site = served.site
    ask(site, 6)
    wait_for_question(page)
    (site.folder / TERMS).write_text('name = "Cups"\nconsent = "You may stop at any time."\n')
    page.keyboard.press("1")
    page.get_by_text("You may stop at any time.").wait_for()
    page.get_by_role("button", name="I agree").click()
    wait_for_question(page)
    saved(page, 1)
    assert len(answers(site)) == 1


def test_a_browser_that_cannot_play_a_clip(page, served):
    site = served.site
    ask(site, 2)
    clips_of(site, "q0")[0].write_bytes(b"no video " * 100)
    wait_for_question(page)
    says(page, "A question was left out: A clip of it cannot be played here (video/webm). It went back")
    page.keyboard.press("1")
    saved(page, 1)
    says(page, "The next ones come by themselves")
    assert [a.query for a in site.store.answers()] == ["q1"]
    assert rows(site, "select query, state from lease order by query") == [("q0", "unshown"), ("q1", "answered")]


def test_a_browser_that_can_play_nothing_stops_and_says_so(page, served):
    site = served.site
    ask(site, 8)
    for i in range(8):
        for path in clips_of(site, f"q{i}"):
            path.write_bytes(b"no video " * 100)
    says(page, "Nothing can be shown here", "Open your invitation link in a current Firefox, Chrome or Safari")
    shot(page, "nothing-plays")
    page.wait_for_timeout(5000)  # it does not go on to spoil the others
    assert dict(rows(site, "select state, count(*) from lease group by state"))["unshown"] == 3
    assert answers(site) == []


def test_a_clip_that_breaks_off_while_it_is_watched(page, served):
    site = served.site
    ask(site, 2)
    path = clips_of(site, "q0")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"\xa5" * (len(data) - len(data) // 2)
    path.write_bytes(data)
    says(page, "A question was left out: A clip of it cannot be played here")
    wait_for_question(page)
    page.keyboard.press("1")
    saved(page, 1)
    assert [a.query for a in site.store.answers()] == ["q1"]


def test_a_disk_that_fills_while_people_answer(browser, tmp_path):
    """No file of the server's may grow: SQLite says that the disk is full. What was answered waits in the browser."""
    folder = make_study(tmp_path / "study")
    site = open_site(folder)
    ask(site, 6)
    token = people.invite(site.store, "ann")
    site.store.close()
    with listen() as free:
        port = free.getsockname()[1]
    running = start(folder, port, None)
    try:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/#{token}")
        wait_for_question(page)
        page.keyboard.press("1")
        saved(page, 1)
        page.wait_for_timeout(500)  # the next ones are here
        usual = resource.prlimit(running.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (1, usual[1]))
        for _ in range(2):
            wait_for_question(page)
            page.keyboard.press("2")
        says(page, "2 kept here: It could not be saved just now", "sent again", where="#saved")
        shot(page, "full")
        site = open_site(folder)
        assert len(answers(site)) == 1
        page.wait_for_timeout(6000)  # it is tried again, in vain
        says(page, "kept here", where="#saved")
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, usual)
        page.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'", timeout=20_000)
        while len(answers(site)) < 6:
            n = len(answers(site))
            wait_for_question(page)
            page.keyboard.press("1")
            saved(page, n + 1)
        assert sorted(a.query for a in site.store.answers()) == [f"q{i}" for i in range(6)]
        site.store.close()
        context.close()
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
