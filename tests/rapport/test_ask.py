"""`rapport ask` from the command line: what it writes, whom it invites, and what it refuses."""

import re
import signal
import subprocess
import sys

import httpx
import pytest

from human_ui import people
from human_ui.site import open_site
from human_ui.study import load
from rapport.ask import template
from rapport.cli import main


def test_a_study_is_made_served_and_ended(tmp_path, capsys):
    folder = tmp_path / "cups"
    command = [sys.executable, "-m", "rapport", "ask", str(folder), "--invite", "ann", "--port", "0"]
    hear = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=hear) as running:
        said = [running.stdout.readline() for _ in range(3)]
        [ann, owner] = [re.search(r"(http://[0-9.:]+)/(?:owner)?#([\w-]+)", line).groups() for line in said[1:]]
        assert "cups, only for this machine, at http://127.0.0.1:" in said[0]
        for _ in range(100):
            try:
                told = httpx.get(f"{ann[0]}/api/me", headers={"Authorization": f"Bearer {ann[1]}"}, timeout=5)
                break
            except httpx.TransportError:
                assert running.poll() is None
        assert told.json()["name"] == "ann" and owner[1] != ann[1]
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert load(folder / "study.toml").name == "cups"
    assert main(["ask", str(folder), "--erase", "ann"]) == 0
    assert "ann: 0 answers erased" in capsys.readouterr().out
    assert main(["ask", str(folder), "--revoke", "ann"]) == 2
    assert "there is no person 'ann'" in capsys.readouterr().err


def test_revoking(tmp_path, capsys):
    (tmp_path / "study.toml").write_text(template("cups"))
    site = open_site(tmp_path)
    token = people.invite(site.store, "bob")
    site.store.close()
    assert main(["ask", str(tmp_path), "--revoke", "bob"]) == 0
    site = open_site(tmp_path)
    assert people.of_token(site.store, token) is None
    site.store.close()


@pytest.mark.parametrize(
    ("terms", "flags", "sentence"),
    [
        (template("x"), ["--public"], "--public and --address go together"),
        (template("x"), ["--public", "--address", "http://x.org/a"], "give https://host/path"),
        (template("x"), ["--public", "--address", "https://x.org/a?b"], "give https://host/path"),
        (template("x"), ["--store", "postgresql://localhost:1/x"], "cannot be reached"),
        ("name = 3", [], "study.toml: name is 3; give text"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(tmp_path, capsys, terms, flags, sentence):
    (tmp_path / "study.toml").write_text(terms)
    assert main(["ask", str(tmp_path), *flags]) == 2
    assert sentence in capsys.readouterr().err
