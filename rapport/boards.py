"""The delivery board in studies and data folders: every episode is a walk on it, and says on which board."""

from __future__ import annotations

import numpy as np

from embodied.importers import DataError
from embodied.store import Store
from envs.delivery import Board, board

BOARD = "board"
"""The name in `Episode.info` of the codes [H,W] (`envs.delivery`); steps are as in `embodied.walks`."""


def board_of(store: Store) -> Board:
    """The board that all episodes of a store are walks on. Raises DataError where one is on none, or on another one."""
    found = None
    for id in store.episodes.ids():
        codes = store.episodes.load(id).info.get(BOARD)
        if codes is None:
            raise DataError(f"episode {id!r} is no walk on a delivery board: its info has no {BOARD!r}")
        if found is not None and not np.array_equal(codes, found):
            raise DataError(f"episode {id!r} is a walk on another board than those before it; keep one in each folder")
        found = codes
    if found is None:
        raise DataError("there is no episode; ask about a board first, or import walks")
    return board(found)
