"""A latched FAULT or ESTOP on disk: it outlives whatever ends the daemon, until somebody resets it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from embodied import atomic

Latched = Literal["FAULT", "ESTOP"]


class LatchError(OSError):
    """The latch cannot be written or removed; the sentence says why, and the mend."""


@dataclass(frozen=True)
class Latch:
    """wall_ns: of the wall clock, to be shown only; no decision looks at it."""

    mode: Latched
    cause: str
    wall_ns: int


def read(path: Path) -> Latch | None:
    """What is latched, or None if nothing is. A file that cannot be read is latched too: nobody knows what it said."""
    try:
        data = json.loads(Path(path).read_bytes())
        latch = Latch(**data)
        if latch.mode not in get_args(Latched) or not isinstance(latch.cause, str) or type(latch.wall_ns) is not int:
            raise ValueError(f"it holds {str(data)[:100]}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return Latch("FAULT", f"something was latched, and what {path} said cannot be read ({str(error)[:200]})", 0)
    return latch


def put(path: Path, latch: Latch) -> None:
    """On disk when it returns. Stop the arm before: a disk may be slow. Raises LatchError."""
    try:
        Path(path).parent.mkdir(0o700, parents=True, exist_ok=True)
        atomic.write(Path(path), json.dumps(asdict(latch)).encode())
    except OSError as error:
        raise LatchError(atomic.explain(error, Path(path))) from error


def clear(path: Path) -> None:
    """Gone from the disk when it returns; nothing to do if nothing is latched. Raises LatchError."""
    try:
        Path(path).unlink(missing_ok=True)
        atomic.sync_folder(Path(path).parent)
    except OSError as error:
        raise LatchError(
            f"{path} cannot be removed ({error.strerror}), and is latched until it is; mend that"
        ) from error
