import time
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.camera import Frame
from hardware.cameras import CameraError, StreamCamera, camera_fault, film
from hardware.clock import VirtualClock

MS = 1_000_000


def video(path: Path, frames: np.ndarray, fps: int = 25) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=fps)  # without loss: equal pictures stay equal
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        out.mux(stream.encode())
    return path


def noise(n: int, seed: int = 0, h: int = 8, w: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 255, (n, h, w, 3), np.uint8)


def over(camera: StreamCamera) -> None:
    until = time.monotonic() + 20
    while not camera.failed and time.monotonic() < until:
        time.sleep(0.001)


def test_a_film_plays_to_its_end_and_repeats_are_not_new(tmp_path):
    frames = noise(5)
    shown = np.concatenate([frames, np.repeat(frames[-1:], 7, 0)])  # frozen from the fifth on
    clock = VirtualClock()
    camera = film(video(tmp_path / "a.mkv", shown), clock)
    assert camera.latest() is None
    camera.open()
    over(camera)
    last = camera.latest()
    assert last is not None and camera.failed == "it ended"
    assert np.array_equal(last.data, frames[-1]) and last.seq == 5
    assert last.time_ns == 160 * MS and clock.now_ns() == 440 * MS
    assert camera_fault([last], clock.now_ns() + 1, pause_ns=280 * MS).what == "stale"
    with pytest.raises(CameraError, match="open already"):
        camera.open()
    camera.close()
    camera.close()
    camera.open()  # and once more
    over(camera)
    assert camera.latest().seq == 10
    camera.close()


def test_what_cannot_be_opened_is_said(tmp_path):
    for source, format in ((tmp_path / "none.mkv", None), ("/dev/video-none", "v4l2")):
        camera = StreamCamera(source, format=format)
        with pytest.raises(CameraError, match=str(source)):
            camera.open()
        assert camera.latest() is None
    (tmp_path / "junk.mkv").write_bytes(b"no video" * 99)
    with pytest.raises(CameraError, match="junk"):
        film(tmp_path / "junk.mkv").open()


def frames_of(pictures, seqs, times) -> list[Frame]:
    return [Frame(p, int(s), int(t)) for p, s, t in zip(pictures, seqs, times, strict=True)]


def test_each_fault():
    p = noise(6)
    good = frames_of(p, range(6), np.arange(6) * 33 * MS)
    now = 170 * MS
    assert camera_fault(good, now) is None and camera_fault(good, now, (8, 12)) is None
    assert camera_fault([], now).what == "none"
    assert camera_fault(good, now + 250 * MS).what == "stale" and not camera_fault(good, now + 250 * MS).stop
    assert camera_fault(good, now + 2001 * MS).stop
    assert camera_fault(good, now, (480, 640)).what == "size"
    assert camera_fault([*good, Frame(noise(1, h=4)[0], 6, now)], now).what == "size"
    dark = Frame(np.full((8, 12, 3), 2, np.uint8), 6, now)
    assert camera_fault([*good, dark], now).what == "black" and not camera_fault([*good, dark], now).stop
    assert camera_fault([dark], now + 3000 * MS).stop
    # the same picture, numbered and dated as if it were new: a driver that repeats
    frozen = [Frame(p[5], 6 + k, (165 + 33 * (k + 1)) * MS) for k in range(9)]
    assert camera_fault([*good, *frozen], frozen[-1].time_ns).what == "stale"
    # the same number with another arrival: the reader, not the camera
    assert camera_fault([*good, Frame(noise(1, 9)[0], 5, now + 300 * MS)], now + 300 * MS).what == "stale"
    assert "0.32 s old" in camera_fault(good, now + 315 * MS).sentence


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 3000))
def test_age_is_that_of_the_last_change(which, later):
    """Whatever sequence of pictures comes: stale exactly when the last change is older than the limit."""
    p = noise(4)
    frames = frames_of(p[which], range(len(which)), np.arange(len(which)) * 50 * MS)
    change = max((k for k in range(1, len(which)) if which[k] != which[k - 1]), default=0)
    now = frames[-1].time_ns + later * MS
    found, age = camera_fault(frames, now), now - frames[change].time_ns
    assert (found is not None) == (age > 200 * MS)
    assert found is None or (found.what, found.stop) == ("stale", age > 2000 * MS)
