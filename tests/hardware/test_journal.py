"""The journal survives what a day on a bench brings: torn tails, flipped bits, kills, full disks, careless records."""

import io
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import framed, journal
from hardware.journal import End, Event, Journal, JournalError, Tick, journals, parse, recover
from tests.hardware.walked import N, header, ticks, write

ROOT = Path(__file__).parents[2]


SMALL = [Event("start"), *ticks([("policy", 4)]), Event("estop", "button", "ann", {"at": 3}), *ticks([("brake", 2)])]


def same(a: object, b: object) -> bool:
    if not isinstance(a, Tick) or not isinstance(b, Tick):
        return a == b
    for name in vars(a):
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
            if x is None or y is None or x.dtype != y.dtype or x.tobytes() != y.tobytes():
                return False
        elif x != y:
            return False
    return True


def test_what_is_read_is_what_was_written(tmp_path):
    path = write(tmp_path / "a.journal", SMALL, end=End("stopped", "ann pressed it", False))
    found = recover(path)
    assert found.whole and found.lost == 0 and not found.growing and found.cut_at == path.stat().st_size
    assert found.header == header() and found.name == "a"
    assert [each.record for each in found.records][-1] == End("stopped", "ann pressed it", False)
    assert all(same(each.record, given) for each, given in zip(found.records, SMALL, strict=False))
    assert len(found.ticks) == 6 and found.begun_ns > 1_700_000_000_000_000_000
    assert [each.offset for each in found.records] == sorted({each.offset for each in found.records})
    assert journals(tmp_path) == [path]


@settings(max_examples=40)
@given(
    st.lists(st.floats(width=64), min_size=N, max_size=N),
    st.none() | st.lists(st.floats(width=32), max_size=9),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**31), 2**62),
)
def test_any_numbers_and_words(tmp_path_factory, values, obs, word, seq):
    vector = np.array(values)
    seen = None if obs is None else np.array(obs, np.float32)
    tick = Tick(
        seq, vector, vector, vector, vector, "hold", word, word, ((), (word, word), ()), None, seq, seen, vector, True
    )
    path = write(tmp_path_factory.mktemp("j") / "a.journal", [tick, Event("note", word, word, {word: [seq, word]})])
    first, second, _ = recover(path).records
    assert same(first.record, tick) and same(second.record, Event("note", word, word, {word: [seq, word]}))


def test_torn_at_every_byte(tmp_path):
    path = write(tmp_path / "a.journal", SMALL)
    data, records = path.read_bytes(), recover(path).records
    ends = [*(r.offset for r in records), len(data)]
    for size in range(len(data)):
        torn = io.BytesIO(data[:size])
        if size < ends[0]:
            with pytest.raises(JournalError):
                parse(path, torn, size)
            continue
        found, whole = parse(path, torn, size), sum(end <= size for end in ends[1:])
        assert len(found.records) == whole and not found.whole and found.cut_at == ends[whole] <= size
        assert found.lost == size - ends[whole]
        assert all(same(a.record, b.record) for a, b in zip(found.records, records, strict=False))


def test_it_is_cut_only_when_asked(tmp_path):
    path = write(tmp_path / "a.journal", SMALL)
    data = path.read_bytes()[:-5]
    path.write_bytes(data)
    cut_at = recover(path).cut_at
    assert path.read_bytes() == data and cut_at < len(data)
    assert recover(path, truncate=True).lost and path.read_bytes() == data[:cut_at] and recover(path).lost == 0


def test_a_flipped_bit_anywhere(tmp_path):
    """What was before it is read as it was, what it damaged is not read, and nothing is read that was never written."""
    path = write(tmp_path / "a.journal", SMALL)
    data, records = bytearray(path.read_bytes()), recover(path).records
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            if at < records[0].offset:
                with pytest.raises(JournalError):
                    parse(path, io.BytesIO(data), len(data))
            else:
                found = parse(path, io.BytesIO(data), len(data))
                assert not found.whole and found.cut_at <= at
                assert len(found.records) == sum(r.offset < found.cut_at for r in records)
                assert all(same(a.record, b.record) for a, b in zip(found.records, records, strict=False))
            data[at] ^= 1 << bit


def test_garbage_behind_is_no_record(tmp_path):
    path = write(tmp_path / "a.journal", SMALL)
    data = path.read_bytes()
    for tail in (b"\0" * 64, b"\xff" * 64, b"\0", framed.pack(77, 0, 0, b"later kind"), framed.pack(1, 0, 0, b"\x91")):
        path.write_bytes(data + tail)
        found = recover(path)
        assert (found.cut_at, found.lost, found.whole) == (len(data), len(tail), False)
        assert isinstance(found.records[-1].record, End)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"rapport journal 2\n", "update the program"),
        (b"rapport frames 1\nx", "is no rapport journal"),
        (b"PAR1 and so on and on", "is no rapport journal"),
        (b"rapport jour", "cut off when it was begun"),
        (b"", "cut off when it was begun"),
    ],
)
def test_what_is_no_journal_of_ours_is_refused(tmp_path, first, said):
    path = tmp_path / "a.journal"
    path.write_bytes(first)
    with pytest.raises(JournalError, match=said) as error:
        recover(path)
    assert str(path) in str(error.value)


def test_a_header_that_is_none(tmp_path):
    path = tmp_path / "a.journal"
    for payload in (b"{}", b"[1]", b"not json", b'{"robot": 1}'):
        path.write_bytes(journal.MAGIC + framed.pack(0, 0, 0, payload))
        with pytest.raises(JournalError, match="header"):
            recover(path)
    with pytest.raises(JournalError, match="plain, finite"):
        Journal(tmp_path / "b.journal", header(scene={"goal": (float("nan"),)}), 0)
    with pytest.raises(JournalError, match="joints"):
        header(joints=())
    assert not (tmp_path / "b.journal").exists()


def test_never_written_over(tmp_path):
    path = write(tmp_path / "a.journal", SMALL)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="there already"):
        Journal(path, header(), 0)
    with pytest.raises(JournalError, match="cannot be written"):
        Journal(path / "b.journal", header(), 0)
    assert path.read_bytes() == before


def test_one_that_grows_is_known_and_not_cut(tmp_path):
    path = tmp_path / "a.journal"
    held = Journal(path, header(), 0)
    assert held.append(next(ticks([("policy", 1)])), 1)
    found = recover(path)
    assert found.growing and not found.whole and len(found.ticks) == 1
    with path.open("ab") as file:
        file.write(b"half a record of another process")
    assert recover(path, truncate=True).lost and recover(path).lost  # it is not ours to cut
    held.close()
    assert not recover(path).growing


@pytest.mark.parametrize(
    "record",
    [
        Tick(0, np.zeros(N + 1), np.zeros(N), np.zeros(N), np.zeros(N), "hold", "HOLD"),
        Tick(0, np.zeros(N), np.zeros(N), np.zeros(N), np.zeros(N), "hold", "HOLD", obs=np.zeros((2, 2))),
        Tick(0, np.zeros(N), np.zeros(N), np.zeros(N), np.array(["x"] * N), "hold", "HOLD"),
        Tick(2**70, np.zeros(N), np.zeros(N), np.zeros(N), np.zeros(N), "hold", "HOLD"),
        Tick(0, None, np.zeros(N), np.zeros(N), np.zeros(N), "hold", "HOLD"),
        Tick(0, np.zeros(N), np.zeros(N), np.zeros(N), np.zeros(N), "gremlin", "HOLD"),
        Event("note", data={"x": object()}),
        "no record",
    ],
)
def test_a_record_that_is_none_is_told_and_nothing_raised(tmp_path, record):
    held = Journal(tmp_path / "a.journal", header(), 0)
    good = next(ticks([("policy", 1)]))
    assert held.append(good, 1)
    assert not held.append(record, 2)
    assert "cannot be written" in held.failed
    assert not held.append(good, 3) and not held.end(End("done"), 4)
    found = recover(held.path)
    assert not found.whole and len(found.ticks) == 1 and found.lost == 0


def test_a_limit_of_the_files_size(tmp_path):
    """Fault 21: the disk takes no more. What was taken is there, and the loop is told at the tick."""
    path, soft = tmp_path / "a.journal", 4000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    held = Journal(path, header(), 0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, before[1]))
        took = [held.append(tick, i) for i, tick in enumerate(ticks([("policy", 40)]))]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 0 < sum(took) < 40 and took == sorted(took, reverse=True)
    assert "disk is full" in held.failed and str(path) in held.failed
    assert not held.end(End("done"), 99)
    found = recover(path)
    assert len(found.ticks) == sum(took) and not found.whole and path.stat().st_size <= soft


def test_a_disk_that_does_not_sync_is_told(tmp_path):
    held = Journal(tmp_path / "a.journal", header(), 0, sync_seconds=0.01)
    tick = next(ticks([("policy", 1)]))
    fd = held._file._fd
    pipe = os.pipe()  # what cannot be synced: EINVAL, as a disk would say EIO
    os.dup2(pipe[1], fd)
    assert held.append(tick, 1)
    until = time.monotonic() + 20
    while not held.failed and time.monotonic() < until:
        time.sleep(0.01)
    assert "cannot be written" in held.failed
    held.close()
    for end in pipe:
        os.close(end)


@pytest.mark.slow
def test_a_writer_killed_at_fifty_instants(tmp_path):
    """The writer says which tick the kernel took; after a kill -9 that one is there, or at most the one before it."""
    rng, lost = np.random.default_rng(0), []
    script = (
        "import sys\nfrom hardware.journal import Journal\nfrom tests.hardware.walked import header, ticks\n"
        "j = Journal(sys.argv[1], header(), 0)\n"
        "for i, t in enumerate(ticks([('policy', 10**6)])):\n"
        "    assert j.append(t, i)\n    sys.stdout.write(f'{i}\\n'); sys.stdout.flush()\n"
    )
    for k in range(50):
        path = tmp_path / f"{k}.journal"
        with subprocess.Popen(
            [sys.executable, "-c", script, path], stdout=subprocess.PIPE, cwd=ROOT, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(int(rng.integers(1, 400))):
                child.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.002)))
            os.kill(child.pid, signal.SIGKILL)
            said = [int(line) for line in child.stdout.read().split("\n")[:-1]]
        found = recover(path)
        seqs = [each.record.seq for each in found.ticks]
        assert seqs == list(range(len(seqs))) and not found.whole and not found.growing
        lost.append((said[-1] if said else 0) + 1 - len(seqs))
        assert all(same(e.record, t) for e, t in zip(found.ticks, ticks([("policy", len(seqs))]), strict=True))
    assert max(lost) <= 1, lost
