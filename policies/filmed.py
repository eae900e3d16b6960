"""An environment that is filmed while it is acted in, and pays what its film is worth instead of its own reward.

Two wrappers of Gymnasium. `Timed` tells how far an episode is; `Filmed` takes pictures and pays. An agent that is paid
for a whole video has to know the time: the same state is worth something else near the end, when nothing can be
mended any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from policies.encoders import Trunk

Array = npt.NDArray[Any]
Pay = Literal["sum", "drop"]
Worth = Callable[[Array], float]
"""What a video is worth by its features [T,F], T >= 1: for RAPL -W. The first t frames of one are a video too."""

LARGEST = 160  # pixels that a side of a picture is kept with


class FilmError(ValueError):
    """An environment that cannot be filmed; the sentence says what it drew, and the mend."""


class Timed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Appends to an observation [O] the share of the time limit that is over, and calls the limit an end.

    limit: steps. An environment that tells the time already tells it twice, which does no harm. The limit is then no
    truncation: the agent sees it come, and nothing follows it. Raises ValueError for observations that are no vector.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], limit: int) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or limit < 1:
            raise ValueError(f"observations are {space}, the limit {limit}; give numbers [O] and at least one step")
        low, high = (np.append(bound, end).astype(np.float32) for bound, end in ((space.low, 0.0), (space.high, 1.0)))
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.limit, self.gone = limit, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self.gone = 0
        return self._told(obs), info

    def step(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        obs, own, terminated, truncated, info = self.env.step(action)
        self.gone += 1
        over = bool(terminated or truncated or self.gone >= self.limit)
        return self._told(obs), own, over, False, info

    def _told(self, obs: Any) -> Array:
        return np.append(np.asarray(obs, np.float32), np.float32(self.gone / self.limit))

    def state_dict(self) -> dict[str, Any]:
        return {"gone": self.gone}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.gone = int(state["gone"])


class Filmed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Films every `every`-th step and the last, and pays what the film is worth; the own reward is info["own"].

    trunk, worth: what makes features of a picture, and what a video of them is worth; without them the environment
    pays its own, and is only filmed. pay: "sum", the whole worth when the episode ends; "drop", what each picture adds
    to it, the first from 0, which has the same sum, but teaches an agent to make beginnings that look best. The shares
    of a transport plan among steps are not offered: they are known at the end alone, and say little. transform: of
    what is paid, [1] -> [1].

    `film`, `features`: of the present episode, until the next begins. They are its state, so that a run goes on in the
    middle of an episode. Raises FilmError for an environment that draws no pictures, or pictures of several sizes.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        every: int = 1,
        trunk: Trunk | None = None,
        worth: Worth | None = None,
        *,
        pay: Pay = "sum",
        transform: Callable[[Array], Array] = lambda reward: reward,
    ) -> None:
        super().__init__(env)
        if pay not in ("sum", "drop") or every < 1 or (trunk is None) != (worth is None):
            raise ValueError(
                f"pay {pay!r}, every {every}, trunk {trunk}, worth {worth}; give sum or drop, at least 1, and trunk "
                "and worth both or neither"
            )
        self.every, self.trunk, self.worth_of, self.pay, self.transform = every, trunk, worth, pay, transform
        self.film: list[Array] = []
        self.features: list[Array] = []
        self.steps, self.worth = 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.film, self.features, self.steps, self.worth = [], [], 0, 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, own, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        over, paid = bool(terminated or truncated), 0.0
        if over or self.steps % self.every == 0:
            self.film.append(picture(self.env, self.film[0] if self.film else None))
            paid = self._paid(over)
        return obs, own if self.trunk is None else paid, terminated, truncated, {**info, "own": float(own)}

    def _paid(self, over: bool) -> float:
        if self.trunk is None or self.worth_of is None or (self.pay == "sum" and not over):
            return 0.0
        new = np.stack(self.film[len(self.features) :])  # at "sum" all of them, in one batch
        self.features.extend(self.trunk(new))
        before, self.worth = self.worth, self.worth_of(np.stack(self.features))
        return float(self.transform(np.array([self.worth - before]))[0])

    def state_dict(self) -> dict[str, Any]:
        """What was filmed of the episode under way, and what it is worth so far."""
        return {
            "film": np.stack(self.film) if self.film else None,
            "features": np.stack(self.features) if self.features else None,
            "steps": self.steps,
            "worth": self.worth,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.film, self.features = (
            [] if state[name] is None else list(np.array(state[name])) for name in ("film", "features")
        )
        self.steps, self.worth = int(state["steps"]), float(state["worth"])


def picture(env: gymnasium.Env[Any, Any], like: Array | None = None) -> Array:
    """What the environment draws now, uint8 [H,W,3], made smaller by a whole factor where a side is above `LARGEST`.

    like: an earlier picture of the same video, whose size it has to have. Raises FilmError.
    """
    drawn: Any = env.render()
    if not isinstance(drawn, np.ndarray) or drawn.dtype != np.uint8 or drawn.ndim != 3 or drawn.shape[2] != 3:
        told = f"{drawn.dtype} {list(drawn.shape)}" if isinstance(drawn, np.ndarray) else type(drawn).__name__
        raise FilmError(
            f"the environment draws {told}, and a film is of frames uint8 [H,W,3]; make it with "
            'render_mode="rgb_array", and return frames from render()'
        )
    found = smaller(drawn)
    if like is not None and found.shape != like.shape:
        raise FilmError(
            f"the environment drew {list(like.shape)} before and draws {list(found.shape)} now; let render() return "
            "one size"
        )
    return found


def succeeded(info: Mapping[str, Any]) -> float:
    """Whether an episode did, by what its last step told: 1, 0, or NaN where nothing is told. Raises FilmError."""
    told = info.get("success", info.get("is_success"))
    try:
        return float("nan") if told is None else float(told)
    except (TypeError, ValueError):
        raise FilmError(f"the environment tells of success as {told!r}; give a truth value, or leave it out") from None


def smaller(frame: Array) -> Array:
    """uint8 [...,H,W,3] with no side above `LARGEST`, by the mean of whole blocks; what is left over is cut off."""
    factor = -(-max(frame.shape[-3:-1]) // LARGEST)
    if factor == 1:
        return np.array(frame)
    height, width = (side // factor for side in frame.shape[-3:-1])
    cut = frame[..., : height * factor, : width * factor, :]
    blocks = cut.reshape(*frame.shape[:-3], height, factor, width, factor, 3)
    return blocks.mean((-4, -2)).round().astype(np.uint8)
