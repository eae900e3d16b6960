import os
import socket

import pytest

from hardware.notify import Notify


@pytest.mark.parametrize("abstract", [False, True])
def test_datagrams_reach_whoever_listens(tmp_path, abstract):
    name = f"@rapport-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(10)
        notify = Notify({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
        assert notify.every_ns == 500_000_000
        notify.say("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_nobody_listens(tmp_path):
    quiet = Notify({})
    quiet.say("READY=1")
    assert quiet.every_ns == 0
    Notify({"NOTIFY_SOCKET": str(tmp_path / "none")}).say("READY=1")


def test_a_watchdog_of_another_process_is_none_of_its():
    assert Notify({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).every_ns == 0
    assert Notify({"WATCHDOG_USEC": "soon"}).every_ns == 0
