"""A LeRobot robot in LeRobot's own environment, spoken to by hardware/arms/lerobot.py. Needs nothing but LeRobot.

What its buses are kept from: energising the arm when it is only opened (`connect` ends in `configure`, which ends with
the torque on); taking the late reply to one question for the answer to the next (Feetech's SDK does not empty what
came); and `disconnect`, which gives up at the first dead servo. This process never disconnects, it ends.
"""

import importlib
import importlib.util
import json
import math
import os
import pkgutil
import select
import socket
import sys
import termios
import threading
import time
from typing import Any


class Robot:
    def __init__(self, kind: str, config: dict, plugin: str | None) -> None:
        draccus, robots = importlib.import_module("draccus"), importlib.import_module("lerobot.robots")
        known = robots.RobotConfig.get_known_choices
        if plugin:
            _import(plugin)
        for module in pkgutil.iter_modules(robots.__path__):  # each registers itself by being imported
            if kind in known():
                break
            try:
                importlib.import_module(f"lerobot.robots.{module.name}")
            except ImportError:  # it needs what is not installed; it may not be the one
                continue
        if kind not in known():
            raise Refused(f"LeRobot has no robot {kind!r}; it has {', '.join(sorted(known()))}")
        self.robot = robots.make_robot_from_config(draccus.decode(robots.RobotConfig.get_choice_class(kind), config))
        self.names = [key.removesuffix(".pos") for key in self.robot.action_features]
        if other := [key for key in self.robot.action_features if not key.endswith(".pos")]:
            raise Refused(
                f"{kind} is told {', '.join(other)} too; only arms whose joints are all positions can be used"
            )
        self.bus: Any = getattr(self.robot, "bus", None)
        self.configure = self.robot.configure
        self.behind = False
        self.connect()

    def connect(self) -> None:
        if self.bus is not None:
            self.robot.configure = lambda: None
            if "Feetech" in type(self.bus).__name__:
                port = self.bus.port_handler
                port.clearPort = lambda: port.ser.reset_input_buffer()
        for left in (2, 1, 0):
            try:
                self.robot.connect(calibrate=False)
                break
            except (RuntimeError, ConnectionError):  # one answer that did not come is to LeRobot a missing motor
                if self.bus is None or not left:
                    raise
                self.bus.port_handler.closePort()
        if not self.robot.is_calibrated:
            raise Refused(f"{self.robot} has another calibration than its file, or none; run lerobot-calibrate")

    def about(self) -> dict:
        """Of each joint: its unit, and for a bus the counts of its calibration."""
        if self.bus is None:
            return {"names": self.names, "joints": [None] * len(self.names)}
        joints = []
        for name in self.names:
            motor, found = self.bus.motors[name], self.bus.calibration[name]
            resolution = self.bus.model_resolution_table[motor.model]
            joints.append([motor.norm_mode.value, found.range_min, found.range_max, resolution])
        return {"names": self.names, "joints": joints}

    def settle(self) -> None:
        """After a failure a late answer may still be on its way, and would be taken for the next one. They come in the
        order of the questions: once a question unlike all others is answered rightly, twice, none is left."""
        bus, name = self.bus, self.names[0]
        for _ in range(2 if self.behind and bus is not None else 0):
            time.sleep(0.002)
            if bus.ping(name) != bus.model_number_table[bus.motors[name].model]:
                raise ConnectionError(f"{name} does not answer as itself yet")
        self.behind = False

    def read(self) -> dict:
        self.settle()
        seen = self.robot.get_observation()
        powered = None
        if self.bus is not None:
            torque = self.bus.sync_read("Torque_Enable", normalize=False)
            powered = [bool(torque[name]) for name in self.names]
        return {"values": [float(seen[f"{name}.pos"]) for name in self.names], "powered": powered}

    def write(self, values: list) -> dict:
        if not all(map(math.isfinite, values)):
            raise ValueError(f"the target is {values}")
        self.settle()
        self.robot.send_action({f"{name}.pos": value for name, value in zip(self.names, values, strict=True)})
        return {"written": self.written()}

    def written(self) -> list | None:
        """What the servos have as their goals. `send_action` answers with what it was asked, which says nothing."""
        if self.bus is None:
            return None
        goals = self.bus.sync_read("Goal_Position")
        return [float(goals[name]) for name in self.names]

    def enable(self) -> dict:
        self.settle()
        if self.bus is not None:
            self.bus.sync_write(
                "Goal_Position", self.bus.sync_read("Present_Position", normalize=False), normalize=False
            )
            self.configure()
        return self.hold()

    def hold(self) -> dict:
        return self.write(self.read()["values"])


class Refused(Exception):
    pass


def _import(plugin: str) -> None:
    if not plugin.endswith(".py"):
        importlib.import_module(plugin)
        return
    name = os.path.splitext(os.path.basename(plugin))[0]
    spec = importlib.util.spec_from_file_location(name, plugin)
    if spec is None or spec.loader is None:
        raise Refused(f"there is no plugin {plugin}")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def _with_parent(channel: socket.socket) -> None:
    """Ends this process when its parent is gone, even while LeRobot blocks."""
    poll = select.poll()
    poll.register(channel, select.POLLHUP)
    poll.poll()
    os._exit(0)


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_with_parent, args=(channel,), daemon=True).start()
    robot: Robot | None = None
    for line in channel.makefile("rb"):
        asked = json.loads(line)
        do = asked.pop("do")
        try:
            if do == "open":
                robot = Robot(**asked)
                answer = robot.about()
            else:
                answer = getattr(robot, do)(**asked)
        except Exception as error:
            refused = do == "open" or isinstance(error, Refused)
            kind = "Refused" if refused else "BusLost" if _gone(error) else "NoAnswer"
            if robot is not None:
                robot.behind = True
            answer = {"error": kind, "why": f"LeRobot at {do}: {type(error).__name__}: {error}"}
        channel.sendall(json.dumps(answer).encode() + b"\n")
    os._exit(0)


def _gone(error: Exception) -> bool:
    """For a silent servo LeRobot raises ConnectionError without a number; for a lost port the system gives one."""
    return (isinstance(error, OSError) and error.errno is not None) or isinstance(error, termios.error)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder has files named like the packages they speak to
    main()
