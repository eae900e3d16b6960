import numpy as np
import pytest

from hardware.camera import Frame
from hardware.framed import JournalError
from hardware.frames import FrameLog, beside, cameras, frames


def picture(k: int) -> np.ndarray:
    y, x = np.mgrid[:32, :48]
    return np.stack([4 * x, 5 * y, np.full_like(x, 20 * k)], -1).astype(np.uint8)


def test_frames_come_back_nearly_as_they_were_and_a_torn_one_does_not(tmp_path):
    path = beside(tmp_path / "a.journal")
    log = FrameLog(path)
    for k in range(6):
        assert log.append("wrist" if k % 2 else "top", Frame(picture(k), k, 1000 * k)), log.failed
    assert log.close()
    found = list(frames(path))
    assert [(f.camera, f.seq, f.time_ns) for f in found] == [
        ("wrist" if k % 2 else "top", k, 1000 * k) for k in range(6)
    ]
    assert all(np.abs(f.picture().astype(int) - picture(f.seq)).mean() < 3 for f in found)
    assert [f.seq for f in frames(path, "wrist")] == [1, 3, 5]
    assert cameras(path) == ["top", "wrist"] and cameras(tmp_path / "none.frames") == []
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert len(list(frames(path))) == 5
    path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    assert list(frames(path)) == []
    path.write_bytes(b"rapport journal 1\n")
    with pytest.raises(JournalError, match="is no rapport frames"):
        list(frames(path))


def test_pictures_and_their_folder_are_their_owners_alone(tmp_path):
    log = FrameLog(tmp_path / "episodes" / "a.frames")
    assert log.close()
    assert log.path.stat().st_mode & 0o777 == 0o600 and log.path.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_no_picture_is_told(tmp_path):
    log = FrameLog(tmp_path / "a.frames")
    assert not log.append("top", Frame(np.zeros((2, 2, 7), np.float64), 0, 0)) and "top" in log.failed
    assert not log.close()
