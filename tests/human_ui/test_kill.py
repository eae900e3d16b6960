"""kill -9 of a server under load, again and again: what it acknowledged is there exactly once, in both databases."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest

from embodied.episodes import Episode, cut
from embodied.records import Query
from human_ui import desk, people
from human_ui.server import listen
from human_ui.site import open_site
from tests.human_ui.served import clip, make_study

KILLS = int(os.environ.get("KILLS", "4"))
PEOPLE = 6


def start(folder, port, place):
    where = [] if place is None else ["--store", place]
    command = [sys.executable, "-m", "rapport", "ask", str(folder), "--port", str(port), *where]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            httpx.get(f"http://127.0.0.1:{port}/api/me", timeout=1)
            return running
        except httpx.TransportError:
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
    raise AssertionError("the server did not come up")


def fill(site, n):
    """n queries about the same two clips, for everybody."""
    made = [Episode(f"e{i}", np.full((20, 1), float(i)), np.zeros((20, 1))) for i in range(2)]
    site.store.episodes.save(made)
    shas = [site.clips.put(clip(i)).sha256 for i in range(2)]
    queries = [Query(f"q{i}", tuple(cut(episode, 0, 10) for episode in made)) for i in range(n)]
    desk.offer(site.store, queries, {q.id: shas for q in queries}, want=PEOPLE)


class Annotator(threading.Thread):
    """Answers without a pause, and sends again what nobody acknowledged."""

    def __init__(self, name, token, url, over):
        super().__init__(daemon=True)
        self.name, self.token, self.url, self.over = name, token, url, over
        self.acknowledged, self.sent = {}, 0

    def run(self):
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=10) as client:
            while not self.over.is_set():
                lent = self.insist(client, "POST", "/api/leases", {"n": 4}) or []
                for one in lent:
                    id = f"{self.name}-{self.sent}"
                    self.sent += 1
                    body = {"lease": one["lease"], "value": {"compare": random.choice([0, 0.5, 1])}}
                    said = self.insist(client, "PUT", f"/api/answers/{id}", body)
                    if said:
                        self.acknowledged[id] = said["seq"]

    def insist(self, client, method, path, body):
        while True:
            try:
                said = client.request(method, path, json=body)
            except httpx.TransportError:
                if self.over.is_set():
                    return None
                time.sleep(0.05)
                continue
            if said.status_code == 429:
                time.sleep(0.2)
                return None
            assert said.status_code == 200, said.text
            return said.json()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_acknowledged_is_there_once(tmp_path, database, request):
    place = None
    if database == "postgresql":
        server = request.getfixturevalue("server")
        server.psql("CREATE DATABASE killed;")
        place = server.get_uri("killed")
    folder = make_study(tmp_path / "study", 'name = "k"\n')
    site = open_site(folder, place)
    fill(site, 1000)
    tokens = {f"p{i}": people.invite(site.store, f"p{i}") for i in range(PEOPLE)}
    site.store.close()
    with listen() as free:
        port = free.getsockname()[1]
    over = threading.Event()
    running = start(folder, port, place)
    crowd = [Annotator(name, token, f"http://127.0.0.1:{port}", over) for name, token in tokens.items()]
    for one in crowd:
        one.start()
    rng = random.Random(0)
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.05, 1.0))
        running.send_signal(signal.SIGKILL)
        running.wait()
        running = start(folder, port, place)
    time.sleep(0.5)
    over.set()
    for one in crowd:
        one.join(timeout=30)
    running.kill()
    running.wait()
    again = open_site(folder, place)
    stored = {a.id: a.seq for a in again.store.answers()}
    counts = {}
    for answer in again.store.answers():
        counts[answer.id] = counts.get(answer.id, 0) + 1
    again.store.close()
    acknowledged = {id: seq for one in crowd for id, seq in one.acknowledged.items()}
    assert len(acknowledged) > 2 * KILLS, "hardly any load"
    assert all(stored.get(id) == seq for id, seq in acknowledged.items()), "an acknowledged answer is lost"
    assert set(counts.values()) == {1}
    assert len(stored) - len(acknowledged) <= PEOPLE, "at most one each was on its way"
    assert sorted(stored.values()) == list(range(1, len(stored) + 1))
