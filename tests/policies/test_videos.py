"""Folders of videos as somebody has them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from policies.filmed import Filmed
from policies.soft_argmax import pretrain
from policies.videos import VideoError, read_video, videos_in
from tests.rapport.visual.worlds import Dot


def counting(frames: int, height: int = 48, width: int = 48) -> np.ndarray:
    """Frame t is grey 8 t: which frame one sees can be told from its brightness."""
    return np.broadcast_to(
        (8 * np.arange(frames, dtype=np.uint8))[:, None, None, None], (frames, height, width, 3)
    ).copy()


def written(path: Path, frames: np.ndarray) -> Path:
    if path.suffix == ".gif":
        Image.fromarray(frames[0]).save(path, save_all=True, append_images=[Image.fromarray(f) for f in frames[1:]])
        return path
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.mkv", "a.avi", "A.MP4"])
def test_frames_are_spread_from_the_first_to_the_last(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, counting(25))
    found = read_video(path, frames=5, size=32)
    assert found.shape == (5, 32, 32, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found.mean((1, 2, 3)), [0, 48, 96, 144, 192], atol=4)
    assert (read_video(path, frames=5, size=32) == found).all()


def test_a_short_video_shows_frames_again_and_one_frame_is_the_first(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", counting(3))
    np.testing.assert_allclose(read_video(path, 6, 16).mean((1, 2, 3)), [0, 0, 8, 8, 16, 16], atol=4)
    assert read_video(path, 1, 16).mean() < 4


def test_what_is_not_square_is_fitted_in_with_black_beside_it(tmp_path: Path) -> None:
    bright = np.full((4, 40, 80, 3), 200, np.uint8)
    for turned in (False, True):
        np.savez(tmp_path / "a.npz", frames=bright.swapaxes(1, 2) if turned else bright)
        found = read_video(tmp_path / "a.npz", 4, 32)
        lying = found.swapaxes(1, 2) if turned else found
        assert (lying[:, :8] == 0).all() and (lying[:, 8:24] == 200).all() and (lying[:, 24:] == 0).all()


class Wide(Dot):
    """Drawn larger than a film keeps, and not square."""

    def render(self) -> np.ndarray:
        return np.ascontiguousarray(super().render().repeat(9, 0).repeat(13, 1))


@pytest.mark.parametrize("kind", [Dot, Wide])
def test_a_film_and_the_file_that_was_drawn_of_it_are_seen_alike(kind: type[Dot], tmp_path: Path) -> None:
    env, drawn = Filmed(kind("rgb_array")), []
    env.reset(seed=0)
    for _ in range(8):
        env.step(np.array([0.5]))
        drawn.append(env.render())
    np.savez(tmp_path / "a.npz", frames=np.stack(drawn))
    read = read_video(tmp_path / "a.npz", 8)
    assert read.shape[1] != read.shape[2] and (read == np.stack(env.film)).all()
    trunk = pretrain([np.stack(env.film)], steps=1)
    np.testing.assert_array_equal(trunk(read), trunk(np.stack(env.film)))


def test_arrays_are_read_by_name_or_where_there_is_one(tmp_path: Path) -> None:
    frames = counting(20, 64, 64)
    for arrays in ({"frames": frames, "act": np.zeros(3)}, {"video": frames}):
        np.savez(tmp_path / "a.npz", **arrays)
        assert (read_video(tmp_path / "a.npz") == frames).all()


def test_names_are_sorted_as_people_sort_them(tmp_path: Path) -> None:
    for name in ("take10.mp4", "take2.mp4", "Take1.webm", "notes.txt", ".hidden.mp4", "12.gif", "3.npz", "take02.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    names = [path.name for path in videos_in(tmp_path)]
    assert names == ["3.npz", "12.gif", "Take1.webm", "take02.mp4", "take2.mp4", "take10.mp4"]


def test_files_without_frames_are_told(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.mp4", counting(25)).read_bytes()
    list_of_files = b"ffconcat version 1.0\nfile a.mp4\n"
    broken = {"b.mp4": b"", "c.mp4": whole[: len(whole) // 2], "d.mp4": list_of_files, "e.gif": b"GIF89a"}
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match=rf"{name} (cannot be read|has no frame).*; save it again"):
            read_video(tmp_path / name)
    with pytest.raises(VideoError, match=r"none.mp4 cannot be read \(No such file"):
        read_video(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "s.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        out.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(VideoError, match=r"s.mp4 has no pictures"):
        read_video(tmp_path / "s.mp4")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros(2), "y": np.zeros(2)}, "holds x, y; save numpy.savez"),
        ({"frames": np.zeros((4, 3, 8, 8), np.uint8)}, r"uint8 \[4, 3, 8, 8\]; save uint8 \[T,H,W,3\]"),
        ({"frames": np.zeros((4, 8, 8, 3))}, "are float64"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8)}, "at least one"),
        ({"frames": np.array([{}])}, "cannot be read .*pickle"),
    ],
)
def test_arrays_that_are_no_video_are_told(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match=said):
        read_video(tmp_path / "a.npz")


def test_arrays_that_are_damaged_are_told(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", frames=np.random.default_rng(0).integers(0, 9, (4, 8, 8, 3), np.uint8))
    whole = (tmp_path / "whole.npz").read_bytes()
    middle = len(whole) // 2
    np.save(tmp_path / "array.npy", np.zeros((4, 8, 8, 3), np.uint8))
    broken = {
        "cut.npz": whole[:middle],
        "changed.npz": whole[:middle] + bytes(255 - b for b in whole[middle : middle + 40]) + whole[middle + 40 :],
        "named.npz": (tmp_path / "array.npy").read_bytes(),
        "empty.npz": b"",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match=rf"{name} cannot be read .*; save it again"):
            read_video(tmp_path / name)


def test_folders_without_videos_and_impossible_numbers_are_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(VideoError, match="has no videos; give a folder with some"):
        videos_in(tmp_path)
    with pytest.raises(VideoError, match="is no folder"):
        videos_in(tmp_path / "notes.txt")
    for wrong in ({"frames": 0}, {"size": 0}):
        with pytest.raises(ValueError, match="give 1 or more of each"):
            read_video(tmp_path / "a.mp4", **wrong)
