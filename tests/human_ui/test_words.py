"""What others wrote (question, prompt, note, names) is text on every page, never code; and no path leads out of the
clips. In a real browser, where a script that ran would say so."""

import socket
import time

import numpy as np
import pytest

from embodied.episodes import Episode, cut
from embodied.records import Query
from human_ui import desk, people, returns
from human_ui.server import beside
from human_ui.site import open_site
from tests.human_ui.served import clip, make_study
from tests.human_ui.test_page import saved, wait_for_question

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BAD = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>",
    "\"><svg onload=window.ran=3> '-window.ran=4-'",
    "</title></main><iframe srcdoc='<script>parent.ran=6</script>'></iframe>",
    "{{ 77 * 77 * 77 }}{% raw %} javascript:window.ran=5 \u202egnirts \u2028 ]]> &lt;b&gt;",
)
PATHS = (
    "/clips/../study.toml",
    "/clips/..%2fstudy.toml",
    "/clips/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/clips/%2e%2e/%2e%2e/etc/passwd",
    "/clips/....//....//etc/passwd",
    "/clips/..%5c..%5cstudy.toml",
    "/clips/%00",
    "/clips//etc/passwd",
    "/clips/" + "a" * 63 + "%00",
    "/clips/" + "0" * 64,
    "/static/../app.py",
    "/static/..%2f..%2fapp.py",
    "/static/%2e%2e/templates/owner.html",
    "/static//etc/passwd",
)
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective));
"""


def toml(text):
    return '"' + "".join(c if ord(c) >= 32 and c not in '"\\' else f"\\u{ord(c):04x}" for c in text) + '"'


def stays_text(page, *shown):
    body = page.evaluate("() => document.documentElement.textContent")
    for text in shown:
        assert text in body, text
    assert page.evaluate("() => [window.ran ?? null, window.violations]") == [None, []]
    elements = page.evaluate("() => document.querySelectorAll('iframe, svg, img, script:not([src])').length")
    assert elements == 0 and "456533" not in body and page.problems == []


def offer(site, id, prompt):
    made = [Episode(f"{id.split()[0]}{i}", np.full((20, 1), float(i)), np.zeros((20, 1))) for i in range(2)]
    site.store.episodes.save(made)
    query = Query(id, tuple(cut(episode, 0, 20) for episode in made), context=prompt)
    desk.offer(site.store, [query], {id: [site.clips.put(clip(i)).sha256 for i in range(2)]}, want=1)


@pytest.mark.parametrize("bad", BAD)
def test_words_of_others_are_text(browser, tmp_path, bad):
    terms = f"name = {toml(bad)}\nquestion = {toml(bad)}\nconsent = {toml(bad)}\ninstructions = {toml(bad)}\n"
    terms += f"[[quiz]]\nquestion = {toml(bad)}\nchoices = [{toml(bad)}, 'b']\nright = 0\n"
    site = open_site(make_study(tmp_path / "study", terms))
    token = people.invite(site.store, bad)
    for id, prompt in (("plain", ""), ("prompted", f"prompt {bad}"), (f"broken {bad}", "")):
        offer(site, id, prompt)
    for lent in desk.lend(site.store, site.study(), bad, 8, time.time(), site.rng):
        if lent.query.startswith("broken"):
            returns.unshown(site.store, bad, lent.lease, f"reason {bad}", time.time())
    with beside(site) as url:
        page = watched(browser)
        page.goto(f"{url}/#{token}")
        page.locator("#agree").wait_for()
        stays_text(page, bad)
        page.locator("#agree").click()
        page.get_by_role("radio").first.check()
        stays_text(page, bad)
        page.get_by_role("button").click()
        for n, shown in ((1, bad), (2, f"prompt {bad}")):
            wait_for_question(page)
            stays_text(page, shown)
            page.locator("#note").click()
            page.locator("#words").fill(f"note {bad}")
            page.get_by_role("button", name="Keep it").click()
            page.locator("[data-action=first]").click()
            saved(page, n)
        page.keyboard.press("z")
        wait_for_question(page)
        stays_text(page, f"prompt {bad}")
        page.context.close()
        page = watched(browser)
        page.goto(f"{url}/owner#{people.invite(site.store, 'me', 'owner')}")
        page.get_by_role("heading", name="People").wait_for()
        stays_text(page, bad, f"broken {bad}", f"reason {bad}")
        page.context.close()
    site.store.close()


def watched(browser):
    """A new page whose scripts, if any should run, and errors are noted."""
    page = browser.new_context().new_page()
    page.add_init_script(WATCH)
    page.problems = []
    page.on("console", lambda m: page.problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    return page


def test_no_path_leads_out_of_the_clips(served):
    """As a client sends it that does not tidy paths up first."""
    secret = served.site.folder / "study.toml"
    assert secret.exists()
    host, port = served.url.removeprefix("http://").split(":")
    token = people.invite(served.site.store, "me", "owner")
    for path in PATHS:
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            raw.sendall(head.encode())
            told = b"".join(iter(lambda raw=raw: raw.recv(65536), b""))
        assert told.split()[1] in (b"404", b"422", b"400", b"307"), (path, told)
        assert b"Cups" not in told and b"root:" not in told, path
