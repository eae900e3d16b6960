"""`rapport ask` and `rapport train --ask` side by side, each killed once, and people who see the clips alone."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from human_ui.clips import decode
from human_ui.server import listen
from human_ui.site import open_site
from rapport.run import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WORLD = f"{Path(__file__).with_name('worlds.py')}:Drawn"
ANSWERS = 18
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def serve(study, port, *flags):
    command = [sys.executable, "-m", "rapport", "ask", str(study), "--port", str(port), *flags]
    running = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, text=True)
    said = [running.stdout.readline() for _ in range(2 + len(flags[1:]))]
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/api/me", timeout=2)
            return running, re.findall(r"for (\w+): \S+#([\w-]+)", "".join(said))
        except httpx.TransportError:
            assert running.poll() is None
            time.sleep(0.05)


def training(study, folder, *flags):
    command = [sys.executable, "-m", "rapport", "train", "--env", WORLD, "--horizon", "12", "--ask", str(study)]
    command += ["--answers", str(ANSWERS), "--sessions", "3", "--steps", "400", "--out", str(folder), *flags]
    return subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)


class Annotator(threading.Thread):
    """Watches both clips and likes the square near the middle; sends again what nobody acknowledged."""

    def __init__(self, url, name, token, over):
        super().__init__(daemon=True)
        self.url, self.name, self.over, self.given = url, name, over, {}
        self.headers = {"Authorization": f"Bearer {token}"}

    def run(self):
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=10) as client:
            while not self.over.is_set():
                try:
                    lent = client.post("/api/leases", json={"n": 2}).raise_for_status().json()
                    for one in lent:
                        self.answer(client, one)
                except httpx.HTTPError:
                    pass  # the server is away
                time.sleep(0.2)

    def answer(self, client, one):
        apart = [self.apart(client.get(f"/clips/{clip['sha256']}").raise_for_status().content) for clip in one["clips"]]
        id, body = (
            f"{self.name}-{one['lease'][:12]}",
            {"lease": one["lease"], "value": {"compare": float(apart[0] < apart[1])}},
        )
        said = client.put(f"/api/answers/{id}", json=body)
        assert said.status_code in (200, 410), said.text
        if said.status_code == 200:
            self.given[id] = said.json()["seq"]

    @staticmethod
    def apart(clip):
        """Pixels from the middle, the mean over frames."""
        return np.mean([abs(frame[24, :, 0].astype(int).argmax() - 48) for frame in decode(clip)])


def files(folder):
    newest = max((folder / "checkpoints").glob("step-*"))
    return [(newest / name).read_bytes() for name in ("arrays.safetensors", "state.json")]


def test_two_processes_each_killed_once(tmp_path):
    study, folder = tmp_path / "study", tmp_path / "run"
    study.mkdir()
    (study / "study.toml").write_text('name = "Lines"\nclip_seconds = 0.3\nfps = 20\nwant = 2\n')
    with listen() as free:
        port = free.getsockname()[1]
    server, tokens = serve(study, port, "--invite", "ann", "bob")
    over = threading.Event()
    crowd = [Annotator(f"http://127.0.0.1:{port}", name, token, over) for name, token in tokens if name != "you"]
    learner = training(study, folder)
    for one in crowd:
        one.start()

    def wait_for(n):
        until = time.monotonic() + 300
        while sum(len(one.given) for one in crowd) < n:
            assert time.monotonic() < until and learner.poll() is None, learner.stderr.read()
            time.sleep(0.05)

    wait_for(4)
    server.send_signal(signal.SIGKILL)
    server.wait()
    server, _ = serve(study, port)
    wait_for(15)
    learner.send_signal(signal.SIGKILL)
    learner.wait()
    learner = training(study, folder)
    _, told = learner.communicate(timeout=600)
    assert learner.returncode == 0, told
    over.set()
    for one in crowd:
        one.join(timeout=30)
    server.kill()
    server.wait()
    assert "going on after round" in told
    result = read_json(folder / "result.json")
    assert result["budget"]["asked"] == ANSWERS and result["budget"]["answered"] == 2 * ANSWERS
    site = open_site(study)
    answers, queries = site.store.answers(), {q.id: q for q in site.store.queries()}
    site.store.close()
    stored, given = {a.id: a.seq for a in answers}, {id: seq for one in crowd for id, seq in one.given.items()}
    assert given.items() <= stored.items() and len(stored) - len(given) <= 2, "at most one each was on its way"
    clear = []
    for answer in answers:
        near = [np.abs(part.obs[:, 0]).mean() for part in queries[answer.query].segments]
        if abs(near[0] - near[1]) > 0.15:  # some pixels
            clear.append((near[0] < near[1]) == (answer.value.first == 1.0))
    assert np.mean(clear) >= 0.9 and len(clear) > len(answers) / 3, "what they saw is what happened"
    replay = training(study, tmp_path / "again", "--run", "run")
    _, told = replay.communicate(timeout=600)
    assert replay.returncode == 0, told
    assert files(folder) == files(tmp_path / "again")
    rows = [read_json(each / "rounds.json") for each in (folder, tmp_path / "again")]
    assert [row["returns"] for row in rows[0]] == [row["returns"] for row in rows[1]]
    assert any("accuracy" in row["metrics"] for row in rows[0])
