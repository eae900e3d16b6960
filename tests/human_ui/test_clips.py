"""Clips: what goes in comes out as it looked, the same clip is kept once, and a damaged one is never shown."""

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from human_ui.clips import MAX_SIDE, Clip, ClipError, Clips, decode, describe, encode

CODECS = {"h264": "video/mp4", "vp9": "video/webm"}


def smooth(steps=23, height=64, width=96):
    """Colours that drift, as uint8 [T,H,W,3]."""
    t, y, x = np.ogrid[:steps, :height, :width]
    waves = [x / 17 + t / 9, y / 23 - t / 7, (x + y) / 29 + 0 * t]
    return np.stack([np.broadcast_to(128 + 100 * np.sin(w), (steps, height, width)) for w in waves], -1).astype(
        np.uint8
    )


def psnr(a, b):
    """Peak signal to noise, dB."""
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def keys(data):
    with av.open(io.BytesIO(data)) as file:
        return [k for k, packet in enumerate(p for p in file.demux(video=0) if p.size) if packet.is_keyframe]


@contextmanager
def file_size_limit(limit):
    """No file of this process may grow beyond `limit` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def child(code, *args):
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("codec", CODECS)
def test_a_clip_comes_back_as_it_looked(codec):
    frames = smooth()
    data = encode(frames, fps=20, codec=codec)
    back = np.stack([*decode(data)])
    assert back.shape == frames.shape and back.dtype == np.uint8
    assert min(psnr(a, b) for a, b in zip(frames, back, strict=True)) > 34
    assert describe(data) == Clip(
        hashlib.sha256(data).hexdigest(), CODECS[codec], 23, fps=20.0, width=96, height=64, bytes=len(data)
    )


@pytest.mark.parametrize("codec", CODECS)
def test_a_key_frame_stands_every_ten_frames_also_where_the_scene_changes(codec):
    rng = np.random.default_rng(0)
    scenes = np.repeat(rng.integers(0, 256, (7, 64, 64, 3), dtype=np.uint8), 5, 0)
    assert keys(encode(scenes, fps=20, codec=codec)) == [0, 10, 20, 30]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 30, 90), (255, 255, 255), (0, 0, 0)])
def test_colours_are_those_of_bt709_and_say_so(codec, colour):
    data = encode(np.full((2, 32, 32, 3), colour, np.uint8), fps=20, codec=codec)
    for frame in decode(data):
        assert abs(frame.astype(int) - colour).max() <= 4
    with av.open(io.BytesIO(data)) as file:
        context = file.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)  # BT.709, 16 to 235
        luma = next(file.decode(video=0)).to_ndarray()[:32]
    assert abs(luma - (16 + 219 / 255 * np.dot([0.2126, 0.7152, 0.0722], colour))).max() <= 2


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("asked", "stored"),
    [(1, 1), (12.5, 12.5), (1 / 0.05, 20), (1 / 0.07, 100 / 7), (29.97, 29.97), (0.1, 0.1), (240, 240)],
)
def test_the_fps_is_the_one_that_was_asked_for(codec, asked, stored):
    for steps in (1, 12):
        clip = describe(encode(smooth(steps, 16, 16), fps=asked, codec=codec))
        assert clip.frames == steps and clip.fps == pytest.approx(stored, abs=1e-9)


@pytest.mark.parametrize("codec", CODECS)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_odd_sizes_grow_by_a_copy_of_the_last_pixel(codec, height, width, steps):
    frames = smooth(steps, height, width)
    back = np.stack([*decode(encode(frames, fps=20, codec=codec))])
    assert back.shape == (steps, height + height % 2, width + width % 2, 3)
    # So few pixels share their colour by fours that only brightness is kept well.
    grown = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    assert psnr(grown.mean(-1), back.mean(-1)) > 25


def test_the_index_stands_before_the_frames():
    mp4, webm = (encode(smooth(), fps=20, codec=codec) for codec in CODECS)
    assert 0 < mp4.index(b"moov") < mp4.index(b"mdat")
    cues, cluster = b"\x1c\x53\xbb\x6b", b"\x1f\x43\xb6\x75"  # Matroska's ids
    # The first mention of either is in the table of contents that a file begins with.
    assert 0 < webm.index(cues) < webm.rindex(cues) < webm.index(cluster)


def test_frames_may_come_one_by_one_in_one_array_that_is_reused():
    frames = smooth()

    def reused():
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer

    assert encode(reused(), fps=20) == encode(frames, fps=20) == encode(np.asfortranarray(frames), fps=20)


def test_what_the_frames_raise_is_passed_on():
    def broken():
        yield from smooth(3)
        raise RuntimeError("the simulator fell over")

    with pytest.raises(RuntimeError, match="the simulator fell over"):
        encode(broken(), fps=20)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(64, 96), (120, 160), (33, 47)])
def test_the_same_frames_are_the_same_bytes_whatever_the_memory_held(codec, size):
    frames, rng, stirred = smooth(23, *size), np.random.default_rng(0), []
    made = set()
    for _ in range(6):
        stirred = [rng.bytes(rng.integers(1_000, 400_000)) for _ in range(5)]
        made.add(encode(frames, fps=20, codec=codec))
    assert len(made) == 1 and stirred


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_frames_are_the_same_bytes_in_another_process_too(codec):
    code = (
        "import hashlib, sys, numpy as np; from human_ui.clips import encode\n"
        "frames = np.load(sys.argv[1]); print(hashlib.sha256(encode(frames, fps=20, codec=sys.argv[2])).hexdigest())\n"
        "print('torch' in sys.modules)"
    )
    frames = smooth(12, 128, 128)
    here = describe(encode(frames, fps=20, codec=codec)).sha256
    assert here == describe(encode([*frames], fps=20, codec=codec)).sha256
    assert here != describe(encode(frames, fps=21, codec=codec)).sha256
    assert here != describe(encode(frames[:-1], fps=20, codec=codec)).sha256
    with np.testing.temppath(suffix=".npy") as file:
        np.save(file, frames)
        shown = child(code, file, codec)
    assert shown.stdout.split() == [here, "False"], shown.stderr


@pytest.mark.parametrize("codec", CODECS)
def test_nothing_in_a_clip_says_when_or_where_it_was_made(codec):
    data = encode(smooth(), fps=20, codec=codec)
    with av.open(io.BytesIO(data)) as file:
        tags = {**file.metadata, **file.streams.video[0].metadata}
    allowed = {"major_brand", "minor_version", "compatible_brands", "language", "handler_name", "encoder", "DURATION"}
    assert tags.keys() <= allowed and tags.get("encoder", "Lavf") == "Lavf"
    assert b"rapport" not in data
    if codec == "h264":
        made = data.index(b"mvhd") + 8  # after the box's name, its version and its flags
        assert data[made : made + 8] == bytes(8)  # created, changed


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([], "there are no frames; give at least one"),
        ([[[0]]], r"frame 0 is of type list; give numpy arrays, uint8 \[H, W, 3\]"),
        (np.zeros((2, 8, 6), np.uint8), r"frame 0 is uint8 \[8, 6\], which is grey; repeat it as red, green and blue"),
        (np.zeros((2, 8, 6, 1), np.uint8), r"frame 0 is uint8 \[8, 6, 1\], which is grey"),
        (np.zeros((2, 8, 6, 4), np.uint8), r"frame 0 is uint8 \[8, 6, 4\]; give uint8 \[H, W, 3\]: height, width"),
        (np.zeros((1, 2, 8, 6, 3), np.uint8), r"frame 0 is uint8 \[2, 8, 6, 3\]; give uint8 \[H, W, 3\]"),
        (np.zeros((2, 8, 6, 3)), r"frame 0 is float64 \[8, 6, 3\]; give uint8 .* from 0 \(dark\) to 255"),
        (np.zeros((2, 0, 6, 3), np.uint8), rf"\[0, 6, 3\]; give sides of 1 to {MAX_SIDE} pixels"),
        (
            np.zeros((1, 2, MAX_SIDE + 1, 3), np.uint8),
            rf"\[2, {MAX_SIDE + 1}, 3\]; give sides of 1 to {MAX_SIDE} pixels",
        ),
        (
            [smooth(1)[0], smooth(1, 8, 8)[0]],
            r"frame 1 is uint8 \[8, 8, 3\], and the first is \[64, 96, 3\]; give frames of",
        ),
    ],
)
def test_frames_that_are_no_pictures_are_refused(frames, sentence):
    with pytest.raises(ClipError, match=sentence):
        encode(frames, fps=20)


@pytest.mark.parametrize("fps", [0, -1, 0.09, 241, float("nan"), float("inf"), True, "20", None])
def test_an_fps_that_is_none_is_refused(fps):
    with pytest.raises(ClipError, match=r"fps is .*; give a number of frames a second from 0\.1 to 240"):
        encode(smooth(1), fps=fps)


def test_a_codec_that_is_not_known_is_refused():
    with pytest.raises(ClipError, match="codec 'av1' is not known; give 'h264' or 'vp9'"):
        encode(smooth(1), fps=20, codec="av1")


def strangers():
    playlist = b"ffconcat version 1.0\nfile /etc/hostname\n"
    odd = io.BytesIO()
    with av.open(odd, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(smooth(1, 16, 16)[0])))
        file.mux(stream.encode())
    half = encode(smooth(), fps=20)
    return {"empty": b"", "text": b"no clip" * 99, "playlist": playlist, "mpeg4": odd.getvalue(), "start": half[:900]}


@pytest.mark.parametrize(("name", "data"), strangers().items(), ids=strangers())
def test_what_is_no_clip_is_neither_read_nor_kept(name, data, tmp_path):
    with pytest.raises(ClipError, match=rf"^the clip of {len(data)} bytes .*(encode)"):
        Clips(tmp_path).put(data)
    assert os.listdir(tmp_path) == []
    if name != "mpeg4":  # which can be played, but not by every browser
        with pytest.raises(ClipError, match=r"^the clip of .* give what `encode` returned"):
            list(decode(data))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"the clip .*nowhere cannot be read \(No such file or directory\)"):
        list(decode(tmp_path / "nowhere"))


DATA = encode(smooth(3), fps=20)
CLIP = describe(DATA)
FILES = [CLIP.sha256, f"{CLIP.sha256}.json"]


def leaf(folder):
    return folder / CLIP.sha256[:2] / CLIP.sha256[2:4]


def test_a_clip_is_kept_once_under_its_hash(tmp_path):
    clips = Clips(tmp_path / "new" / "folder")
    assert clips.put(DATA) == CLIP
    assert clips.get(CLIP.sha256) == DATA and clips.info(CLIP.sha256) == CLIP
    path = clips.path(CLIP.sha256)
    assert path == leaf(clips.folder) / CLIP.sha256 and path.read_bytes() == DATA
    known = json.loads((path.parent / f"{path.name}.json").read_text())
    assert known == {
        "sha256": CLIP.sha256,
        "media_type": "video/mp4",
        "frames": 3,
        "fps": 20.0,
        "width": 96,
        "height": 64,
        "bytes": len(DATA),
    }
    before = {name: (path.parent / name).stat() for name in FILES}
    assert Clips(clips.folder).put(DATA) == CLIP
    for name, stat in before.items():
        after = (path.parent / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert sorted(os.listdir(path.parent)) == FILES


UP = "../" * 8 + "etc/passwd"


@pytest.mark.parametrize(
    "name",
    [UP, f"{CLIP.sha256[:-3]}/..", CLIP.sha256.upper(), f"{CLIP.sha256}\n", CLIP.sha256[:63], "", "٠" * 64, None, 7],
)
def test_a_name_that_is_no_sha256_never_reaches_the_disk(name, tmp_path):
    clips = Clips(tmp_path)
    clips.put(DATA)
    for read in (clips.get, clips.info, clips.path):
        with pytest.raises(ClipError, match="is no sha256; give its 64 digits, 0 to 9 and a to f"):
            read(name)


def test_a_missing_clip_is_named_with_the_mend(tmp_path):
    clips = Clips(tmp_path)
    for gone in (None, *FILES):
        if gone:
            clips.put(DATA)
            (leaf(tmp_path) / gone).unlink()
        for read in (clips.get, clips.info, clips.path):
            with pytest.raises(ClipError, match=rf"^there is no clip {CLIP.sha256} in .*; put it first$"):
                read(CLIP.sha256)
    assert clips.put(DATA) == CLIP and clips.get(CLIP.sha256) == DATA


@pytest.mark.parametrize("harm", [b"", DATA[:-1], DATA + b"\0", DATA[:500] + b"X" + DATA[501:]])
def test_a_damaged_clip_is_noticed_and_mended_by_putting_it_again(harm, tmp_path):
    clips = Clips(tmp_path)
    clips.put(DATA)
    clips.path(CLIP.sha256).write_bytes(harm)
    with pytest.raises(ClipError, match=rf"{CLIP.sha256} is damaged: its {len(harm)} bytes .*; put the clip again"):
        clips.get(CLIP.sha256)
    clips.put(DATA)
    assert clips.get(CLIP.sha256) == DATA


@pytest.mark.parametrize(
    "harm",
    [
        b"",
        b"\xff{}",
        b"[]",
        b"{}",
        json.dumps({**vars(CLIP), "fps": "20"}).encode(),
        json.dumps({**vars(CLIP), "policy": "mine"}).encode(),
        json.dumps({**vars(CLIP), "sha256": "0" * 64}).encode(),
    ],
)
def test_a_damaged_description_is_noticed_and_mended(harm, tmp_path):
    clips = Clips(tmp_path)
    clips.put(DATA)
    (leaf(tmp_path) / FILES[1]).write_bytes(harm)
    with pytest.raises(ClipError, match=r"\.json is damaged; put the clip again"):
        clips.info(CLIP.sha256)
    assert clips.get(CLIP.sha256) == DATA
    clips.put(DATA)
    assert clips.info(CLIP.sha256) == CLIP


@pytest.mark.parametrize("fatal", [3, 4, 5, 6], ids=["bytes", "their name", "description", "its name"])
def test_a_kill_in_the_midst_leaves_a_clip_whole_or_not_at_all(fatal, tmp_path):
    # The folders are synced first, three of them; then a file, its folder, the other file, its folder.
    code = (
        "import os, signal, sys; from pathlib import Path; from human_ui.clips import Clips\n"
        "sync, count, fatal = os.fsync, 0, int(sys.argv[1])\n"
        "def fsync(handle):\n"
        "    global count\n"
        "    if count == fatal: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    count += 1\n"
        "    sync(handle)\n"
        "os.fsync = fsync\n"
        "Clips(Path(sys.argv[2])).put(Path(sys.argv[3]).read_bytes())"
    )
    (tmp_path / "data").write_bytes(DATA)
    clips = Clips(tmp_path / "clips")
    killed = child(code, fatal, clips.folder, tmp_path / "data")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if fatal == 6:
        assert clips.get(CLIP.sha256) == DATA and clips.info(CLIP.sha256) == CLIP
    else:
        with pytest.raises(ClipError, match="there is no clip"):
            clips.get(CLIP.sha256)
    assert clips.put(DATA) == CLIP and clips.get(CLIP.sha256) == DATA


@pytest.mark.parametrize("codec", CODECS)
def test_a_full_disk_is_told_and_leaves_nothing(codec, tmp_path):
    clips = Clips(tmp_path)
    with file_size_limit(100):
        with pytest.raises(ClipError, match=rf"of 96 x 64 pixels were not encoded as {codec} .* has room"):
            encode(smooth(), fps=20, codec=codec)
        with pytest.raises(ClipError, match=r"the disk is full .*; free some space"):
            clips.put(DATA)
    with pytest.raises(ClipError, match="there is no clip"):
        clips.get(CLIP.sha256)
    assert os.listdir(leaf(tmp_path)) == []
    assert clips.put(DATA) == CLIP


def test_several_who_put_the_same_clip_at_once_leave_one(tmp_path):
    failed = []
    start = threading.Barrier(6)

    def put():
        clips = Clips(tmp_path)
        start.wait()
        try:
            for _ in range(10):
                assert clips.put(DATA) == CLIP
                assert clips.get(CLIP.sha256) == DATA and clips.info(CLIP.sha256) == CLIP
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(os.listdir(leaf(tmp_path))) == FILES
