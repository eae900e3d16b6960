"""A policy that brings an arm's tool to named points, on an SO-101 or a UR5e that is emulated byte for byte.

    python examples/robot_reach.py so101
    python examples/robot_reach.py ur5e
    python examples/robot_reach.py so101 --lerobot .venv-lerobot/bin/python    # by LeRobot's own driver

It is an exported policy like every other (weights, Cartesian step, contract), but its weights are written by hand and
not learned: tanh of the way to the goal, and the tool kept at the slant that it has at home. It is served, the robot
run with its page, and led from home through the points, in real time. Where the tool is, the emulator is asked.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embodied.contract import Contract, Joint, Source
from embodied.records import Array
from hardware.config import Config, read
from hardware.emulators import presets, ur_body
from hardware.emulators.control import Control
from hardware.limits import REDUCED_SPEED
from policies.cartesian import Cartesian
from policies.chain import Chain
from policies.export import export
from policies.mlp import Layers
from policies.observer import Part
from rapport.robot.client import Robot, client, started

RATE, GAIN = 20.0, 2.5  # Hz; 1/s
SHARE = 0.6  # of the tool's greatest speed
WITHIN, SECONDS = 0.005, 12.0  # m; s at most for each point
Points = dict[str, tuple[float, float, float]]
POINTS: dict[str, Points] = {  # m, from the arm's foot
    "so101": {
        "left": (0.27, 0.15, 0.20),
        "right": (0.27, -0.15, 0.20),
        "high": (0.29, 0.0, 0.26),
        "low": (0.30, 0.0, 0.12),
        "near": (0.25, 0.0, 0.20),
    },
    "ur5e": {
        "left": (-0.40, -0.40, 0.45),
        "right": (-0.50, 0.15, 0.40),
        "high": (-0.45, -0.13, 0.65),
        "low": (-0.50, -0.13, 0.25),
        "far": (-0.62, -0.13, 0.40),
    },
}


@dataclass(frozen=True)
class Reached:
    """seconds: until the tool was within WITHIN of the point, and stayed, infinite if it never was. error: m, at the
    end."""

    name: str
    seconds: float
    error: float


def cartesian(robot: Config) -> Cartesian:
    """From the robot's own file: its chain, its home, its tool's speed. Joints after the chain's (a gripper) are hinges
    at the tool, about its upright: they move nothing that the step looks at, and are drawn home."""
    chain, home = robot.limits.chain, np.array(robot.home)
    if chain is None or not len(home):
        raise SystemExit(f"{robot.file} has no [chain], or no home: the policy has to know where the tool is")
    carrying, reach = len(chain.axes), float(chain.reaches[0])
    slant = chain.frames(home[:carrying])[1].T @ [0.0, 0.0, 1.0]
    upright = tuple((slant / np.linalg.norm(slant)).tolist())
    later = len(home) - carrying
    offsets = (*chain.offsets, *[chain.tool, *[(0.0, 0.0, 0.0)] * (later - 1)][:later])
    whole = Chain(offsets, (*chain.axes, *[upright] * later), (0.0, 0.0, 0.0) if later else chain.tool)
    return Cartesian(
        offsets=whole.offsets,
        axes=whole.axes,
        tool=whole.tool,
        pointing=upright,
        rest=robot.home,
        pull=(0.3,) * len(home),
        speed=SHARE * (robot.limits.tool_speed or REDUCED_SPEED),
        turn=0.5,
        joint_speed=0.5 * float(robot.limits.velocity.min()),
        damping=1e-4,
        z=(0.0, reach),
        radius=(0.15 * reach, 0.95 * reach),
        tilt=0.6,
        give=0.2,
        rate=RATE,
    )


def policy(folder: Path, robot: Config) -> Contract:
    """Exports it for that robot."""
    step = cartesian(robot)
    hidden = np.zeros((5, 5), np.float32)  # of the way [3] and the upright's x and y
    hidden[:3, :3] = np.eye(3) * GAIN / step.speed
    hidden[3, 4], hidden[4, 3] = GAIN / step.turn, -GAIN / step.turn  # turns the upright back to the vertical
    still = np.zeros(5, np.float32)
    limits = robot.limits
    agreed = Contract(
        environment="reach",
        joints=tuple(
            Joint(name, float(lower), float(upper))
            for name, lower, upper in zip(limits.names, limits.lower, limits.upper, strict=True)
        ),
        rate=RATE,
        action="joint_position",
        observation=(
            Source("goal - tool", 3, "m", "scene"),
            Source("the tool's upright, x and y", 2, "1", "joint"),
        ),
        mean=(0.0,) * 5,
        std=(1.0,) * 5,
        cameras=(),
        reward="to bring the tool to the goal, at the slant that it has at home",
    )
    parts = (Part("to", scene="goal"), Part("pointing"))
    return export(folder, Layers((hidden, np.eye(5, dtype=np.float32)), (still, still)), step, agreed, parts)


def patient(file: Path, family: str) -> None:
    """For a machine with much other work: the loop is slower, and who answers late is waited for."""
    late = {
        "so101": "spare_ms = 100.0\nbudget_s = 0.15",
        "ur5e": "watchdog_hz = 2.0\nanswer = 2.0\nfresh = 0.5\nlost = 1.5",
    }
    text = file.read_text().replace("spare_ms = 10.0\nbudget_s = 0.02\n", "")
    text = text.replace("rate = 100.0", "rate = 20.0\ntracking_seconds = 1.0")
    file.write_text(text.replace(f'family = "{family}"', f'family = "{family}"\n{late[family]}'))


def at_rest(robot: Robot) -> None:
    if (state := robot.at_rest())["mode"] != "HOLD":
        raise SystemExit(f"the robot is in {state['mode']}: {state['cause']}")


class Truth:
    """Where the tool is, [3] m, past every wire."""

    def __init__(self, chain: Chain, control: Control) -> None:
        self.chain, self.control = chain, control

    def __call__(self) -> Array:
        state = self.control("state")
        joints = np.array(state.get("q", state.get("position")))
        return self.chain.point(joints[: len(self.chain.axes)])


def lead(robot: Robot, points: Points, truth: Truth) -> list[Reached]:
    robot.take()
    if robot.state()["mode"] == "FAULT":  # a UR that had power: it is to be without before it is armed
        robot.ask("reset")
    robot.ask("arm")
    robot.ask("home")
    at_rest(robot)
    found = []
    for name, goal in points.items():
        robot.ask("scene", values={"goal": goal})
        robot.ask("start", task=f"reach {name}")
        begun, since = time.monotonic(), np.inf
        while (now := time.monotonic() - begun) < SECONDS and now < since + 1:
            near = np.linalg.norm(truth() - goal) < WITHIN
            since = min(since, now) if near else np.inf
            time.sleep(0.02)
        robot.ask("stop", done=bool(since < SECONDS))
        at_rest(robot)
        found.append(Reached(name, since, float(np.linalg.norm(truth() - goal))))
        when = f"within {1e3 * WITHIN:g} mm after {since:.1f} s" if since < SECONDS else "not reached"
        print(f"{name:6} {when}, {1e3 * found[-1].error:.1f} mm away at the end", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=POINTS)
    parser.add_argument("--out", type=Path, default=Path("runs/robot-reach"), help="its folder is made in here")
    parser.add_argument("--port", type=int, default=8600, help="of the page; the next one is the policy server's")
    parser.add_argument("--patient", action="store_true", help="on a machine that is busy with other work")
    parser.add_argument("--lerobot", type=Path, metavar="PYTHON", help="of an environment with LeRobot: its SO-101")
    args = parser.parse_args()
    if args.lerobot and args.patient:
        parser.error("--patient is not for --lerobot: its loop is slow already")
    out: Path = args.out / (f"{args.family}-lerobot" if args.lerobot else args.family)
    file, token = out / "robot.toml", out / "token"
    driver = ("--lerobot", args.lerobot) if args.lerobot else ()
    with started("emulate", args.family, out, "--port", args.port, *driver):
        if args.patient:
            patient(file, args.family)
        robot = read(file)
        policy(out / "policy", robot)
        chain = presets.chain() if args.family == "so101" else ur_body.chain()
        control = Control(out / ("control" if args.family == "ur5e" else "port.control"))
        with (
            started("serve", out / "policy", "--token", token, "--port", args.port + 1) as server,
            started("run", file, "--policy", server, "--policy-token", token) as page,
        ):
            print(page)
            with client(page) as led:
                found = lead(led, POINTS[args.family], Truth(chain, control))
        control.close()
    reached = [one for one in found if one.seconds < SECONDS]
    print(f"{len(reached)} of {len(found)} points reached, in {sum(one.seconds for one in reached):.1f} s")
    sys.exit(len(reached) < len(found))


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:  # what was refused, and why
        sys.exit(str(error))
