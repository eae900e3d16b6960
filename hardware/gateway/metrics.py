"""What Prometheus reads: of the daemon's Snapshots, each counted as it comes, and of the gateway itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hardware.gateway.recording import Recording
from hardware.gateway.shown import MODES
from hardware.journal import SUFFIX
from hardware.link import Snapshot
from hardware.machine import LATCHED

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
_ASKED = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
_LATE = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.3)


class Metrics:
    def __init__(
        self,
        names: tuple[str, ...],
        last: Callable[[], Snapshot | None],
        ages: Callable[[], Mapping[str, float]],
        recording: Recording,
        journals: Path,
    ) -> None:
        self.registry = CollectorRegistry()
        self._late = Histogram(
            "robot_loop_lateness_seconds", "Of each tick, after it was due", buckets=_LATE, registry=self.registry
        )
        self._asked = Histogram(
            "robot_bus_roundtrip_seconds",
            "Of each reading of the arm, whether it was answered or missed",
            buckets=_ASKED,
            registry=self.registry,
        )
        self._faults = Counter("robot_faults", "Latched, by their kind", ["kind"], registry=self.registry)
        self.refused = Counter("robot_gateway_refused", "Not let in", ["status"], registry=self.registry)
        self._episodes = Counter("robot_journal_episodes", "That were begun", registry=self.registry)
        self._seconds = Counter("robot_journal_seconds", "That episodes were written for", registry=self.registry)
        self._mode, self._episode, self._time_ns = "", "", 0
        self.registry.register(_Last(names, last, ages, recording, journals))

    def tick(self, snapshot: Snapshot) -> None:
        self._late.observe(snapshot.lateness_ns * 1e-9)
        if snapshot.reading_ns:
            self._asked.observe(snapshot.reading_ns * 1e-9)
        if snapshot.mode in LATCHED and self._mode != snapshot.mode:
            self._faults.labels(kind=snapshot.mode).inc()
        if snapshot.episode:
            if self._episode == snapshot.episode:
                self._seconds.inc(max(snapshot.time_ns - self._time_ns, 0) * 1e-9)
            else:
                self._episodes.inc()
        self._mode, self._episode, self._time_ns = snapshot.mode, snapshot.episode, snapshot.time_ns

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Last(Collector):
    """What the last Snapshot says when somebody asks."""

    def __init__(
        self,
        names: tuple[str, ...],
        last: Callable[[], Snapshot | None],
        ages: Callable[[], Mapping[str, float]],
        recording: Recording,
        journals: Path,
    ) -> None:
        self.names, self.last, self.ages, self.recording, self.journals = names, last, ages, recording, journals

    def collect(self) -> Iterable[Metric]:
        snapshot = self.last()
        pictures = CounterMetricFamily("robot_camera_frames", "Of episodes", labels=["camera", "result"])
        size = CounterMetricFamily("robot_camera_bytes", "Of frames that were kept", labels=["camera"])
        for name, line in self.recording.lines.items():
            pictures.add_metric([name, "kept"], line.frames)
            pictures.add_metric([name, "lost"], line.lost)
            size.add_metric([name], line.bytes)
        yield pictures
        yield size
        yield GaugeMetricFamily("robot_daemon_up", "The daemon is there", value=float(snapshot is not None))
        if snapshot is None:
            return
        for name, text, value in (
            ("robot_loop_overruns", "Ticks that came more than a period late", snapshot.overruns),
            ("robot_chunk_starved_ticks", "Ticks after the end of all chunks", snapshot.starved),
        ):
            yield CounterMetricFamily(name, text, value=value)
        bus = CounterMetricFamily("robot_bus_transactions", "Readings of the arm", labels=["result"])
        bus.add_metric(["missed"], snapshot.misses)
        bus.add_metric(["ok"], max(snapshot.seq - snapshot.misses, 0))
        yield bus
        clips = CounterMetricFamily("robot_envelope_clips", "Actions that were cut", labels=["joint", "kind"])
        for kind, counts in snapshot.clips.items():
            for joint, count in zip(self.names, counts, strict=False):
                clips.add_metric([joint, kind], count)
        yield clips
        yield _gauge("robot_state", "1 for the present one", "state", {m: float(m == snapshot.mode) for m in MODES})
        yield _gauge("robot_camera_age_seconds", "Of the last good frame", "camera", self.ages())
        celsius = {n: float(t) for n, t in zip(self.names, snapshot.temperature, strict=False) if np.isfinite(t)}
        yield _gauge("robot_servo_temperature_celsius", "Measured", "joint", celsius)
        for name, text, number in (
            ("robot_estop_latched", "An e-stop is latched", float(snapshot.mode == "ESTOP")),
            ("robot_guarded", "The guard lives", float(snapshot.guarded)),
            ("robot_action_age_seconds", "Since the end of what is followed", snapshot.action_age_ns * 1e-9),
            ("robot_disk_free_bytes", "Where journals go", float(snapshot.disk_free)),
            ("robot_journal_bytes", "Of the episode that is written", self._bytes(snapshot.episode)),
            ("robot_journal_failed", "That episode is partial", float(bool(snapshot.journal_failed))),
        ):
            yield GaugeMetricFamily(name, text, value=number)

    def _bytes(self, episode: str) -> float:
        try:
            return float((self.journals / f"{episode}{SUFFIX}").stat().st_size) if episode else 0.0
        except OSError:  # it is gone, and nothing of it is written any more
            return 0.0


def _gauge(name: str, text: str, label: str, values: Mapping[str, Any]) -> Metric:
    made = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        made.add_metric([key], value)
    return made
