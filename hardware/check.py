"""What would keep a robot from working, without moving it: `check(config)`."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from pathlib import Path

import numpy as np

from hardware import latch
from hardware.arm import ArmError, ArmState
from hardware.armd import LATCH, NoStart, lock
from hardware.arms.make import arm_of, opened
from hardware.clock import RealClock
from hardware.config import Config, ConfigError
from hardware.envelope import begin
from hardware.episode import DISK
from hardware.link import LinkError, socket_path
from hardware.priority import DAEMON

TOKENS = "tokens.json"
SERIAL = ("so101", "dynamixel")


def check(config: Config) -> list[str]:
    """What is wrong, one sentence each, with its mend; empty if nothing is. Nothing is energised and nothing moves."""
    found = [*_folder(config), *_permitted(), *_tokens(config)]
    try:
        held = lock(config.journal, 0.0)
    except (NoStart, OSError) as error:
        return [*found, f"the arm was not looked at: {error}"]
    try:
        return [*found, *_arm(config)]
    finally:
        held.close()


def _arm(config: Config) -> list[str]:
    """Port, servos, ids, calibration, the limits in the device; and what the arm measures and reports."""
    try:
        arm = arm_of(config, RealClock())
    except ConfigError as error:
        return [str(error)]
    if (
        config.arm.family in SERIAL
        and (port := Path(config.arm.port)).exists()
        and not os.access(port, os.R_OK | os.W_OK)
    ):
        return [f"{port} may not be used by this user; add the user to the group that owns it (often dialout)"]
    try:
        state = opened(arm)
    except ArmError as error:
        return [str(error)]
    finally:
        arm.close()
    return _state(config, state)


def _state(config: Config, state: ArmState) -> list[str]:
    found = [f"the arm reports {word}; mend that first" for word in state.faults]
    if state.powered.any():
        names = ", ".join(np.array(config.limits.names)[state.powered.astype(bool)])
        found.append(f"{names} have power though no daemon is there; hold the arm, and take it off")
    try:
        begin(config.limits, state, state.time_ns)
    except ArmError as error:
        found.append(str(error))
    return found


def _folder(config: Config) -> list[str]:
    found = []
    try:
        config.journal.mkdir(0o700, parents=True, exist_ok=True)
        socket_path(config.journal)
        if not os.access(config.journal, os.W_OK):
            found.append(f"{config.journal} cannot be written; give it to the user that runs the daemon")
        if (free := shutil.disk_usage(config.journal).free) < DISK:
            found.append(
                f"{free / 1e9:.2f} GB are free in {config.journal}, and {DISK / 1e9:.2f} are needed; free some"
            )
    except (OSError, LinkError) as error:
        return [f"{config.journal} cannot be used ({error}); name another folder for journals"]
    if (latched := latch.read(config.journal / LATCH)) is not None:
        found.append(f"{latched.mode} is latched: {latched.cause}; start the daemon and reset it")
    return found


def _permitted() -> list[str]:
    if os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] >= DAEMON:
        return []
    return ["SCHED_FIFO is not permitted, so others may make the loop late; set LimitRTPRIO (or rtprio in limits.conf)"]


def _tokens(config: Config) -> list[str]:
    """Of the gateway, which makes them when it is first started."""
    path = config.journal / TOKENS
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return [f"{path} can be read by others; chmod 600 it, and make new tokens"]
    return []
