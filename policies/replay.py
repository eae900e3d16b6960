"""What an off-policy agent of stable-baselines3 remembers: its state as arrays, and new rewards for old steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.buffers import ReplayBuffer

Array = npt.NDArray[Any]
_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_ROWS = 4096  # relabelled at a time


def state(buffer: ReplayBuffer) -> dict[str, Any]:
    """The steps that the buffer holds; copies."""
    size = buffer.size()
    return {
        "pos": int(buffer.pos),
        "full": bool(buffer.full),
        **{name: getattr(buffer, name)[:size].copy() for name in _ARRAYS},
    }


def restore(buffer: ReplayBuffer, saved: Mapping[str, Any]) -> None:
    """Raises ValueError where the steps do not fit the buffer."""
    for name in _ARRAYS:
        ours, theirs = getattr(buffer, name), np.asarray(saved[name])
        if theirs.shape[1:] != ours.shape[1:] or len(theirs) > len(ours):
            raise ValueError(f"a replay of {name} {theirs.shape} does not fit into {ours.shape}; keep buffer_size")
        ours[: len(theirs)] = theirs
    buffer.pos, buffer.full = int(saved["pos"]), bool(saved["full"])


def cut(buffer: ReplayBuffer) -> None:
    """Says of the newest step of every copy that its episode was cut off there: what comes next is another one."""
    if buffer.size():
        buffer.dones[buffer.pos - 1] = buffer.timeouts[buffer.pos - 1] = 1.0


def relabel(
    buffer: ReplayBuffer,
    reward: Callable[..., Array],
    unscale: Callable[[Array], Array],
    history: int = 1,
) -> None:
    """Gives every remembered step the reward that it would be given today (PEBBLE, arXiv 2106.05091, section 4.3).

    reward(obs [B,*O], act [B,*A]) -> [B]; with history H > 1, reward(obs [B,H,*O], act [B,H,*A], mask [B,H]) -> [B] of
    the last step, where the mask is false before the episode began. unscale: from the buffer's actions to the
    environment's.
    """
    size, copies = buffer.size(), buffer.n_envs
    order = np.arange(size) if not buffer.full else (buffer.pos + np.arange(size)) % size  # oldest first
    for copy in range(copies):
        act = unscale(buffer.actions[order, copy])
        begun = np.concatenate([[True], buffer.dones[order[:-1], copy] > 0])
        for first in range(0, size, _ROWS):
            rows = np.arange(first, min(first + _ROWS, size))
            if history == 1:
                given = reward(buffer.observations[order[rows], copy], act[rows])
            else:
                at, mask = _windows(rows, begun, history)
                given = reward(buffer.observations[order[at], copy], act[at], mask)
            buffer.rewards[order[rows], copy] = given


def _windows(rows: Array, begun: Array, history: int) -> tuple[Array, Array]:
    """For each row the indices of the last `history` rows, and which of them are of the same episode, [B,H]."""
    start = np.maximum.accumulate(np.where(begun, np.arange(len(begun)), 0))[rows]
    at = rows[:, None] - np.arange(history)[::-1]
    return np.maximum(at, 0), at >= start[:, None]
