"""What a UR5e's controller does between two data packages: registers, the control script, power, stops, watchdog.

URScript is not run. An upload is known by its last lines, and what ur_rtde's script does with its registers (input
integer 0 is a command, output integer 0 says 1 ready or 2 done) is done here. Every target given is remembered: tests
ask this record, not the program under test, what the arm was told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from hardware.arm import Array
from hardware.emulators.ur_body import READY, braked, flange, towards

POWER_OFF, POWER_ON, IDLE, RUNNING = 3, 4, 5, 7
MODES = {POWER_OFF: "POWER_OFF", POWER_ON: "POWER_ON", IDLE: "IDLE", RUNNING: "RUNNING"}
STOPPED, PLAYING, PAUSED = 1, 2, 4
NORMAL, PROTECTIVE, ROBOT_ESTOP, ESTOP, SAFETY_STOP = (1 << bit for bit in (0, 2, 6, 7, 10))
EACH_CYCLE = {6, 9, 10, 11, 24, 25, 26, 27, 38, 58, *range(66, 72)}
MOVEJ, SERVOJ, SERVO_STOP, PROTECT, STOPL, STOPJ, WATCHDOG, END = 1, 11, 16, 31, 33, 34, 35, 255
WAKE_SECONDS = 0.1  # a real one takes about ten seconds to power on, and some to release its brakes
START_SECONDS = 0.05


class Controller:
    """`prompt`: it wakes up and starts scripts at once, for a time that passes only when it is told to."""

    def __init__(self, prompt: bool = False) -> None:
        self._wait = 0.0 if prompt else 1.0
        self.time = 0.0
        self.q, self.qd = np.array(READY), np.zeros(6)
        self.target = self.q.copy()
        self.mode, self.safety, self.runtime = RUNNING, NORMAL, STOPPED
        self.remote = True
        self.echo: float | None = None
        self.uploads, self.malformed = 0, 0
        self.record: deque[dict[str, object]] = deque(maxlen=200_000)
        self.given = 0
        self._ints, self._doubles, self._out = [0] * 48, [0.0] * 48, 0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._moves: Callable[[float], tuple[Array, Array]] | None = None
        self._blocked: Callable[[], bool] | None = None
        self._executing, self._done = False, False
        self._watchdog, self._kicked = 0.0, 0.0

    # What comes in.

    def inputs(self, values: dict[str, tuple[float, ...]]) -> None:
        for name, given in values.items():
            kind, _, index = name.removeprefix("input_").partition("_register_")
            if kind == "int" and index.isdigit():
                self._ints[int(index)] = int(given[0])
                if index == "0":
                    self._kicked = self.time
            elif kind == "double" and index.isdigit():
                self._doubles[int(index)] = float(given[0])
        if "input_int_register_0" in values and self._ints[0] in (MOVEJ, SERVOJ):
            self.given += 1
            obeyed = self.runtime == PLAYING
            target = list(self._doubles[:6])
            self.record.append({"time": self.time, "command": self._ints[0], "target": target, "obeyed": obeyed})

    def upload(self, script: bytes) -> None:
        self.uploads += 1
        self.end_program()
        self._later.append((self.time + START_SECONDS * self._wait, self._start))

    def dashboard(self, line: str) -> str:
        """One line of the Dashboard Server (Universal Robots, "Dashboard Server e-Series")."""
        steps: dict[str, tuple[str, Callable[[], None]]] = {
            "power on": ("Powering on", self.power_on),
            "power off": ("Powering off", self.power_off),
            "brake release": ("Brake releasing", self.release),
            "unlock protective stop": ("Protective stop releasing", self.unlock),
        }
        says = {
            "PolyscopeVersion": "URSoftware 5.11.0.0",
            "get serial number": "20215500001",
            "get robot model": "UR5",
            "is in remote control": str(self.remote).lower(),
            "robotmode": f"Robotmode: {MODES[self.mode]}",
            "running": f"Program running: {str(self.runtime == PLAYING).lower()}",
            "safetystatus": f"Safetystatus: {self._safety_word()}",
            "programState": {STOPPED: "STOPPED", PLAYING: "PLAYING", PAUSED: "PAUSED"}[self.runtime] + " rapport",
        }
        if line in says:
            return says[line]
        if line == "stop":
            self.end_program()
            return "Stopped"
        if line in steps:
            if not self.remote:
                return f"Not allowed in local control: {line}"
            answer, act = steps[line]
            act()
            return answer
        return f"could not understand: '{line}'"

    # Power and stops.

    def power_on(self) -> None:
        if self.mode == POWER_OFF and self.safety == NORMAL:
            self.mode = POWER_ON
            self._later.append((self.time + WAKE_SECONDS * self._wait, lambda: self._wake(POWER_ON, IDLE)))

    def release(self) -> None:
        if self.mode == IDLE and self.safety == NORMAL:
            self._later.append((self.time + WAKE_SECONDS * self._wait, lambda: self._wake(IDLE, RUNNING)))

    def power_off(self) -> None:
        """The brakes engage: it stands still at once."""
        self.end_program()
        self.mode, self.qd, self._moves = POWER_OFF, np.zeros(6), None

    def estop(self) -> None:
        self.power_off()
        self.safety = ROBOT_ESTOP | ESTOP | SAFETY_STOP

    def protect(self) -> None:
        """It brakes, and the program waits where it is."""
        self.safety = PROTECTIVE | SAFETY_STOP
        self.runtime = PAUSED if self.runtime == PLAYING else self.runtime
        self._brake(20.0)

    def unlock(self) -> None:
        self.safety = NORMAL if self.safety & PROTECTIVE else self.safety

    def release_estop(self) -> None:
        self.safety = NORMAL if self.safety & ESTOP else self.safety

    def end_program(self) -> None:
        self.runtime = STOPPED
        self._watchdog, self._blocked, self._out = 0.0, None, 0
        self._later = [(when, act) for when, act in self._later if act != self._start]
        self._brake(20.0)

    # What passes between two packages.

    def cycle(self, dt: float) -> None:
        self.time += dt
        for when, act in [each for each in self._later if each[0] <= self.time]:
            self._later.remove((when, act))
            act()
        if self._watchdog and self.time - self._kicked > 1 / self._watchdog:
            self.end_program()
        if self.runtime == PLAYING:
            self._script()
        if dt and self._moves:
            self.q, self.qd = self._moves(dt)

    def values(self) -> dict[str, tuple[float, ...]]:
        """The variables that mean something here; the others are sent as zeros."""
        shown = self.q if self.echo is None else np.full(6, self.echo)
        pose = tuple(flange(self.q))
        found: dict[str, tuple[float, ...]] = {
            "timestamp": (self.time,),
            "target_q": tuple(self.target),
            "actual_q": tuple(shown),
            "actual_qd": tuple(self.qd),
            "target_qd": tuple(self.qd),
            "actual_TCP_pose": pose,
            "target_TCP_pose": pose,
            "joint_temperatures": (30.0,) * 6,
            "robot_mode": (self.mode,),
            "joint_mode": (253 if self.mode == RUNNING else 239,) * 6,
            "safety_mode": (7 if self.safety & ESTOP else 3 if self.safety & PROTECTIVE else 1,),
            "safety_status_bits": (self.safety,),
            "robot_status_bits": ((self.mode != POWER_OFF) | (self.runtime == PLAYING) << 1,),
            "runtime_state": (self.runtime,),
            "speed_scaling": (1.0,),
            "target_speed_fraction": (1.0,),
            "actual_main_voltage": (48.0,),
            "actual_robot_voltage": (48.0,),
            "output_int_register_0": (self._out,),
        }
        return found

    # The control script.

    def _start(self) -> None:
        if self.mode == RUNNING and self.safety == NORMAL:
            self.runtime, self._executing, self._done = PLAYING, False, False
            self._ints[0], self._out = 0, 1

    def _wake(self, before: int, after: int) -> None:
        self.mode = after if self.mode == before else self.mode

    def _script(self) -> None:
        if self._blocked:
            if not self._blocked():
                return
            self._blocked, self._out = None, 2
        command = self._ints[0]
        if command in EACH_CYCLE:
            self._act(command)
            self._out = 1
        elif command == 0:
            self._executing, self._out = False, 1
        elif not self._executing:
            self._executing = True
            self._act(command)
            self._out = 2 if self.runtime == PLAYING and not self._blocked else 0

    def _act(self, command: int) -> None:
        given = np.array(self._doubles)
        if command == SERVOJ:
            self._aim(given[:6])
            lag = float(given[9])
            self._moves = lambda dt: towards(self.q, self.qd, self.target, dt, lag)
        elif command == MOVEJ:
            self._aim(given[:6])
            fastest, acceleration = float(given[6]), float(given[7])
            self._moves = lambda dt: towards(self.q, self.qd, self.target, dt, 0.1, fastest, acceleration)
            self._blocked = lambda: bool(np.abs(self.q - self.target).max() < 1e-3)
        elif command in (SERVO_STOP, STOPL, STOPJ):
            self._brake(float(given[0]))
            if command == SERVO_STOP or not self._ints[1]:
                self._blocked = lambda: not self.qd.any()
        elif command == WATCHDOG:
            self._watchdog, self._kicked = float(given[0]), self.time
        elif command == PROTECT:
            self.protect()
        elif command == END:
            self.end_program()

    def _aim(self, target: Array) -> None:
        self.target = target
        if not np.isfinite(target).all():  # how a real controller ends this is not known here; it must not move
            self.end_program()
            self.target = self.q.copy()

    def _brake(self, deceleration: float) -> None:
        self.target = self.q.copy()
        self._moves = lambda dt: braked(self.q, self.qd, dt, deceleration)

    def _safety_word(self) -> str:
        if self.safety & ESTOP:
            return "ROBOT_EMERGENCY_STOP"
        return "PROTECTIVE_STOP" if self.safety & PROTECTIVE else "NORMAL"
