"""A running robot from a script: what its page does, through the gateway.

with started("run", "robot.toml", "--policy", server) as page, client(page) as robot:
    robot.take()
    robot.ask("arm")
    robot.ask("scene", values={"goal": (0.3, 0.0, 0.2)})
    robot.ask("start", task="reach the goal")
    time.sleep(5)
    robot.ask("stop", done=True)
    robot.at_rest()
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("a robot's client needs httpx: pip install 'rapport[robot]'", name="httpx") from error

MOVING = ("RUNNING", "HOMING", "STOPPING")
LEASE_SECONDS = 10.0
"""For which the robot does not notice that a script has died."""
END_SECONDS = 20.0
"""For a verb that was told to end; `run` gives each of its processes five."""


class RefusedError(RuntimeError):
    """What the robot would not do, or why nobody knows what it does."""


@dataclass(frozen=True)
class Robot:
    """Whoever commands it has to hold the lease: `take`. It is renewed while the script lives."""

    http: httpx.Client

    def ask(self, what: str, method: str = "POST", **given: Any) -> dict[str, Any]:
        """`/v1/WHAT` (arm, home, scene, start, stop, reset, ...), and its answer. Raises RefusedError."""
        try:
            said = self.http.request(method, f"/v1/{what}", json=given or None)
        except httpx.HTTPError as error:
            raise RefusedError(f"{what}: the gateway does not answer ({error or type(error).__name__})") from error
        if said.is_error:
            raise RefusedError(f"{what}: {said.text}")
        found: dict[str, Any] = said.json()
        return found

    def take(self) -> None:
        self.http.headers["X-Lease"] = self.ask("lease", seconds=LEASE_SECONDS)["lease"]

    def state(self) -> dict[str, Any]:
        return self.ask("state", "GET")

    def at_rest(self, seconds: float = 40.0) -> dict[str, Any]:
        """The state once nothing moves and no episode is written. Raises RefusedError where it does not come to that,
        or where nobody hears the daemon: nothing is known of the arm then."""
        until = time.monotonic() + seconds
        while True:
            state = self.state()
            if not state["connected"]:
                raise RefusedError(f"nothing is known of the arm: {state['why']}")
            if state["mode"] not in MOVING and not state["episode"]:
                return state
            if time.monotonic() > until:
                raise RefusedError(f"the robot is not at rest after {seconds:g} s: {state['mode']} {state['cause']}")
            time.sleep(0.04)


@contextmanager
def client(page: str, seconds: float = 20.0, certificate: Path | None = None) -> Iterator[Robot]:
    """page: what `rapport robot run` printed, http://HOST:PORT/#token=TOKEN. seconds: for each answer. certificate: of
    a gateway that has one of its own. Raises ValueError for an address without a token."""
    base, _, token = page.partition("/#token=")
    if not token:
        raise ValueError(f"{page} has no /#token=...; add that of tokens.json in the robot's folder of episodes")
    verify = True if certificate is None else ssl.create_default_context(cafile=certificate)
    headers = {"Authorization": f"Bearer {token}"}
    # The token is nobody's but the gateway's: no proxy of the environment.
    with httpx.Client(base_url=base, headers=headers, timeout=seconds, verify=verify, trust_env=False) as http:
        robot, over = Robot(http), threading.Event()
        renewing = threading.Thread(target=_renew, args=(robot, over), daemon=True)
        renewing.start()
        try:
            yield robot
        finally:
            over.set()
            renewing.join()


def _renew(robot: Robot, over: threading.Event) -> None:
    while not over.wait(LEASE_SECONDS / 4):
        if "X-Lease" in robot.http.headers:
            with suppress(RefusedError):  # whoever asks next is told
                robot.ask("lease", "PATCH", seconds=LEASE_SECONDS)


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
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
