"""What is shown of a robot: the daemon's last Snapshot as plain numbers and texts, and what may be asked now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel

from hardware.config import Config
from hardware.link import Hello, Snapshot
from hardware.machine import Event, Kind, Mode, State, refusal

NOT_SAFE = "This software is not safety-rated. A hardware e-stop that cuts the motors' power is required."
_ASKED: tuple[Kind, ...] = ("arm", "disarm", "start", "teleop", "home", "reset")


class Shown(BaseModel):
    """connected: the daemon is there; else `why` says what to do, and nothing below `policy` is meant. may: for each
    thing that can be asked, why it cannot be now, or nothing. Vectors are [n], in the order of `names`: rad, rad/s,
    N m, degrees Celsius, null where unknown. lower, upper: of the robot's file. Times in ns."""

    connected: bool
    why: str
    notice: str
    robot: str
    family: str
    names: list[str]
    lower: list[float]
    upper: list[float]
    rate: float
    stop: int
    fifo: bool
    warnings: list[str]
    may: dict[str, str]
    scene_sizes: dict[str, int]
    policy: str
    cameras: dict[str, str]
    seq: int = 0
    time_ns: int = 0
    mode: Mode = "OFF"
    cause: str = ""
    category: int = 2
    holder: str = ""
    lease_left_ns: int = 0
    guarded: bool = False
    position: list[float | None] = []
    velocity: list[float | None] = []
    effort: list[float | None] = []
    temperature: list[float | None] = []
    powered: list[float | None] = []
    faults: list[str] = []
    command: list[float | None] = []
    requested: list[float | None] = []
    source: str = ""
    verdict: str = ""
    clipped: list[str] = []
    envelope: str = ""
    clips: dict[str, list[float]] = {}
    chunk: int = -1
    action_age_ns: int = 0
    lateness_ns: int = 0
    missed: bool = False
    reading_ns: int = 0
    overruns: int = 0
    misses: int = 0
    starved: int = 0
    episode: str = ""
    journal_failed: str = ""
    disk_free: int = 0
    scene: dict[str, list[float]] = {}


def shown(
    config: Config,
    hello: Hello | None,
    snapshot: Snapshot | None,
    why: str,
    policy: str,
    cameras: Mapping[str, str],
) -> dict[str, Any]:
    """The fields of `Shown`."""
    limits = config.limits
    known: dict[str, Any] = {
        "connected": snapshot is not None and hello is not None,
        "why": "" if snapshot is not None else why,
        "notice": NOT_SAFE,
        "robot": config.file.stem,
        "family": config.arm.family,
        "names": list(limits.names),
        "lower": limits.lower.tolist(),
        "upper": limits.upper.tolist(),
        "rate": limits.rate,
        "stop": 2 if hello is None else hello.stop,
        "fifo": hello is not None and hello.fifo,
        "warnings": [] if hello is None else list(hello.warnings),
        "scene_sizes": {source.name: source.size for source in config.scene},
        "policy": policy,
        "cameras": dict(cameras),
    }
    if snapshot is None:
        return Shown(**known, may=dict.fromkeys(_ASKED, why)).model_dump()
    state = State(snapshot.mode, "HOLD", snapshot.category, snapshot.cause)
    may = {kind: refusal(state, Event(kind, holder=True, clear=True)) for kind in _ASKED}
    if not config.home:
        may["home"] = may["home"] or "the robot's file says no home"
    if not snapshot.guarded:
        lacking = "the guard does not live: start it"
        may |= {kind: may[kind] or lacking for kind in ("arm", "start", "teleop", "home")}
    told = {f.name: _plain(getattr(snapshot, f.name)) for f in fields(snapshot)}
    told["envelope"] = told.pop("why")
    return {**known, **told, "may": may}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [float(x) if np.isfinite(x) else None for x in value]
    if isinstance(value, Mapping):
        return {key: list(numbers) for key, numbers in value.items()}
    return list(value) if isinstance(value, tuple) else value


MODES: tuple[str, ...] = get_args(Mode)
