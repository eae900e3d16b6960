"""`rapport robot serve`: a policy server on this machine, with a token in a file of its user's."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embodied.contract import Contract
from hardware.config import Config, read
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


def narrowed(contract: Contract, robot: Config) -> Contract:
    """The same policy's, where its joint targets are kept within what the robot's joints may do. Raises ContractError
    where nothing is left of a joint's range."""
    limits = robot.limits
    ranges = dict(zip(limits.names, zip(limits.lower.tolist(), limits.upper.tolist(), strict=True), strict=True))
    joints = [
        replace(joint, lower=max(joint.lower, ranges[joint.name][0]), upper=min(joint.upper, ranges[joint.name][1]))
        if joint.name in ranges
        else joint
        for joint in contract.joints
    ]
    return replace(contract, joints=tuple(joints))


def serve(options: Serve) -> int:
    """Until it is ended."""
    from policies import serve as serving
    from policies.export import load_policy

    if options.steps < 1:
        raise ValueError(f"--steps is {options.steps}: give 1 or more.")
    if not 0 <= options.push <= 1 or (options.push and options.agent is not None):
        raise ValueError(f"--push is {options.push}: give 0 to 1, and none with --agent.")
    if options.agent is None:
        policy = load_policy(options.policy)
        if options.within is not None:
            policy = replace(policy, contract=narrowed(policy.contract, read(options.within)))
        served = serving.exported(policy, options.steps, options.push, options.seed)
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
