"""The guard: `python -m hardware.guard ROBOT.toml`. It does nothing until the daemon dies, and then stops the arm.

It holds a descriptor of the daemon's process, which tells of its death at once, whatever it died of. A daemon that has
said Bye has stopped the arm itself. One that moves the arm and has said nothing for HANG_SECONDS is ended first, and so
is one that has power on a joint and is silent for HOLD_SECONDS: it hears no e-stop either.
Whoever has the lock may touch the arm: with the daemon dead it is free, and a new daemon waits for it.
"""

from __future__ import annotations

import argparse
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hardware import latch, priority
from hardware.arm import ArmError, StopReport
from hardware.armd import LATCH, NoStart, lock
from hardware.arms.make import stopper
from hardware.clock import RealClock
from hardware.config import Config, ConfigError, read
from hardware.doors import Caller, peer
from hardware.link import Bye, Guarding, LinkError, Snapshot, socket_path
from hardware.machine import MOVING

HANG_SECONDS = 0.5
HOLD_SECONDS, LONG_SECONDS = 3.0, {"ur5e": 20.0, "lerobot": 200.0}
"""Beyond what opening the arm anew may take, with power on it: a UR's controller and LeRobot have longer ways."""
AGAIN_SECONDS = 0.05
"""Between two looks whether there is a daemon."""


def guard(config: Config, stop: Callable[[], StopReport | None], say: Callable[[str], None]) -> None:
    """Until it is ended. say: of what happens, a line each."""
    path, holding = socket_path(config.journal), LONG_SECONDS.get(config.arm.family, HOLD_SECONDS)
    while True:
        try:
            caller = Caller(path)
            pid = peer(caller.end)
            daemon = os.pidfd_open(pid)
        except OSError:
            time.sleep(AGAIN_SECONDS)
            continue
        try:
            caller.say(Guarding())
            say(f"guards {pid}")
            died = _watch(caller, daemon, holding)
        except OSError:
            died = _dead(daemon, 1.0)
        finally:
            caller.close()
            os.close(daemon)
        if died:
            say(_stopped(config, stop, f"the daemon (process {pid}) died; look at its log"))


def _watch(caller: Caller, daemon: int, holding: float) -> bool:
    """Whether the daemon died before it had stopped the arm; False if it said Bye, or wants this guard no more.
    holding: seconds for which it may be silent while joints have power."""
    patience, heard = math.inf, time.monotonic()
    while True:
        ready, _, _ = select.select([daemon, caller.end.fileno()], [], [], HANG_SECONDS / 4)
        if caller.end.fileno() in ready:
            try:
                for message in caller.read():
                    if isinstance(message, Bye):
                        return False
                    if isinstance(message, Snapshot):
                        moves, heard = message.mode in (*MOVING, "STOPPING"), time.monotonic()
                        patience = HANG_SECONDS if moves else holding if message.powered.any() else math.inf
            except OSError:
                return _dead(daemon, 1.0)
        elif daemon in ready:
            return True
        if time.monotonic() - heard > patience:
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
            return _dead(daemon, 1.0)


def _dead(daemon: int, seconds: float) -> bool:
    return bool(select.select([daemon], [], [], seconds)[0])


def _stopped(config: Config, stop: Callable[[], StopReport | None], cause: str) -> str:
    """Stops the arm, then latches."""
    try:
        held = lock(config.journal, 0.02)
    except NoStart:
        return "a new daemon has the arm already"
    try:
        begun = time.monotonic()
        try:
            report = stop()
            unsure = "" if report is None or not report.unsure else f"; unsure: {', '.join(report.unsure)}"
        except (ArmError, OSError, ValueError) as error:  # its servos hold what they were told last
            unsure = f"; the arm could not be told to stop ({error})"
        cause += unsure
        took = time.monotonic() - begun
        if (before := latch.read(config.journal / LATCH)) is None or before.mode != "ESTOP":
            latch.put(config.journal / LATCH, latch.Latch("FAULT", cause, time.time_ns()))
        return f"{cause}; stopped in {took * 1e3:.0f} ms"
    except latch.LatchError as error:
        return str(error)
    finally:
        held.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hardware.guard", description=__doc__)
    parser.add_argument("robot", type=Path, help="the robot's file")
    parser.add_argument("--no-fifo", action="store_true", help="do not even try to come before other processes")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config = read(given.robot)
        stop = stopper(config, RealClock())
        for warning in priority.first(priority.GUARD, not given.no_fifo)[1]:
            print(f"the guard: {warning}", file=sys.stderr)
        guard(config, stop, lambda line: print(line, flush=True))
    except (ConfigError, LinkError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
