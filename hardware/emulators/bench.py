"""What the servos of an emulated bus have in common: a joint each, counts, power, and a record of all orders."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from hardware.arms.calibration import Servo
from hardware.emulators.physics import Joints

KEPT = 20_000
"""Goals that the record keeps one by one; of all it keeps number, lowest and highest."""


class Bench:
    """Servos at their joints. `record` is the oracle of tests: every write of a goal, with its time and whether the
    servo had power, and every change of power."""

    def __init__(self, joints: Joints, servos: Sequence[Servo]) -> None:
        self.joints = joints
        self.servos = {servo.id: servo for servo in servos}
        self.joint = {servo.id: index for index, servo in enumerate(servos)}
        self.now = 0.0
        self.clear()

    def clear(self) -> None:
        """No faults, nothing on record."""
        self.dead: set[int] = set()
        self.jump = dict.fromkeys(self.servos, 0)
        self.status = dict.fromkeys(self.servos, 0)
        self.celsius = dict.fromkeys(self.servos, 30)
        self.forget()

    def forget(self) -> None:
        self._goals: deque[tuple[float, int, int, bool]] = deque(maxlen=KEPT)
        self._powers: deque[tuple[float, int, bool]] = deque(maxlen=KEPT)
        self._counts = dict.fromkeys(self.servos, 0)
        self._lowest: dict[int, int] = {}
        self._highest: dict[int, int] = {}

    def record(self) -> dict[str, Any]:
        return {
            "goals": list(self._goals),
            "powers": list(self._powers),
            "counts": self._counts,
            "lowest": self._lowest,
            "highest": self._highest,
        }

    def powered(self, number: int) -> bool:
        return bool(self.joints.powered[self.joint[number]])

    def ticks(self, number: int) -> int:
        """What the encoder of a servo counts, whatever its joint is doing."""
        servo = self.servos[number]
        return servo.ticks(float(self.joints.position[self.joint[number]])) + self.jump[number]

    def trouble(self, number: int) -> int:
        """The bits of its status; both makers have the same one for heat."""
        return self.status[number] | (0x04 if self.celsius[number] > 70 else 0)

    def speed(self, number: int) -> float:
        """Ticks a second."""
        servo = self.servos[number]
        return float(self.joints.velocity[self.joint[number]]) * servo.sign * servo.turn / (2 * math.pi)

    def effort(self, number: int) -> float:
        """As a part of the greatest, with the sign of the count."""
        joint = self.joint[number]
        return float(self.joints.effort[joint]) / self.joints.hinges[joint].torque * self.servos[number].sign

    def told(self, number: int, ticks: int) -> None:
        """A write of a goal, as it came, whether the servo takes it or not."""
        self._goals.append((self.now, number, ticks, self.powered(number)))
        self._counts[number] += 1
        self._lowest[number] = min(ticks, self._lowest.get(number, ticks))
        self._highest[number] = max(ticks, self._highest.get(number, ticks))

    def aim(self, number: int, ticks: int) -> None:
        """Where the servo goes as soon as it has power."""
        goal = self.joints.goal.copy()
        goal[self.joint[number]] = self.servos[number].angle(ticks - self.jump[number])
        self.joints.set_goal(goal)

    def power(self, number: int, on: bool) -> None:
        if on != self.powered(number):
            self._powers.append((self.now, number, on))
        self.joints.power(self.joint[number], on)

    def profile(self, number: int, ticks_a_second: float) -> None:
        """The speed of the servo's profile; 0 is its own greatest."""
        joint = self.joint[number]
        greatest = self.joints.hinges[joint].speed
        asked = ticks_a_second * 2 * math.pi / self.servos[number].turn
        self.joints.speed[joint] = min(greatest, asked) if asked > 0 else greatest

    def state(self) -> dict[str, Any]:
        """What is true of the arm, past every wire."""
        return {
            "now": self.now,
            "position": np.round(self.joints.position, 9).tolist(),
            "velocity": np.round(self.joints.velocity, 9).tolist(),
            "goal": np.round(self.joints.goal, 9).tolist(),
            "powered": self.joints.powered.tolist(),
            "ticks": [self.ticks(number) for number in self.servos],
        }
