"""The main job answered through the page, to its end: a small one, and `rapport demo --ask` as a user runs it. The keys
of a real browser are pressed by the simulated person of the demo. What comes out is what comes out without a page, bit
for bit."""

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
from rapport.cup.train import TEMPERATURE, Settings
from tests.rapport.conftest import TINY
from tests.rapport.pressing import Person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SEED = 0
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "BROWSER": "true"}  # a browser that opens nothing


def whole(folder, answers, ask):
    flags = ["--seed", str(SEED), "--answers", str(answers), "--json", "--no-clips", "--out", str(folder)]
    return [sys.executable, "-m", "rapport", "demo", *flags, *["--ask"] * ask]


def small(folder, answers, ask):
    settings = Settings(seed=SEED, answers=answers, held_out=16, recipe=TINY, ask=ask)
    code = (
        "import json, sys; from dataclasses import asdict; from pathlib import Path\n"
        "from rapport.cup.agent import Recipe; from rapport.cup.demo import run, summary\n"
        "from rapport.cup.train import Settings; from rapport.run import run_folder\n"
        f"settings, folder = {settings!r}, Path(sys.argv[1])\n"
        "with run_folder(folder, asdict(settings)): print(json.dumps(summary(run(settings, folder))))"
    )
    return [sys.executable, "-c", code, str(folder)]


# The demo's own hundred answers end as forty do.
@pytest.mark.parametrize(("command", "answers"), [(small, 12), pytest.param(whole, 40, marks=pytest.mark.long)])
def test_the_main_job_through_the_page_ends_as_it_does_without_one(command, answers, browser, tmp_path):
    simulated = subprocess.run(command(tmp_path / "simulated", answers, False), env=ENV, capture_output=True, text=True)
    assert simulated.returncode == 0, simulated.stderr
    begun, asked = time.monotonic(), tmp_path / "asked"
    with (
        (tmp_path / "said").open("w+") as said,
        subprocess.Popen(
            command(asked, answers, True), env=ENV, stdout=subprocess.PIPE, stderr=said, text=True
        ) as running,
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

    assert said_in(asked) == said_in(tmp_path / "simulated") and len(person.sent) == answers
    assert result(asked) == result(tmp_path / "simulated")
    policies = [(folder / "policy" / "policy.safetensors").read_bytes() for folder in (asked, tmp_path / "simulated")]
    assert policies[0] == policies[1]
    last, plain = (json.loads(text.splitlines()[-1]) for text in (out, simulated.stdout))
    assert {**last, "seconds": 0} == {**plain, "seconds": 0}
