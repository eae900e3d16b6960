"""The main job answered through the page, to its end: `rapport demo --ask` as a user runs it, and a real browser whose
keys are pressed by the simulated person of the demo. What comes out is what comes out without a page, bit for bit."""

import json
import os
import subprocess
import sys
import time

import pytest

from embodied.episodes import Episodes
from embodied.store import Store
from embodied.teachers import noisy
from rapport.cup.people import CAREFUL
from rapport.cup.train import TEMPERATURE
from tests.rapport.pressing import Person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SEED, ANSWERS = 0, 40  # the demo's own hundred end the same way, and take ten minutes
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "BROWSER": "true"}  # a browser that opens nothing


def command(folder, *flags):
    flags = ["--seed", str(SEED), "--answers", str(ANSWERS), "--json", "--no-clips", "--out", str(folder), *flags]
    return [sys.executable, "-m", "rapport", "demo", *flags]


def test_the_main_job_through_the_page_ends_as_it_does_without_one(browser, tmp_path):
    simulated = subprocess.run(command(tmp_path / "simulated"), env=ENV, capture_output=True, text=True)
    assert simulated.returncode == 0, simulated.stderr
    begun, asked = time.monotonic(), tmp_path / "asked"
    with (
        (tmp_path / "said").open("w+") as said,
        subprocess.Popen(command(asked, "--ask"), env=ENV, stdout=subprocess.PIPE, stderr=said, text=True) as running,
    ):
        link = next(line.split()[-1] for line in running.stdout if line.startswith("Answer here: "))
        page = browser.new_context().new_page()
        person, pressing = (
            Person(asked, page, noisy(CAREFUL.utility, seed=SEED, temperature=TEMPERATURE, lapse=0.05)),
            0.0,
        )
        page.goto(link)
        while running.poll() is None and not page.locator("#said").inner_text().startswith("That was all"):
            if person.waiting:
                since = time.monotonic()
                person.answer()
                pressing += time.monotonic() - since
            page.wait_for_timeout(20)
        page.context.close()
        out, _ = running.communicate(timeout=300)
        assert running.returncode == 0, (tmp_path / "said").read_text()
    seconds = time.monotonic() - begun
    print(f"\n{len(person.sent)} answers, {seconds:.0f} s; at the keys {60 * len(person.sent) / pressing:.0f} a minute")
    person.store.close()

    def said_in(folder):
        with Store(folder / "answers.sqlite", Episodes(folder / "episodes")) as store:
            return [(a.query, a.value) for a in store.answers()]

    def result(folder):
        found = json.loads((folder / "result.json").read_text())
        return found["before"], found["after"], found["budget"]

    assert said_in(asked) == said_in(tmp_path / "simulated") and len(person.sent) == ANSWERS
    assert result(asked) == result(tmp_path / "simulated")
    policies = [(folder / "policy" / "policy.safetensors").read_bytes() for folder in (asked, tmp_path / "simulated")]
    assert policies[0] == policies[1]
    last, plain = (json.loads(text.splitlines()[-1]) for text in (out, simulated.stdout))
    assert {**last, "seconds": 0} == {**plain, "seconds": 0}
