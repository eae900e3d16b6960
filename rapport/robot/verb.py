"""`rapport robot`: an arm, real or emulated, from its file to the questions that its day brought. Software: not
safety-rated; a hardware e-stop that cuts the motors' power is required.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Flag = tyro.conf.FlagCreatePairsOff[bool]
File = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="ROBOT")]
Given = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Url = Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")]


@dataclass(frozen=True)
class Run:
    """Start the daemon that has the arm, its guard, and the gateway with the operator's page. Nothing moves by it."""

    robot: File
    """The robot's file, a robot.toml."""
    policy: Url = None
    """The policy server that `start` asks, such as ws://127.0.0.1:8700 (`rapport robot serve`, or openpi's)."""
    policy_token: Given = None
    """A file with its token; by default that of `rapport robot serve` on this machine."""
    contract: Given = None
    """The contract.json of a server that does not say one itself."""
    certificate: Given = None
    """With --key: the page over TLS."""
    key: Given = None
    """The certificate's key."""
    without_tls: Flag = False
    """Another address than this machine's, unencrypted: whoever is on the way can read the token."""
    fifo: bool = True
    """Come before other processes (SCHED_FIFO), where that is permitted."""

    def __call__(self) -> int:
        from rapport.robot.running import run

        return run(self)


@dataclass(frozen=True)
class Check:
    """Say what would keep the robot from working, without energising or moving it (exit code 1 if anything does)."""

    robot: File
    """The robot's file."""

    def __call__(self) -> int:
        from hardware.check import check
        from hardware.config import read

        config = read(self.robot)
        found = check(config)
        print(
            *(found or [f"{self.robot}: {len(config.limits.names)} joints of {config.arm.family}, all well"]), sep="\n"
        )
        return 1 if found else 0


@dataclass(frozen=True)
class Status:
    """Say what the robot does now."""

    robot: File
    """The robot's file."""

    def __call__(self) -> int:
        from rapport.robot.asking import status

        return status(self.robot)


@dataclass(frozen=True)
class Stop:
    """Stop the arm from this machine, without token or lease."""

    robot: File
    """The robot's file."""
    estop: Flag = False
    """Category 0, latched: the power is off at once, and a raised arm drops."""
    category: Annotated[int | None, tyro.conf.arg(metavar="{0,1,2}", help_behavior_hint="")] = None
    """0: power off at once. 1: brake, then power off. 2: brake and hold. By default the arm's own."""

    def __call__(self) -> int:
        from rapport.robot.asking import stop

        return stop(self.robot, self.estop, self.category)


@dataclass(frozen=True)
class Calibrate:
    """Move an arm of servos by hand, and keep what its joints count, in the file that its robot.toml names."""

    robot: File
    """The robot's file: family, port, joints with ids, and the name of the calibration."""
    serial: str
    """What the arm is called: its adapter's serial number, or a label on it."""
    model: int = 777
    """Of its servos, where there is no calibration yet: 777 is Feetech's STS3215, 1020 Dynamixel's XM430-W350."""

    def __call__(self) -> int:
        from rapport.robot.calibrating import calibrate

        return calibrate(self.robot, self.serial, self.model)


@dataclass(frozen=True)
class Episodes:
    """List what the robot did, mend journals that were torn, or write them as a LeRobotDataset."""

    robot: File
    """The robot's file, or a folder of journals."""
    recover: Flag = False
    """Cut off what is torn or damaged at the end of journals that nobody writes any more."""
    lerobot: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Write them as a LeRobotDataset (v3) into this folder."""
    fps: int = 30
    """Its rows a second."""
    replace: Flag = False
    """A data set that is there already goes."""

    def __call__(self) -> int:
        from rapport.robot.asking import episodes

        return episodes(self)


@dataclass(frozen=True)
class Queries:
    """Bring the robot's episodes into a study, as questions for people; `rapport ask STUDY` then asks them."""

    robot: File
    """The robot's file, or a folder of journals."""
    study: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STUDY")]
    """The study's folder, as `rapport ask` makes it."""
    questions: int = 20
    """How many at most, those of these journals that were made before counted."""
    seconds: float = 2.0
    """How long what is shown lasts."""
    film: Literal["camera", "cup"] = "camera"
    """What people see. camera: what was filmed. cup: the main job's arm, drawn from its joints."""
    camera: str = ""
    """Which camera, where there are several."""
    own: Flag = False
    """In the policy's own terms, so that `rapport align` can align that very policy."""
    seed: int = 0
    """Of which stretch is held against which."""

    def __call__(self) -> int:
        from rapport.robot.asking import queries

        return queries(self)


@dataclass(frozen=True)
class Emulate:
    """Stand in for an arm until it is ended, with a robot.toml that fits it: all of this can be tried without one."""

    family: Annotated[
        tyro.conf.Positional[Literal["so101", "dynamixel", "ur5e", "cup", "cup-servos"]],
        tyro.conf.arg(metavar="FAMILY"),
    ]
    """so101 and dynamixel: servos on a bus, byte for byte. ur5e: a controller. cup: the main job's arm, in MuJoCo,
    which needs no process of its own. cup-servos: that arm as a bus of Dynamixel servos."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Where robot.toml goes, if it is not there yet."""
    port: int = 8600
    """Of the gateway, in that file."""
    patient: Flag = False
    """On a machine with much other work: a loop of 40 Hz, and servos that may take a tenth of a second to answer."""
    lerobot: Path | None = None
    """Of an environment with LeRobot the Python: the so101 is then led by LeRobot's own driver."""

    def __call__(self) -> int:
        from rapport.robot.emulating import emulate

        return emulate(self.family, self.folder, self.port, self.patient, self.lerobot)


@dataclass(frozen=True)
class Serve:
    """A policy server: a policy that was exported, or an agent that stable-baselines3 saved, for `run --policy`."""

    policy: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="POLICY")]
    """The folder of an exported policy, or one with the contract.json of --agent."""
    agent: Given = None
    """What an algorithm of stable-baselines3 saved. It holds pickles: open your own only."""
    algorithm: str = "PPO"
    """Of --agent."""
    steps: int = 8
    """How many steps of the policy's rate an answer has."""
    push: float = 0.0
    """Deviation of a slow noise on what an exported policy says in an episode's first second (its actions go from -1 to
    1): episodes from one start then differ, and people can say which is better."""
    seed: int = 0
    """Of the pushes."""
    within: Given = None
    """A robot's file: the policy's joint targets are kept within that robot's joint limits, where they are narrower."""
    port: int = 8700
    """Where it is served, on this machine alone."""
    token: Given = None
    """The file of its token, made if it is not there; by default one of this machine's user."""

    def __call__(self) -> int:
        from rapport.robot.serving import serve

        return serve(self)


@dataclass(frozen=True)
class Unit:
    """Print a systemd unit that runs the robot: restarted into READY, watched, with little else permitted."""

    robot: File
    """The robot's file."""
    user: str = "robot"
    """Who runs it: somebody with access to the arm's port."""

    def __call__(self) -> int:
        from rapport.robot.unit import unit

        print(unit(self.robot, self.user), end="")
        return 0


@dataclass(frozen=True)
class Robot:
    """Run an aligned policy on an arm, under a guard; and bring back what happened as questions. Not safety-rated."""

    what: Annotated[
        Annotated[Run, tyro.conf.subcommand("run")]
        | Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Status, tyro.conf.subcommand("status")]
        | Annotated[Stop, tyro.conf.subcommand("stop")]
        | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
        | Annotated[Episodes, tyro.conf.subcommand("episodes")]
        | Annotated[Queries, tyro.conf.subcommand("queries")]
        | Annotated[Emulate, tyro.conf.subcommand("emulate")]
        | Annotated[Serve, tyro.conf.subcommand("serve")]
        | Annotated[Unit, tyro.conf.subcommand("unit")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> int:
        return self.what()
