"""One study as it is served: its folder, its terms as the file has them now, its store and its clips."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied.episodes import Episodes
from embodied.store import Store
from human_ui import desk, study, tables
from human_ui.clips import Clips
from human_ui.study import Study

TERMS, ANSWERS, EPISODES, CLIPS = "study.toml", "answers.sqlite", "episodes", "clips"
_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True)
class Limits:
    """body: bytes of what is sent at once. post, put, delete: writes a minute of one person, or of one address while
    nobody is known."""

    body: int = 64 * 1024
    post: int = 120
    put: int = 240
    delete: int = 120


@dataclass(eq=False)
class Site:
    """`address`: of the proxy that speaks TLS, through which alone it is then reached, such as
    https://example.org/study; nothing: this machine alone."""

    folder: Path
    store: Store
    clips: Clips
    address: str = ""
    limits: Limits = Limits()
    over: str = ""  # what people are told once there is nothing more to ask
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read: tuple[float, Study] | None = None
    _about: dict[str, dict[str, Any]] = field(default_factory=dict)

    def about(self, clip: str) -> dict[str, Any]:
        """What is known of a clip, read once: the same hash is the same clip. Raises ClipError for one that is not
        there."""
        if clip not in self._about:
            self._about[clip] = asdict(self.clips.info(clip))
        return dict(self._about[clip])

    def study(self) -> Study:
        """As the file is now: an edited study is a new version from the next lease on. While the edit makes no sense
        the last one that did stays."""
        path = self.folder / TERMS
        with self._lock:
            try:
                changed = path.stat().st_mtime
                if self._read is None or self._read[0] != changed:
                    found = study.load(path)
                    desk.begin(self.store, found, time.time())
                    self._read = changed, found
            except (study.StudyError, OSError):
                if self._read is None:
                    raise
            return self._read[1]


def open_site(folder: Path, place: str | None = None, *, address: str = "") -> Site:
    """Opens a study's folder, and makes what it lacks but its terms. place: a PostgreSQL address instead of the file.
    address: as `Site` has it.

    Raises StudyError for its terms, StoreError for its store, ValueError for an address that no proxy can have.
    """
    if address and not _ADDRESS.fullmatch(address):
        raise ValueError(
            f"--address is {address!r}; give https://host/path, with neither a slash at its end nor anything after it: "
            "without TLS everybody on the way could read the invitations"
        )
    study.load(folder / TERMS)
    store = Store(place or folder / ANSWERS, Episodes(folder / EPISODES))
    store.write(tables.create)
    site = Site(folder, store, Clips(folder / CLIPS), address)
    site.study()
    return site
