"""Whole episodes on disk, one .npz each, written once and never changed; queries refer to stretches of them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from embodied import atomic
from embodied.records import MAX_NAME, Array, RecordError, Segment, check_array, check_name, check_steps

# An id is a file name on every system, so it may hold no slash, no blank and no leading dot.
_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_INFO = "info."


class EpisodeError(RecordError):
    """An episode that cannot be saved or read; the sentence names the file and the mend."""


@dataclass(frozen=True, eq=False)
class Episode:
    """obs [T,*O], act [T,*A], what else was recorded (`info`: joint angles [T,7], a goal [3]), and how it ended.

    `terminated` says that the task ended it, not a time limit. Raises RecordError for an id that is no file name, and
    for arrays that are not numbers, of unequal length, NaN or infinite (`info` may be NaN: it means unknown).
    """

    id: str
    obs: Array
    act: Array
    info: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))
    terminated: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise EpisodeError(
                f"episode id {self.id!r} is no file name; use 1 to {MAX_NAME} letters, digits, dots, dashes or "
                "underscores, a letter or digit first"
            )
        what = f"episode {self.id!r}"
        check_steps(what, len(self))
        check_array(what, "obs", self.obs, len(self))
        check_array(what, "act", self.act, len(self))
        object.__setattr__(self, "terminated", bool(self.terminated))
        for name, value in self.info.items():
            check_name(f"{what}: a key of info", name)
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
                raise EpisodeError(f"{what}: info[{name!r}] is {value!r}; give a numpy array of numbers")

    def __len__(self) -> int:
        return len(self.obs) if np.ndim(self.obs) else 0


def cut(episode: Episode, start: int, stop: int) -> Segment:
    """Steps [start, stop) as a segment; its arrays are views. Raises RecordError outside the episode."""
    if not 0 <= start < stop <= len(episode):
        raise EpisodeError(
            f"[{start}, {stop}) is no stretch of episode {episode.id!r} of {len(episode)} steps; "
            f"give 0 <= start < stop <= {len(episode)}"
        )
    return Segment(episode.id, start, stop, episode.obs[start:stop], episode.act[start:stop])


class Episodes:
    """A folder of episodes. Any number of processes may read and save at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def save(self, episodes: Iterable[Episode]) -> None:
        """Durable when it returns. An id that is there already with the same content is left as it is.

        Raises EpisodeError for an id with other content, and when the disk is full (then only whole ones are there).
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EpisodeError(atomic.explain(error, self.folder)) from error
        for episode in episodes:
            path = self._path(episode.id)
            if path.exists():
                self._check_same(episode)
                continue
            buffer = io.BytesIO()
            arrays = {"terminated": np.array(episode.terminated), **_arrays(episode)}
            np.savez(buffer, allow_pickle=False, **arrays)
            try:
                atomic.write(path, buffer.getvalue(), replace=False)
            except FileExistsError:  # another process saved it meanwhile
                self._check_same(episode)
            except OSError as error:
                raise EpisodeError(atomic.explain(error, path)) from error

    def load(self, id: str) -> Episode:
        """Raises EpisodeError for an unknown id and for a file that is truncated, changed, or holds Python objects."""
        path = self._path(id)
        if id not in self:
            raise EpisodeError(f"no episode {id!r} in {self.folder} ({len(self.ids())} episodes); save it first")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            obs, act, terminated = arrays.pop("obs"), arrays.pop("act"), bool(arrays.pop("terminated"))
            return Episode(id, obs, act, {name.removeprefix(_INFO): a for name, a in arrays.items()}, terminated)
        except Exception as error:  # zip, numpy's header and zlib each raise their own on bytes from anywhere
            raise EpisodeError(
                f"{path} is not a whole episode file ({type(error).__name__}: {error}); "
                "put back a copy, or delete it and record it again"
            ) from error

    def ids(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(path.stem for path in self.folder.glob("*.npz") if _ID.fullmatch(path.stem))

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and _ID.fullmatch(id) is not None and self._path(id).is_file()

    def _check_same(self, episode: Episode) -> None:
        saved = self.load(episode.id)
        ours, theirs = _arrays(episode), _arrays(saved)
        if (
            saved.terminated != episode.terminated
            or ours.keys() != theirs.keys()
            or not all(same_array(ours[name], theirs[name]) for name in ours)
        ):
            raise EpisodeError(
                f"{self._path(episode.id)} already holds another episode of id {episode.id!r}; "
                "give the new one an id of its own"
            )

    def _path(self, id: str) -> Path:
        return self.folder / f"{id}.npz"


def _arrays(episode: Episode) -> dict[str, Array]:
    return {"obs": episode.obs, "act": episode.act, **{_INFO + name: value for name, value in episode.info.items()}}


def same_array(a: Array, b: Array) -> bool:
    """Equal bit for bit, NaN and the sign of zero included."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
