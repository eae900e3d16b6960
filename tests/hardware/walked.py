"""Journals for tests, written by the journal itself: a small arm that follows its commands, at any rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hardware.journal import End, Event, Header, Journal, Record, Source, Tick

DONE = End("done")
N, RATE = 3, 50.0
PERIOD = round(1e9 / RATE)


def header(**changes) -> Header:
    given = {
        "robot": "bench",
        "family": "twin",
        "joints": ("shoulder", "elbow", "wrist"),
        "rate": RATE,
        "task": "put the cup on the shelf",
        "scene": {"goal": (0.3, 0.1, 0.2)},
        "policy": "ab" * 32,
    }
    return Header(**(given | changes))


def ticks(parts: Sequence[tuple[Source, int]], seed: int = 0, start: Sequence[float] = (0.0,) * N, look: int = 1):
    """(source, how many ticks) one after another, as one walk; the policy looks every `look` ticks."""
    rng, position, seq = np.random.default_rng(seed), np.array(start, float), 0
    for source, count in parts:
        for _ in range(count):
            requested = position + rng.normal(size=N) * 0.02
            command = np.clip(requested, position - 0.05, position + 0.05)
            measured = position + 0.9 * (command - position)
            obs = np.concatenate([position, measured - position]).astype(np.float32) if seq % look == 0 else None
            yield Tick(
                seq,
                command,
                position.copy(),
                (measured - position) * RATE,
                np.full(N, np.nan),
                source,
                "RUNNING" if source == "policy" else source.upper(),
                requested=requested,
                chunk=seq // 8,
                obs=obs,
                act=None if source != "policy" else np.array([0.1, -0.2]),
            )
            position, seq = measured, seq + 1


def write(path: Path, records: Sequence[Record], *, end: End | None = DONE, period: int = PERIOD, **changes):
    """Ticks come a period after each other; what is not a tick falls in the middle of one."""
    now = 1_000_000_000
    journal = Journal(path, header(**changes), now, wall=lambda: 1_700_000_000_000_000_000 + now)
    for record in records:
        now += period if isinstance(record, Tick) else 0
        assert journal.append(record, now + (period // 2 if isinstance(record, Event) else 0)), journal.failed
    if end is None:
        journal.close()
    else:
        assert journal.end(end, now), journal.failed
    return path
