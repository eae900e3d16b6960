"""Pictures of an episode: kept while it runs, lost with a word, and never at the cost of anybody who waits."""

import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from hardware.camera import Frame
from hardware.cameras import StreamCamera
from hardware.clock import RealClock
from hardware.frames import beside, frames, kept
from hardware.gateway import recording as recordings
from hardware.gateway.recording import Recording
from hardware.journal import journals, recover
from hardware.to_episodes import about, episode
from tests.hardware.gateway import robot as robots
from tests.hardware.gateway.said import snapshot
from tests.hardware.ip_camera import HEIGHT, STEPS, WIDTH, camera, number_of, picture

MS = 1_000_000
ROOT = Path(__file__).parents[3]


class Given:
    """A camera that shows what a test gives it."""

    def __init__(self):
        self.seq, self.frame = 0, None

    def open(self):
        pass

    def latest(self):
        return self.frame

    def close(self):
        pass

    def shows(self, data, time_ns):
        self.seq += 1
        self.frame = Frame(data, self.seq, time_ns)
        self.heard(self.frame)


def until(so, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := so()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)
    return found


def rests(recording):
    """Until nothing waits to be written."""
    until(lambda: not recording._waiting and not any(line.waiting for line in recording.lines.values()))


@pytest.fixture
def given(tmp_path):
    """A camera of 10 Hz, and what records it."""
    shown = Given()
    made = Recording(tmp_path, {"top": shown}, {"top": 10.0})
    yield shown, made
    made.close()


def test_only_what_an_episode_shows_is_kept_and_no_faster_than_the_camera_is(tmp_path, given):
    shown, recording = given
    shown.shows(picture(0), 5 * MS)
    recording.told(snapshot())
    recording.told(snapshot(episode="a"))  # what was seen last, when it began
    for k in range(1, 41):
        shown.shows(picture(k), (10 + 25 * k) * MS)  # four times too fast, for a second
        rests(recording)
    recording.told(snapshot(episode="b"))  # at once, as after a hand-over
    rests(recording)
    recording.told(snapshot())
    shown.shows(picture(90), 2000 * MS)
    rests(recording)
    recording.close()
    a, b = (list(frames(tmp_path / f"{name}.frames")) for name in "ab")
    times = np.array([f.time_ns for f in a]) / MS
    assert times[0] == 5 and 10 <= len(a) <= 12 and np.diff(times).min() >= 50 and np.diff(times[2:]).mean() >= 95
    assert [number_of(f.picture()) for f in a] == [(f.seq - 1) % STEPS for f in a]
    assert [f.time_ns for f in b] == [1010 * MS]
    assert recording.lines["top"].lost == 0 and recording.amiss() == {"top": ""}


def test_a_disk_that_hangs_loses_pictures_and_holds_up_nobody(tmp_path, given):
    """A pipe in place of the disk, which takes nothing while nobody reads it."""
    shown, recording = given
    recording.told(snapshot(episode="a"))
    shown.shows(picture(0), 0)
    rests(recording)
    log = recording._log
    read, write = os.pipe()
    os.set_blocking(read, False)
    real, log._file._fd = log._file._fd, write
    large = np.random.default_rng(1).integers(0, 256, (512, 512, 3), np.uint8)  # more than a pipe holds
    began = time.thread_time()
    for k in range(1, 31):
        shown.shows(large if k == 1 else picture(k), k * 100 * MS)
        recording.told(snapshot(episode="a", seq=k))
    assert time.thread_time() - began < 1.0  # of this thread's own work
    lost = 30 - recordings.WAITING
    assert recording.lines["top"].lost == lost  # and it is here, while the disk still hangs
    assert recording.amiss()["top"] == f"{lost} pictures of the episode are lost: the disk is too slow"
    until(lambda: select.select([read], [], [], 0)[0])
    log._file._fd = real  # of every write from now on: one hangs

    def drained():
        with suppress(BlockingIOError):
            os.read(read, 1 << 16)
        return recording.lines["top"].frames > 1

    until(drained)
    shown.shows(picture(40), 4000 * MS)
    rests(recording)
    recording.told(snapshot())
    recording.close()
    os.close(read)
    os.close(write)
    found = kept(tmp_path / "a.frames")["top"]
    assert (found.lost, found.why) == (lost, recordings.SLOW)
    assert found.frames == recording.lines["top"].frames - 1  # one went into the pipe


def test_a_full_disk_is_left_to_the_journal_and_noise_has_a_bound(tmp_path, given):
    shown, recording = given
    recording.told(snapshot(episode="a", disk_free=1000))
    for k in range(5):
        shown.shows(picture(k), k * 100 * MS)
    recording.told(snapshot(episode="a"))
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    for k in range(5, 125):
        shown.shows(np.roll(noise, k, 0), k * 100 * MS)
        rests(recording)
    recording.told(snapshot())
    recording.close()
    found, line = kept(tmp_path / "a.frames")["top"], recording.lines["top"]
    assert found.frames + found.lost == 125 and found.frames == line.frames and "MB a second" in found.why
    assert 0.8 < line.bytes / (recordings.MOST_BYTES * (12 + recordings.BURST)) < 1.05
    assert line.bytes < (tmp_path / "a.frames").stat().st_size < line.bytes * 1.01


def test_a_file_that_cannot_be_made_is_said_and_the_next_episode_goes_on(tmp_path, given):
    shown, recording = given
    (tmp_path / "a.frames").write_bytes(b"somebody else's")
    recording.told(snapshot(episode="a"))
    shown.shows(picture(1), 0)
    rests(recording)
    assert "never written over" in recording.amiss()["top"]
    recording.told(snapshot(episode="b"))
    rests(recording)
    recording.gone()  # the daemon died
    rests(recording)
    until(lambda: recording._log is None)
    assert recording.amiss() == {"top": ""} and kept(tmp_path / "b.frames")["top"].frames == 1
    assert (tmp_path / "a.frames").read_bytes() == b"somebody else's"


WRITES = """
import sys
from pathlib import Path
from hardware.cameras import StreamCamera
from hardware.gateway.recording import Recording
from tests.hardware.gateway.said import snapshot
camera = StreamCamera(sys.argv[2])
recording = Recording(Path(sys.argv[1]), {"top": camera}, {"top": 100.0})
camera.open()
recording.told(snapshot(episode=sys.argv[3]))
while True:
    input()
    print(recording.lines["top"].frames, flush=True)
"""


def test_killed_at_any_instant_all_that_was_written_is_whole(tmp_path):
    """With a real stream: whatever the writer had counted is there, but for the one it was at."""
    with camera(fps=200.0) as address:
        for k in range(5):
            arguments = [sys.executable, "-c", WRITES, str(tmp_path), address, f"e{k}"]
            with subprocess.Popen(
                arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                told = 0
                while told <= 5 + 3 * k:
                    process.stdin.write("\n")
                    process.stdin.flush()
                    told = int(process.stdout.readline())
                process.kill()
            found = list(frames(tmp_path / f"e{k}.frames"))
            assert len(found) >= told
            seqs = [f.seq for f in found]
            assert seqs == sorted(set(seqs)) and (np.diff([f.time_ns for f in found]) > 0).all()
            shown = [number_of(f.picture()) for f in found]
            assert shown == [(shown[0] + s - seqs[0]) % STEPS for s in seqs]
            assert kept(tmp_path / f"e{k}.frames")["top"].frames == len(found)


def test_a_stream_tells_of_every_picture_that_is_new():
    with camera(fps=50.0) as address:
        eye, heard = StreamCamera(address, clock=RealClock()), []
        eye.heard = heard.append
        eye.open()
        until(lambda: len(heard) >= 20)
        eye.close()
    assert [f.seq for f in heard[:20]] == list(range(1, 21)) and heard[0].data.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.slow
def test_an_arm_that_goes_home_is_filmed(tmp_path):
    """The whole robot, with a camera on the network: what it saw is on the journal's clock, and Prometheus is told."""
    with camera(fps=20.0) as address:
        file = robots.two_joints(tmp_path / "r")
        file.write_text(
            file.read_text() + f'[[camera]]\nname = "top"\ndevice = "{address}"\nwidth = {WIDTH}\n'
            f"height = {HEIGHT}\nfps = 20.0\n"
        )
        with robots.running(file) as robot, robot.http() as http:
            http.headers["X-Lease"] = http.post("/v1/lease", json={"seconds": 60}).json()["lease"]
            assert http.post("/v1/arm").status_code == 200
            assert http.post("/v1/home").status_code == 200
            robot.until(seconds=60, mode="HOLD", episode="")
            assert robot.state()["cameras"] == {"top": ""}
            (path,) = journals(robot.config.journal)
            until(lambda: "top" in about(episode(recover(path)))["cameras"] if written(path) else None)
            text = robot.http("observe").get("/metrics").text
    told = metrics(text)
    found = list(frames(beside(path)))
    ticks = recover(path).ticks
    of = {what: told[f'robot_camera_frames_total{{camera="top",result="{what}"}}'] for what in ("kept", "lost")}
    assert len(found) >= 10 and of == {"kept": len(found), "lost": kept(beside(path))["top"].lost}
    assert told['robot_camera_bytes_total{camera="top"}'] < beside(path).stat().st_size
    assert told["robot_journal_episodes_total"] == 1.0 and told["robot_journal_bytes"] == 0.0
    lasted = (ticks[-1].mono_ns - ticks[0].mono_ns) * 1e-9
    assert told["robot_journal_seconds_total"] == pytest.approx(lasted, abs=0.2)
    assert ticks[0].mono_ns - 10**9 < found[0].time_ns and found[-1].time_ns < ticks[-1].mono_ns + 10**9
    assert about(episode(recover(path)))["cameras"]["top"]["frames"] == len(found)


def written(path):
    """Whether nobody writes its pictures any more."""
    try:
        return bool(kept(beside(path)))
    except ValueError:
        return False


def metrics(text):
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}
