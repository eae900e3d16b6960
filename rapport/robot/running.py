"""`rapport robot run`: daemon, guard and gateway as three processes, each started again but the daemon.

A daemon that died is not started again by this: its guard stops the arm and latches why, and somebody is to look.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hardware.config import Config, read
from hardware.gateway import tokens as tokens_of
from hardware.gateway.server import Reached, doorway
from hardware.link import socket_path
from rapport.console import say
from rapport.robot.serving import token_file

if TYPE_CHECKING:
    from rapport.robot.verb import Run

END_SECONDS = 5.0
AGAIN_SECONDS = 0.5
_DIE_TOO = 1  # prctl's PR_SET_PDEATHSIG
NOTICE = "Not safety-rated: a hardware e-stop that cuts the motors' power is required."
DROPS = "Disarm, reset and the end of this take the power: a raised arm drops; hold it."


class RunError(RuntimeError):
    """Why the robot does not run, and the mend."""


@dataclass
class Processes:
    """Each in a session of its own, so that Ctrl-C in a terminal reaches this one alone, and ended with it."""

    robot: Path
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, name: str, words: Sequence[str] = ()) -> str:
        """The first line that it says; empty if it died. systemd is told by the daemon alone."""
        environment = {k: v for k, v in os.environ.items() if k != "WATCHDOG_PID"}
        if name != "armd":
            environment.pop("NOTIFY_SOCKET", None)
        process = self.running[name] = subprocess.Popen(
            [sys.executable, "-m", f"hardware.{name}", str(self.robot), *words],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        return line

    def end(self, name: str) -> None:
        process = self.running.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run(options: Run) -> int:
    """Until it is told to end: then the arm brakes, and is without power. Raises RunError, ConfigError, TokenError."""
    config = read(options.robot)
    door = doorway(config, Reached(options.certificate, options.key, options.without_tls))
    socket_path(config.journal)
    config.journal.mkdir(0o700, parents=True, exist_ok=True)
    known = tokens_of.tokens(config.journal / tokens_of.FILE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's `&` had switched off
    processes, later = Processes(options.robot), [] if options.fifo else ["--no-fifo"]
    try:
        state = processes.start("armd", later)
        if not state:
            raise RunError("the daemon did not start; it said why above")
        gateway = [*_words(options), *later]
        if not processes.start("gateway", gateway):
            raise RunError("the gateway did not start; it said why above")
        processes.start("guard", later)
        say(NOTICE)
        say(DROPS)
        say(f"{state.split()[0]}: {config.file.stem}, {config.arm.family}")
        token = "" if "NOTIFY_SOCKET" in os.environ else f"#token={known.of('operate')}"  # systemd's log is others' too
        print(f"{door.scheme}://{_host(config)}:{config.port}/{token}", flush=True)
        return _watch(processes, {"guard": later, "gateway": gateway})
    finally:
        for name in ("armd", "gateway", "guard"):  # the daemon first: it brakes, and is guarded till it has
            processes.end(name)


def _watch(processes: Processes, words: Mapping[str, Sequence[str]]) -> int:
    while True:
        time.sleep(AGAIN_SECONDS)
        if (code := processes.running["armd"].poll()) is not None:
            if not code:
                say("the daemon has stopped the arm and ended; start it again")
                return 0
            processes.end("guard")  # which stops the arm before it ends, and says so
            say(
                "the daemon died; its guard should have stopped the arm, and if it moves, use the hardware e-stop: "
                "look at what is said above, and start it again"
            )
            return 1
        for name in words:
            if processes.running[name].poll() is not None:
                say(f"the {name} ended, and is started again")
                processes.end(name)
                processes.start(name, words[name])


def _words(options: Run) -> list[str]:
    given = {"--policy": options.policy, "--contract": options.contract}
    given |= {"--certificate": options.certificate, "--key": options.key}
    if options.policy:
        token = options.policy_token or token_file()
        given["--policy-token"] = token if options.policy_token or token.exists() else None
    words = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return [*words, *(["--without-tls"] if options.without_tls else [])]


def _host(config: Config) -> str:
    return f"[{config.host}]" if ":" in config.host else config.host


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_TOO, signal.SIGTERM)
