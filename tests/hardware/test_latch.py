"""What is latched stays so through kills and bad disks, and nobody clears it by breaking it."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import latch
from hardware.latch import Latch, LatchError

FAULT = Latch("FAULT", "joint 'elbow' does not answer", 1_700_000_000_000_000_000)


def test_it_is_there_until_it_is_cleared(tmp_path):
    path = tmp_path / "new" / "latch.json"
    assert latch.read(path) is None
    latch.put(path, FAULT)
    assert latch.read(path) == FAULT
    latch.put(path, Latch("ESTOP", "a button", 2))
    assert latch.read(path).mode == "ESTOP"
    latch.clear(path)
    latch.clear(path)
    assert latch.read(path) is None and list(path.parent.iterdir()) == []


def test_every_torn_or_flipped_file_is_latched(tmp_path):
    path = tmp_path / "latch.json"
    latch.put(path, FAULT)
    whole = path.read_bytes()
    for torn in [whole[:k] for k in range(len(whole))]:
        path.write_bytes(torn)
        assert "cannot be read" in latch.read(path).cause
    for k in range(0, 8 * len(whole), 3):
        path.write_bytes(bytes(byte ^ (1 << k % 8 if i == k // 8 else 0) for i, byte in enumerate(whole)))
        assert latch.read(path) is not None


@given(st.binary(max_size=200))
def test_so_is_any_other_file(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    assert latch.read(path) is not None


def test_what_is_no_file_is_latched_and_what_cannot_be_written_is_said(tmp_path):
    (folder := tmp_path / "latch.json").mkdir()
    assert "cannot be read" in latch.read(folder).cause
    with pytest.raises(LatchError, match="cannot be removed"):
        latch.clear(folder)
    (tmp_path / "file").touch()
    with pytest.raises(LatchError, match="cannot be written"):
        latch.put(tmp_path / "file" / "latch.json", FAULT)


def test_a_kill_leaves_it_whole(tmp_path):
    """Killed again and again while it writes: one of both is there, never half of one."""
    path, two = tmp_path / "latch.json", Latch("ESTOP", "b" * 5000, 2)
    latch.put(path, FAULT)
    code = (
        "from pathlib import Path; from hardware.latch import Latch, put; print(flush=True)\n"
        f"while True: put(Path({str(path)!r}), {FAULT!r}); put(Path({str(path)!r}), {two!r})"
    )
    for k in range(4):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=dict(os.environ))
        child.stdout.readline()
        for _ in range(20 * k):
            assert latch.read(path) in (FAULT, two)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert latch.read(path) in (FAULT, two)
