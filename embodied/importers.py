"""Other people's recordings as episodes: D4RL-style arrays, Minari data sets, robomimic files (numpy; h5py for HDF5).

Everything is checked before the first episode is given out, so that a bad file leaves nothing behind. `info` of each
episode holds `reward` [T] as it was recorded, and `first_row`, the row of the flattened arrays at which it starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from embodied.episodes import Episode
from embodied.records import MAX_STEPS, Array, RecordError, check_array

COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts")
_SUFFIXES = (".hdf5", ".h5")

Ends = Literal["both", "timeouts"]
"""What ends an episode: terminals and timeouts, or timeouts alone. In D4RL's antmaze a terminal marks the goal and the
ant walks on."""


class DataError(RecordError):
    """Data that cannot be imported or exported; the sentence names the file, the value and the mend."""


def read(source: Path, *, name: str = "", ends: Ends = "both") -> Iterator[Episode]:
    """The episodes of a D4RL-style .npz or .hdf5, a robomimic .hdf5, or a Minari data set (its folder or .hdf5).

    They are called NAME-000000 and so on; NAME is the file's unless told. HDF5 sets of many episodes are read one at a
    time, once to check them and once to give them out. Raises DataError.
    """
    path = minari_file(source)
    name = name or name_of(source)
    if path.suffix in _SUFFIXES and (kind := _layout(path)) != "d4rl":
        given = minari if kind == "minari" else robomimic
        for _ in given(path, name=name):
            pass
        return given(path, name=name)
    return d4rl(read_arrays(path), name=name, ends=ends, what=str(source))


def name_of(source: Path) -> str:
    """The file's name, as far as episodes can be called so."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", Path(source).stem).lstrip("._-")[:100] or "episode"


def d4rl(
    arrays: Mapping[str, Any], *, name: str = "episode", ends: Ends = "both", what: str = "the arrays"
) -> Iterator[Episode]:
    """Episodes of observations [N,*O], actions [N,*A], rewards, terminals and timeouts [N], in row order.

    One ends with a row of which a terminal or a timeout is true, and with the last row; it is `terminated` if its last
    row is a terminal. A column of scalars becomes [N,1]. Raises DataError at once for what `check_arrays` refuses.
    """
    checked = check_arrays(arrays, what)
    starts = episode_starts(checked, ends)
    stops = np.append(starts[1:], len(checked["rewards"]))
    longest = int(np.argmax(stops - starts))
    if stops[longest] - starts[longest] > MAX_STEPS:
        raise DataError(
            f"{what}: no episode ends between rows {starts[longest]} and {stops[longest]}; mark the ends in timeouts, "
            f"at least one in {MAX_STEPS:,} rows"
        )
    obs, act = (_columns(checked[column]) for column in ("observations", "actions"))

    def episodes() -> Iterator[Episode]:
        for i, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            info = {"reward": checked["rewards"][start:stop], "first_row": np.array(start)}
            terminated = bool(checked["terminals"][stop - 1])
            yield Episode(f"{name}-{i:06d}", obs[start:stop], act[start:stop], info, terminated)

    return episodes()


def episode_starts(arrays: Mapping[str, Array], ends: Ends = "both") -> npt.NDArray[np.intp]:
    """The row at which each episode begins, of arrays that `check_arrays` has passed."""
    over = np.asarray(arrays["timeouts"], bool)
    if ends == "both":
        over = over | np.asarray(arrays["terminals"], bool)
    starts = np.append(0, np.flatnonzero(over) + 1)
    return starts[starts < len(over)]


def check_arrays(arrays: Mapping[str, Any], what: str = "the arrays") -> dict[str, Array]:
    """The five columns as numpy arrays. Raises DataError for one that is missing, of another length, empty, not numeric
    or not finite, for rewards that are not [N], and for terminals and timeouts that are not true or false."""
    if missing := [column for column in COLUMNS if column not in arrays]:
        mend = "; where no time limit struck, add zeros" if missing == ["timeouts"] else ""
        raise DataError(
            f"{what} has no {', '.join(missing)}, only {', '.join(sorted(map(str, arrays))[:9]) or 'nothing'}; "
            f"give the columns {', '.join(COLUMNS)}{mend}"
        )
    columns = {column: np.asarray(arrays[column]) for column in COLUMNS}
    rows = len(columns["observations"]) if columns["observations"].ndim else 0
    if not rows:
        raise DataError(f"{what}: observations have shape {columns['observations'].shape}; give [N,O] with N >= 1")
    for column, value in columns.items():
        try:
            check_array(what, column, value, rows)
        except RecordError as error:
            raise DataError(str(error)) from None
        if value.size == 0:
            raise DataError(f"{what}: {column} has shape {value.shape}, which holds nothing; give numbers for each row")
    for column in COLUMNS[2:]:
        if columns[column].shape != (rows,):
            raise DataError(f"{what}: {column} has shape {columns[column].shape}; give one number per row, [{rows}]")
    for column in COLUMNS[3:]:
        if len(strange := np.flatnonzero(~np.isin(columns[column], (0, 1)))):
            raise DataError(f"{what}: {column}[{strange[0]}] is {columns[column][strange[0]]}; give 0 or 1")
    return columns


def read_arrays(path: Path) -> dict[str, Array]:
    """The columns of a D4RL-style .npz or .hdf5, as they are. Raises DataError for another file or a damaged one."""
    path = Path(path)
    if path.suffix != ".npz" and path.suffix not in _SUFFIXES:
        raise DataError(f"{path} is no data file; give .npz, .hdf5, or the folder of a Minari data set")
    if not path.is_file():
        raise DataError(f"{path} is not there; give the path of a data file")
    if path.suffix in _SUFFIXES:
        with _open(path) as file:
            return {column: file[column][()] for column in COLUMNS if column in file}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {column: file[column] for column in file.files}
    except Exception as error:  # zip, numpy's header and zlib each raise their own on bytes from anywhere
        raise DataError(f"{path} is not a whole .npz ({type(error).__name__}: {error}); fetch it again") from error


def minari_file(source: Path) -> Path:
    """The HDF5 file of a Minari data set given by its folder; any other path as it is."""
    source = Path(source)
    if not source.is_dir():
        return source
    for path in (source / "data" / "main_data.hdf5", source / "main_data.hdf5"):
        if path.is_file():
            return path
    raise DataError(f"{source} holds no data/main_data.hdf5, so it is no Minari data set; give its folder, or a file")


def minari(path: Path, *, name: str = "episode") -> Iterator[Episode]:
    """Episodes of Minari's main_data.hdf5 (0.5): episode_K with observations [T+1], actions, rewards, terminations [T].

    Dict and tuple observations are flattened to [T,O] in key order; the observation after the last step goes to
    `info["final_obs"]`. Raises DataError as it comes to an episode that is incomplete.
    """
    with _open(path) as file:
        row = 0
        for i, key in enumerate(_numbered(file, "episode_")):
            group, what = file[key], f"{path}, {key}"
            need = ("observations", "actions", "rewards", "terminations")
            obs, act, reward, over = (_flat(group, column, what) for column in need)
            if len(obs) != len(reward) + 1:
                raise DataError(
                    f"{what} has {len(obs)} observations, {len(reward)} rewards; give one more of the first"
                )
            info = {"reward": reward, "final_obs": _columns(obs)[-1]}
            yield _episode(f"{name}-{i:06d}", obs[:-1], act, info, bool(over[-1:].any()), row, what)
            row += len(reward)


def robomimic(path: Path, *, name: str = "episode") -> Iterator[Episode]:
    """Episodes of a robomimic file: data/demo_K with obs (a group of arrays, flattened in key order), actions, rewards,
    dones [T]. A demonstration that ends with `done` counts as terminated. Raises DataError as `minari` does."""
    with _open(path) as file:
        row = 0
        for i, key in enumerate(_numbered(file["data"], "demo_")):
            what = f"{path}, data/{key}"
            need = ("obs", "actions", "rewards", "dones")
            obs, act, reward, over = (_flat(file["data"][key], column, what) for column in need)
            yield _episode(f"{name}-{i:06d}", obs, act, {"reward": reward}, bool(over[-1:].any()), row, what)
            row += len(reward)


def _episode(
    id: str, obs: Array, act: Array, info: Mapping[str, Array], terminated: bool, row: int, what: str
) -> Episode:
    reward = info["reward"]
    if not len(obs) == len(act) == len(reward):
        raise DataError(
            f"{what} has {len(obs)} observations, {len(act)} actions and {len(reward)} rewards; give one each per step"
        )
    try:
        check_array(what, "rewards", reward, len(obs))
        return Episode(id, _columns(obs), _columns(act), {**info, "first_row": np.array(row)}, terminated)
    except RecordError as error:
        raise DataError(str(error) if what in str(error) else f"{what}: {error}") from None


def _columns(value: Array) -> Array:
    return value[:, None] if value.ndim == 1 else value


def _flat(group: Any, name: str, what: str) -> Array:
    """A dataset as it is; a group of datasets side by side, [T,O], in key order (`_index_2` before `_index_10`)."""
    if name not in group:
        raise DataError(f"{what} has no {name}, only {', '.join(group) or 'nothing'}; give a whole data set")
    node = group[name]
    if not hasattr(node, "keys"):
        return np.asarray(node[()])
    parts = [_flat(node, key, f"{what}/{name}") for key in sorted(node, key=_natural)]
    if not parts or len({len(part) for part in parts}) > 1:
        lengths = ", ".join(str(len(part)) for part in parts) or "none"
        raise DataError(f"{what}: the parts of {name} have lengths {lengths}; give each one row per step")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], 1)


def _natural(key: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)]


def _numbered(keys: Iterable[str], stem: str) -> list[str]:
    return sorted((key for key in keys if re.fullmatch(rf"{stem}\d+", key)), key=_natural)


def _layout(path: Path) -> Literal["minari", "robomimic", "d4rl"]:
    with _open(path) as file:
        if _numbered(file, "episode_"):
            return "minari"
        return "robomimic" if "data" in file and _numbered(getattr(file["data"], "keys", list)(), "demo_") else "d4rl"


def _open(path: Path) -> Any:
    import h5py  # loaded late: most imports need none

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({error}); is it whole, and is the path right?") from error
