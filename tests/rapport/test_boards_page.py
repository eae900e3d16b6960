"""The ready study as people meet it: `rapport ask --walks`, the instructions, the quiz, and answers by keys alone."""

import os
import signal
import subprocess
import sys

import pytest

from embodied.planning import expected_features
from embodied.regret import utility
from embodied.teachers import oracle
from envs.delivery import board
from rapport.data_folder import look
from tests.human_ui.served import shot
from tests.rapport.pressing import Person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
COUNT = 12
READY = "() => document.querySelectorAll('#stage:not([aria-busy=true]) figure').length"


def test_somebody_who_minds_regret_answers_the_ready_study(browser, tmp_path):
    folder, world = tmp_path / "trips", board()
    command = [sys.executable, "-m", "rapport", "ask", str(folder), "--walks", str(COUNT), "--invite", "ann"]
    hear = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, "--port", "0"], **pipes, preexec_fn=hear, env=env) as running:
        link = next(line.split()[-1] for line in running.stdout if "for ann" in line)
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        likes = oracle(utility(world, expected_features(world) @ world.weights, 2))
        person = Person(folder, page, likes)
        page.goto(link)
        page.locator("#agree:not([disabled])").wait_for()
        told = page.inner_text("main")
        assert "sheep (white) −50" in told and "The dot is where a clip begins" in told
        shot(page, "walks-instructions")
        page.click("#agree")
        page.locator("#quiz button:not([disabled])").wait_for()
        for n, right in enumerate((1, 0)):
            page.check(f'input[name=q{n}][value="{right}"]')
        shot(page, "walks-quiz")
        page.click("#quiz button")
        page.wait_for_function(READY)
        assert "the highest score by the end of the trip. Green square +50" in page.inner_text("#goal")
        page.wait_for_timeout(4000)  # the clips are over, and stand at their last frame
        shot(page, "walks")
        while len(person.sent) < COUNT:
            person.answer() if person.waiting else page.wait_for_timeout(20)
        page.wait_for_function("(n) => document.querySelector('#count').textContent === n", arg=str(COUNT))
        queries = {query.id: query for query in person.store.queries()}
        said = {answer.query: answer.value for answer in person.store.answers()}
        person.store.close()
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert len(said) == COUNT == look(folder).budget.answered
    assert all(said[id] == likes(query) for id, query in queries.items())
