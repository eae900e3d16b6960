"""Journals as episodes of the core: offline, as often as one likes, with the same result bit for bit.

A step begins where the policy looked anew or somebody else took over, and else after one period of the policy's rate:
a policy that looks twenty times a second has its own steps back, one that sends chunks has as many within a chunk. An
episode's `act` is what was really commanded, at the end of the step, not what was asked for.

| info | what |
| --- | --- |
| time [T] | s since the first tick, by the loop's own clock |
| age [T] | s since the policy looked last: 0 where it did at this step |
| requested, position, velocity, effort [T,n] | rad, rad/s, N m; requested: at the last tick, NaN where nothing was |
| said [T,A] | what the policy said in its own terms, NaN where it said nothing |
| source [T] | an index of `hardware.journal.SOURCES` |
| clipped, missed [T] | the share of the step's ticks at which the envelope changed something, or a reading was reused |
| stopped, pressed [T] | a stop, a fault or an e-stop began in this step; an e-stop that somebody pressed |
| seq, offset [T] | number of the step's first tick, and the byte of the journal at which it lies |
| about | bytes of a JSON object, which `about` reads: robot, task, `scene`, whose hand where, pictures lost ... |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodied.episodes import Episode, EpisodeError, Episodes
from embodied.records import RecordError
from hardware import frames
from hardware.arm import Array
from hardware.journal import SOURCES, End, Event, JournalError, Recorded, Recovered, Tick, recover

STOPS = ("stop", "estop", "fault")
LATE_LOOK = 3.0  # periods of the policy's rate


@dataclass(frozen=True)
class Exported:
    """ids: of the episodes that are there now; left: journal -> why it is none (yet)."""

    ids: tuple[str, ...]
    left: Mapping[str, str]


def export(paths: Iterable[Path], episodes: Episodes) -> Exported:
    """Every journal as an episode of its name. What is there already is left as it is; a journal that is torn counts up
    to where it is whole; one that still grows, is damaged from the start or has no step is left, with the reason.

    Raises EpisodeError where the disk is full, or an id is taken by another episode.
    """
    ids, left = [], {}
    for path in paths:
        try:
            made = episode(recover(path))
        except JournalError as error:
            left[Path(path).name] = str(error)
            continue
        episodes.save([made])
        ids.append(made.id)
    return Exported(tuple(ids), left)


def episode(found: Recovered) -> Episode:
    """Raises JournalError for a journal that still grows, and for one without a step."""
    if found.growing:
        raise JournalError(f"{found.path} is still being written; export it when the episode is over")
    try:
        return _episode(found, found.ticks)
    except (RecordError, ValueError) as error:
        if isinstance(error, JournalError):
            raise
        raise JournalError(f"{found.path} is no episode: {error}") from error


def _episode(found: Recovered, ticks: Sequence[Recorded]) -> Episode:
    groups = _steps([t.record for t in ticks if isinstance(t.record, Tick)], [t.mono_ns for t in ticks], _period(found))
    if not groups:
        raise JournalError(f"{found.path} has no step: {len(ticks)} ticks, and the policy never looked")
    begun = ticks[0].mono_ns
    steps = [_step(ticks[a:b], ticks[seen], begun) for a, b, seen in groups]
    obs, act = (np.stack([step.pop(name) for step in steps]) for name in ("obs", "act"))
    said = max((len(step["said"]) for step in steps), default=0)
    for step in steps:
        step["said"] = np.concatenate([step["said"], np.full(said - len(step["said"]), np.nan)])
    info = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    happened = _happened(found.records, np.array([ticks[a].offset for a, _, _ in groups]))
    for name, kinds in (("stopped", STOPS), ("pressed", ("estop",))):
        info[name] = np.zeros(len(groups), bool)
        info[name][[at for at, event in happened if event.kind in kinds and (event.who or name == "stopped")]] = True
    hands = {str(at): event.who for at, event in happened if event.who}
    info["about"] = _bytes({**_told(found), "hands": hands, "moved": _moved(found, info["offset"])})
    end = found.records[-1].record
    return Episode(found.name, obs, act, info, terminated=isinstance(end, End) and end.outcome == "done")


def own_terms(whole: Episode) -> list[Episode]:
    """Every stretch in which the policy led and spoke, as an episode NAME.1, NAME.2, ... of its own, whose `act` is
    what it said and not the joint command: what a policy of such actions can be aligned on. A step lasts from look to
    look: one that came late, within `LATE_LOOK` periods, ends nothing, for the arm went on along the chunk it had.

    Raises EpisodeError for an episode that comes from no journal."""
    told, info = about(whole), {name: each for name, each in whole.info.items() if name != "about"}
    looks = np.flatnonzero(np.isfinite(info["said"]).all(1) & (info["said"].shape[1] > 0))
    if not len(looks):
        return []
    spoke, time = info["source"] == SOURCES.index("policy"), info["time"]
    period = float(np.median(np.diff(time[looks]))) if len(looks) > 1 else 1.0
    ends = [b for b in range(1, len(looks)) if not _went_on(looks[b - 1], looks[b], info, spoke, LATE_LOOK * period)]
    found = []
    for k, at in enumerate(np.split(looks, ends), 1):
        stop = int(at[-1]) + 1
        hands = {str(int(np.searchsorted(at, int(t), "right")) - 1): who for t, who in told["hands"].items()
                 if at[0] <= int(t) < stop}  # fmt: skip
        kept = {name: each[at] for name, each in info.items()}
        kept["missed"] = np.maximum.reduceat(info["missed"][:stop], at)  # what happened between two looks, too
        kept["clipped"] = np.maximum.reduceat(info["clipped"][:stop], at)
        since = {int(t): things for t, things in told.get("moved", {}).items() if at[0] < int(t) <= at[-1]}
        moved = {str(int(np.searchsorted(at, t))): things for t, things in since.items()}
        kept["about"] = _bytes({**told, "hands": hands, "scene": scene(whole, int(at[0])), "moved": moved, "own": True})
        ended = whole.terminated and stop == len(whole)
        found.append(Episode(f"{whole.id}.{k}", whole.obs[at], info["said"][at], kept, ended))
    return found


def _went_on(a: int, b: int, info: Mapping[str, Array], spoke: Array, longest: float) -> bool:
    """Whether the policy led all the way from one look to the next."""
    soon = info["time"][b] - info["time"][a] <= longest
    return bool(soon and spoke[a : b + 1].all() and not info["stopped"][a:b].any())


def about(episode: Episode) -> dict[str, Any]:
    """What a journal's header and end said. Raises EpisodeError for an episode that comes from no journal."""
    if "about" not in episode.info:
        raise EpisodeError(f"episode {episode.id!r} comes from no journal; export one with hardware.to_episodes")
    return json.loads(episode.info["about"].tobytes())


def scene(episode: Episode, step: int) -> dict[str, list[float]]:
    """Where things were known to be at this step: somebody may have told it anew since the episode began. Raises
    EpisodeError as `about`."""
    told = about(episode)
    since = [t for t in map(int, told.get("moved", {})) if t <= step]
    found: dict[str, list[float]] = told["moved"][str(max(since))] if since else told["scene"]
    return found


def _moved(found: Recovered, offsets: Array) -> dict[str, dict[str, list[float]]]:
    """The whole scene from this step on, where it was told and is another than before: the step after the one in which
    that was."""
    now = {name: list(given) for name, given in found.header.scene.items()}
    moved: dict[str, dict[str, list[float]]] = {}
    for each in found.records:
        if isinstance(each.record, Event) and (each.record.kind, each.record.what) == ("note", "scene"):
            if (new := {**now, **{name: list(given) for name, given in each.record.data.items()}}) == now:
                continue
            now, step = new, int(np.searchsorted(offsets, each.offset))
            if step < len(offsets):
                moved[str(step)] = now
    return moved


def _bytes(told: Mapping[str, Any]) -> Array:
    return np.frombuffer(json.dumps(told, sort_keys=True).encode(), np.uint8)


def _told(found: Recovered) -> dict[str, Any]:
    end = found.records[-1].record
    header = found.header
    return {
        "robot": header.robot,
        "family": header.family,
        "joints": list(header.joints),
        "task": header.task,
        "policy": header.policy,
        "config": header.config,
        "scene": {name: list(given) for name, given in header.scene.items()},
        "rate": header.rate,
        "journal": found.path.name,
        "begun_ns": found.begun_ns,
        "first_ns": found.ticks[0].mono_ns,
        "whole": found.whole,
        "outcome": end.outcome if isinstance(end, End) else "unknown",
        "cameras": {name: asdict(kept) for name, kept in frames.kept(frames.beside(found.path)).items()},
    }


def _period(found: Recovered) -> float:
    """ns of a step: that of the policy, where its contract says it."""
    return 1e9 / float(found.header.contract.get("rate", found.header.rate))


def _steps(ticks: Sequence[Tick], at: Sequence[int], period: float) -> list[tuple[int, int, int]]:
    """(first tick, tick after the last, tick at which the policy had looked last) of each step; in a journal in which
    nobody ever looked, what was measured stands in for it."""
    looks = [i for i, tick in enumerate(ticks) if tick.obs is not None] or list(range(len(ticks)))
    begins: list[tuple[int, int]] = []
    for k, seen in enumerate(looks):
        following = looks[k + 1] if k + 1 < len(looks) else len(ticks)
        begins.append((seen, seen))
        for i in range(seen + 1, following):
            since, width = at[i] - at[begins[-1][0]], at[i] - at[i - 1]
            due = since > period - width / 2 and (following == len(ticks) or at[following] - at[i] > period / 2)
            if due or ticks[i].source != ticks[i - 1].source:
                begins.append((i, seen))
    ends = [*(i for i, _ in begins[1:]), len(ticks)]
    return [(a, b, seen) for (a, seen), b in zip(begins, ends, strict=True)]


def _step(ticks: Sequence[Recorded], seen: Recorded, begun: int) -> dict[str, Any]:
    records = [t.record for t in ticks if isinstance(t.record, Tick)]
    first, last, looked = records[0], records[-1], seen.record
    assert isinstance(looked, Tick)
    unknown = np.full(len(first.command), np.nan)
    obs = looked.obs if looked.obs is not None else np.concatenate([first.position, first.velocity])
    return {
        "obs": np.asarray(obs, np.float32),
        "act": last.command,
        "time": np.float64((ticks[0].mono_ns - begun) / 1e9),
        "age": np.float64((ticks[0].mono_ns - seen.mono_ns) / 1e9),
        "requested": unknown if last.requested is None else last.requested,
        "position": first.position,
        "velocity": first.velocity,
        "effort": first.effort,
        "said": np.zeros(0) if first.act is None else first.act,
        "source": np.int8(SOURCES.index(first.source)),
        "clipped": np.float32(np.mean([r.verdict != "ok" for r in records])),
        "missed": np.float32(np.mean([r.missed for r in records])),
        "seq": np.int64(first.seq),
        "offset": np.int64(ticks[0].offset),
    }


def _happened(records: Sequence[Recorded], offsets: Array) -> list[tuple[int, Event]]:
    """The events and their steps: an event belongs to the tick that lies before it in the file."""
    steps = [(int(np.searchsorted(offsets, r.offset)) - 1, r.record) for r in records if isinstance(r.record, Event)]
    return [(at, event) for at, event in steps if at >= 0]
