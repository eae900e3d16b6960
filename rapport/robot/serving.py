"""`rapport robot serve`: a policy server on this machine, with a token in a file of its user's."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rapport.console import say

if TYPE_CHECKING:
    from rapport.robot.verb import Serve


def token_file() -> Path:
    """Where `serve` keeps its token and `run` looks for it, unless they are told otherwise."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "rapport" / "policy.token"


def token_of(path: Path) -> str:
    """Made if it is not there, for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(16) + "\n")
    except FileExistsError:
        pass
    if not (token := path.read_text().strip()):
        raise ValueError(f"{path} is empty: remove it, and it is made anew.")
    return token


def serve(options: Serve) -> int:
    """Until it is ended."""
    from policies import serve as serving
    from policies.export import load_policy

    if options.steps < 1:
        raise ValueError(f"--steps is {options.steps}: give 1 or more.")
    if options.agent is None:
        served = serving.exported(load_policy(options.policy), options.steps)
    else:
        served = serving.agent(options.agent, options.algorithm, options.policy, options.steps)
    path = options.token or token_file()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with serving.serving(served, token_of(path), options.port) as server:
        host, port = server.socket.getsockname()[:2]
        scene = [source.name for source in served.contract.observation if source.origin == "scene"]
        say(f"{served.contract.environment} at {served.contract.rate:g} Hz; the scene it has to be told: "
            f"{', '.join(scene) or 'nothing'}; its token is in {path}")  # fmt: skip
        print(f"ws://{host}:{port}", flush=True)
        threading.Event().wait()
    return 0
