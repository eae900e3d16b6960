"""Episodes on disk: written once, whole or not at all, and read without trusting the file."""

import os
import pickle
import resource
import threading
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.episodes import Episode, EpisodeError, Episodes, cut
from embodied.records import MAX_STEPS, RecordError


@contextmanager
def file_size_limit(limit):
    """No file of this process may grow beyond `limit` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def episode(id="e", steps=20, seed=0, **changes):
    rng = np.random.default_rng(seed)
    whole = {
        "id": id,
        "obs": rng.normal(size=(steps, 4)).astype(np.float32),
        "act": rng.normal(size=(steps, 2)),
        "info": {"qpos": rng.normal(size=(steps, 7)), "goal": np.array([0.1, np.nan, 3])},
        "terminated": True,
    }
    return Episode(**{**whole, **changes})


def equal(a, b):
    assert (a.id, a.terminated, a.info.keys()) == (b.id, b.terminated, b.info.keys())
    for x, y in [(a.obs, b.obs), (a.act, b.act), *((a.info[name], b.info[name]) for name in a.info)]:
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_an_episode_comes_back_as_it_was(tmp_path):
    episodes = Episodes(tmp_path / "new" / "folder")
    assert episodes.ids() == [] and "e" not in episodes
    pixels = episode(
        "p-1.x", obs=np.arange(20 * 4 * 4 * 3, dtype=np.uint8).reshape(20, 4, 4, 3), info={}, terminated=False
    )
    episodes.save([episode(), pixels])
    assert episodes.ids() == ["e", "p-1.x"] and "e" in episodes and "other" not in episodes
    equal(episodes.load("e"), episode())
    equal(episodes.load("p-1.x"), pixels)


def test_saving_the_same_twice_changes_nothing_and_other_content_is_refused(tmp_path):
    episodes = Episodes(tmp_path)
    episodes.save([episode()])
    before = (tmp_path / "e.npz").read_bytes()
    episodes.save([episode(), episode()])
    for other in (
        episode(seed=1),
        episode(terminated=False),
        episode(info={}),
        episode(obs=episode().obs.astype(np.float64)),
        episode(steps=19),
    ):
        with pytest.raises(EpisodeError, match=r"e\.npz already holds another episode of id 'e'; give the new one"):
            episodes.save([other])
    assert (tmp_path / "e.npz").read_bytes() == before
    assert os.listdir(tmp_path) == ["e.npz"]


def test_several_who_save_the_same_at_once_leave_one(tmp_path):
    failed = []

    def save(seed):
        try:
            Episodes(tmp_path).save([episode(f"e{i}", seed=i) for i in range(20)])
            Episodes(tmp_path).save([episode("contested", seed=seed)])
        except EpisodeError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=save, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 3 and all("already holds another episode of id 'contested'" in text for text in failed)
    assert len(os.listdir(tmp_path)) == 21
    for i in range(20):
        equal(Episodes(tmp_path).load(f"e{i}"), episode(f"e{i}", seed=i))


@given(st.integers(0, 20), st.integers(0, 22))
def test_a_cut_is_the_stretch_or_is_refused(start, stop):
    whole = episode()
    if start < stop <= 20:
        piece = cut(whole, start, stop)
        assert (piece.episode, piece.start, piece.stop, len(piece)) == ("e", start, stop, stop - start)
        np.testing.assert_array_equal(piece.obs, whole.obs[start:stop])
        np.testing.assert_array_equal(piece.act, whole.act[start:stop])
    else:
        with pytest.raises(
            EpisodeError, match=rf"\[{start}, {stop}\) is no stretch of episode 'e' of 20 steps; give 0"
        ):
            cut(whole, start, stop)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": "a/b"}, "episode id 'a/b' is no file name; use 1 to 200 letters"),
        ({"id": "../up"}, "is no file name"),
        ({"id": ".hidden"}, "is no file name"),
        ({"id": "e\n"}, "is no file name"),
        ({"id": ""}, "is no file name"),
        ({"id": "x" * 201}, "is no file name"),
        ({"obs": np.zeros((0, 3)), "act": np.zeros((0, 2))}, "episode 'e' has 0 steps; give 1 to 100,000"),
        ({"obs": np.zeros(MAX_STEPS + 1)}, "has 100001 steps; give 1 to 100,000"),
        ({"act": np.zeros((19, 2))}, r"act has shape \(19, 2\), not \[20, \.\.\.\]"),
        ({"obs": np.full((20, 1), np.nan)}, r"obs\[0, 0\] is nan; mend the environment"),
        ({"act": np.full((20, 1), -np.inf)}, r"act\[0, 0\] is -inf"),
        ({"info": {"who": "me"}}, r"info\['who'\] is 'me'; give a numpy array of numbers"),
        ({"info": {"who": np.array([object()])}}, r"info\['who'\] is .*; give a numpy array of numbers"),
        ({"info": {"": np.zeros(1)}}, "a key of info has 0 characters"),
    ],
)
def test_episodes_that_cannot_be(changes, sentence):
    with pytest.raises(RecordError, match=sentence):
        episode(**changes)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.3, 0.7, -1])
def test_a_truncated_file_is_refused_and_left(tmp_path, kept):
    episodes = Episodes(tmp_path)
    episodes.save([episode()])
    path = tmp_path / "e.npz"
    whole = path.read_bytes()
    part = whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    path.write_bytes(part)
    with pytest.raises(EpisodeError, match=r"e\.npz is not a whole episode file .*; put back a copy, or delete it"):
        episodes.load("e")
    with pytest.raises(EpisodeError, match="is not a whole episode file"):
        episodes.save([episode()])
    assert path.read_bytes() == part


@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_never_changes_what_was_recorded(tmp_path_factory, position, flip):
    folder = tmp_path_factory.mktemp("flip")
    episodes = Episodes(folder)
    episodes.save([episode()])
    data = bytearray((folder / "e.npz").read_bytes())
    data[int(position * len(data))] ^= flip
    (folder / "e.npz").write_bytes(data)
    try:
        found = episodes.load("e")
    except EpisodeError:
        return
    for name, value in {"obs": episode().obs, "act": episode().act}.items():  # a byte that zip does not look at
        np.testing.assert_array_equal(getattr(found, name), value)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_python_objects_in_a_file_are_never_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bomb = np.empty(20, object)
    bomb[:] = [Bomb() for _ in range(20)]
    np.savez(tmp_path / "e.npz", obs=bomb, act=np.zeros((20, 2)), terminated=np.array(False))
    np.savez(tmp_path / "info.npz", obs=np.zeros(20), act=np.zeros(20), terminated=np.array(False), **{"info.x": bomb})
    with (tmp_path / "raw.npz").open("wb") as file:
        pickle.dump(Bomb(), file)
    for id in ("e", "info", "raw"):
        with pytest.raises(EpisodeError, match=rf"{id}\.npz is not a whole episode file"):
            Episodes(tmp_path).load(id)
    assert not (tmp_path / "pwned").exists()


def test_files_that_are_something_else(tmp_path):
    np.savez(tmp_path / "lacks.npz", obs=np.zeros((3, 1)), terminated=np.array(False))
    np.savez(tmp_path / "uneven.npz", obs=np.zeros((3, 1)), act=np.zeros((4, 1)), terminated=np.array(False))
    np.savez(tmp_path / "nan.npz", obs=np.full((3, 1), np.nan), act=np.zeros((3, 1)), terminated=np.array(False))
    (tmp_path / "text.npz").write_text("not an episode")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("obs.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9e99,)}")
    for id in ("lacks", "uneven", "nan", "text", "zip"):
        with pytest.raises(EpisodeError, match=rf"{id}\.npz is not a whole episode file"):
            Episodes(tmp_path).load(id)
    with pytest.raises(EpisodeError, match=r"no episode 'none' in .* \(5 episodes\); save it first"):
        Episodes(tmp_path).load("none")
    assert "../x" not in Episodes(tmp_path) and 3 not in Episodes(tmp_path)


def test_a_full_disk_leaves_whole_episodes_only(tmp_path):
    episodes = Episodes(tmp_path)
    small, large = episode("small"), episode("large", steps=20_000)
    with (
        file_size_limit(100_000),
        pytest.raises(
            EpisodeError, match=r"large\.npz cannot be written: the disk is full .*; free some space or raise"
        ),
    ):
        episodes.save([small, large])
    assert os.listdir(tmp_path) == ["small.npz"]
    episodes.save([small, large])
    equal(episodes.load("large"), large)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(EpisodeError, match=r"file cannot be written .*; mend that or choose another folder"):
        Episodes(tmp_path / "file").save([episode()])
