"""A Universal Robots e-series arm by RTDE. The SDK, ur_rtde, runs in a process of its own (ur_process.py).

The robot must be in remote control, or neither script nor dashboard is obeyed. Its controller guards it well; what is
guarded here is what the SDK lets through: targets that are no numbers, joints that are old, connections that came back
unasked. Data older than 20 ms is no answer, older than 100 ms the bus is lost, and lost it stays until `close` and
`open`.

Stops. 2: the script brakes and holds. 1: the same, and 60 ms later at most the power goes off. 0: the dashboard's
`power off`: the controller cuts the power of the joints and the brakes engage, wherever they are. If the SDK's process
is dead, the dashboard ends the program, which brakes too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hardware.arm import (
    ArmError,
    ArmSpec,
    ArmState,
    Array,
    BusLost,
    Category,
    Clock,
    NoAnswer,
    Refused,
    StopReport,
    vector,
)
from hardware.arms.child import Child
from hardware.arms.ur_dashboard import Dashboard
from hardware.clock import RealClock

NAMES = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
POWER_OFF, IDLE, RUNNING = 3, 5, 7
MODES = {-1: "no controller", 0: "disconnected", 1: "confirm safety", 2: "booting", 3: "power off", 4: "powering on"}
MODES |= {5: "idle, brakes on", 6: "backdrive", 7: "running", 8: "updating firmware"}
PLAYING = 2
# Bits of safety_status_bits (UR's RTDE guide); 0 is normal, 1 reduced mode, 10 says again what the others do.
SAFETY = {
    2: "protective_stop",
    3: "recovery_mode",
    4: "safeguard_stop",
    5: "system_estop",
    6: "robot_estop",
    7: "estop",
    8: "safety_violation",
    9: "safety_fault",
}
STILL = 0.01


class UR:
    """`host`: its address. `period`: seconds between two writes. `lookahead` [0.03, 0.2] s and `gain` [100, 2000] are
    servoJ's. `watchdog_hz`: with fewer writes a second the controller ends the script, which brakes. `answer`: seconds
    that the SDK may take; `fresh`, `lost`: how old data may be, in seconds, to be believed, and to be waited for."""

    def __init__(
        self,
        host: str,
        *,
        period: float = 0.01,
        lookahead: float = 0.1,
        gain: float = 300.0,
        watchdog_hz: float = 10.0,
        answer: float = 0.1,
        fresh: float = 0.02,
        lost: float = 0.1,
        hertz: float = 500.0,
        clock: Clock | None = None,
    ) -> None:
        for what, value, low, high in (
            ("period", period, 0.002, 0.1),
            ("lookahead", lookahead, 0.03, 0.2),
            ("gain", gain, 100, 2000),
            ("watchdog_hz", watchdog_hz, 1, 500),
        ):
            if not low <= value <= high:
                raise ValueError(f"{what} is {value!r}; it lies within [{low:g}, {high:g}]")
        if not 0 < fresh <= lost < math.inf or not 0 < answer < math.inf:
            raise ValueError(
                f"answer, fresh, lost are {answer}, {fresh}, {lost} s; give numbers above 0, fresh <= lost"
            )
        self.spec = ArmSpec("ur", NAMES, frozenset({"velocity", "temperature", "estop", "watchdog"}), 2)
        self.host, self.period, self.lookahead, self.gain, self.watchdog_hz = host, period, lookahead, gain, watchdog_hz
        self._answer, self._fresh, self._limit, self._hertz = answer, round(fresh * 1e9), round(lost * 1e9), hertz
        self._clock = clock or RealClock()
        self._dashboard = Dashboard(host)
        self._child: Child | None = None
        self._lost = "it is not open; open it"
        self._script = False
        self._stamp, self._taken, self._seq = -1.0, 0, 0

    def open(self) -> None:
        self.close()
        child = Child(sys.executable, Path(__file__).with_name("ur_process.py"), f"ur_rtde for {self.host}")
        try:
            first = child.ask(5.0, do="open", host=self.host, hertz=self._hertz)
            self._dashboard.ask("robotmode", 1.0)  # the way to cut the power is open before anything has any
        except ArmError:
            child.end()
            raise
        self._child, self._lost, self._script = child, "", False
        self._stamp, self._taken = first["stamp"], self._clock.now_ns()

    def close(self) -> None:
        """A script that still runs is ended by its watchdog, which brakes; the power of the joints stays."""
        if self._child is not None:
            self._child.end()
        self._dashboard.close()
        self._child, self._script, self._lost = None, False, "it is not open; open it"

    def read(self) -> ArmState:
        found = self._ask(do="read")
        self._judge(found)
        numbers = {key: np.array(found[key], dtype=np.float64) for key in ("q", "qd", "temperature")}
        if any(each.shape != (6,) for each in numbers.values()) or not np.isfinite([numbers["q"], numbers["qd"]]).all():
            raise NoAnswer(
                f"{self.host} reports joints {found['q']}, speeds {found['qd']}; six finite numbers are right"
            )
        return ArmState(
            position=numbers["q"],
            velocity=numbers["qd"],
            effort=np.full(6, np.nan),  # it reports currents; torques need a model of the motors
            temperature=numbers["temperature"],
            powered=np.full(6, found["mode"] == RUNNING),
            faults=self._faults(found),
            seq=self._seq,
            time_ns=self._taken,
        )

    def write(self, position: Array) -> None:
        q = vector("position", position, 6)
        found = self._ask(do="write", q=q.tolist(), period=self.period, lookahead=self.lookahead, gain=self.gain)
        self._judge(found)
        if not found["obeyed"]:
            raise NoAnswer(f"{self.host} did not take the target: its script has ended or it is stopped; read says why")

    def enable(self) -> None:
        """Takes up to five seconds, like `open`: powers what is off, then uploads the control script. Nothing moves: it
        is told where to go by `write` alone. A robot that was off takes longer to wake up; then Refused says so."""
        if self._dashboard.ask("is in remote control", 1.0).lower() != "true":
            raise Refused(f"{self.host} is in local control; switch it to remote control on the teach pendant")
        self._script = False
        if faults := self.read().faults:
            raise Refused(f"{self.host} reports {', '.join(faults)}; clear it on the teach pendant first")
        self._wake()
        self._judge(self._ask(5.0, do="enable", watchdog_hz=self.watchdog_hz))
        self._script = True

    def stop(self, category: Category) -> StopReport:
        begin = self._clock.now_ns()
        seen = False
        if category != 0:
            self._brake()
            seen = self._stands(begin + 60_000_000)
        if category != 2:
            self._script = False
            self._say("power off")
            seen = self._off(begin + 90_000_000)
        done = NAMES if seen else ()
        return StopReport(category, done, () if done else NAMES, (self._clock.now_ns() - begin) / 1e9)

    def _ask(self, seconds: float | None = None, **request: Any) -> dict[str, Any]:
        if self._child is None:
            raise BusLost(f"{self.host}: {self._lost}")
        try:
            return self._child.ask(seconds or self._answer, **request)
        except BusLost as error:
            self._lose(str(error))
            raise

    def _judge(self, found: dict[str, Any]) -> None:
        """Only a time stamp that advances shows the controller to be there: the SDK serves the last joints for ever."""
        if not found["connected"]:
            words = self._child.last_words() if self._child else ""
            raise self._lose(f"the connection broke; close and open again. ur_rtde said: {words}")
        if (stamp := found.get("stamp")) is None:
            return
        now = self._clock.now_ns()
        if stamp < self._stamp:
            raise self._lose(f"the controller's time went from {self._stamp} s to {stamp} s: it was started anew")
        if stamp > self._stamp:
            self._stamp, self._taken, self._seq = stamp, now, self._seq + 1
        elif now - self._taken > self._limit:
            raise self._lose(f"the controller has sent nothing new for {(now - self._taken) / 1e9:.3f} s")
        elif now - self._taken > self._fresh:
            raise NoAnswer(f"{self.host} has sent nothing new for {(now - self._taken) / 1e6:.0f} ms")

    def _lose(self, why: str) -> BusLost:
        if self._child is not None:
            self._child.end()
        self._child, self._lost = None, why
        return BusLost(f"{self.host}: {why}")

    def _faults(self, found: dict[str, Any]) -> tuple[str, ...]:
        faults = [word for bit, word in SAFETY.items() if found["safety"] >> bit & 1]
        if self._script and found["runtime"] != PLAYING:
            faults.append("script_ended")
        return tuple(faults)

    def _wake(self) -> None:
        told: set[str] = set()
        due = self._clock.now_ns() + 4_000_000_000
        while (mode := self._ask(do="read")["mode"]) != RUNNING:
            line = {POWER_OFF: "power on", IDLE: "brake release"}.get(mode)
            if line and line not in told:
                self._dashboard.ask(line, 1.0)
                told.add(line)
            if self._clock.now_ns() > due:
                raise Refused(
                    f"{self.host} is still waking up ({MODES.get(mode, mode)}); enable it again in some seconds"
                )
            self._clock.sleep_until(self._clock.now_ns() + 20_000_000)

    def _brake(self) -> None:
        """By the script, which goes on holding; by ending the program where there is no script to ask."""
        try:
            told = self._ask(do="stop")["told"]
        except ArmError:
            told = False
        if not told:
            self._say("stop")

    def _stands(self, due: int) -> bool:
        def so() -> bool:
            found = self._ask(do="read")
            self._judge(found)
            return not found["stopping"] and bool(np.abs(found["qd"]).max() < STILL)

        return self._comes(due, so)

    def _off(self, due: int) -> bool:
        """Asked of the dashboard, which answers though the SDK is dead."""
        return self._comes(due, lambda: "POWER_OFF" in (self._say("robotmode") or ""))

    def _comes(self, due: int, so: Callable[[], bool]) -> bool:
        while True:
            try:
                if so():
                    return True
            except NoAnswer:
                pass
            except BusLost:
                return False
            if self._clock.now_ns() >= due:
                return False
            self._clock.sleep_until(self._clock.now_ns() + 4_000_000)

    def _say(self, line: str) -> str | None:
        try:
            return self._dashboard.ask(line, self._answer / 2)
        except ArmError:
            return None
