"""A robot as `rapport robot run` starts it: its daemon, guard and gateway as processes; or the gateway by a thread."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from websockets.sync.client import connect

from envs import arm_model
from envs.arm import CupArms, Layouts
from hardware.clock import RealClock
from hardware.config import Config, read
from hardware.gateway import tokens as tokens_of
from hardware.gateway.cameras import Watch
from hardware.gateway.server import Reached, house_of, listen, server_of

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
JOINT = """
[[joint]]
name = "{name}"
lower = {lower}
upper = {upper}
velocity = 2.0
acceleration = 10.0
tracking = 0.5
start = 0.1
home = {home}
"""


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def two_joints(folder, **more):
    return write(folder, [("a", -1.5, 1.5, 0.0), ("b", -1.5, 1.5, 0.2)], **more)


SCENE = {"start": [0.5, -0.42, 0.27], "goal": [0.5, 0.42, 0.22], "laptop": [0.54, 0.0]}


def cup_arm(folder, **more):
    """The main job's arm, at home where an episode of that scene begins."""
    envs = CupArms(1, seed=0)
    envs.reset(options={"layouts": Layouts(**{name: np.array([at]) for name, at in SCENE.items()})})
    home, limit = envs.qpos[0].tolist(), arm_model.JOINT_LIMIT
    joints = [(name, -limit, limit, at) for name, at in zip(arm_model.JOINT_NAMES, home, strict=True)]
    return write(folder, joints, start=home, scene={name: len(at) for name, at in SCENE.items()}, **more)


def write(folder, joints, start=None, scene=None, port=None, host="127.0.0.1"):
    start = f"start = {start}" if start else ""
    parts = [f'rate = 100.0\njournal = "episodes"\n[arm]\nfamily = "twin"\n{start}\n']
    parts += [JOINT.format(name=n, lower=lower, upper=upper, home=home) for n, lower, upper, home in joints]
    parts += [f'[scene.{name}]\nsize = {size}\nunit = "m"\n' for name, size in (scene or {}).items()]
    parts.append(f'[gateway]\nhost = "{host}"\nport = {port or free_port()}\n')
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "robot.toml"
    file.write_text("".join(parts))
    return file


@dataclass
class Robot:
    file: Path
    config: Config
    processes: dict = field(default_factory=dict)
    tokens: object = None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.config.port}"

    def start(self, name, *more):
        arguments = [sys.executable, "-m", f"hardware.{name}", str(self.file), *more]
        process = subprocess.Popen(arguments, env=HERE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline(), name
        self.processes[name] = process

    def http(self, role="operate", **headers):
        token = {"Authorization": f"Bearer {self.tokens.of(role)}"} if role else {}
        return httpx.Client(base_url=self.address, headers={**token, **headers}, timeout=20)

    def socket(self, role="operate", form="rapport.msgpack", max_queue=16, **headers):
        return connect(
            f"ws://127.0.0.1:{self.config.port}/v1/stream",
            subprotocols=[form] if form else None,
            additional_headers={"Authorization": f"Bearer {self.tokens.of(role)}", **headers},
            compression=None,
            proxy=None,
            max_queue=max_queue,
        )

    def state(self):
        return self.http("observe").get("/v1/state").json()

    def until(self, seconds=10, **wanted):
        """The state, once it says this."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state()
            if all(state[name] == value for name, value in wanted.items()):
                return state
            time.sleep(0.02)
        told = {name: state[name] for name in ("mode", "cause", "why", "policy", "episode", "position", "clips")}
        raise AssertionError(f"{wanted} did not come: {told}")

    def end(self, name):
        process = self.processes.pop(name)
        process.terminate()
        assert process.wait(10) == 0, name
        process.stdout.close()


@contextmanager
def running(file, *more, daemon=True, inside=False):
    """more: arguments of the gateway. inside: it is a thread of this process, which a test may look into."""
    robot = Robot(file, read(file))
    robot.config.journal.mkdir(parents=True, exist_ok=True)
    robot.tokens = tokens_of.tokens(robot.config.journal / tokens_of.FILE)
    try:
        if daemon:
            robot.start("armd")
            robot.start("guard")
        with served(robot) if inside else nullcontext(robot.start("gateway", *more)):
            while httpx.get(f"{robot.address}/healthz").text != "ok":
                time.sleep(0.01)
            if daemon:
                robot.until(guarded=True)
            yield robot
    finally:
        for name in ("gateway", "guard", "armd"):
            if name in robot.processes:
                robot.end(name)


@contextmanager
def served(robot):
    server: uvicorn.Server = server_of(
        house_of(robot.config, None, Watch({}, {}, RealClock())), robot.tokens, Reached()
    )
    listening = listen(robot.config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
