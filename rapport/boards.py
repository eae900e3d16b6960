"""The delivery board in studies and data folders: every episode is a walk on it, and says on which board."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embodied.episodes import Episode, cut
from embodied.importers import DataError
from embodied.records import Query
from embodied.store import Store
from envs.delivery import BRICK, HOUSE, Board, BoardError, board

BOARD = "board"
"""The name in `Episode.info` of the codes [H,W] (`envs.delivery`); steps are as in `embodied.walks`."""
USUAL = "delivery"
"""What the board of the paper is called where a file of another could be given."""
ACTIONS = ("up", "down", "left", "right")


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


def check_board(store: Store, world: Board) -> None:
    """Raises DataError where walks on this board would be added to something else."""
    if store.episodes.ids() and not np.array_equal(board_of(store).codes, world.codes):
        raise DataError(f"{store.name} holds walks on another board; keep one in each folder: give another one")


def read_board(given: str) -> Board:
    """The board of the paper, or that of a file: rows of codes, as JSON ([[0, 4], [5, 1]]) or as text, a row a line.

    Raises BoardError that names the file, for what is no grid of whole numbers and for boards that make no sense.
    """
    if given == USUAL:
        return board()
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
        codes = np.array(rows, np.float64)  # the published boards are files of floats
        if (codes % 1).any():
            raise BoardError("not all of its codes are whole numbers; give 0 to 5, on brick 6 to 11")
        return board(codes.astype(np.int64))
    except OSError as error:
        raise BoardError(f"the board {path} cannot be read ({error.strerror}); give a file, or {USUAL!r}") from error
    except BoardError as error:
        raise BoardError(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        raise BoardError(f"{path} is no grid of numbers ({error}); give rows of equal length") from error


def walk(world: Board, start: tuple[int, int], actions: Sequence[int]) -> Episode:
    """What comes of actions (0 to 3, as `ACTIONS`) from a cell (row, column), where none is left to chance. The same
    walk on the same board has the same id.

    Raises DataError for a start that is not on the board, or in a house, or where trips are over, for no action or an
    unknown one, and for a walk that goes on after the goal or a sheep.
    """
    (row, column), (height, width) = start, world.codes.shape
    if not (0 <= row < height and 0 <= column < width):
        raise DataError(f"the walk starts at {row} {column}; rows go to {height - 1}, columns to {width - 1}")
    state = row * width + column
    if world.terminal[state]:
        what = "in a house" if world.codes[row, column] % BRICK == HOUSE else "at the goal or a sheep, where trips end"
        raise DataError(f"the walk starts at {row} {column}, {what}; start it on a road")
    if not len(actions):
        raise DataError(f"the walk from {row} {column} has no step; give at least one of {', '.join(ACTIONS)}")
    obs = np.zeros((len(actions), 2 + world.features.shape[-1]), np.float32)
    for t, action in enumerate(actions):
        if world.terminal[state]:
            raise DataError(
                f"the walk from {row} {column} is over after {t} steps, at the goal or a sheep, and has "
                f"{len(actions)}; leave out what comes after its end"
            )
        after = int(world.next[state, action, 0])
        obs[t] = [state, after, *world.features[state, action, 0]]
        state = after
    content = json.dumps([world.codes.tolist(), row, column, [int(action) for action in actions]])
    return Episode(
        f"walk-{hashlib.sha256(content.encode()).hexdigest()[:32]}",
        obs,
        np.array(actions, np.float32)[:, None],
        {BOARD: world.codes},
        bool(world.terminal[state]),
    )


def question(first: Episode, second: Episode) -> Query:
    """Which of two walks is better; the same walks in the same order are the same question."""
    id = hashlib.sha256(f"{first.id} {second.id}".encode()).hexdigest()[:32]
    return Query(f"walks-{id}", (cut(first, 0, len(first)), cut(second, 0, len(second))))
