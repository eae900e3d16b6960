"""For everybody: axe finds nothing on any page, in light, dark and at twice the size; a phone of 360 pixels; nothing
moves; everything by the keyboard."""

from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe

from human_ui import people
from human_ui.server import beside
from human_ui.site import open_site
from tests.human_ui.served import ask, make_study, shot
from tests.human_ui.test_page import saved, wait_for_question

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
TERMS = """
name = "Cups"
consent = "You may stop at any time."
instructions = "Look at the cup."
tries = 1
[[quiz]]
question = "What do you look at?"
choices = ["cups", "cars"]
right = 0
"""
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    # As a browser does it: half as many pixels of the page's own.
    "twice": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
    "phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True},
}
SMALL = """() => [...document.querySelectorAll("button, input, textarea, a[href], select")]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }))
  .map((e) => (e.type === "radio" || e.type === "checkbox" ? e.closest("label") : e))
  .map((e) => [e.id || e.textContent.trim(), e.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44)
  .map(([name, box]) => `${name}: ${box.width} x ${box.height}`)"""


def fine(page, name):
    """axe finds nothing; nothing is wider than the page, and nothing to be pressed smaller than a finger."""
    found = Axe().run(page)
    assert found.violations_count == 0, f"{name}\n{found.generate_report()}"
    assert page.evaluate("() => document.scrollingElement.scrollWidth - innerWidth") <= 0, f"{name} is too wide"
    assert page.evaluate(SMALL) == [], name
    shot(page, name)


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_for_everybody(browser, tmp_path, look):
    site = open_site(make_study(tmp_path / "study", TERMS))
    for kind, k in (("compare", 2), ("rank", 2), ("rank", 4), ("rank", 6), ("rate", 1), ("rate", 3)):
        ask(site, 1, kind, k, prefix=f"{kind}{k}-")
    ask(site, 1, prefix="near", anchor=True)
    with beside(site) as url:
        page = browser.new_context(**LOOKS[look]).new_page()
        page.goto(url)
        fine(page, f"{look}-join")
        page.goto(f"{url}/owner#{people.invite(site.store, 'me', 'owner')}")
        page.get_by_role("heading", name="People").wait_for()
        page.context.clear_cookies()
        page.goto(f"{url}/#{people.invite(site.store, 'ann')}")
        page.locator("#agree").wait_for()
        fine(page, f"{look}-consent")
        page.locator("#agree").click()
        page.locator("#quiz").wait_for()
        fine(page, f"{look}-quiz")
        page.get_by_role("radio").first.check()
        page.get_by_role("button").click()
        for n in range(1, 8):
            wait_for_question(page)
            fine(page, f"{look}-{n}")
            if look == "phone":
                boxes = [figure.bounding_box() for figure in page.locator("#stage figure").all()]
                assert all(a["y"] + a["height"] <= b["y"] for a, b in pairwise(boxes)), "they stack"
            if n == 1:
                page.locator("#note").click()
                fine(page, f"{look}-note")
                page.locator("#note").click()
                page.locator("#help").click()
                fine(page, f"{look}-keys")
                page.keyboard.press("Escape")
                page.locator("#rest").click()
                page.get_by_role("button", name="Go on").wait_for()
                fine(page, f"{look}-rest")
                page.get_by_role("button", name="Go on").click()
                wait_for_question(page)
            page.locator("[data-action=skip]").click()
            saved(page, n)
        page.get_by_text("The next ones come by themselves").wait_for()
        fine(page, f"{look}-waiting")
        page.context.clear_cookies()
        page.goto(f"{url}/#{people.invite(site.store, 'bob')}")
        page.locator("#agree").click()
        page.get_by_role("radio").last.check()
        page.get_by_role("button").click()
        page.get_by_text("were not answered right").wait_for()
        fine(page, f"{look}-failed")
        page.context.clear_cookies()
        page.goto(f"{url}/owner#{people.invite_again(site.store, 'me')}")
        page.get_by_role("heading", name="People").wait_for()
        fine(page, f"{look}-owner")
        page.context.close()
    site.store.close()


@pytest.mark.parametrize("look", ["light", "twice", "phone"])
def test_nothing_moves_over_ten_answers(browser, served, look):
    ask(served.site, 11)
    page = browser.new_context(**LOOKS[look]).new_page()
    page.goto(f"{served.url}/#{people.invite(served.site.store, 'ann')}")
    wait_for_question(page)
    page.evaluate(
        "() => { window.moved = []; new PerformanceObserver((list) => { for (const e of list.getEntries()) "
        "window.moved.push([e.value, ...e.sources.map((s) => s.node?.id || s.node?.nodeName)]); })"
        ".observe({ type: 'layout-shift' }); }"
    )
    for n in range(1, 11):
        wait_for_question(page)
        page.keyboard.press("1")
        saved(page, n)
    moved = page.evaluate("() => window.moved")
    assert sum(value for value, *_ in moved) <= 0.01, moved
    page.context.close()


def test_everything_by_the_keyboard(browser, tmp_path):
    """From the invitation to a ranking, with Tab, Enter, Space and arrows alone, single keys switched off."""
    site = open_site(make_study(tmp_path / "study", TERMS))
    ask(site, 3, prefix="a-")
    ask(site, 1, "rate", 2, prefix="b-")
    with beside(site) as url:
        page = browser.new_context().new_page()
        page.goto(url)

        def to(selector, key=None):
            for _ in range(60):
                if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
                    return page.keyboard.press(key) if key else None
                page.keyboard.press("Tab")
            raise AssertionError(f"no Tab leads to {selector}")

        to("#token")
        page.keyboard.type(people.invite(site.store, "ann"))
        page.keyboard.press("Enter")
        page.locator("#agree").wait_for()
        to("#agree", "Enter")
        page.locator("#quiz").wait_for()
        to("input[type=radio]", "Space")
        to("#quiz button", "Enter")
        wait_for_question(page)
        to("#help", "Enter")
        to("#keys-on", "Space")
        to("#keys-close", "Enter")
        page.keyboard.press("2")
        page.wait_for_timeout(300)
        assert site.store.answers() == [], "single keys are off"
        to("[data-action=second]", "Enter")
        saved(page, 1)
        wait_for_question(page)
        assert page.evaluate("() => document.activeElement.dataset.action") == "second", "the focus stays"
        for _ in range(20):  # a key that is held
            page.keyboard.down("Enter")
            page.wait_for_timeout(30)
        page.keyboard.up("Enter")
        saved(page, 2)
        wait_for_question(page)
        to("[data-action=tie]", "Space")
        saved(page, 3)
        wait_for_question(page)
        to("#undo", "Enter")
        page.get_by_text("You are changing an earlier answer").wait_for()
        wait_for_question(page)
        to("[data-action=skip]", "Enter")
        page.locator("#answers fieldset").first.wait_for()
        wait_for_question(page)
        for place in (0, 1):
            to(f"input[name=rate{place}]", "Space")
            page.keyboard.press("ArrowRight")
        to("[data-action=confirm]", "Enter")
        saved(page, 4)
        assert len(site.store.answers()) == 5
        page.context.close()
    site.store.close()
