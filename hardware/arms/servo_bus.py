"""A servo bus over a maker's unmodified SDK, with the guards that it lacks. The SDK makes and takes apart packets, one
transaction at a time; who answered, with how many bytes, and how long to wait is decided here."""

from __future__ import annotations

import contextlib
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import serial

from hardware.arm import ArmError, BusLost, NoAnswer, Refused
from hardware.arms.line import Answer, Sdk

ALL = 0xFE
"""The id that every servo listens to and none answers."""
LATE = 0.05
"""Seconds after which an answer that was missed is taken never to come."""


class Bus:
    """Raises NoAnswer with the names of those who did not answer, BusLost once the port fails, for good.

    A servo that missed an answer is doubted: its next answer counts only after it has answered a question that no other
    answer fits. That is a read of its first registers, of a length that is used for nothing else and never twice in
    turn, so that what comes late is known for what it is.
    """

    def __init__(self, sdk: Sdk, name: str, names: dict[int, str], baud: int, spare_ms: float, budget_s: float) -> None:
        self.name, self.names, self._sdk, self._baud = name, names, sdk, baud
        self._spare_ms, self._budget_ns = spare_ms, int(budget_s * 1e9)
        self._port: Any = None
        self._lock = threading.Lock()
        self._doubted: set[int] = set()
        self._turn = 0
        self.asked, self.failed = 0, 0  # transactions, and those of them that did not come out well

    def open(self) -> None:
        self.close()
        port = self._sdk.port(self.name)
        port.spare_ms = self._spare_ms
        try:
            known = port.setBaudRate(self._baud)
        except serial.SerialException as error:
            if "exclusively lock" in str(error):
                raise Refused(f"{self.name} is in use by another process; stop that first") from None
            raise BusLost(
                f"{self.name} cannot be opened ({error}); plug the adapter in, or name another port"
            ) from None
        except (OSError, termios.error) as error:
            raise BusLost(
                f"{self.name} cannot be opened ({error}); plug the adapter in, or name another port"
            ) from None
        if not known:
            raise Refused(f"{self.name} cannot be set to {self._baud} baud; give a speed that the servos know")
        self._port, self._doubted, self._turn = port, set(), 0

    def patience(self, spare_ms: float, budget_s: float) -> None:
        """From now on, as given at first."""
        self._spare_ms, self._budget_ns = spare_ms, int(budget_s * 1e9)
        if self._port is not None:
            self._port.spare_ms = spare_ms

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """Within, questions are asked again for longer than a tick may cost."""
        budget, self._budget_ns = self._budget_ns, max(self._budget_ns, 200_000_000)
        try:
            yield
        finally:
            self._budget_ns = budget

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(Exception):
                port.closePort()

    def read(self, number: int, address: int, length: int) -> Answer:
        return self.read_all([number], address, length)[number]

    def read_all(self, numbers: Sequence[int], address: int, length: int) -> dict[int, Answer]:
        """One request, one answer of each."""
        found, missing = self.read_some(numbers, address, length)
        if missing:
            raise self._no_answer(missing)
        return found

    def read_some(self, numbers: Sequence[int], address: int, length: int) -> tuple[dict[int, Answer], list[int]]:
        """Those who answered, and who did not. Asks once more while that fits into the time a tick may cost."""
        begun = time.monotonic_ns()
        found: dict[int, Answer] = {}
        asked = self._trusted(numbers, begun)
        while asked:
            found |= self._ask(asked, length, self._question(asked, address, length))
            missing = [number for number in asked if number not in found]
            self._doubted.update(missing)
            wait = int((len(missing) * (length + self._sdk.overhead) * 1e4 / self._baud + self._spare_ms) * 1e6)
            if not missing or time.monotonic_ns() - begun + wait > self._budget_ns:
                break
            asked = self._trusted(missing, begun)
        return found, [number for number in numbers if number not in found]

    def write(self, number: int, address: int, length: int, value: int, *, trusted: bool = True) -> Answer:
        """What the servo said to it. With `trusted=False` it is sent to one that is doubted too."""
        if trusted and number in self._doubted and not self._settled(number):
            raise self._no_answer([number])
        data = list(value.to_bytes(length, "little", signed=value < 0))

        def send(port: Any) -> int:
            sent: int = self._sdk.packets.writeTxOnly(port, number, address, length, data)
            port.setPacketTimeout(self._sdk.overhead + 2 * length)
            return sent

        answers = self._ask([number], 0, send)
        if number not in answers:
            self._doubted.add(number)
            raise self._no_answer([number])
        return answers[number]

    def write_all(self, address: int, length: int, values: dict[int, int]) -> None:
        """One packet, which nobody answers."""
        flat: list[int] = []
        for number, value in values.items():
            flat += [number, *value.to_bytes(length, "little", signed=value < 0)]
        self._ask([], 0, lambda port: self._sdk.packets.syncWriteTxOnly(port, address, length, flat, len(flat)))

    def broadcast(self, address: int, length: int, value: int) -> None:
        data = list(value.to_bytes(length, "little"))
        self._ask([], 0, lambda port: self._sdk.packets.writeTxOnly(port, ALL, address, length, data))

    def alone(self, number: int) -> Answer:
        """The first registers of a servo. Raises Refused where more than one answer comes, or bytes but none whole."""
        heard, twice = False, 0
        for _ in range(5):
            length = self._nonce()
            found = self._ask([number], length, self._question([number], 0, length))
            heard |= not self._silent
            if number not in found:
                time.sleep(LATE)  # or its answer would look like a second one to the next question
                continue
            time.sleep(0.002)  # for a second answer
            if not self._more():
                self._doubted.discard(number)
                return found[number]
            twice += 1
            if twice == 2:  # once may still be an answer to somebody who is gone
                raise Refused(f"two servos answer as {self._who(number)}; give one of them an id of its own")
        if not heard:
            raise self._no_answer([number])
        raise Refused(
            f"{self._who(number)} answers in bytes that make no sense: two servos have that id, or the wiring or the "
            f"speed of {self._baud} baud is wrong"
        )

    def _who(self, number: int) -> str:
        return f"servo {number} ({self.names.get(number, 'not of this arm')})"

    def _no_answer(self, numbers: Sequence[int]) -> NoAnswer:
        who = ", ".join(self._who(number) for number in numbers)
        return NoAnswer(
            f"no answer from {who} on {self.name}; look at cables and power", tuple(self.names[n] for n in numbers)
        )

    def _nonce(self) -> int:
        self._turn = (self._turn + 1) % 8
        return 17 + self._turn

    def _settled(self, number: int) -> bool:
        """Whether a doubted servo answers what only this question can be answered with."""
        length = self._nonce()
        if number in self._ask([number], length, self._question([number], 0, length)):
            self._doubted.discard(number)
        return number not in self._doubted

    def _trusted(self, numbers: Sequence[int], begun: int) -> list[int]:
        """Who is not doubted, or no longer. Silent ones cost time: with the budget gone the others stay doubted."""
        return [
            number
            for number in numbers
            if number not in self._doubted or (time.monotonic_ns() - begun < self._budget_ns and self._settled(number))
        ]

    def _question(self, numbers: Sequence[int], address: int, length: int) -> Callable[[Any], int]:
        def send(port: Any) -> int:
            if len(numbers) == 1:
                sent: int = self._sdk.packets.readTx(port, numbers[0], address, length)
            else:
                sent = self._sdk.sync_read(port, address, length, list(numbers))
            port.setPacketTimeout(len(numbers) * (length + self._sdk.overhead) + self._sdk.overhead)
            return sent

        return send

    def _sent(self, port: Any, send: Callable[[Any], int], numbers: Sequence[int], length: int) -> int:
        try:
            return send(port)
        except serial.SerialTimeoutException:  # said also after a stall of ours, when all was written
            if not numbers:
                self.failed += 1
                raise NoAnswer(f"{self.name} took no bytes in time; look at the adapter") from None
            port.setPacketTimeout(len(numbers) * (length + self._sdk.overhead) + self._sdk.overhead)
            return 0

    def _more(self) -> int:
        try:
            return int(self._port.getBytesAvailable())
        except (OSError, termios.error) as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> BusLost:
        self.close()
        return BusLost(f"{self.name} is gone ({error}); plug the adapter in, then open the arm again")

    def _ask(self, numbers: Sequence[int], length: int, send: Callable[[Any], int]) -> dict[int, Answer]:
        """One transaction: sends, then takes answers of `length` bytes until all have come or the time is over."""
        with self._lock:
            port = self._port
            if port is None:
                raise BusLost(f"{self.name} is not open; open the arm")
            self.asked += 1
            found: dict[int, Answer] = {}
            spoilt = 0
            self._silent = True
            try:
                if (result := self._sent(port, send, numbers, length)) != 0:
                    raise ArmError(
                        f"the SDK sent nothing to {self.name} (result {result}); this is a defect of the driver"
                    )
                # Of those not yet heard, each may have been spoilt: then there is nothing to wait for.
                while len(found) + spoilt < len(numbers):
                    try:
                        packet, result = self._sdk.receive(port)
                        number, error, data = self._sdk.take(packet) if result == 0 else (-1, 0, b"")
                    except (IndexError, TypeError, ValueError):  # the SDK trips over some packets cut short
                        result, number = 1, -1
                    self._silent &= result == self._sdk.timeout
                    if port.packet_timeout == 0:  # the SDK's word for a time that is over
                        break
                    if result != 0:
                        spoilt += 1
                    elif number in numbers and number not in found and len(data) == length:
                        found[number] = Answer(error, data)
            except (OSError, termios.error) as error:
                raise self._lost(error) from None
            finally:
                port.is_using = False  # an SDK leaves it set when anything is raised, and then refuses for ever
            if len(found) < len(numbers):
                self.failed += 1
            return found
