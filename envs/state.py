"""Gymnasium environments whose whole state can be saved: a resumed run then goes on in the middle of an episode.

An environment may say itself what it carries (`state_dict`, `load_state_dict`). For any other the plain values among
the attributes of every wrapper are taken, random streams and MuJoCo's data included. Whether that is all is not
believed but tried: `check` saves one copy, loads a fresh one, and compares what both do next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

Array = npt.NDArray[Any]
Make = Callable[[], gymnasium.Env[Any, Any]]
_SPECS = ("spec", "_spec", "_cached_spec")
# What a simulator or a wrapper holds but never changes between steps, or draws only.
_FIXED = (
    "env",
    "model",
    "mujoco_renderer",
    "renderer",
    "viewer",
    "screen",
    "clock",
    "window",
    "fonts",
)


class UnfitEnvironment(ValueError):
    """An environment that cannot be trained on as it is; the sentence says what it did and the mend."""


def layers(env: gymnasium.Env[Any, Any]) -> Iterator[Any]:
    """The wrappers from the outside in, and the environment itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def state_of(env: gymnasium.Env[Any, Any]) -> list[dict[str, Any]]:
    """One dict per layer; see the module's text."""
    return [layer.state_dict() if _tells(layer) else _plain_state(layer) for layer in layers(env)]


def set_state(env: gymnasium.Env[Any, Any], state: list[dict[str, Any]]) -> None:
    for layer, saved in zip(layers(env), state, strict=True):
        if _tells(layer):
            layer.load_state_dict(saved)
        else:
            _set_plain_state(layer, saved)


def untold(env: gymnasium.Env[Any, Any]) -> list[str]:
    """Attributes that hold something which is no plain value, as `Layer.name (its type)`: what a state may lack."""
    return [
        f"{type(layer).__name__}.{name} ({type(value).__name__})"
        for layer in layers(env)
        if not _tells(layer)
        for name, value in vars(layer).items()
        if not _kept(name, value) and not _harmless(name, value)
    ]


def _changed(one: gymnasium.Env[Any, Any], other: gymnasium.Env[Any, Any]) -> list[str]:
    """What of MuJoCo's model differs between two copies: an environment that moves bodies at every reset."""
    models = [getattr(env.unwrapped, "model", None) for env in (one, other)]
    if not all(type(model).__module__.startswith("mujoco") for model in models):
        return []
    pairs = zip(_fields(models[0]), _fields(models[1]), strict=True)
    return [f"model.{name} (MuJoCo)" for (name, a), (_, b) in pairs if not np.array_equal(a, b)]


def _tells(layer: Any) -> bool:
    return "state_dict" in dir(type(layer)) and "load_state_dict" in dir(type(layer))


def _plain_state(layer: Any) -> dict[str, Any]:
    return {name: _pack(value) for name, value in vars(layer).items() if _kept(name, value)}


def _set_plain_state(layer: Any, saved: Mapping[str, Any]) -> None:
    for name, value in saved.items():
        now = vars(layer).get(name)
        if _is_mujoco(now):
            _load_mujoco(layer.model, now, value)
        elif isinstance(now, gymnasium.Env):
            set_state(now, value["inside"])
        elif isinstance(value, dict) and value.keys() == {"stream"}:
            stream = np.random.Generator(getattr(np.random, value["stream"]["bit_generator"])())
            stream.bit_generator.state = value["stream"]
            setattr(layer, name, stream)
        else:
            setattr(layer, name, copy.deepcopy(value))


def _kept(name: str, value: Any) -> bool:
    if name in _SPECS or (name in _FIXED and not _is_plain(value)):
        return False
    return isinstance(value, np.random.Generator | gymnasium.Env) or _is_mujoco(value) or _is_plain(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value)
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and _is_plain(part) for key, part in value.items())
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    return value is None or isinstance(value, bool | int | float | str)


def _harmless(name: str, value: Any) -> bool:
    return (
        name in _FIXED or isinstance(value, spaces.Space | type) or callable(value) or type(value).__name__ == "module"
    )


def _pack(value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return {"stream": value.bit_generator.state}
    if isinstance(value, gymnasium.Env):
        return {"inside": state_of(value)}
    return _mujoco_state(value) if _is_mujoco(value) else copy.deepcopy(value)


def _is_mujoco(value: Any) -> bool:
    return type(value).__name__ == "MjData" and type(value).__module__.startswith("mujoco")


def _fields(mujoco: Any) -> Iterator[tuple[str, Array]]:
    """The real numbers of MuJoCo's data or model; of whole ones many are scratch that nobody has written."""
    for name in dir(mujoco):
        if (
            not name.startswith("_")
            and isinstance(value := getattr(mujoco, name), np.ndarray)
            and value.dtype.kind == "f"
        ):
            yield name, value


def _mujoco_state(data: Any) -> dict[str, Any]:
    """All of them: what follows from positions is a substep late after mj_step, and some rewards read it."""
    fields = {name: value.copy() for name, value in _fields(data)}
    return {"time": float(data.time), "eq_active": data.eq_active.copy(), **fields}


def _load_mujoco(model: Any, data: Any, saved: Mapping[str, Any]) -> None:
    import mujoco

    data.time = saved["time"]
    for name in ("qpos", "qvel", "act", "mocap_pos", "mocap_quat", "eq_active"):
        getattr(data, name)[:] = saved[name]
    mujoco.mj_forward(model, data)  # makes room for contacts
    for name, value in _fields(data):
        if name in saved and value.shape == np.shape(saved[name]) and value.flags.writeable:
            value[...] = saved[name]


class _Copied(gymnasium.Wrapper[Any, Any, Any, Any]):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return copy.deepcopy(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, *rest = self.env.step(action)
        return copy.deepcopy(obs), *rest


class _Seeded(_Copied):
    """Every episode begins from a seed of its own, so that it can be played again."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.first, self.episodes, self.begun = 0, 0, 0  # plain values, and so a part of the state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.first, self.episodes = seed, 0
        self.begun = int(np.random.SeedSequence([self.first, self.episodes]).generate_state(1)[0]) >> 1
        self.episodes += 1
        return super().reset(seed=self.begun, options=options)


class Copies(SyncVectorEnv):
    """Copies of an environment stepped one after the other, reset in the step that ends an episode.

    Their random streams are seeded here; with `seeded` anew for every episode. They do not tell their state: a run that
    is resumed begins new episodes.
    """

    def __init__(self, make: Make, copies: int = 1, *, seed: int = 0, seeded: bool = False) -> None:
        # An environment may use its array of observations again, and the last one of an episode is kept over a reset.
        layer = _Seeded if seeded else _Copied
        super().__init__([lambda: layer(make())] * copies, autoreset_mode=AutoresetMode.SAME_STEP)
        self.reset(seed=seed)

    def begun(self, copy: int) -> int:
        """The seed with which the present episode of this copy began; -1: it had none of its own."""
        env = self.envs[copy]
        return env.begun if isinstance(env, _Seeded) else -1


class ExactCopies(Copies):
    """The same for an environment whose state is the whole one, as `check` has found: a resumed run goes on exactly."""

    def state_dict(self) -> dict[str, Any]:
        return {"copies": [state_of(env) for env in self.envs]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for env, saved in zip(self.envs, state["copies"], strict=True):
            env.reset()  # some wrappers refuse to step before it
            set_state(env, saved)


@dataclass(frozen=True)
class Checked:
    """`exact`: a saved and loaded copy went on bit for bit. `missing`: what its state may lack, where it did not.
    `warnings`: sentences about what the environment does that a user should know."""

    exact: bool
    missing: tuple[str, ...]
    warnings: tuple[str, ...]


def check(make: Make, *, seed: int = 0, steps: int = 60) -> Checked:
    """Tries the environment: `steps` random steps, saved, and again from the saved state in a fresh copy.

    Raises UnfitEnvironment for observations or rewards that are not finite or not in the shape of the space.
    """
    one, other = make(), make()
    try:
        warnings: list[str] = []
        one.action_space.seed(seed)
        _walk(one, [one.action_space.sample() for _ in range(steps)], seed, warnings)
        saved = state_of(one)
        actions = [one.action_space.sample() for _ in range(steps)]
        first = _walk(one, actions, None, warnings) + _begin(one, actions[:5])
        other.reset(seed=seed + 1)
        set_state(other, saved)
        second = _walk(other, actions, None, []) + _begin(other, actions[:5])
        exact = all(_same(a, b) for a, b in zip(first, second, strict=True))
        return Checked(exact, () if exact else (*_changed(one, other), *untold(one)), tuple(dict.fromkeys(warnings)))
    finally:
        one.close()
        other.close()


def _begin(env: gymnasium.Env[Any, Any], actions: list[Any]) -> list[Any]:
    """A new episode and its first steps: what it draws from has to be in the state too."""
    obs, _ = env.reset()
    return [copy.deepcopy(obs), *_walk(env, actions, None, [])]


def _walk(env: gymnasium.Env[Any, Any], actions: list[Any], seed: int | None, warnings: list[str]) -> list[Any]:
    """What the environment said to the actions; resets itself where an episode ends. With a seed, resets first."""
    told: list[Any] = []
    given, before = None, None
    if seed is not None:
        given, _ = env.reset(seed=seed)
        _check_obs(env, given)
        before = copy.deepcopy(given)
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        _check_obs(env, obs)
        if not isinstance(reward, int | float | np.number) or not np.isfinite(reward):
            raise UnfitEnvironment(f"the environment's reward is {reward}; mend it, nothing can be learnt from it")
        if before is not None and not _same(given, before):
            warnings.append("the environment changes an observation after it has handed it out; copies are kept here")
        given, before = obs, copy.deepcopy(obs)
        told.append((copy.deepcopy(obs), float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            given, _ = env.reset()
            before = copy.deepcopy(given)
            told.append(copy.deepcopy(given))
    return told


def _check_obs(env: gymnasium.Env[Any, Any], obs: Any) -> None:
    parts = obs.items() if isinstance(obs, dict) else [("observation", obs)]
    for name, value in parts:
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise UnfitEnvironment(f"{name} {where} of the environment is {value[where]}; mend the environment")
    space = env.observation_space
    if isinstance(space, spaces.Box) and np.shape(obs) != space.shape:
        raise UnfitEnvironment(f"the observation has shape {np.shape(obs)}, its space {space.shape}; make them agree")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return np.array_equal(a, b)
