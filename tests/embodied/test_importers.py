"""Other people's files: what was written comes back row by row, and what is broken is named and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.importers import DataError, check_arrays, d4rl, read


def arrays(rows=10, terminals=(3,), timeouts=(7,)):
    draw = np.random.default_rng(0)
    ends = [np.isin(np.arange(rows), at) for at in (terminals, timeouts)]
    return {
        "observations": draw.normal(size=(rows, 3)).astype(np.float32),
        "actions": draw.normal(size=(rows, 2)).astype(np.float32),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": ends[0],
        "timeouts": ends[1],
    }


def test_an_episode_ends_at_a_terminal_a_timeout_or_the_last_row():
    given = arrays()
    first, second, third = d4rl(given, name="set")
    assert [e.id for e in (first, second, third)] == ["set-000000", "set-000001", "set-000002"]
    assert [len(e) for e in (first, second, third)] == [4, 4, 2]
    assert [e.terminated for e in (first, second, third)] == [True, False, False]
    assert [int(e.info["first_row"]) for e in (first, second, third)] == [0, 4, 8]
    assert np.array_equal(second.obs, given["observations"][4:8])
    assert np.array_equal(second.act, given["actions"][4:8])
    assert second.info["reward"].tolist() == [4, 5, 6, 7]


def test_where_a_terminal_is_no_end_only_timeouts_are():
    assert [len(e) for e in d4rl(arrays(), ends="timeouts")] == [8, 2]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_episodes_are_all_rows_in_order(ends):
    over = np.array(ends)
    rows = len(over)
    given = {**arrays(rows), "terminals": over[:, 0], "timeouts": over[:, 1]}
    episodes = list(d4rl(given))
    assert np.array_equal(np.concatenate([e.obs for e in episodes]), given["observations"])
    for episode in episodes:
        first = int(episode.info["first_row"])
        assert not over[first : first + len(episode) - 1].any()
        assert over[first + len(episode) - 1].any() or first + len(episode) == rows


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_files_of_the_layout_are_the_arrays(suffix, tmp_path):
    given, path = arrays(), tmp_path / f"hopper v2{suffix}"
    if suffix == ".npz":
        np.savez(path, **given)
    else:
        with h5py.File(path, "w") as file:
            for name, value in given.items():
                file[name] = value
            file["infos/qpos"] = np.zeros((10, 5))
    read_back = list(read(path))
    assert [e.id for e in read_back] == [f"hopper_v2-{i:06d}" for i in range(3)]
    for a, b in zip(read_back, d4rl(given), strict=True):
        assert np.array_equal(a.obs, b.obs) and np.array_equal(a.act, b.act) and a.terminated == b.terminated


def test_discrete_actions_become_one_column():
    (episode, *_) = d4rl({**arrays(), "actions": np.arange(10)})
    assert episode.act.shape == (4, 1)


NAN = np.where(np.arange(30).reshape(10, 3) == 7, np.nan, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"timeouts": None},
            r"the arrays has no timeouts, only .*; give .*; where no time limit struck, add",
        ),
        ({"actions": None, "rewards": None}, "has no actions, rewards, only observations, terminals, timeouts; give"),
        ({"rewards": np.zeros(9)}, r"rewards has shape \(9,\), not \[10, ...\]; give one row per step"),
        ({"rewards": np.zeros((10, 1))}, r"rewards has shape \(10, 1\); give one number per row, \[10\]"),
        ({"observations": NAN}, r"observations\[2, 1\] is nan; mend"),
        ({"actions": np.full(10, "left")}, "actions is an array of <U4; give a numpy array of numbers"),
        ({"observations": np.array(3.0)}, r"observations have shape \(\); give \[N,O\] with N >= 1"),
        ({"observations": np.zeros((0, 3))}, r"observations have shape \(0, 3\)"),
        ({"actions": np.zeros((10, 0))}, r"actions has shape \(10, 0\), which holds nothing"),
        ({"terminals": np.full(10, 2)}, r"terminals\[0\] is 2; give 0 or 1"),
    ],
)
def test_broken_arrays_are_named_before_an_episode_is_given_out(change, said):
    broken = {k: v for k, v in {**arrays(), **change}.items() if v is not None}
    with pytest.raises(DataError, match=said):
        d4rl(broken)  # not iterated
    with pytest.raises(DataError, match=said):
        check_arrays(broken)


def test_a_million_rows_without_an_end_are_no_episode():
    rows = 100_001
    endless = {**arrays(rows, (), ()), "observations": np.zeros((rows, 1))}
    with pytest.raises(DataError, match="no episode ends between rows 0 and 100001; mark the ends in timeouts"):
        d4rl(endless)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npz", b"PK no", "a.npz is not a whole .npz"),
        ("a.hdf5", b"no", "a.hdf5 cannot be read as HDF5"),
        ("a.csv", b"1,2", "a.csv is no data file; give .npz, .hdf5"),
        (None, b"", "holds no data/main_data.hdf5, so it is no Minari data set"),
        ("gone.npz", None, "gone.npz is not there"),
    ],
)
def test_files_of_another_kind_are_named(name, content, said, tmp_path):
    path = tmp_path / name if name else tmp_path
    if name and content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(path)


def robomimic_file(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for demo in (0, 2, 10):
            group = file.create_group(f"data/demo_{demo}")
            group["obs/robot0_eef_pos"], group["obs/object"] = np.full((4, 3), demo), np.full((4, 2), -demo)
            group["actions"], group["rewards"] = np.zeros((4, 7)), np.zeros(4)
            group["dones"] = [0, 0, 0, demo != 2]


def test_a_robomimic_file_is_read_in_the_order_of_its_numbers(tmp_path):
    robomimic_file(tmp_path / "lift.hdf5")
    episodes = list(read(tmp_path / "lift.hdf5"))
    assert [e.obs[0].tolist() for e in episodes] == [[-d, -d, d, d, d] for d in (0, 2, 10)]  # object before robot0
    assert [e.terminated for e in episodes] == [True, False, True]
    assert [int(e.info["first_row"]) for e in episodes] == [0, 4, 8]


# In a process of its own: minari reads its folder's name when it is imported, and warns of what a test need not give.
MINARI = """
import sys, warnings
warnings.simplefilter("ignore")
import gymnasium, minari, numpy as np
from minari.data_collector import EpisodeBuffer
box = lambda n: gymnasium.spaces.Box(-1, 1, (n,))
space = gymnasium.spaces.Dict(
    {"pos": box(2), "goal": box(3), "more": gymnasium.spaces.Tuple([box(1)] * 11)}
)
draw = np.random.default_rng(0)
buffers, flat = [], {}
for i in range(12):
    space.seed(i)
    seen = [space.sample() for _ in range(6)]
    flat[str(i)] = np.stack([gymnasium.spaces.flatten(space, s) for s in seen])
    obs = {k: np.stack([s[k] for s in seen]) for k in ("pos", "goal")}
    obs["more"] = tuple(np.stack([s["more"][k] for s in seen]) for k in range(11))
    buffers.append(EpisodeBuffer(
        id=i, seed=i, observations=obs, actions=draw.random((5, 2), dtype=np.float32), rewards=[1.0, 2, 3, 4, i],
        terminations=[False] * 4 + [i == 2], truncations=[False] * 4 + [i != 2], infos={},
    ))
minari.create_dataset_from_buffers("toy/set-v0", buffers, observation_space=space, action_space=box(2))
np.savez(sys.argv[1], **flat)
"""


@pytest.fixture(scope="module")
def minari_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minari")
    flat = folder / "flat.npz"
    subprocess.run(
        [sys.executable, "-c", MINARI, str(flat)], check=True, env={**os.environ, "MINARI_DATASETS_PATH": str(folder)}
    )
    return folder / "toy" / "set-v0", np.load(flat)


def test_what_minari_writes_is_read_flat_as_gymnasium_flattens_it(minari_set):
    folder, flat = minari_set
    episodes = list(read(folder))
    assert [e.id for e in episodes] == [f"set-v0-{i:06d}" for i in range(12)]
    for i, episode in enumerate(episodes):
        assert np.array_equal(episode.obs, flat[str(i)][:5])
        assert np.array_equal(episode.info["final_obs"], flat[str(i)][5])
        assert episode.info["reward"].tolist() == [1, 2, 3, 4, i]
        assert episode.act.shape == (5, 2) and int(episode.info["first_row"]) == 5 * i
        assert episode.terminated == (i == 2)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda g: g.__delitem__("actions"), "episode_3 has no actions, only infos, observations"),
        (lambda g: g["rewards"].__setitem__(1, np.nan), r"episode_3: rewards\[1\] is nan"),
        (lambda g: g["observations/goal"].__setitem__((2, 1), np.inf), r"episode_3: .*obs\[2, 1\] is inf"),
        (lambda g: _replace(g, "rewards", np.zeros(4)), "episode_3 has 6 observations, 4 rewards; give one more"),
        (lambda g: _replace(g, "actions", np.zeros((7, 2))), "episode_3 has 5 observations, 7 actions and 5 rewards"),
        (lambda g: _replace(g, "observations/pos", np.zeros((2, 2))), "parts of observations have lengths 6, 6, 2"),
    ],
)
def test_a_broken_minari_episode_is_named_before_the_first_is_given_out(harm, said, minari_set, tmp_path):
    copy = tmp_path / "main_data.hdf5"
    copy.write_bytes((minari_set[0] / "data" / "main_data.hdf5").read_bytes())
    with h5py.File(copy, "r+") as file:
        harm(file["episode_3"])
    with pytest.raises(DataError, match=said):
        read(copy)


def _replace(group, name, value):
    del group[name]
    group[name] = value
