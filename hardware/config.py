"""One TOML file of a robot: what lives on a machine. Strict: what is unknown, missing or of another type is refused.

rate = 100.0                       # of the control loop, Hz
journal = "/var/lib/rapport/arm"   # where episodes go; relative: beside this file

[arm]
family = "so101"
port = "/dev/ttyACM0"              # or the address of a controller
torque = 0.6                       # whatever else the family knows: its factory reads it, and refuses the rest

[[joint]]                          # one for each, in the order of every array
name = "shoulder_pan"
id = 1                             # of its servo, where there is one
lower = -1.9                       # rad
upper = 1.9
velocity = 2.0                     # rad/s
acceleration = 10.0                # rad/s^2
tracking = 0.2                     # rad, between command and measurement
start = 0.1                        # rad, between measurement and first action
home = 0.0                         # rad, where `home` brings it; every joint has one, or none

[chain]                            # of the first joints, if the tool's speed and place are to be kept
offsets = [[0.0, 0.0, 0.06]]       # m, of each hinge in the frame of the link before, all angles zero
axes = [[0.0, 0.0, 1.0]]
tool = [0.0, 0.0, 0.1]
speed = 0.25                       # m/s; ISO 10218's reduced speed if it is left out
box = [[-0.3, -0.3, 0.0], [0.3, 0.3, 0.4]]

[[camera]]
name = "wrist"
device = "/dev/video0"
width = 640
height = 480
fps = 30.0

[scene.cup]                        # numbers that somebody tells the policy, by name
size = 3
unit = "m"
value = [0.3, 0.0, 0.05]           # where it always stands; left out: nobody starts before it is told

[gateway]
host = "127.0.0.1"
port = 8600
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from embodied.contract import Source
from hardware.limits import Limits
from policies.chain import Chain

Value = str | int | float | bool | tuple["Value", ...]


class ConfigError(ValueError):
    """A file that says nothing sensible; the sentence names the file, the key, the value and the mend."""


@dataclass(frozen=True)
class ArmConfig:
    """family: whose factory makes it. ids: of the servos [n], or (). settings: the family's own, for it to check."""

    family: str
    port: str
    ids: tuple[int, ...]
    settings: Mapping[str, Value]


@dataclass(frozen=True)
class CameraConfig:
    name: str
    device: str
    width: int
    height: int
    fps: float


@dataclass(frozen=True, eq=False)
class Config:
    """Of one robot. home: [n] rad, or (). scene: what the policy is told of the world, in order; layout: what of it the
    file tells. file: what says so."""

    file: Path
    arm: ArmConfig
    limits: Limits
    home: tuple[float, ...]
    cameras: tuple[CameraConfig, ...]
    scene: tuple[Source, ...]
    layout: Mapping[str, tuple[float, ...]]
    host: str
    port: int
    journal: Path


def read(path: Path) -> Config:
    """Raises ConfigError for whatever keeps the file from saying one thing."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name the robot's file") from error
    except (ValueError, RecursionError) as error:  # no TOML, or no UTF-8
        raise ConfigError(f"{path} is no TOML ({str(error)[:200]}); mend it there") from error
    try:
        return _config(data, path)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: {error}") from error


_FILE = {"rate": float, "tracking_seconds": float, "journal": str, "arm": dict, "joint": list, "chain": dict}
_FILE |= {"camera": list, "scene": dict, "gateway": dict}
_OPTIONAL = ("tracking_seconds", "chain", "camera", "scene", "gateway")
_JOINT = {"name": str, "id": int} | dict.fromkeys(
    ("lower", "upper", "velocity", "acceleration", "tracking", "start", "home"), float
)
_CHAIN = {"offsets": list, "axes": list, "tool": list, "speed": float, "box": list}
_CAMERA = {"name": str, "device": str, "width": int, "height": int, "fps": float}
_GATEWAY = {"host": str, "port": int}
_KINDS = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


def _config(data: dict[str, Any], file: Path) -> Config:
    _table("the file", data, _FILE, _OPTIONAL)
    arm = data["arm"]
    _table("[arm]", {key: arm[key] for key in arm.keys() & {"family", "port"}}, {"family": str, "port": str}, ("port",))
    joints = data["joint"]
    for i, joint in enumerate(joints):
        _table(f"joint {i + 1}", joint, _JOINT, ("id", "home"))
    ids = tuple(joint["id"] for joint in joints if "id" in joint)
    if ids and (len(set(ids)) < len(joints) or not all(0 <= i < 253 for i in ids)):
        raise ConfigError(
            f"the joints' ids are {list(ids)}; give each of {len(joints)} its own, from 0 to 252, or none"
        )
    settings = {key: _value(f"{key} of [arm]", arm[key]) for key in arm if key not in ("family", "port")}
    gateway = {"host": "127.0.0.1", "port": 8600} | data.get("gateway", {})
    _table("[gateway]", gateway, _GATEWAY)
    if not 0 < gateway["port"] < 65536:
        raise ConfigError(f"port of [gateway] is {gateway['port']}; give 1 to 65535")
    for key, text in (("family of [arm]", arm["family"]), ("host of [gateway]", gateway["host"])):
        _said(key, text)
    return Config(
        file,
        ArmConfig(arm["family"], arm.get("port", ""), ids, MappingProxyType(settings)),
        limits := _limits(data),
        _home(joints, limits),
        _cameras(data.get("camera", [])),
        *_scene(data.get("scene", {})),
        gateway["host"],
        gateway["port"],
        file.parent / _said("journal", data["journal"]),
    )


def _limits(data: dict[str, Any]) -> Limits:
    joints = data["joint"]
    chain = data.get("chain")
    more: dict[str, Any] = {}
    if chain is not None:
        _table("[chain]", chain, _CHAIN, ("speed", "box"))
        found = {key: _value(f"{key} of [chain]", chain[key], numbers=True) for key in chain}
        more = {"tool_speed": found.get("speed"), "box": found.get("box")}
        try:
            more["chain"] = Chain(found["offsets"], found["axes"], found["tool"])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"[chain]: {error}") from None
    if "tracking_seconds" in data:
        more["tracking_seconds"] = data["tracking_seconds"]
    arrays: dict[str, Any] = {
        key: [joint[key] for joint in joints] for key in _JOINT if key not in ("name", "id", "home")
    }
    names = tuple(_said("a joint's name", joint["name"]) for joint in joints)
    return Limits(names=names, rate=data["rate"], **arrays, **more)


def _home(joints: list[dict[str, Any]], limits: Limits) -> tuple[float, ...]:
    home = tuple(float(joint["home"]) for joint in joints if "home" in joint)
    if home and len(home) < len(joints):
        raise ConfigError(f"{len(home)} of {len(joints)} joints have a home; give every joint one, or none")
    for name, lower, at, upper in zip(limits.names, limits.lower, home, limits.upper, strict=False):
        if not lower <= at <= upper:
            raise ConfigError(f"home of joint {name!r} is {at} rad, its limits are {lower} to {upper}; give one within")
    return home


def _cameras(data: list[Any]) -> tuple[CameraConfig, ...]:
    for i, camera in enumerate(data):
        where = f"camera {i + 1}"
        _table(where, camera, _CAMERA)
        _said(f"name of {where}", camera["name"])
        for key, most in (("width", 8192), ("height", 8192), ("fps", 1000)):
            if not 0 < camera[key] <= most:
                raise ConfigError(f"{key} of {where} is {camera[key]}; give more than 0, at most {most}")
    if len({camera["name"] for camera in data}) < len(data):
        raise ConfigError("two cameras have one name; give each its own")
    return tuple(CameraConfig(**camera) for camera in data)


def _scene(data: dict[str, Any]) -> tuple[tuple[Source, ...], Mapping[str, tuple[float, ...]]]:
    layout = {}
    for name, part in data.items():
        if not isinstance(part, dict):
            raise ConfigError(f"scene.{name} is {part!r}; give a table with size and unit")
        _table(f"[scene.{name}]", part, {"size": int, "unit": str, "value": list}, ("value",))
        if "value" in part:
            value = _value(f"value of [scene.{name}]", part["value"], numbers=True)
            if len(value) != part["size"] or not all(isinstance(x, int | float) and math.isfinite(x) for x in value):
                raise ConfigError(f"value of [scene.{name}] is {part['value']}; give {part['size']} finite numbers")
            layout[name] = tuple(map(float, value))
    sources = tuple(Source(name, part["size"], part["unit"], "scene") for name, part in data.items())
    return sources, MappingProxyType(layout)


def _table(where: str, data: Any, keys: Mapping[str, type], optional: tuple[str, ...] = ()) -> None:
    """Has these keys, of these types, and no others."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is {data!r}; give a table")
    if unknown := sorted(data.keys() - keys.keys()):
        raise ConfigError(f"{where} has the unknown key {unknown[0]!r}; known are {', '.join(keys)}")
    for key, kind in keys.items():
        if key not in data:
            if key in optional:
                continue
            raise ConfigError(f"{where} lacks {key!r}; give {_KINDS[kind]}")
        value = data[key]
        if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
            raise ConfigError(f"{key!r} of {where} is {value!r}; give {_KINDS[kind]}")


def _said(what: str, text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ConfigError(f"{what} is {text!r}; give a text that says it")
    return text


def _value(what: str, value: Any, numbers: bool = False) -> Any:
    """Texts, numbers and lists of them, which cannot be changed; with `numbers` nothing but numbers."""
    if isinstance(value, list):
        return tuple(_value(what, part, numbers) for part in value)
    if not isinstance(value, int | float if numbers else str | int | float) or (numbers and isinstance(value, bool)):
        raise ConfigError(f"{what} has {value!r}; give {'numbers' if numbers else 'texts, numbers or lists of them'}")
    return value
