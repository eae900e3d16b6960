"""Files that are there whole or not at all, also after a kill, a crash or a full disk."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

_count = itertools.count()
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file and sync it; with `replace=False` an existing file raises FileExistsError, whoever made it and when.

    Any other OSError (see `explain`) leaves what was there before.
    """
    # A name of its own, so that two writers never share a half-written file; the dot keeps it out of listings.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_count)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, it never takes another's place
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A new name is durable only once its folder is synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain(error: OSError, path: Path) -> str:
    """The sentence for a write that failed."""
    if error.errno in _FULL:
        return (
            f"{path} cannot be written: the disk is full or a file-size limit is reached ({error.strerror}); "
            "free some space or raise the limit (ulimit -f), then run the same again: what was saved before is whole"
        )
    return f"{path} cannot be written ({error.strerror or error}); mend that or choose another folder"
