"""What the gateway holds while it serves one robot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hardware.arm import Category
from hardware.config import Config
from hardware.gateway.cameras import Watch
from hardware.gateway.daemon import Daemon
from hardware.gateway.metrics import Metrics
from hardware.gateway.policies import Server
from hardware.gateway.recording import Recording
from hardware.gateway.shown import shown


@dataclass(eq=False)
class House:
    """policy: the server that `start` asks, if there is one; leads: what it does now, as a sentence."""

    config: Config
    daemon: Daemon
    metrics: Metrics
    watch: Watch
    recording: Recording
    policy: Server | None = None
    leads: str = ""
    following: asyncio.Task[None] | None = None
    streams: int = 0
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def shown(self) -> dict[str, Any]:
        daemon, missing = self.daemon, self.recording.amiss()
        cameras = {name: amiss or missing.get(name, "") for name, amiss in self.watch.sentences().items()}
        return shown(self.config, daemon.hello, daemon.snapshot, daemon.why, self.leads, cameras)

    def category(self) -> Category:
        """Of a stop that names none: the arm's own."""
        return self.daemon.hello.stop if self.daemon.hello is not None else 2

    def told(self, sentence: str) -> None:
        self.leads = sentence
