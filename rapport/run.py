"""The folder of a long run: one setting of everything, one process at a time, and never mistaken for another run."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embodied import atomic


class RunError(ValueError):
    """A folder that cannot hold this run; the sentence names the folder and the mend."""


PACKAGES = ("torch", "numpy", "scipy", "mujoco", "gymnasium", "stable-baselines3")


def machine() -> dict[str, str]:
    """What a run was made on, as far as its numbers depend on it."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        **versions,
        "platform": platform.platform(),
        "cores": str(os.cpu_count()),
    }


@contextmanager
def run_folder(folder: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Opens `folder` for a run with these settings, new or begun before, and locks it while it is used.

    Raises RunError when it was made with other settings, holds something else, or is in use.
    """
    config = folder / "config.json"
    wanted = json.loads(json.dumps(settings))
    _check(folder, config, wanted)  # before anything is written
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise RunError(atomic.explain(error, folder)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise RunError(f"{folder} is in use by another process: wait for it, or choose another folder.") from None
    try:
        _check(folder, config, wanted)  # again, now that nobody else can write
        if not config.exists():
            write_json(config, wanted)
        yield folder
    finally:
        os.close(lock)


def _check(folder: Path, config: Path, wanted: Mapping[str, Any]) -> None:
    if config.exists():
        found = read_json(config)
        if different := [k for k in sorted({*found, *wanted}) if found.get(k) != wanted.get(k)]:
            told = "; ".join(f"{k} is {found.get(k)!r} there and {wanted.get(k)!r} here" for k in different[:3])
            raise RunError(f"{folder} was made with other settings ({told}): choose another folder with --out.")
        return
    # A kill while config.json was written leaves its temporary file.
    strange = [p for p in folder.glob("*") if p.name != "lock" and not p.name.startswith(".config.json.")]
    if strange:
        raise RunError(f"{folder} holds {strange[0].name}, and no run of ours: choose another folder with --out.")


def read_json(path: Path) -> Any:
    """Raises RunError for a file that is missing or is not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path} is missing: is {path.parent} the folder of a run?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not JSON ({error}): restore it, or start the run in another folder.") from error


def write_json(path: Path, value: Any) -> None:
    """Atomically. Raises RunError when the disk refuses."""
    try:
        atomic.write(path, json.dumps(value, indent=1).encode())
    except OSError as error:
        raise RunError(atomic.explain(error, path)) from error
