"""ur_rtde in a process of its own, spoken to by hardware/arms/ur.py. Needs nothing but the SDK.

The control script is uploaded by `enable` and by nothing else: the SDK is told not to upload, or it would do so again
after every connection that it lost and made again by itself. Each such reconnection it announces on standard error, and
with the first word there, but one that is known, the robot counts as lost.
"""

import json
import math
import os
import select
import socket
import sys
import threading
import time
from typing import Any

VARIABLES = [
    "timestamp",
    "actual_q",
    "actual_qd",
    "joint_temperatures",
    "robot_mode",
    "runtime_state",
    "safety_status_bits",
]
PLAYING = 2
HARMLESS = b"RTDE control script is not running!"


class Robot:
    def __init__(self, host: str, hertz: float) -> None:
        from rtde_receive import RTDEReceiveInterface

        self.host, self.hertz = host, hertz
        self.receive = RTDEReceiveInterface(host, hertz, VARIABLES)
        self.control: Any = None
        self.stopping: threading.Thread | None = None
        self.holding, self.kicked = False, -math.inf
        self.quiet = _said()

    def read(self) -> dict:
        receive = self.receive
        for _ in range(5):  # each value is read under a lock of its own, so a package may come between two of them
            stamp = receive.getTimestamp()
            found = {
                "stamp": stamp,
                "q": receive.getActualQ(),
                "qd": receive.getActualQd(),
                "temperature": receive.getJointTemperatures(),
                "mode": receive.getRobotMode(),
                "runtime": receive.getRuntimeState(),
                "safety": receive.getSafetyStatusBits(),
                "stopping": self.busy(),
            }
            if receive.getTimestamp() == stamp:
                break
        alive = self.control and found["runtime"] == PLAYING and found["stamp"] > self.kicked
        if alive and self.holding and not self.busy():
            self.control.kickWatchdog()  # nobody writes while it holds; whoever reads is alive
            self.kicked = found["stamp"]  # a controller that stands still is not asked: the SDK would wait for it
        return found | self.connected()

    def connected(self) -> dict:
        """The SDK's own word, and silence: it says something only when a connection breaks or comes back."""
        whole = self.receive.isConnected() and (self.control is None or self.control.isConnected())
        said = os.pread(2, 4096, self.quiet) if _said() > self.quiet else b""
        return {"connected": whole and all(HARMLESS in line for line in said.splitlines())}

    def enable(self, watchdog_hz: float) -> dict:
        from rtde_control import RTDEControlInterface

        if self.control is None:
            self.control = RTDEControlInterface(self.host, self.hertz, RTDEControlInterface.FLAG_NO_WAIT)
        self.control.reuploadScript()
        due = time.monotonic() + 4.0
        while not self.control.isProgramRunning():
            if time.monotonic() > due:
                return _error("Refused", "the control script did not start within 4 s; see the teach pendant's log")
            time.sleep(0.002)
        if not self.control.setWatchdog(watchdog_hz):
            return _error("Refused", "the controller did not take the watchdog; nothing may move without it")
        self.control.kickWatchdog()  # waits until the script listens again
        self.quiet = _said()
        self.holding, self.kicked = True, -math.inf
        return self.connected()

    def write(self, q: list, period: float, lookahead: float, gain: float) -> dict:
        if len(q) != 6 or not all(map(math.isfinite, q)):  # the SDK would send either, and answer that all is well
            return _error("NoAnswer", f"the target is {q}; give six finite angles")
        if self.control is None or self.busy():
            return _error("NoAnswer", "no control script is listening; enable starts one")
        self.holding = False
        # The SDK's own look at the script may be some packets old; what has been read must not be forgotten.
        plays = self.receive.getRuntimeState() == PLAYING
        obeyed = plays and self.control.servoJ(q, 0.0, 0.0, period, lookahead, gain)
        return {"obeyed": obeyed, "stamp": self.receive.getTimestamp()} | self.connected()

    def stop(self) -> dict:
        """Told, not done: how long it takes to brake is the robot's affair, and `read` must go on meanwhile."""
        if self.control is None or not self.control.isProgramRunning():
            return {"told": False}
        if not self.busy():
            self.holding = True
            self.stopping = threading.Thread(target=self.control.servoStop, daemon=True)
            self.stopping.start()
        return {"told": True}

    def busy(self) -> bool:
        return self.stopping is not None and self.stopping.is_alive()


def _said() -> int:
    return os.fstat(2).st_size


def _error(kind: str, why: str) -> dict:
    return {"error": kind, "why": why}


def _with_parent(channel: socket.socket) -> None:
    """Ends this process when its parent is gone, even while the SDK blocks."""
    poll = select.poll()
    poll.register(channel, select.POLLHUP)
    poll.poll()
    os._exit(0)  # the SDK's own way out may block for minutes, or abort


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
                answer = robot.read()
            else:
                answer = getattr(robot, do)(**asked)
        except ImportError as error:
            answer = _error("Refused", f"{error}; pip install 'rapport[robot]'")
        except Exception as error:
            answer = _error("Refused" if do in ("open", "enable") else "BusLost", f"ur_rtde at {do}: {error}")
        channel.sendall(json.dumps(answer).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder has files named like the packages they speak to
    main()
