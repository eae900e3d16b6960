"""The operator's page in a real browser: by keyboard, with what is refused in words, and what is always in sight."""

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.hardware.gateway import robot as robots

pytestmark = pytest.mark.slow
SHOTS = Path(os.environ.get("SHOTS", "/nonexistent"))


@pytest.fixture
def robot(tmp_path):
    with robots.running(robots.cup_arm(tmp_path)) as running:
        yield running


@pytest.fixture
def page(robot, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    found = context.new_page()
    wrong = []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    found.goto(f"{robot.address}/#token={robot.tokens.of('operate')}")
    mode(found, "READY")
    yield found
    context.close()
    assert not [said for said in wrong if "409" not in said], wrong


def mode(page, wanted):
    expect(page.locator("#mode")).to_have_text(wanted, timeout=10_000)


def test_home_by_keyboard_then_space_and_escape(page, robot):
    assert "#token" not in page.url
    assert page.locator("#arm").is_disabled() and page.locator("#arm-why").inner_text() == "take the lease first"
    page.locator("#lease").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#arm:not([disabled])")
    for what in ("arm", "home"):
        page.wait_for_selector(f"#{what}:not([disabled])")
        page.locator(f"#{what}").focus()
        page.keyboard.press("Enter")
    mode(page, "HOMING")
    page.keyboard.press("Space")
    mode(page, "HOLD")
    assert "the page's stop" in page.locator("#cause").inner_text()
    page.locator("#home").focus()
    page.keyboard.press("Enter")
    mode(page, "HOMING")
    mode(page, "HOLD")
    expect(page.locator("#disarm-why")).to_have_text("takes the power: a raised arm drops; hold it")
    expect(page.locator("#episodes tbody tr").first).to_contain_text("home")
    if SHOTS.is_dir():
        page.screenshot(path=SHOTS / "robot_page.png")
    page.locator("#task").focus()  # also out of an input
    page.keyboard.press("Escape")
    mode(page, "ESTOP")
    assert "a raised arm drops" in page.locator("#mend").inner_text()
    assert "an e-stop by operate" in page.locator("#cause").inner_text()
    page.wait_for_selector("#reset:not([disabled])")
    page.locator("#reset").click()
    mode(page, "READY")


def test_space_on_a_focused_button_begins_nothing(page, robot):
    page.locator("#lease").click()
    page.wait_for_selector("#arm:not([disabled])")
    page.locator("#arm").focus()
    page.keyboard.press("Space")
    expect(page.locator("#said")).to_have_text("Stopped.")
    assert robot.state()["mode"] == "READY"


def test_the_scene_is_told(page, robot):
    page.locator("#lease").click()
    page.locator("#things input[name=goal]").fill("0.5, 0.4 0.2")
    page.locator("#things input[name=goal]").press("Enter")
    expect(page.locator("#said")).to_contain_text("knows where")
    assert robot.state()["scene"] == {"goal": [0.5, 0.4, 0.2]}


def test_a_page_that_is_closed_loses_the_lease_and_the_arm_stops(page, robot, browser):
    page.locator("#lease").click()
    page.wait_for_selector("#arm:not([disabled])")
    assert robot.state()["holder"] == "operate"
    page.goto("about:blank")
    robot.until(seconds=15, holder="")


def test_what_is_always_in_sight(page):
    page.set_viewport_size({"width": 400, "height": 600})
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    for wanted in ("#notice", "#mode", "#stop", "#estop"):
        box = page.locator(wanted).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 600, wanted
        assert box["x"] >= 0 and box["x"] + box["width"] <= 400, wanted
    assert "hardware e-stop" in page.locator("#notice").inner_text()
    assert "a raised arm drops" in page.locator("#drops").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anybody_out(page, scheme):
    page.emulate_media(color_scheme=scheme)
    found = Axe().run(page)
    assert not found.response["violations"], found.generate_report()


def test_without_a_token_the_page_asks_for_one_and_shows_nothing(robot, browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(robot.address)
    page.wait_for_selector("#token")
    assert page.locator("#joints tbody tr").count() == 0
    page.locator("#token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("valid token")
    page.locator("#token").fill(robot.tokens.of("observe"))
    page.keyboard.press("Enter")
    mode(page, "READY")
    context.close()


def test_a_dead_daemon_is_said_large(page, robot):
    robot.processes["armd"].kill()
    mode(page, "NO DAEMON")
    expect(page.locator("#cause")).to_contain_text("daemon")
    robot.processes["armd"].wait()
    robot.processes.pop("armd").stdout.close()
