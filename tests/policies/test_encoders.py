"""Trunks as everybody sees them: frames in, features out, kept on disk whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from policies.encoders import FrozenTrunk, TrunkError, cached_trunk, embed, load
from policies.soft_argmax import Streams


def trunk(seed: int = 0) -> FrozenTrunk:
    torch.manual_seed(seed)
    return FrozenTrunk(Streams((4, 4), 1), 20, 64, {"kind": "soft-argmax", "channels": [4, 4], "streams": 1})


def video(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def test_any_leading_axes_and_any_size_give_features_and_no_gradient() -> None:
    seen = trunk()
    frames = video(0, 2, 70, 48, 80)
    found = seen(frames)
    assert found.shape == (2, 70, 20) and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(seen(frames[1, 3]), found[1, 3], atol=1e-5)
    assert seen(frames[:0]).shape == (0, 70, 20)
    assert not any(p.requires_grad for p in seen.net.parameters()) and not seen.net.training


def test_a_picture_of_one_colour_and_identical_frames_give_constant_features() -> None:
    for frames in (np.full((3, 64, 64, 3), 200, np.uint8), np.repeat(video(1, 1, 64, 64), 3, 0)):
        found = trunk()(frames)
        assert np.isfinite(found).all() and (found == found[0]).all()


def test_a_larger_picture_of_the_same_is_seen_as_the_same() -> None:
    small = np.kron(video(2, 8, 8).astype(np.uint8), np.ones((8, 8, 1), np.uint8))
    large = np.kron(small, np.ones((3, 3, 1), np.uint8))
    np.testing.assert_allclose(trunk()(large), trunk()(small), atol=0.05)


def test_brighter_or_paler_is_seen_as_the_same() -> None:
    frames = video(3, 4, 64, 64) // 2
    np.testing.assert_allclose(trunk()(frames + np.uint8(60)), trunk()(frames), atol=1e-3)
    np.testing.assert_allclose(trunk()(frames * np.uint8(2)), trunk()(frames), atol=1e-3)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.zeros((5, 3, 64, 64), np.uint8), r"\[5, 3, 64, 64\]; the colours come first: give numpy.moveaxis"),
        (np.zeros((5, 64, 64, 4), np.uint8), r"the fourth channel is opacity: give frames\[..., :3\]"),
        (np.zeros((5, 64, 64, 1), np.uint8), r"they are grey: give frames.repeat\(3, -1\)"),
        (np.zeros((64, 64), np.uint8), r"give \[...,H,W,3\]"),
        (np.zeros((5, 0, 64, 3), np.uint8), r"give \[...,H,W,3\]"),
        (np.zeros((5, 64, 64, 3)), r"float64 \[5, 64, 64, 3\]; give uint8 from 0 to 255"),
        (np.full((1, 64, 64, 3), np.nan, np.float32), "12288 of the numbers NaN or infinite"),
        ([[1]], "frames are a list; give a numpy array"),
    ],
)
def test_what_are_no_frames_is_told_with_the_mend(frames: object, said: str) -> None:
    with pytest.raises(TrunkError, match=said):
        trunk()(frames)  # type: ignore[arg-type]


def test_a_fingerprint_is_of_weights_and_settings() -> None:
    one, other = trunk(), trunk(1)
    assert one.fingerprint() == trunk().fingerprint() != other.fingerprint()
    smaller = FrozenTrunk(one.net, one.size, 32, one.settings)
    assert smaller.fingerprint() != one.fingerprint()


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trunk.safetensors"
    trunk().save(path)
    again = load(path)
    assert again.fingerprint() == trunk().fingerprint()
    frames = video(4, 3, 64, 64)
    assert (again(frames) == trunk()(frames)).all()


def test_files_that_are_no_trunk_are_told(tmp_path: Path) -> None:
    path = tmp_path / "trunk.safetensors"
    trunk().save(path)
    whole = path.read_bytes()
    for data, said in [
        (whole[: len(whole) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (safetensors.torch.save({"w": torch.zeros(2)}), "holds weights, but no trunk"),
        (whole.replace(b"soft-argmax", b"soft-argmix"), "another version"),
    ]:
        path.write_bytes(data)
        with pytest.raises(TrunkError, match=said):
            load(path)
    with pytest.raises(TrunkError, match="cannot be read"):
        load(tmp_path / "none.safetensors")


def test_weights_that_are_not_finite_are_told() -> None:
    net = Streams((4, 4), 1)
    with torch.no_grad():
        net.streams[0].sharp[0, 1] = torch.nan
    with pytest.raises(TrunkError, match=r"weights streams\.0\.sharp hold NaN"):
        FrozenTrunk(net, 20, 64, {})


def test_a_trunk_is_made_once_for_a_key(tmp_path: Path) -> None:
    made: list[int] = []

    def make(seed: int) -> FrozenTrunk:
        made.append(seed)
        return trunk(seed)

    first = cached_trunk(tmp_path, {"seed": 1, "task": "sweep"}, lambda: make(1))
    again = cached_trunk(tmp_path, {"task": "sweep", "seed": 1}, lambda: make(1))
    assert first.fingerprint() == again.fingerprint() and made == [1]
    assert cached_trunk(tmp_path, {"task": "sweep", "seed": 2}, lambda: make(2)).fingerprint() != first.fingerprint()
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    assert cached_trunk(tmp_path, {"seed": 1, "task": "sweep"}, lambda: make(1)).fingerprint() == first.fingerprint()
    assert made == [1, 2, 1]


def test_who_comes_second_waits_for_the_trunk_and_takes_it(tmp_path: Path) -> None:
    begun, made = threading.Event(), []

    def make(name: str) -> FrozenTrunk:
        begun.set()
        time.sleep(0.3)
        made.append(name)
        return trunk()

    first = threading.Thread(target=cached_trunk, args=(tmp_path, {}, lambda: make("first")))
    first.start()
    assert begun.wait(10)
    assert cached_trunk(tmp_path, {}, lambda: make("second")).fingerprint() == trunk().fingerprint()
    first.join()
    assert made == ["first"]
    with pytest.raises(TrunkError, match="File exists"):
        cached_trunk(next(tmp_path.glob("*.safetensors")), {}, trunk)
    with pytest.raises(TrunkError, match="Not a directory"):
        embed(trunk(), [video(8, 2, 64, 64)], next(tmp_path.glob("*.safetensors")))


def test_videos_are_embedded_once_per_trunk(tmp_path: Path) -> None:
    videos = [video(5, 4, 64, 64), video(6, 1, 40, 90), video(7, 7, 64, 64)]
    seen: list[int] = []

    class Counting:
        size = 20

        def __init__(self, inner: FrozenTrunk) -> None:
            self.inner = inner

        def __call__(self, frames: np.ndarray) -> np.ndarray:
            seen.append(len(frames))
            return self.inner(frames)

        def fingerprint(self) -> str:
            return self.inner.fingerprint()

    plain = embed(trunk(), videos)
    assert [z.shape for z in plain] == [(4, 20), (1, 20), (7, 20)]
    for _ in range(2):
        for kept, z in zip(embed(Counting(trunk()), videos[::-1], tmp_path), plain[::-1], strict=True):
            assert kept.dtype == np.float32 and (kept == z).all()
    assert seen == [7, 1, 4]
    embed(Counting(trunk(1)), videos, tmp_path)
    assert seen == [7, 1, 4, 4, 1, 7]
    # The same bytes as another shape are another video; a file that lost its end is made again.
    embed(Counting(trunk()), [videos[0].reshape(4, 32, 128, 3)], tmp_path)
    files = list((tmp_path / trunk().fingerprint()[:16]).iterdir())
    assert len(files) == 4
    for file in files:
        file.write_bytes(file.read_bytes()[:150])
    assert (embed(trunk(), videos, tmp_path)[2] == plain[2]).all()


@pytest.mark.parametrize("wrong", [video(8, 64, 64), video(8, 0, 64, 64), np.zeros((2, 3, 64, 64), np.uint8)])
def test_what_is_no_video_is_told_by_its_number(wrong: np.ndarray) -> None:
    with pytest.raises(TrunkError, match=r"^video 1"):
        embed(trunk(), [video(9, 2, 64, 64), wrong])


@pytest.mark.slow
def test_killed_while_it_embeds_it_leaves_whole_files(tmp_path: Path) -> None:
    code = f"""
import numpy as np, torch
from pathlib import Path
from policies.encoders import FrozenTrunk, embed
from policies.soft_argmax import Streams
torch.manual_seed(0)
seen = FrozenTrunk(Streams((4, 4), 1), 20, 64, {json.dumps({"kind": "soft-argmax", "channels": [4, 4], "streams": 1})})
videos = np.random.default_rng(10).integers(0, 256, (400, 2, 64, 64, 3)).astype(np.uint8)
print("begun", flush=True)
embed(seen, list(videos), Path({str(tmp_path)!r}))
"""
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert running.stdout and running.stdout.readline() == "begun\n"
    folder = tmp_path / trunk().fingerprint()[:16]
    while running.poll() is None and (not folder.exists() or len(os.listdir(folder)) < 20):
        pass
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = [np.load(file, allow_pickle=False) for file in folder.glob("*.npy")]
    assert 10 < len(kept) < 400 and all(z.shape == (2, 20) for z in kept)
    videos = np.random.default_rng(10).integers(0, 256, (400, 2, 64, 64, 3)).astype(np.uint8)
    for kept_z, z in zip(embed(trunk(), list(videos), tmp_path), embed(trunk(), list(videos)), strict=True):
        assert (kept_z == z).all()


def test_policies_and_encoders_do_not_load_timm() -> None:
    code = "import sys, policies.encoders, policies.soft_argmax, policies.timm_trunk; print('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
