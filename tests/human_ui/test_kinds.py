"""Every kind of question on the page, in a real browser: what is pressed is what the store holds."""

import json

import pytest

from embodied.records import Choose, Compare, Grade, Marks, Stop, Survey, Written
from human_ui.site import TERMS
from human_ui.texts import Texts, offer
from tests.human_ui.served import ask, shot
from tests.human_ui.test_page import saved, wait_for_question

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def shown(site, query):
    """Which segment was shown in each place."""
    with site.store.read() as connection:
        return json.loads(connection.exec_driver_sql(f"select shown from lease where query = '{query}'").scalar_one())


def seek(page, frame):
    page.evaluate(
        "(n) => { const s = document.querySelector('#seek'); s.value = n; s.dispatchEvent(new Event('input')); }", frame
    )
    page.wait_for_function("(n) => document.querySelector('#frame').textContent.startsWith(`${n + 1}/`)", arg=frame)
    page.evaluate("() => document.activeElement.blur()")


def test_by_how_much(page, served):
    ask(served.site, 4, "grade")
    for i, (press, level) in enumerate([("Shift+1", 2), ("2", -1), ("0", 0), ("Shift+2", -2)]):
        wait_for_question(page)
        if not i:
            shot(page, "grade")
        page.keyboard.press(press)
        saved(page, i + 1)
        last = served.site.store.answers()[-1]
        sign = 1 if shown(served.site, last.query) == [0, 1] else -1
        assert last.value == Grade(level * sign)
    page.keyboard.press("z")
    wait_for_question(page)
    assert page.locator("[aria-pressed=true]").inner_text().startswith("Right much better")
    page.get_by_role("button", name="Left much better").click()
    page.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'")
    assert served.site.store.answers()[-1].value.level == -served.site.store.answers()[-2].value.level


def test_the_best_of_several(page, served):
    ask(served.site, 1, "choose", 4)
    wait_for_question(page)
    shot(page, "choose")
    page.keyboard.press("3")
    saved(page, 1)
    (answer,) = served.site.store.answers()
    assert answer.value == Choose(shown(served.site, answer.query)[2])


def test_good_and_bad_stretches(page, served):
    ask(served.site, 1, "mark", 1)
    wait_for_question(page)
    page.keyboard.press("Space")  # still
    seek(page, 4)
    page.keyboard.press("i")
    seek(page, 7)
    page.keyboard.press("o")
    page.keyboard.press("g")
    seek(page, 12)
    page.keyboard.down("b")
    seek(page, 14)
    page.keyboard.up("b")
    assert page.locator(".track .good").count() == page.locator(".track .bad").count() == 1
    shot(page, "mark")
    page.keyboard.press("g")  # a tap marks one step
    page.keyboard.press("Delete")
    page.keyboard.press("Enter")
    saved(page, 1)
    assert served.site.store.answers()[0].value == Marks(((4, 8, True), (12, 15, False)))
    page.keyboard.press("z")
    wait_for_question(page)
    assert page.locator(".track span:not(.head)").count() == 2
    page.get_by_role("button", name="Remove: good").click()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'")
    assert served.site.store.answers()[1].value == Marks(((12, 15, False),))


def test_marks_while_it_plays_and_by_touch(page, served):
    ask(served.site, 1, "mark", 1)
    wait_for_question(page)
    button = page.get_by_role("button", name="Bad while held")
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    page.keyboard.press("r")
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.wait_for_timeout(300)
    page.mouse.up()
    page.keyboard.press("Enter")
    saved(page, 1)
    ((start, stop, good),) = served.site.store.answers()[0].value.spans
    assert not good and 0 <= start < 8 and 2 <= stop - start <= 16, "0.3 s at 20 frames a second, on a busy machine"


def test_where_it_should_have_stopped(page, served):
    ask(served.site, 2, "stop", 1)
    wait_for_question(page)
    seek(page, 8)
    shot(page, "stop")
    page.keyboard.press("Enter")
    saved(page, 1)
    wait_for_question(page)
    page.keyboard.press("1")
    saved(page, 2)
    assert [a.value for a in served.site.store.answers()] == [Stop(9), Stop(20)]


SURVEY = """
name = "Caves"
goal = "Find a cave and stop inside"
outcome = true
[[survey]]
name = "cave"
question = "Did it enter a cave?"
[[survey]]
name = "faster"
question = "Which was faster?"
of = "both"
"""


def test_a_questionnaire_with_the_goal_and_the_outcome_in_sight(page, served):
    page.wait_for_selector("#question")
    (served.site.folder / TERMS).write_text(SURVEY)
    page.reload()
    ask(served.site, 1, "survey")
    wait_for_question(page)
    assert page.locator("#goal").inner_text() == "The goal: Find a cave and stop inside"
    assert page.locator(".still video").count() == 4
    page.get_by_role("button", name="Confirm").click()
    assert page.locator("#said").inner_text() == "There is a question without an answer."
    for group, label in [
        ("Left: Did it enter a cave?", "Yes"),
        ("Right: Did it enter a cave?", "Does not apply"),
        ("Which was faster?", "Left"),
        ("Over all, which is better?", "Left"),
    ]:
        page.get_by_role("group", name=group).get_by_label(label).check()
    page.get_by_label("Why?").fill("It went <straight> in.")
    shot(page, "survey")
    page.get_by_role("button", name="Confirm").click()
    saved(page, 1)
    (answer,) = served.site.store.answers()
    left_first = shown(served.site, answer.query) == [0, 1]
    cave, p = ((True, None), 1.0) if left_first else ((None, True), 0.0)
    assert answer.value == Survey(p, {"cave": cave, "faster": p}, "It went <straight> in.")


def test_free_text(page, served):
    ask(served.site, 1, "write", 1)
    wait_for_question(page)
    page.keyboard.press("Enter")
    assert page.locator("#said").inner_text() == "Write something, or say that you can't tell."
    page.get_by_label("What would you say about it?").fill("It spills at the corner.")
    shot(page, "write")
    page.keyboard.press("Control+Enter")
    saved(page, 1)
    assert served.site.store.answers()[0].value == Written("It spills at the corner.")


def test_two_answers_of_a_language_model(page, served):
    evil = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    long = "\n".join(f"Line {i} of a long answer." for i in range(200))
    offer(
        served.site,
        [Texts("Name a <b>colour</b>.", (f"Blue is a colour.\n{evil}\n{long}", f"Red is a colour.\n{long}"))],
    )
    wait_for_question(page)
    assert page.locator("#prompt-text").inner_text() == "Name a <b>colour</b>."
    assert page.locator("#question").inner_text() == "Which is better?"
    assert page.locator("#clock").is_hidden() and page.title() != "owned" and not page.locator("#stage img").count()
    page.keyboard.press("d")
    assert {"Red", "Blue", "src=x"} <= set(page.locator("#stage mark").all_inner_texts())
    assert "Line" not in page.locator("#stage mark").all_inner_texts()
    page.get_by_label("Scroll together").check()
    page.locator("#stage .text").first.evaluate("(e) => (e.scrollTop = e.scrollHeight)")
    page.wait_for_function("() => [...document.querySelectorAll('#stage .text')].every((e) => e.scrollTop > 100)")
    page.evaluate("() => document.activeElement.blur()")
    shot(page, "texts")
    left = page.locator("#stage .text").first.inner_text()
    page.keyboard.press("1")
    saved(page, 1)
    (answer,) = served.site.store.answers()
    assert answer.value == Compare(1.0 if left.startswith("Blue") else 0.0)


def test_what_was_begun_is_kept_through_an_undo_and_a_new_key(page, served):
    page.wait_for_selector("#question")
    (served.site.folder / TERMS).write_text(SURVEY)
    page.reload()
    ask(served.site, 1, prefix="first")
    wait_for_question(page)
    page.keyboard.press("1")
    ask(served.site, 1, "survey")
    page.wait_for_selector("#why")
    page.get_by_label("Why?").fill("long and reasoned")
    page.get_by_role("group", name="Which was faster?").get_by_label("Left").check()
    page.locator("#help").click()
    page.get_by_label("Key for: Confirm, now Enter").click()
    page.keyboard.press("KeyC")
    page.get_by_role("button", name="Close").click()
    assert page.get_by_label("Why?").input_value() == "long and reasoned"
    assert page.locator("[data-action=confirm] kbd").inner_text() == "C"
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("z")
    wait_for_question(page)
    assert page.locator("[aria-pressed=true]").inner_text().startswith("Left better")
    page.keyboard.press("2")
    page.wait_for_selector("#why")
    assert page.get_by_label("Why?").input_value() == "long and reasoned"
    assert page.get_by_role("group", name="Which was faster?").get_by_label("Left").is_checked()


def test_ratings_by_digits_and_enter(page, served):
    ask(served.site, 1, "rate", 2)
    wait_for_question(page)
    page.keyboard.press("6")
    page.keyboard.press("2")
    page.get_by_role("radio").nth(5).focus()
    page.keyboard.press("7")
    page.keyboard.press("Enter")
    saved(page, 1)
    (answer,) = served.site.store.answers()
    assert [answer.value.values[k] for k in shown(served.site, answer.query)] == [7.0, 2.0]


def test_undo_during_a_break_and_a_mark_that_is_still_held(page, served):
    problems = []
    page.on("pageerror", lambda error: problems.append(error))
    ask(served.site, 2, "mark", 1)
    wait_for_question(page)
    page.keyboard.press("Space")
    seek(page, 5)
    page.keyboard.down("g")
    page.keyboard.press("Enter")
    page.keyboard.up("g")
    saved(page, 1)
    assert served.site.store.answers()[0].value == Marks(((5, 6, True),))
    wait_for_question(page)
    page.keyboard.press("p")
    page.get_by_role("button", name="Go on").wait_for()
    page.keyboard.press("z")
    wait_for_question(page)
    page.keyboard.press("Delete")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'")
    assert served.site.store.answers()[-1].value == Marks(()) and not problems


def test_texts_scroll_together_on_the_next_question_too(page, served):
    long = "\n".join(f"Line {i}." for i in range(300))
    offer(served.site, [Texts(p, (f"{p} one {long}", f"{p} two {long}")) for p in ("a", "b")])
    wait_for_question(page)
    page.get_by_label("Scroll together").check()
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("1")
    saved(page, 1)
    page.locator("#stage .text").first.evaluate("(e) => (e.scrollTop = e.scrollHeight)")
    page.wait_for_function("() => [...document.querySelectorAll('#stage .text')].every((e) => e.scrollTop > 100)")
    page.keyboard.press("d")
    assert sorted(page.locator("#stage mark").all_inner_texts()) == ["one", "two"]
    page.locator("#prompt summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#prompt-text").is_hidden() and len(served.site.store.answers()) == 1
