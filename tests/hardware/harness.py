"""A robot and its daemon's loop under a virtual clock: tests say what happens in which tick, and look at what the arm
was told. `Rig` has its arm in this process (the twin), or an emulated one, another process, whose own record counts."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from embodied.contract import Contract, Joint, Source
from hardware.armd import begun, robot_of
from hardware.arms.calibration import save
from hardware.arms.make import arm_of
from hardware.carried import Arrived
from hardware.chunks import Chunk
from hardware.clock import VirtualClock
from hardware.config import Config, read
from hardware.link import Ask, Beat, Leader, Reply, Stop, Take
from hardware.tick import tick

PERIOD = 10_000_000
GATEWAY = 1
"""The client that commands."""
PLENTY = 1 << 40
JOINT = {"lower": -1.5, "upper": 1.5, "velocity": 2.0, "acceleration": 10.0, "tracking": 0.2, "start": 0.1, "home": 0.3}
TWIN = ("shoulder", "elbow", "wrist")


def toml(folder: Path, family: str, names, arm="", joint=(), more="", rate=100.0) -> Path:
    """A robot's file."""
    lines = [f"rate = {rate}", 'journal = "episodes"', more, "[arm]", f'family = "{family}"', arm]
    for name in names:
        lines += [
            "[[joint]]",
            f'name = "{name}"',
            *(f"{key} = {value}" for key, value in {**JOINT, **dict(joint)}.items()),
        ]
    path = folder / "robot.toml"
    path.write_text("\n".join(lines))
    return path


def contract(config: Config) -> str:
    """Of a policy that looks at this robot's joints and nothing else."""
    limits = config.limits
    n = len(limits.names)
    ranges = zip(limits.names, limits.lower.tolist(), limits.upper.tolist(), strict=True)
    sees = (Source("joint angles", n, "rad", "joint"),)
    joints = tuple(Joint(*joint) for joint in ranges)
    made = Contract("bench", joints, 20.0, "joint_position", sees, (0.0,) * n, (1.0,) * n, (), "to move")
    return json.dumps(asdict(made))


class Rig:
    """`said`: what clients say in the next tick. `replies` and `snapshots`: all that was told."""

    def __init__(self, file: Path, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        config = read(file)
        self.arm = arm_of(config, self.clock)
        self.clock.sleep_until(1_000_000_000)
        self.arm.open()
        self.robot = replace(
            robot_of(config, self.arm),
            wall=lambda: 1_700_000_000_000_000_000 + self.clock.now_ns(),
            free=lambda _: PLENTY,
        )
        self.carried = begun(self.robot, self.arm.read())
        self.n = len(config.limits.names)
        self.numbers, self.seqs = itertools.count(1), itertools.count()
        self.said, self.gone, self.replies, self.snapshots = [], [], [], []
        self.lease, self.guarded, self.beats, self.leads = "", True, True, None

    def tick(self, count: int = 1, late: int = 0, **arrived):
        """So many ticks; the first has what was said, and is so many periods late."""
        for i in range(count):
            self.clock.sleep_until(self.clock.now_ns() + PERIOD * (1 + (late if i == 0 else 0)))
            if self.beats:
                self.said.append((GATEWAY, 0, Beat()))
            if self.leads is not None:
                self.said.append((GATEWAY, 0, Leader(self.lease, next(self.seqs), self.leads)))
            came = tick(
                self.robot,
                self.carried,
                Arrived(self.said, self.gone, late * PERIOD if i == 0 else 0, self.guarded, **arrived),
                self.clock.now_ns(),
            )
            self.said, self.gone = [], []
            self.replies += came.replies
            self.snapshots.append(came.snapshot)
        return self.snapshots[-1]

    def say(self, message, client=GATEWAY):
        """In the next tick."""
        self.said.append((client, next(self.numbers), message))

    def ask(self, message, client=GATEWAY) -> Reply:
        """In a tick of its own."""
        self.say(message, client)
        number = self.said[-1][1]
        self.tick()
        return next(reply for to, reply in self.replies if reply.to == number)

    def take(self, seconds=60.0):
        self.lease = self.ask(Take("anna", seconds)).lease
        return self.lease

    def arms(self):
        """Up to HOLD."""
        if not self.lease:
            self.take()
        refused = self.ask(Ask("arm", self.lease)).refused
        assert refused == "", refused
        return self.tick()

    def start(self, **more):
        """What a policy's gateway asks."""
        return Ask("start", self.lease, contract=contract(self.robot.config), **more)

    def starts(self, what="start", **more):
        self.arms()
        reply = self.ask(self.start(**more) if what == "start" else Ask(what, self.lease, **more))
        assert reply.refused == "", reply.refused
        return self.snapshots[-1]

    def chunk(self, actions, **changes):
        """In answer to the last snapshot, 20 ms between steps. Whole arrays, or what all joints do."""
        last = self.snapshots[-1]
        actions = np.asarray(actions, float)
        actions = np.repeat(actions[:, None], self.n, axis=1) if actions.ndim == 1 else actions
        given = {"obs_seq": last.seq, "obs_time_ns": last.time_ns, "dt_ns": 20_000_000, "seq": next(self.seqs)}
        return Chunk(**({"lease": self.lease, "actions": actions} | given | changes))

    def moves(self, speed=0.5, ticks=20, what="policy"):
        """A policy that goes upwards at `speed` rad/s from where the arm is."""
        for _ in range(ticks):
            here = self.snapshots[-1].command
            self.say(self.chunk(here + speed * 0.02 * np.arange(1, 26)[:, None]))
            self.tick()
        return self.snapshots[-1]

    def until(self, mode: str, most: int = 200) -> int:
        """How many ticks until it is so."""
        for i in range(most + 1):
            if self.snapshots and self.snapshots[-1].mode == mode:
                return i
            self.tick()
        raise AssertionError(f"{mode} did not come, it is {self.snapshots[-1]}")

    def stop(self, category=2, who="anna"):
        return self.ask(Stop(category, who))

    def close(self):
        if self.carried.journal is not None:
            self.carried.journal.close()
        self.arm.close()


def twin(folder: Path, **changes) -> Rig:
    return Rig(toml(folder, "twin", TWIN, **changes))


def servos(folder: Path, emulator, family="so101", **changes) -> Rig:
    """On an emulated bus in virtual time: what passes here passes there."""
    save(folder / "calibration.json", emulator.calibration)
    names = [servo.name for servo in emulator.calibration.servos]
    arm = f'port = "{emulator.port}"\ncalibration = "calibration.json"\nspare_ms = 150.0\nbudget_s = 0.16'
    seen = [0]

    def moved(now_ns):
        emulator.control("advance", seconds=(now_ns - seen[0]) / 1e9)
        seen[0] = now_ns

    rig = Rig(toml(folder, family, names, arm=arm, **changes), VirtualClock(moved))
    emulator.control("pose", position=[0.0] * rig.n)  # without power it had fallen
    return rig
