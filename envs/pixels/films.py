"""Films: what every world of this package gives from scripted behaviour, pictures and truth side by side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Films:
    """Equally long videos. frames uint8 [N,T,H,W,3], act float32 [N,T,A], state float32 [N,T,O], reward [N,T] (the true
    one), success bool [N].

    Frame, state and reward of step t are what action t led to, so between frame t and frame t + k lie the actions
    t+1 .. t+k, and the last frame shows how it ended. Raises ValueError where the shapes do not go together.
    """

    frames: Array
    act: Array
    state: Array
    reward: Array
    success: Array

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 5 or self.frames.shape[-1] != 3:
            raise ValueError(
                f"frames are {self.frames.dtype} {self.frames.shape}; give uint8 [N,T,H,W,3], colours as the last axis"
            )
        n, t = self.frames.shape[:2]
        for name, value, ndim in (("act", self.act, 3), ("state", self.state, 3), ("reward", self.reward, 2)):
            if value.ndim != ndim or value.shape[:2] != (n, t):
                raise ValueError(f"{name} has shape {value.shape}; {n} videos of {t} frames need ({n}, {t}, ...)")
        if self.success.shape != (n,):
            raise ValueError(f"success has shape {self.success.shape}; {n} videos need ({n},)")

    def __len__(self) -> int:
        return len(self.success)

    def __getitem__(self, rows: slice | Array | list[int]) -> "Films":
        """Some of the videos; a single number would lose the first axis, so give a slice or a list."""
        return Films(self.frames[rows], self.act[rows], self.state[rows], self.reward[rows], self.success[rows])
