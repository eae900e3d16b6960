"""What an exported policy looks at, made from what a robot has: measured joints, numbers of the scene, time.

It belongs to the policy and travels with it: the environment that trained the policy made these numbers by MuJoCo, a
robot has its joint angles and somebody who tells it where things are. numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from embodied.contract import Contract, ContractError, Source
from policies.cartesian import Cartesian
from policies.chain import Array

Kind = Literal["joints", "velocities", "point", "pointing", "moving", "to", "scene", "action", "clock"]
ORIGINS: Mapping[str, str] = {"to": "scene", "scene": "scene", "action": "action", "clock": "clock"}
"""Of a contract's source, by the kind of its part; of all others it is joint."""


@dataclass(frozen=True)
class Part:
    """One source of the observation: the first numbers of what `of` names, as many as the source has, times `scale`.

    joints, velocities: as measured. point, pointing, moving: the tool's place, direction and velocity by the chain. to:
    from the tool's point to the thing `scene`. scene: that thing's own numbers. action: the last one, in the policy's
    own terms. clock: s since the start, or with `seconds` from -1 at
    the start to 1 after so many.
    """

    of: Kind
    scale: float = 1.0
    scene: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.of not in get_args(Kind):
            raise ContractError(f"a part of the observation is {self.of!r}; use one of {', '.join(get_args(Kind))}")
        for name in ("scale", "seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise ContractError(f"{name} of part {self.of!r} is {value!r}; give a finite number")
        if (self.of in ("to", "scene")) != bool(self.scene) or not isinstance(self.scene, str):
            raise ContractError(f"part {self.of!r} has scene {self.scene!r}; name the thing for to and scene only")
        if self.seconds < 0 or (self.seconds and self.of != "clock"):
            raise ContractError(f"part {self.of!r} has seconds {self.seconds}; give them for a clock, 0 or more")


@dataclass(frozen=True, eq=False)
class Raw:
    """What a robot has. joints, velocities [n]: rad, rad/s, NaN where an arm measures none. scene: numbers by name.
    seconds: since the policy began. action: its last one in its own terms, zeros before any."""

    joints: Array
    velocities: Array
    scene: Mapping[str, Array]
    seconds: float
    action: Array


def check(parts: Sequence[Part], agreed: Contract, cartesian: Cartesian) -> None:
    """Raises ContractError for parts that cannot make this contract's observation."""
    if len(parts) != len(agreed.observation):
        raise ContractError(f"{len(parts)} parts for {len(agreed.observation)} sources; give one for each, in order")
    n = len(cartesian.axes)
    room = {"joints": n, "velocities": n, "point": 3, "pointing": 3, "moving": 3, "to": 3, "action": 5, "clock": 1}
    for part, source in zip(parts, agreed.observation, strict=True):
        if (origin := ORIGINS.get(part.of, "joint")) != source.origin:
            raise ContractError(f"source {source.name!r} comes from {source.origin}, and its part from {origin}")
        if source.size > room.get(part.of, source.size):
            raise ContractError(f"source {source.name!r} has {source.size} numbers, and {part.of} {room[part.of]}")


def observe(parts: Sequence[Part], agreed: Contract, raw: Raw, cartesian: Cartesian | None = None) -> Array:
    """[O] float32, in the order of the contract; cartesian: for what only a chain can tell. Raises ValueError that
    names all that is missing or unfit."""
    speeds = _speeds(parts)
    wrong = [
        f"{name} are {value}; give {len(agreed.joints)} finite numbers"
        for name in (("joints", "velocities") if speeds else ("joints",))
        if (value := np.asarray(getattr(raw, name), np.float64)).shape != (len(agreed.joints),)
        or not np.isfinite(value).all()
    ]
    for name, source in _scene(parts, agreed).items():
        value = np.asarray(raw.scene.get(name, ()), np.float64)
        if value.shape != (source.size,) or not np.isfinite(value).all():
            wrong.append(
                f"nobody says where {name!r} of the scene is; tell its {source.size} numbers, in {source.unit}"
            )
    if wrong:
        raise ValueError("; ".join(wrong))
    known: dict[str, Array] = {"joints": raw.joints, "velocities": raw.velocities, "action": raw.action}
    if cartesian is not None:
        point, pointing, jacobian = cartesian.kinematics(raw.joints)
        known |= {"point": point, "pointing": pointing}
        if speeds:
            known["moving"] = jacobian[:3] @ np.asarray(raw.velocities)
    made = []
    for part, source in zip(parts, agreed.observation, strict=True):
        if part.of == "clock":
            value = np.array([2 * raw.seconds / part.seconds - 1 if part.seconds else raw.seconds])
        elif part.scene:
            value = np.asarray(raw.scene[part.scene], np.float64)
            value = value - known["point"][: len(value)] if part.of == "to" else value
        else:
            value = known[part.of]
        made.append(part.scale * np.asarray(value, np.float64)[: source.size])
    return np.concatenate(made).astype(np.float32)


def plain(agreed: Contract) -> tuple[Part, ...]:
    """For a policy whose contract names nothing but what a robot has: joint angles in rad, their velocities in rad/s,
    things of the scene, seconds, its last action. Raises ContractError that names every other source."""
    kinds: dict[tuple[str, str], Kind] = {("joint", "rad"): "joints", ("joint", "rad/s"): "velocities"}
    kinds |= {("clock", "s"): "clock"}
    parts, odd = [], []
    for source in agreed.observation:
        if source.origin == "scene":
            parts.append(Part("scene", scene=source.name))
        elif source.origin == "action" and source.size == len(agreed.joints):
            parts.append(Part("action"))
        elif kind := kinds.get((source.origin, source.unit)):
            parts.append(Part(kind))
        else:
            odd.append(f"{source.name!r} ({source.origin}, {source.unit})")
    if odd:
        raise ContractError(
            f"no robot has {', '.join(odd)} as it is; export the policy with parts that say how it is made"
        )
    return tuple(parts)


def asked(parts: Sequence[Part], agreed: Contract) -> Contract:
    """The contract in the terms of a robot: what it has to measure, and what somebody has to tell it."""
    n = len(agreed.joints)
    measured = [Source("joint angles", n, "rad", "joint")]
    if _speeds(parts):
        measured.append(Source("joint velocities", n, "rad/s", "joint"))
    sources = (*measured, *_scene(parts, agreed).values(), Source("time since the start", 1, "s", "clock"))
    size = sum(source.size for source in sources)
    return replace(agreed, observation=sources, mean=(0.0,) * size, std=(1.0,) * size)


def to_json(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [asdict(part) for part in parts]


def from_json(data: Any) -> tuple[Part, ...]:
    """Raises ContractError, TypeError."""
    return tuple(Part(**part) for part in data)


def _speeds(parts: Sequence[Part]) -> bool:
    """Whether velocities are looked at: not every arm measures them."""
    return any(part.of in ("velocities", "moving") for part in parts)


def _scene(parts: Sequence[Part], agreed: Contract) -> dict[str, Source]:
    """Every thing of the scene that is looked at, as a source of its own."""
    return {
        part.scene: Source(part.scene, source.size, source.unit, "scene")
        for part, source in zip(parts, agreed.observation, strict=True)
        if part.scene
    }
