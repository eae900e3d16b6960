"""The gateway as a process: `python -m hardware.gateway ROBOT.toml`. On this machine alone, unless told otherwise.

It may die at any time: the daemon hears that it is silent, and stops the arm.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import os
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hardware.cameras import CameraError
from hardware.clock import RealClock
from hardware.config import Config, ConfigError, read
from hardware.gateway import tokens as tokens_of
from hardware.gateway.app import create_app
from hardware.gateway.cameras import Watch, open_all
from hardware.gateway.daemon import Daemon
from hardware.gateway.gate import MOST_BYTES, Doorway
from hardware.gateway.house import House
from hardware.gateway.metrics import Metrics
from hardware.gateway.policies import Server
from hardware.gateway.recording import Recording
from hardware.gateway.tokens import TokenError, Tokens
from hardware.link import LinkError, Snapshot, socket_path
from hardware.priority import GATEWAY, NOT_FIRST

MOST_STRANGERS = 64
"""Connections that have not shown a token: beyond that the oldest is let go, so that a new one is always heard."""
PATIENCE_SECONDS = 10.0
"""For whoever has connected to say what he wants."""


SEND_BYTES = 1 << 16
"""That the kernel keeps for a slow reader: what he reads is old by no more than that."""


class GatewayError(RuntimeError):
    """Why it does not begin, and the mend."""


@dataclass(frozen=True)
class Reached:
    """certificate, key: files for TLS. plain: others may listen, on a network that nobody else is on."""

    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False


def doorway(config: Config, reached: Reached) -> Doorway:
    """Raises GatewayError for an address that would tell everybody on the way the token."""
    host, port = config.host.lower(), config.port
    secure = reached.certificate is not None
    if not loopback(host):
        if host in ("0.0.0.0", "::", ""):
            raise GatewayError(f"host of [gateway] is {host!r}; name the one address at which the robot is reached")
        if not secure and not reached.plain:
            raise GatewayError(
                f"host of [gateway] is {host!r}, and everybody on the way could read the token; give --certificate and "
                "--key, or --without-tls if you know the network"
            )
    names = {host, "127.0.0.1", "localhost", "::1"} if loopback(host) else {host}
    return Doorway(
        frozenset(f"[{n}]:{port}" if ":" in n else f"{n}:{port}" for n in names), "https" if secure else "http"
    )


def loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Impatient(H11Protocol):
    """Whoever connects and says nothing is let go, and strangers beyond so many. Whoever has shown a token is never
    refused for what others do: he may want to stop the arm."""

    shown = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()
        self.loop.call_later(PATIENCE_SECONDS, self._enough)
        strangers = [one for one in self.connections if isinstance(one, _Impatient) and one.stranger]
        if len(strangers) > MOST_STRANGERS:
            min(strangers, key=lambda one: one.since).transport.abort()

    def on_response_complete(self) -> None:
        self.shown = not self.stranger
        super().on_response_complete()

    @property
    def stranger(self) -> bool:
        """Whether no token was shown yet that the gate knows."""
        known = self.shown or (self.scope is not None and "person" in self.scope["state"])
        return not known and not self.transport.is_closing()

    def _enough(self) -> None:
        if self.cycle is None and not self.transport.is_closing() and self.transport.get_protocol() is self:
            self.transport.close()


def house_of(config: Config, policy: Server | None, watch: Watch) -> House:
    """Not connected yet. Raises LinkError."""
    daemon = Daemon(socket_path(config.journal))
    rates = {camera.name: camera.fps for camera in config.cameras}
    recording = Recording(config.journal, watch.cameras, rates)
    metrics = Metrics(config.limits.names, lambda: daemon.snapshot, watch.ages, recording, config.journal)

    def told(snapshot: Snapshot) -> None:
        metrics.tick(snapshot)
        recording.told(snapshot)

    daemon.told, daemon.gone = told, recording.gone
    leads = "" if policy else "there is no policy server; start the robot with --policy"
    return House(config, daemon, metrics, watch, recording, policy, leads)


def server_of(house: House, tokens: Tokens, reached: Reached) -> uvicorn.Server:
    """Raises GatewayError."""
    app = create_app(house, tokens, doorway(house.config, reached))
    config = uvicorn.Config(
        app,
        http=_Impatient,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ws_max_size=MOST_BYTES,
        ws_max_queue=4,
        ws_ping_interval=5.0,
        ws_ping_timeout=5.0,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=reached.certificate,
        ssl_keyfile=reached.key,
    )
    return uvicorn.Server(config)


def listen(config: Config) -> socket.socket:
    """Raises GatewayError where the address is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        listening.close()
        raise GatewayError(
            f"{config.host}:{config.port} cannot be served at ({error.strerror}); give [gateway] another port"
        ) from error
    return listening


def serve(file: Path, policy: Server | None, reached: Reached, fifo: bool = True) -> None:
    """Until it is told to end. Raises GatewayError, ConfigError, TokenError, CameraError, LinkError."""
    config = read(file)
    doorway(config, reached)
    config.journal.mkdir(0o700, parents=True, exist_ok=True)
    known = tokens_of.tokens(config.journal / tokens_of.FILE)
    if fifo:  # all its threads: one that waits for a core with the interpreter's lock in its hand holds up the beat,
        try:  # which came up to 140 ms late, and the arm was stopped
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(GATEWAY))
        except OSError:
            print(f"the gateway: {NOT_FIRST}", file=sys.stderr)
    listening = listen(config)
    clock = RealClock()
    sizes = {camera.name: (camera.height, camera.width) for camera in config.cameras}
    watch = Watch(open_all(config.cameras), sizes, clock)
    server = server_of(house_of(config, policy, watch), known, reached)
    gc.collect()
    gc.freeze()  # what was loaded stays: a collection of it would hold up the beat
    listening.listen()
    print(f"{config.host}:{config.port}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # once the server is through with it
    asyncio.run(server.serve([listening]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hardware.gateway", description=__doc__)
    parser.add_argument("robot", type=Path, help="the robot's file")
    parser.add_argument("--policy", metavar="URL", help="the policy server that `start` asks: ws://127.0.0.1:8700")
    parser.add_argument("--policy-token", type=Path, metavar="FILE", help="a file with its token")
    parser.add_argument("--contract", type=Path, metavar="FILE", help="contract.json of a server that says none")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="for TLS")
    parser.add_argument("--key", type=Path, metavar="FILE", help="for TLS")
    parser.add_argument("--without-tls", action="store_true", help="another address than this machine's, unencrypted")
    parser.add_argument("--no-fifo", action="store_true", help="do not even try to come before other processes")
    given = parser.parse_args(arguments)
    try:
        server = None
        if given.policy:
            token = given.policy_token.read_text().strip() if given.policy_token else ""
            server = Server(given.policy, token, given.contract.read_text() if given.contract else "")
        serve(given.robot, server, Reached(given.certificate, given.key, given.without_tls), not given.no_fifo)
    except (GatewayError, ConfigError, TokenError, CameraError, LinkError, ssl.SSLError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
