"""The policy contract: one JSON beside the weights that says what a policy was trained for, and on what it may act."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from embodied import atomic

VERSION = 1
FILE = "contract.json"
ORIGINS = ("joint", "scene", "clock", "action")

_Record = TypeVar("_Record", bound="Joint | Source | Contract")


class ContractError(ValueError):
    """A contract that cannot be, or that its folder does not keep; the sentence names the file and the mend."""


@dataclass(frozen=True)
class Joint:
    """One commanded joint and its range, in `unit` (rad, m)."""

    name: str
    lower: float
    upper: float
    unit: str = "rad"

    def __post_init__(self) -> None:
        _text("a joint's name", self.name)
        _text(f"unit of joint {self.name!r}", self.unit)
        lower, upper = _finite(f"range of joint {self.name!r}", (self.lower, self.upper))
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        if self.lower >= self.upper:
            raise ContractError(f"joint {self.name!r} ranges from {self.lower} to {self.upper}; give lower < upper")


@dataclass(frozen=True)
class Source:
    """A stretch of `size` numbers of the observation, in `unit`, and where they come from: measured joints, the scene
    (objects, goals), the clock, or the last action."""

    name: str
    size: int
    unit: str
    origin: str

    def __post_init__(self) -> None:
        _text("an observation source's name", self.name)
        _text(f"unit of source {self.name!r}", self.unit)
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ContractError(f"source {self.name!r} has size {self.size!r}; give a whole number, 1 or more")
        if self.origin not in ORIGINS:
            raise ContractError(f"source {self.name!r} has origin {self.origin!r}; use one of {', '.join(ORIGINS)}")


@dataclass(frozen=True)
class Contract:
    """`joints` in the order of the command, `rate` in Hz, `action` as what they are commanded (joint_position).

    `observation` lists its parts in order, O numbers in all; the policy sees (obs - mean) / std, each [O]. `reward`
    says in one sentence what it was trained for. `hashes` are the sha256 of the files beside it. Raises ContractError.
    """

    environment: str
    joints: tuple[Joint, ...]
    rate: float
    action: str
    observation: tuple[Source, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    cameras: tuple[str, ...]
    reward: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    version: int = VERSION

    def __post_init__(self) -> None:
        for name in ("environment", "action", "reward"):
            _text(name, getattr(self, name))
        for name in ("joints", "observation", "cameras"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for camera in self.cameras:
            _text("a camera's name", camera)
        object.__setattr__(self, "hashes", dict(self.hashes))
        object.__setattr__(self, "rate", *_finite("rate", (self.rate,)))
        if self.rate <= 0:
            raise ContractError(f"rate is {self.rate} Hz; give a positive number")
        if not self.observation:
            raise ContractError("observation has no source; name what the policy sees, in order")
        for what, names in (
            ("joint", [joint.name for joint in self.joints]),
            ("source", [source.name for source in self.observation]),
            ("camera", list(self.cameras)),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ContractError(f"{what} {twice[0]!r} is there twice; give every {what} a name of its own")
        size = sum(source.size for source in self.observation)
        for name in ("mean", "std"):
            values = _finite(name, getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != size:
                raise ContractError(f"{name} has {len(values)} numbers, the observation {size}; give one for each")
        if min(self.std) <= 0:
            raise ContractError(f"std has {min(self.std)}; give positive numbers")
        for file, digest in self.hashes.items():
            # A name from a stranger's contract must not point outside the folder.
            if not isinstance(file, str) or Path(file).name != file or file in (".", ".."):
                raise ContractError(f"hashes names {file!r}; give the name of a file in the contract's folder")
            if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ContractError(f"hash of {file!r} is {digest!r}; give its sha256 in 64 hexadecimal digits")
        if self.version != VERSION:
            raise ContractError(f"version is {self.version!r}, this program writes {VERSION}; leave it out")


def sha256(path: Path) -> str:
    """Of a file, for `hashes`."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(contract: Contract, folder: Path) -> Path:
    """Write `contract.json`, after the files it hashes. Raises ContractError if they differ, or the disk is full."""
    folder = Path(folder)
    _check_hashes(contract, folder)
    path = folder / FILE
    data = {f.name: getattr(contract, f.name) for f in fields(contract)}
    data |= {"joints": [asdict(joint) for joint in contract.joints], "hashes": dict(contract.hashes)}
    data |= {"observation": [asdict(source) for source in contract.observation]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise ContractError(atomic.explain(error, path)) from error
    return path


def read(folder: Path) -> Contract:
    """The contract of a folder, its files checked.

    Raises ContractError for a missing or damaged file, a newer version, a key too many or too few, a value that cannot
    be, and a file that is not the one it was written for.
    """
    path = Path(folder) / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ContractError(f"{path} is missing; export the policy again, or name the folder that holds it") from None
    except OSError as error:
        raise ContractError(f"{path} is not readable JSON ({error}); export the policy again") from error
    contract = parse(text, str(path))
    _check_hashes(contract, path.parent)
    return contract


def parse(text: str | bytes, path: str = "the contract") -> Contract:
    """Of the text of a `contract.json`; the files it hashes are not looked at. Raises ContractError as `read` does."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{path} is not readable JSON ({error}); export the policy again") from error
    version = data.get("version") if isinstance(data, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ContractError(f"{path} has version {version!r}, not a whole number; export the policy again")
    if version > VERSION:
        raise ContractError(f"{path} has version {version}, this program reads up to {VERSION}; update the program")
    try:
        joints = tuple(_build(Joint, joint, f"joints[{i}]") for i, joint in enumerate(_list(data, "joints")))
        sources = tuple(_build(Source, part, f"observation[{i}]") for i, part in enumerate(_list(data, "observation")))
        for name in ("mean", "std", "cameras"):
            _list(data, name)
        if not isinstance(data.get("hashes", {}), dict):
            raise ContractError(f"hashes is {data['hashes']!r}; give an object of file names and sha256")
        return _build(Contract, {**data, "joints": joints, "observation": sources}, "the contract")
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error


def mismatch(contract: Contract, other: Contract) -> list[str]:
    """What keeps a policy of `contract` from acting where `other` holds, one sentence each; empty if nothing does.

    Normaliser, reward and hashes belong to the policy alone, and are not compared.
    """
    found = []
    for name, unit in (("environment", ""), ("action", ""), ("rate", " Hz")):
        ours, theirs = getattr(contract, name), getattr(other, name)
        if ours != theirs:
            found.append(f"{name}: the policy is for {ours}{unit}, here it is {theirs}{unit}")
    found += _mismatch("joint", contract.joints, other.joints)
    found += _mismatch("observation source", contract.observation, other.observation)
    if missing := [camera for camera in contract.cameras if camera not in other.cameras]:
        found.append(f"camera: the policy sees through {', '.join(missing)}, which is not here")
    return found


def _mismatch(what: str, ours: Sequence[Joint | Source], theirs: Sequence[Joint | Source]) -> list[str]:
    mine, yours = [part.name for part in ours], [part.name for part in theirs]
    if mine != yours:
        if sorted(mine) == sorted(yours):
            return [f"{what}s come in another order: the policy has {', '.join(mine)}, here it is {', '.join(yours)}"]
        return [
            *(f"{what} {name!r} of the policy is not here" for name in mine if name not in yours),
            *(f"{what} {name!r} is here, but the policy does not know it" for name in yours if name not in mine),
        ]
    return [
        f"{what} {a.name!r}: {f.name} is {getattr(a, f.name)} for the policy, here it is {getattr(b, f.name)}"
        for a, b in zip(ours, theirs, strict=True)
        for f in fields(a)
        if getattr(a, f.name) != getattr(b, f.name)
    ]


def _check_hashes(contract: Contract, folder: Path) -> None:
    for name, digest in contract.hashes.items():
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise ContractError(
                f"{folder / name} cannot be read ({error.strerror}), and the contract needs it; export the policy again"
            ) from error
        if found != digest:
            raise ContractError(
                f"{folder / name} has sha256 {found[:12]}..., the contract says {digest[:12]}...: "
                "it is not the file that was exported; export the policy again"
            )


def _build(kind: type[_Record], data: object, where: str) -> _Record:
    if not isinstance(data, dict):
        raise ContractError(f"{where} is {data!r}; give an object")
    known = {f.name for f in fields(kind)}
    if unknown := sorted(data.keys() - known):
        raise ContractError(f"{where} has the unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if missing := sorted(known - data.keys()):
        raise ContractError(f"{where} lacks the key {missing[0]!r}; export the policy again")
    return kind(**data)


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    if name not in data:
        raise ContractError(f"the contract lacks the key {name!r}; export the policy again")
    if not isinstance(data[name], list):
        raise ContractError(f"{name} is {data[name]!r}; give a list")
    return list(data[name])


def _text(what: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ContractError(f"{what} is {value!r}; give a text that says it")


def _finite(what: str, values: Sequence[object]) -> tuple[float, ...]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ContractError(f"{what} has {value!r}; give finite numbers")
    return tuple(float(value) for value in values)  # type: ignore[arg-type]
