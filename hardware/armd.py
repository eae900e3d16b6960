"""The daemon that has the arm: `python -m hardware.armd ROBOT.toml`. One loop at a fixed rate, alone with its arm.

It begins in READY at most, never in motion, and in FAULT or ESTOP if that is on disk or if joints already have power.
SIGTERM and SIGINT stop the arm (category 1) and end the process; SIGUSR1 is an e-stop. No torch and no web server:
whoever speaks to people is another process, at the socket that `link` describes.

This is software: no certified safety function, and no replacement for an e-stop that cuts the motors' power.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import hashlib
import os
import secrets
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hardware import latch, priority
from hardware.arm import Arm, ArmError, ArmState, Clock
from hardware.arms.make import arm_of, opened
from hardware.carried import Arrived, Carried, Robot
from hardware.clock import RealClock
from hardware.config import Config, ConfigError, read
from hardware.doors import Doors
from hardware.link import VERSION, Bye, Guarding, Hello, LinkError, Message, socket_path
from hardware.machine import Event, State, transition
from hardware.notify import Notify
from hardware.tick import free, tick

LATCH, LOCK = "latch.json", "arm.lock"
LOCK_SECONDS = 5.0
"""For which the guard may still be busy with the arm of the daemon before."""
END_SECONDS = 2.0
"""After which a daemon that was told to end no longer waits for the arm to come to rest."""
PATIENCE: Mapping[str, int] = {"so101": 5, "dynamixel": 5, "ur5e": 20, "lerobot": 200}
"""Seconds for which systemd waits for a sign of life, of arms that hold up the loop while they are opened again (three
tries: a second where a servo is dead, three minutes of LeRobot) or energised. A loop that hangs while it moves the arm
is the guard's."""
COLLECT_TICKS = 1000
"""After how many ticks garbage is collected, if no joint has power."""


class NoStart(RuntimeError):
    """Why the daemon does not begin, and the mend."""


@dataclass
class Signals:
    """What came; each is remembered until the loop has seen it. More of the same change nothing."""

    ending: bool = False
    estop: bool = False

    def catch(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "ending", True))
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "estop", True))


@dataclass
class Guards:
    """The processes that said they guard, each by a descriptor that tells when it is dead."""

    alive: dict[int, int] = field(default_factory=dict)

    def add(self, pid: int) -> None:
        if pid not in self.alive:
            try:
                self.alive[pid] = os.pidfd_open(pid)
            except OSError:
                return  # it died in between

    def any(self) -> bool:
        for pid, descriptor in list(self.alive.items()):
            if select.select([descriptor], [], [], 0)[0]:
                os.close(self.alive.pop(pid))
        return bool(self.alive)


def lock(folder: Path, seconds: float = LOCK_SECONDS) -> IO[bytes]:
    """Whoever has it may touch the arm: one daemon, or a guard after its death. Raises NoStart. Closing it, or dying,
    lets it go."""
    folder.mkdir(0o700, parents=True, exist_ok=True)
    file = (folder / LOCK).open("ab")
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= until:
                file.close()
                raise NoStart(f"another daemon, or a guard, has the arm of {folder}; end that first") from None
            time.sleep(0.005)


def robot_of(config: Config, arm: Arm) -> Robot:
    return Robot(
        config=config,
        arm=arm,
        digest=hashlib.sha256(config.file.read_bytes()).hexdigest(),
        wall=time.time_ns,
        lap=time.monotonic_ns,
        draw=lambda: secrets.token_hex(16),
        free=lambda folder: shutil.disk_usage(folder).free,
        latch=config.journal / LATCH,
    )


def begun(robot: Robot, reading: ArmState) -> Carried:
    """What the loop begins with: the arm is connected and checked, and has been read."""
    state = State()
    for kind in ("connected", "checked"):
        state, _ = transition(state, Event(kind))
    powered = bool(reading.powered.any())
    carried = Carried(state, reading, reading.position.copy(), power=powered, scene=robot.config.layout)
    if (found := latch.read(robot.latch)) is not None:
        carried.state, carried.latched = State(found.mode, cause=found.cause), found.mode
    elif powered:
        names = ", ".join(n for n, on in zip(robot.limits.names, reading.powered, strict=True) if on)
        carried.state = State("FAULT", cause=f"{names} had power before the daemon began; hold the arm, and reset")
    carried.disk_free = free(robot)
    return carried


def schedule(due_ns: int, now_ns: int, period_ns: int, slow: bool) -> tuple[int, int]:
    """When the next tick is due, and how late this one is counted. A tick that is later than a period moves all that
    come after it: what was missed is not caught up. After a slow one nobody is late."""
    late = 0 if slow else max(now_ns - due_ns, 0)
    following = due_ns + period_ns
    return (following if following > now_ns and not slow else now_ns + period_ns), late


def loop(robot: Robot, carried: Carried, doors: Doors, clock: Clock, signals: Signals, notify: Notify) -> None:
    """Until a signal ends it, and the arm is at rest and without power."""
    guards, period = Guards(), robot.period_ns
    due, slow, fed, ending_ns = clock.now_ns(), True, clock.now_ns(), 0
    while True:
        clock.sleep_until(due)
        now = clock.now_ns()
        due, late = schedule(due, now, period, slow)
        said, gone = _heard(doors, guards)
        if signals.ending and not ending_ns:
            ending_ns = now
            notify.say("STOPPING=1")
        estop, signals.estop = signals.estop, False
        came = tick(robot, carried, Arrived(said, gone, late, guards.any(), estop, bool(ending_ns)), now)
        slow = came.slow
        for client, reply in came.replies:
            doors.tell(client, reply, reply.to)
        doors.tell_all(came.snapshot)
        if notify.every_ns and now - fed >= notify.every_ns:
            fed = now
            notify.say("WATCHDOG=1")
        if not carried.power and came.snapshot.seq % COLLECT_TICKS == 0:
            gc.collect()
        if ending_ns:
            if now - ending_ns > END_SECONDS * 1e9 and carried.power:
                carried.unsure = robot.arm.stop(0).unsure
                carried.power, carried.memory = False, None
            if not carried.power and carried.journal is None:
                return


def _heard(doors: Doors, guards: Guards) -> tuple[list[tuple[int, int, Message]], list[int]]:
    said, gone = doors.heard()
    for client, _, message in said:
        if isinstance(message, Guarding) and client in doors.clients:
            guards.add(doors.clients[client].pid)
    return said, gone


def serve(file: Path, fifo: bool = True) -> None:
    """Returns when it was told to end. Raises NoStart, ConfigError, LinkError, ArmError, OSError with a sentence."""
    signals, notify, clock = Signals(), Notify(), RealClock()
    config = read(file)
    arm = arm_of(config, clock)
    held = lock(config.journal)
    signals.catch()
    try:
        doors = Doors(socket_path(config.journal))
        try:
            reading = opened(arm)
            robot = robot_of(config, arm)
            carried = begun(robot, reading)
            first, warnings = priority.first(priority.DAEMON, fifo)
            gc.disable()  # the loop collects, while no joint has power
            for warning in warnings:
                print(warning, file=sys.stderr)
            can = tuple(sorted(arm.spec.can))
            about = (arm.spec.family, config.limits.names, config.limits.rate, arm.spec.stop, can)
            doors.open_to(Hello(VERSION, os.getpid(), robot.digest, *about, first, warnings))
            if seconds := PATIENCE.get(config.arm.family):
                notify.say(f"WATCHDOG_USEC={seconds * 1_000_000}")
            notify.say(f"READY=1\nSTATUS={carried.state.mode}")
            print(f"{carried.state.mode} {doors.path}", flush=True)
            try:
                loop(robot, carried, doors, clock, signals, notify)
            except BaseException as error:
                arm.stop(arm.spec.stop)
                latch.put(robot.latch, latch.Latch("FAULT", f"the daemon failed: {error!r}", time.time_ns()))
                raise
            doors.shut()
            if not carried.unsure:  # else the guard takes this for a death, and stops what it can reach
                for client in list(doors.clients):
                    doors.tell(client, Bye())
        finally:
            arm.close()
            doors.close()
    finally:
        held.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hardware.armd", description=__doc__)
    parser.add_argument("robot", type=Path, help="the robot's file")
    parser.add_argument("--no-fifo", action="store_true", help="do not even try to come before other processes")
    given = parser.parse_args(arguments)
    try:
        serve(given.robot, not given.no_fifo)
    except (NoStart, ConfigError, LinkError, ArmError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
