"""One study as it is served: its folder, its terms as the file has them now, its store and its clips."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from embodied.episodes import Episodes
from embodied.store import Store
from human_ui import desk, study, tables
from human_ui.clips import Clips
from human_ui.study import Study

TERMS, ANSWERS, EPISODES, CLIPS = "study.toml", "answers.sqlite", "episodes", "clips"


@dataclass(eq=False)
class Site:
    """`public`: it is reached through a proxy that speaks TLS, so that cookies are for TLS alone."""

    folder: Path
    store: Store
    clips: Clips
    public: bool = False
    over: str = ""  # what people are told once there is nothing more to ask
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read: tuple[float, Study] | None = None

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


def open_site(folder: Path, place: str | None = None, *, public: bool = False) -> Site:
    """Opens a study's folder, and makes what it lacks but its terms. place: a PostgreSQL address instead of the file.

    Raises StudyError for its terms, StoreError for its store.
    """
    study.load(folder / TERMS)
    store = Store(place or folder / ANSWERS, Episodes(folder / EPISODES))
    store.write(tables.create)
    site = Site(folder, store, Clips(folder / CLIPS), public)
    site.study()
    return site
