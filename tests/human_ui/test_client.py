"""A script beside a running study: late, revised and many answers, each once, also over a restart of the server."""

import threading
import time

import pytest

from embodied.records import Compare
from human_ui import desk, people
from human_ui.client import Client, ClientError
from human_ui.server import beside
from human_ui.study import Study
from tests.human_ui.served import ask

STUDY = Study("Cups")


def say(site, lent, id, value=1.0, supersedes=""):
    return desk.take(site.store, "ann", lent.lease, id, Compare(value), {}, supersedes, 1.0)


@pytest.fixture
def lent(site):
    people.invite(site.store, "ann")
    ask(site, 4)
    return desk.lend(site.store, STUDY, "ann", 4, 0.0, site.rng)


@pytest.fixture
def token(site):
    return people.invite(site.store, "learner", "learner")


def test_answers_come_in_order_and_each_once(served, lent, token):
    client = Client(served.url, token)
    assert client.answers() == [] and client.queue()["leased"] == 0  # of long ago
    say(served.site, lent[0], "a")
    stream = client.stream()
    assert next(stream).id == "a"
    late = threading.Timer(0.5, lambda: (say(served.site, lent[1], "b"), say(served.site, lent[0], "c", 0.5, "a")))
    late.start()
    b, c = next(stream), next(stream)
    assert (b.id, c.id, c.supersedes) == ("b", "c", "a") and c.value == Compare(0.5)
    assert [a.seq for a in client.answers()] == [1, 2, 3] and client.answers(after=3) == []
    client.withdraw(["q2", "q3"])


def test_a_reader_goes_on_over_a_restart_of_the_server(site, lent, token):
    say(site, lent[0], "a")
    with beside(site) as url:
        port = int(url.rpartition(":")[2])
        stream = Client(url, token).stream()
        assert next(stream).id == "a"
    say(site, lent[1], "b")
    found = []
    reading = threading.Thread(target=lambda: found.append(next(stream)))
    reading.start()
    with beside(site, port):
        reading.join(timeout=30)
    assert [a.id for a in found] == ["b"]


def test_what_is_refused_is_a_sentence(served, token):
    with pytest.raises(ClientError, match=r"refused: You are not signed in any more"):
        Client(served.url, "guess").answers()
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 cannot be reached .*; start it, or mend the address"):
        Client("http://127.0.0.1:1", token).answers()


def test_however_many_wait_others_are_served(served, token):
    client = Client(served.url, token)
    waiting = [threading.Thread(target=client.answers, args=(0, 20.0), daemon=True) for _ in range(60)]
    for one in waiting:
        one.start()
    time.sleep(1.0)
    assert client.queue()["answers"] == 0 and all(one.is_alive() for one in waiting)
    ask(served.site, 1)
    people.invite(served.site.store, "ann")
    (lent,) = desk.lend(served.site.store, STUDY, "ann", 1, 0.0, served.site.rng)
    say(served.site, lent, "a")
    for one in waiting:
        one.join(timeout=15)
    assert not any(one.is_alive() for one in waiting)
