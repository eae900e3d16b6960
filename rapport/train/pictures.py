"""What people are shown of an episode: its frames, by playing it again from its seed in a copy that draws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from embodied.records import Array
from policies.recorder import Trajectory
from rapport.train.spaces import SpaceError, World

TRIED = 20  # steps; an environment that plays them again differently cannot be shown


@contextmanager
def drawing(world: World) -> Iterator[gymnasium.Env[Any, Any] | None]:
    """A copy that draws; None where observations are frames already. Raises SpaceError where there is none."""
    if world.frames:
        yield None
        return
    find_opengl(world)
    try:
        env = world.drawn()
    except Exception as error:  # of any kind: it is somebody else's code
        raise _undrawable(world, error) from error
    try:
        yield env
    finally:
        env.close()


class Walk:
    """An episode played again up to before step `start`, in the copy that `drawing` gives, to be gone on with.

    Raises SpaceError where it does not come about again.
    """

    def __init__(self, world: World, env: gymnasium.Env[Any, Any] | None, t: Trajectory, start: int) -> None:
        if t.seed < 0:
            raise SpaceError(
                f"it is not known how episode {t.number} of {world.name} began, and people cannot be shown it; let "
                "your actor reset with a seed, and tell it in its trajectories"
            )
        self.world, self.t, self.env = world, t, env or world.make()
        self.own, self.terminated = env is None, False
        self.obs = self._seen(self.env.reset(seed=t.seed)[0])
        for k in range(start):
            self.check(k)
            self.step(t.act[k])
        self.check(start)

    def check(self, k: int) -> None:
        if not np.array_equal(self.obs, self.t.obs[k]):
            raise SpaceError(
                f"{self.world.name} does something else when it is reset with the same seed and given the same actions "
                f"(episode {self.t.number}, step {k}), and people would be shown what never happened; let all that it "
                "draws come from the seed of its reset, or show frames as its observations"
            )

    def step(self, act: Array) -> bool:
        """Whether that was the end."""
        obs, _, terminated, truncated, _ = self.env.step(act)
        self.obs, self.terminated = self._seen(obs), bool(terminated)
        return bool(terminated or truncated)

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        if self.own:
            self.env.close()

    def picture(self) -> Array:
        """What there is to see now, uint8 [H,W,3]."""
        return _coloured(self.obs[None])[0] if self.world.frames else _picture(self.world, self.env)

    def _seen(self, obs: Any) -> Array:
        return np.array(obs, self.t.obs.dtype)


def frames(world: World, env: gymnasium.Env[Any, Any] | None, t: Trajectory, start: int, stop: int) -> Array:
    """Steps [start, stop) of an episode, uint8 [T,H,W,3]: what there was to see before each action.

    env: what `drawing` gives. Raises SpaceError where the episode does not come about again, or cannot be drawn.
    """
    if env is None:
        return _coloured(t.obs[start:stop])
    walk, shown = Walk(world, env, t, start), []
    for k in range(start, stop):
        walk.check(k)
        shown.append(walk.picture())
        walk.step(t.act[k])
    return np.stack(shown)


def try_drawing(world: World, seed: int) -> None:
    """A few random steps, played again and drawn. Raises SpaceError where people could not be shown them."""
    if world.frames:
        return
    plain = world.make()
    obs, _ = plain.reset(seed=seed)
    plain.action_space.seed(seed)
    seen, acts = [], []
    for _ in range(TRIED):
        seen.append(np.array(obs, np.float32))
        acts.append(plain.action_space.sample())
        obs, _, terminated, truncated, _ = plain.step(acts[-1])
        if terminated or truncated:
            break
    plain.close()
    walked = Trajectory(0, np.stack(seen), np.stack(acts), np.zeros(len(acts)), False, seed)
    with drawing(world) as env:
        frames(world, env, walked, 0, len(acts))


def _picture(world: World, env: gymnasium.Env[Any, Any]) -> Array:
    try:
        picture: Any = env.render()
    except Exception as error:
        raise _undrawable(world, error) from error
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        told = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise SpaceError(f"{world.name} draws {told}, and people are shown uint8 [H, W, 3]; let render() return that")
    return picture.copy()


def _undrawable(world: World, error: Exception) -> SpaceError:
    return SpaceError(
        f"{world.name} cannot be drawn, and people would see nothing ({type(error).__name__}: {error}); it has to take "
        'render_mode="rgb_array" and return frames from render()'
    )


def _coloured(obs: Array) -> Array:
    """Frames [T,H,W,C] of bytes: grey ones in three colours, and of four channels the first three."""
    return np.repeat(obs, 3, -1) if obs.shape[-1] == 1 else obs[..., :3]


def find_opengl(world: World) -> None:
    """MuJoCo draws off-screen only where it is told by what, and a wrong guess ends the process."""
    if "MUJOCO_GL" in os.environ or not _of_mujoco(world):
        return
    from envs.arm_render import GL_INSTALL_LINE, gl

    backend = gl()
    if backend is None:
        raise SpaceError(f"no off-screen OpenGL was found, and people would see nothing; install: {GL_INSTALL_LINE}")
    os.environ["MUJOCO_GL"] = backend
    os.environ.setdefault("LP_NUM_THREADS", "0")  # the rasteriser's own threads cost more than they bring


def _of_mujoco(world: World) -> bool:
    env = world.make()
    model = getattr(env.unwrapped, "model", None)
    env.close()
    return type(model).__module__.partition(".")[0] == "mujoco"
