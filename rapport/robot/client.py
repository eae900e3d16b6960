"""A running robot from a script: what its page does, through the gateway.

with started("run", "robot.toml", "--policy", server) as page, client(page) as robot:
    robot.take()
    robot.ask("arm")
    robot.ask("scene", values={"goal": (0.3, 0.0, 0.2)})
    robot.ask("start", task="reach the goal")
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

try:
    import httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("a robot's client needs httpx: pip install 'rapport[robot]'", name="httpx") from error

MOVING = ("RUNNING", "HOMING", "STOPPING")
LEASE_SECONDS = 60


class RefusedError(RuntimeError):
    """What the robot would not do, and why."""


@dataclass(frozen=True)
class Robot:
    """Whoever commands it has to hold the lease: `take`, and `renew` at least once a minute."""

    http: httpx.Client

    def ask(self, what: str, method: str = "POST", **given: Any) -> dict[str, Any]:
        """`/v1/WHAT` (arm, home, scene, start, stop, reset, ...), and its answer. Raises RefusedError."""
        said = self.http.request(method, f"/v1/{what}", json=given)
        if said.is_error:
            raise RefusedError(f"{what}: {said.text}")
        found: dict[str, Any] = said.json()
        return found

    def take(self) -> None:
        self.http.headers["X-Lease"] = self.ask("lease", seconds=LEASE_SECONDS)["lease"]

    def renew(self) -> None:
        self.ask("lease", "PATCH", seconds=LEASE_SECONDS)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/v1/state").raise_for_status().json()
        return found

    def at_rest(self, seconds: float = 40.0) -> dict[str, Any]:
        """The state once nothing moves and no episode is written. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while (state := self.state())["mode"] in MOVING or state["episode"]:
            if time.monotonic() > until:
                raise TimeoutError(f"the robot is not at rest after {seconds:g} s: {state['mode']} {state['cause']}")
            time.sleep(0.04)
        return state


@contextmanager
def client(page: str, seconds: float = 20.0) -> Iterator[Robot]:
    """page: what `rapport robot run` printed, http://HOST:PORT/#token=TOKEN. seconds: for each answer."""
    base, _, token = page.partition("/#token=")
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=seconds) as http:
        yield Robot(http)


@contextmanager
def started(*words: object) -> Iterator[str]:
    """A verb of `rapport robot` (run, serve, emulate) that goes on until the block ends, and the first line it says:
    the address. Raises RuntimeError where it ends before."""
    command = [sys.executable, "-m", "rapport", "robot", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not (line := process.stdout.readline().strip()):
                raise RuntimeError(f"`rapport robot {' '.join(map(str, words))}` ended with {process.wait()}")
            yield line
        finally:
            process.terminate()
