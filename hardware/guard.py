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
from hardware.arm import HANG_SECONDS, ArmError, StopReport
from hardware.armd import LATCH, NoStart, Signals, lock
from hardware.arms.make import stopper
from hardware.clock import RealClock
from hardware.config import Config, ConfigError, read
from hardware.doors import Caller, peer
from hardware.link import Bye, Guarding, LinkError, Snapshot, socket_path
from hardware.machine import MOVING

HOLD_SECONDS, LONG_SECONDS = 3.0, {"ur5e": 20.0, "lerobot": 200.0}
"""Beyond what opening the arm anew may take, with power on it: a UR's controller and LeRobot have longer ways."""
IF_IT_MOVES = "if the arm moves, use the hardware e-stop"
BYE_SECONDS = 15.0
"""For closing an arm, after a daemon has said Bye."""
AGAIN_SECONDS = 0.05
"""Between two looks whether there is a daemon."""


def guard(
    config: Config, stop: Callable[[], StopReport | None], signals: Signals, say: Callable[[str, bool], None]
) -> None:
    """Until it is told to end; the arm of a daemon that died is stopped first. say: a line, and whether something
    happened, or it only guards now."""
    path, holding = socket_path(config.journal), LONG_SECONDS.get(config.arm.family, HOLD_SECONDS)
    while not signals.ending:
        try:
            caller = Caller(path)
            pid = peer(caller.end)
            daemon = os.pidfd_open(pid)
        except OSError:
            time.sleep(AGAIN_SECONDS)
            continue
        try:
            caller.say(Guarding())
            say(f"guards {pid}", False)
            died = _watch(caller, daemon, holding, signals)
        except OSError:
            died = _dead(daemon, 1.0)
        finally:
            caller.close()
            os.close(daemon)
        if died:
            say(_stopped(config, stop, f"the daemon (process {pid}) died; look at its log"), True)


def _watch(caller: Caller, daemon: int, holding: float, signals: Signals) -> bool:
    """Whether the daemon died before it had stopped the arm; False if it said Bye, or this guard is to end.
    holding: seconds for which it may be silent while joints have power."""
    patience, heard = math.inf, time.monotonic()
    while True:
        ready, _, _ = select.select([daemon, caller.end.fileno()], [], [], HANG_SECONDS / 4)
        if caller.end.fileno() in ready:
            try:
                for message in caller.read():
                    if isinstance(message, Bye):
                        return _gone_well(daemon, signals)
                    if isinstance(message, Snapshot):
                        moves, heard = message.mode in (*MOVING, "STOPPING"), time.monotonic()
                        patience = HANG_SECONDS if moves else holding if message.powered.any() else math.inf
            except OSError:
                return _dead(daemon, 1.0)
        elif daemon in ready:
            return True
        if signals.ending and not _dead(daemon, 0.0):  # one that is dead is heard out first: it may have said Bye
            return False
        if time.monotonic() - heard > patience:
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
            return _dead(daemon, 1.0)


def _gone_well(daemon: int, signals: Signals) -> bool:
    """False: it has stopped its arm. It still closes it, and met again meanwhile it would seem to die; one that does
    not come to an end is ended, since it hears nobody and keeps the lock."""
    until = time.monotonic() + BYE_SECONDS
    while not signals.ending and not _dead(daemon, AGAIN_SECONDS):
        if time.monotonic() > until:
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
            return not _dead(daemon, 1.0)
    return False


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
            what = f"stopped in {(time.monotonic() - begun) * 1e3:.0f} ms"
            if report is None:
                what = f"nobody but the daemon could stop this arm ({config.arm.family}); {IF_IT_MOVES}"
            elif report.unsure:
                cause += f"; unsure: {', '.join(report.unsure)}"
        except (ArmError, OSError, ValueError) as error:  # its servos hold what they were told last
            cause, what = f"{cause}; the arm could not be told to stop ({error})", IF_IT_MOVES
        if (before := latch.read(config.journal / LATCH)) is None or before.mode != "ESTOP":
            latch.put(config.journal / LATCH, latch.Latch("FAULT", cause, time.time_ns()))
        return f"{cause}; {what}"
    except latch.LatchError as error:
        return f"{cause}; {what}; {error}"
    finally:
        held.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hardware.guard", description=__doc__)
    parser.add_argument("robot", type=Path, help="the robot's file")
    parser.add_argument("--no-fifo", action="store_true", help="do not even try to come before other processes")
    given = parser.parse_args(arguments)
    signals = Signals()
    signals.catch()
    try:
        config = read(given.robot)
        stop = stopper(config, RealClock())
        for warning in priority.first(priority.GUARD, not given.no_fifo)[1]:
            print(f"the guard: {warning}", file=sys.stderr)
        # What happened is not for whoever waits for this to begin: he reads a line and no more.
        guard(config, stop, signals, lambda line, news: print(line, file=sys.stderr if news else None, flush=True))
    except (ConfigError, LinkError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
