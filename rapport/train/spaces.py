"""From the name of an environment to copies that can be trained on: found, wrapped, and tried."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TimeLimit

from embodied.records import Array
from envs.state import Checked, Copies, ExactCopies, Make, check, layers

SMALLEST = 36  # pixels; the convolutions of stable-baselines3 need as many
PATIENCE = 10_000  # steps in which an episode without a time limit has to end by itself


class SpaceError(ValueError):
    """An environment that cannot be found or trained on; the sentence names it and the mend."""


@dataclass(frozen=True, eq=False)
class World:
    """An environment as it is trained on. `limit`: the longest episode, None where nothing but itself ends one. `drawn`
    makes the same with pictures."""

    name: str
    make: Make
    drawn: Make
    checked: Checked
    limit: int | None
    observations: spaces.Box
    actions: spaces.Space[Any]

    @property
    def frames(self) -> bool:
        return len(self.observations.shape) == 3

    @property
    def act_size(self) -> int:
        return int(spaces.flatdim(self.actions))

    def copies(self, n: int, seed: int, seeded: bool = False) -> Copies:
        return (ExactCopies if self.checked.exact else Copies)(self.make, n, seed=seed, seeded=seeded)

    def encode(self, act: Array) -> Array:
        """Actions [...,*A] as a reward sees them, [...,act_size]: numbers as they are, choices as ones and zeros."""
        act = np.asarray(act)
        if isinstance(self.actions, spaces.Discrete):
            return _one_hot(act, int(self.actions.n))
        if isinstance(self.actions, spaces.MultiDiscrete):
            parts = [_one_hot(act[..., i], int(n)) for i, n in enumerate(self.actions.nvec)]
            return np.concatenate(parts, -1)
        return act.astype(np.float32)

    def any_actions(self, n: int, seed: int) -> Array:
        """[C,act_size], as `encode` gives them: every one where there is one choice, else n drawn evenly (where there
        is no bound, within 1)."""
        if isinstance(self.actions, spaces.Discrete):
            return np.eye(self.act_size, dtype=np.float32)
        rng = np.random.default_rng(seed)
        if isinstance(self.actions, spaces.MultiDiscrete):
            return self.encode(rng.integers(0, self.actions.nvec, (n, len(self.actions.nvec))))
        assert isinstance(self.actions, spaces.Box)
        low, high = self.actions.low, self.actions.high
        low, high = np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0)
        return rng.uniform(low, high, (n, *self.actions.shape)).astype(np.float32)


def _one_hot(choice: Array, n: int) -> Array:
    return np.eye(n, dtype=np.float32)[choice.astype(int)]


def world(name: str, kwargs: Mapping[str, Any], horizon: int, seed: int) -> World:
    """`FetchReach-v4` or any other id that Gymnasium knows, or `module:Class` of one's own.

    Dicts, choices and arrays of numbers become one vector; frames [H,W,3] of bytes stay. Raises SpaceError, and
    UnfitEnvironment (`envs.state.check`).
    """
    named, told = with_arguments(name)
    kwargs = {**told, **kwargs}
    build = _builder(named, kwargs)

    def fitted(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        if horizon:
            env = TimeLimit(env, horizon)
        return env if _fits(env.observation_space) else FlattenObservation(env)

    def make() -> gymnasium.Env[Any, Any]:
        return fitted(build())

    def drawn() -> gymnasium.Env[Any, Any]:
        return fitted(_builder(named, {**kwargs, "render_mode": "rgb_array"})())

    try:
        env = build()
    except Exception as error:  # of any kind: it is somebody else's code
        raise SpaceError(
            f"{name} cannot be made ({type(error).__name__}: {error}); mend it, or its arguments"
        ) from error
    try:
        _check_spaces(name, env)
        _check_flat(name, env, seed)
    finally:
        env.close()
    env = make()
    seen, acts = env.observation_space, env.action_space
    limits = [int(layer._max_episode_steps) for layer in layers(env) if isinstance(layer, TimeLimit)]
    if not limits:
        _check_end(name, env, seed)
    env.close()
    assert isinstance(seen, spaces.Box)
    return World(name, make, drawn, check(make, seed=seed), min(limits, default=None), seen, acts)


def with_arguments(name: str) -> tuple[str, dict[str, Any]]:
    """`module:Class,task=covering,size=(64,96)` as a name and arguments: literals of Python as such, else text.

    A comma within brackets separates nothing. Raises SpaceError.
    """
    plain, *pieces = name.split(",")
    parts: list[str] = []
    for piece in pieces:
        if parts and _open(parts[-1]):
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    told = {}
    for part in parts:
        key, is_, value = part.partition("=")
        if not is_ or not key.isidentifier():
            raise SpaceError(f"{name}: {part!r} is no argument; give name=value, separated by commas")
        if _open(value):
            raise SpaceError(f"{name}: {part!r} has a bracket that is never closed; close it")
        try:
            told[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            told[key] = value
    return plain, told


def _open(text: str) -> bool:
    return sum(text.count(c) for c in "([{") > sum(text.count(c) for c in ")]}")


def _fits(space: spaces.Space[Any]) -> bool:
    frames = isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8
    return frames or (isinstance(space, spaces.Box) and len(space.shape) == 1)


def _check_spaces(name: str, env: gymnasium.Env[Any, Any]) -> None:
    seen, acts = env.observation_space, env.action_space
    if isinstance(seen, spaces.Box) and seen.dtype == np.uint8 and len(seen.shape) in (2, 3):
        if len(seen.shape) == 2 or seen.shape[-1] not in (1, 3, 4) or min(seen.shape[:2]) < SMALLEST:
            raise SpaceError(
                f"{name} shows frames {seen.shape}; wrap it so that they are [H,W,1 or 3] of at least {SMALLEST} pixels"
            )
    elif not seen.is_np_flattenable:
        raise SpaceError(f"{name}'s observations are {seen}, which have no fixed size; wrap it so that they have one")
    if isinstance(acts, spaces.Box):
        if len(acts.shape) != 1 or not acts.is_bounded():
            raise SpaceError(f"{name}'s actions are {acts}; wrap it so that they are one vector between finite bounds")
    elif np.any(getattr(acts, "start", 0)):
        raise SpaceError(f"{name}'s actions are {acts}, and an agent counts choices from 0; wrap it so that they do")
    elif not isinstance(acts, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise SpaceError(f"{name}'s actions are {acts}; wrap it so that they are a Box, Discrete or MultiDiscrete")
    elif len(acts.shape or ()) > 1:
        raise SpaceError(f"{name}'s actions are {acts}; wrap it so that its choices are one vector")


def _check_flat(name: str, env: gymnasium.Env[Any, Any], seed: int) -> None:
    """What is to be flattened has to be what its space says."""
    if _fits(env.observation_space):
        return
    obs, _ = env.reset(seed=seed)
    try:
        spaces.flatten(env.observation_space, obs)
    except (LookupError, TypeError, ValueError, AssertionError) as error:
        raise SpaceError(
            f"{name}'s first observation, {obs!r:.80}, is not in its space, {env.observation_space} "
            f"({type(error).__name__}: {error}); make them agree"
        ) from error


def _check_end(name: str, env: gymnasium.Env[Any, Any], seed: int) -> None:
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(PATIENCE):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            return
    raise SpaceError(
        f"{name} has no time limit, and no episode ended in {PATIENCE} random steps; give a horizon, since questions "
        "are cut from whole episodes"
    )


def _builder(name: str, kwargs: Mapping[str, Any]) -> Callable[[], gymnasium.Env[Any, Any]]:
    module, _, attribute = name.rpartition(":")
    if module:
        found = import_module(module)
        if hasattr(found, attribute):
            return lambda: getattr(found, attribute)(**kwargs)
        if attribute in gymnasium.registry:  # registered by the module, as in Gymnasium's own module:id
            return lambda: gymnasium.make(attribute, **kwargs)
        raise SpaceError(f"{module} has no {attribute}; name a class or a function that makes the environment")
    if name.startswith(("Fetch", "Hand", "Adroit", "Franka", "PointMaze", "AntMaze")):
        try:
            gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))
        except ImportError:
            raise SpaceError(f"{name} comes with gymnasium-robotics: pip install gymnasium-robotics") from None
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise SpaceError(f"Gymnasium knows no environment {name!r} ({error}); of your own, give module:Class") from None
    return lambda: gymnasium.make(name, **kwargs)


def import_module(module: str) -> ModuleType:
    """A module on the path, or a file."""
    try:
        if not module.endswith(".py"):
            if (here := str(Path.cwd())) not in sys.path:
                sys.path.append(here)  # last, so that nothing of ours is hidden
            return importlib.import_module(module)
        name = f"user_file_{Path(module).stem}"
        spec = importlib.util.spec_from_file_location(name, module)
        assert spec is not None and spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[name] = found  # dataclasses look their module up
        spec.loader.exec_module(found)
        return found
    except (ImportError, FileNotFoundError) as error:
        raise SpaceError(f"{module} cannot be imported ({error}); give module:NAME or file.py:NAME") from error
