import os
import socket
import time

import numpy as np
import pytest

from hardware.doors import MOST_CLIENTS, MOST_MESSAGES, MOST_WAITING, Caller, Doors
from hardware.link import Beat, Estop, Leader, Reply, Take, pack


@pytest.fixture
def doors(tmp_path):
    made = Doors(tmp_path / "run" / "a.sock")
    made.open_to(Reply(0, "hello"))
    yield made
    made.close()
    assert not made.path.exists()


def heard(doors, count=1):
    """Until so many messages have come, or clients gone."""
    said, gone, until = [], [], time.monotonic() + 10
    while len(said) + len(gone) < count and time.monotonic() < until:
        more, left = doors.heard()
        said, gone = said + more, gone + left
    return said, gone


def test_clients_are_greeted_heard_and_told(doors):
    assert os.stat(doors.path).st_mode & 0o777 == 0o600 and os.stat(doors.path.parent).st_mode & 0o777 == 0o700
    a, b = Caller(doors.path), Caller(doors.path)
    a.say(Take("anna", 1.0), 7)
    b.say(Beat())
    said, _ = heard(doors, 2)
    assert sorted(said) == [(1, 7, Take("anna", 1.0)), (2, 0, Beat())] if said[0][0] == 1 else len(said) == 2
    assert a.hear() == b.hear() == Reply(0, "hello")
    doors.tell(1, Reply(7, "no"), 7)
    doors.tell_all(Reply(0, "all"))
    assert a.hear() == Reply(7, "no") and a.hear() == b.hear() == Reply(0, "all")
    assert doors.clients[1].pid == os.getpid()
    b.close()
    assert heard(doors) == ([], [2])
    a.close()


def test_nonsense_is_answered_and_what_is_too_long_ends_it(doors):
    a = Caller(doors.path)
    a.end.sendall(b"\x03\0\0\0abc")
    a.say(Estop("anna"), 3)
    said, _ = heard(doors)
    assert said == [(1, 3, Estop("anna"))]
    a.hear()
    assert "no message" in a.hear().refused
    a.end.sendall(b"\xff" * 8)
    assert heard(doors) == ([], [1])
    a.close()


def test_who_does_not_read_loses_what_all_are_told_and_at_last_himself(doors):
    slow, quick = Caller(doors.path), Caller(doors.path)
    quick.say(Beat())
    heard(doors)
    big = Leader("", 0, np.zeros(10_000))
    for _ in range(40):
        doors.tell_all(big)
        if doors.clients[2].waiting:
            quick.read()
    assert len(doors.clients[1].waiting) <= len(np.zeros(10_000).tobytes()) + 1000  # one, and none behind it
    for _ in range(MOST_WAITING // 80_000 + 2):
        doors.tell(1, big)
    assert heard(doors) == ([], [1])
    slow.close()
    quick.close()


def test_a_flood_waits_and_keeps_nobody_else_waiting(doors):
    flood, other = Caller(doors.path), Caller(doors.path)
    flood.end.sendall(pack(Beat()) * 1000)
    other.say(Estop("anna"), 3)
    rounds = []
    while sum(map(len, rounds)) < 1001:
        rounds.append(doors.heard()[0])
    assert max(map(len, rounds)) <= MOST_MESSAGES + 1
    assert any(message == Estop("anna") for _, _, message in rounds[0] + rounds[1])
    flood.close()
    other.close()


def test_no_more_than_so_many(doors):
    ends = []
    for _ in range(MOST_CLIENTS + 3):
        end = socket.socket(socket.AF_UNIX)
        end.connect(str(doors.path))
        ends.append(end)
    doors.heard()
    assert len(doors.clients) == MOST_CLIENTS
    for end in ends:
        end.close()
