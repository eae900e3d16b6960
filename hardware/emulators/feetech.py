"""Feetech STS3215 servos, byte for byte: frames and control table (Feetech's memory map of the STS series)."""

from __future__ import annotations

from hardware.arms.calibration import Servo
from hardware.emulators.bench import Bench

PING, READ, WRITE, LATER, ACTION, SYNC_READ, SYNC_WRITE, ALL = 1, 2, 3, 4, 5, 0x82, 0x83, 0xFE
LIMITS, OFFSET, TORQUE, GOAL, SPEED, LOCK, PRESENT, STATUS = 9, 31, 40, 42, 46, 55, 56, 65
SIZE, EEPROM = 128, 40
_FIXED = {*range(5), *range(56, SIZE)}  # written in vain


def signed(value: int, bit: int) -> int:
    """Of a magnitude whose sign is a bit."""
    return -(value & ~(1 << bit)) if value & 1 << bit else value


def unsigned(value: int, bit: int) -> int:
    return min(-value, (1 << bit) - 1) | 1 << bit if value < 0 else min(value, (1 << bit) - 1)


def frame(number: int, instruction: int, data: bytes) -> bytes:
    """FF FF, id, length, instruction or error, data, and the inverse of their sum."""
    body = bytes((number, len(data) + 2, instruction)) + data
    return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


def take(buffer: bytearray) -> bytes | None:
    """The first whole frame with a true sum; it and what came before it are removed. None: more bytes are needed."""
    while (start := buffer.find(b"\xff\xff")) >= 0:
        del buffer[:start]
        if len(buffer) < 4:
            return None
        if buffer[2] == 0xFF or buffer[3] < 2:
            del buffer[0]
            continue
        if len(buffer) < (end := buffer[3] + 4):
            return None
        found = bytes(buffer[:end])
        if ~sum(found[2:-1]) & 0xFF == found[-1]:
            del buffer[:end]
            return found
        del buffer[0]
    del buffer[: max(0, len(buffer) - 1)]
    return None


class Feetech:
    """`answer` does what a frame says, and returns who says what to it."""

    take, torque = staticmethod(take), TORQUE

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.memory: dict[int, bytearray] = {}
        self._saved: dict[int, bytes] = {}
        self.reset()

    def reset(self) -> None:
        """As made and calibrated, without power."""
        self._waiting: dict[int, tuple[int, bytes]] = {}
        for number, servo in self.bench.servos.items():
            self._saved[number] = bytes(_fresh(servo))
            self.reboot(number)

    def reboot(self, number: int) -> None:
        """What its EEPROM does not hold is lost, power too."""
        self.memory[number] = bytearray(self._saved[number])
        self.memory[number][LOCK] = 1
        self._waiting.pop(number, None)
        self.bench.power(number, False)
        self.bench.profile(number, 0)

    def refresh(self) -> None:
        """The registers of what is measured."""
        for number, memory in self.memory.items():
            self._put(number, PRESENT, unsigned(self._seen(number) % self.bench.servos[number].turn, 15))
            self._put(number, PRESENT + 2, unsigned(round(self.bench.speed(number)), 15))
            self._put(number, PRESENT + 4, unsigned(round(1000 * self.bench.effort(number)), 10))
            memory[62], memory[63], memory[STATUS] = 74, self.bench.celsius[number], self.bench.trouble(number)

    def answer(self, packet: bytes) -> list[tuple[int, bytes]]:
        number, instruction, data = packet[2], packet[4], packet[5:-1]
        heard = [each for each in self.memory if number in (each, ALL) and each not in self.bench.dead]
        if instruction == SYNC_WRITE and len(data) >= 2:
            address, length = data[0], data[1]
            for start in range(2, len(data) - length, length + 1):
                if data[start] in heard:
                    self._write(data[start], address, data[start + 1 : start + 1 + length])
            return []
        if instruction == SYNC_READ and len(data) >= 2:
            return [self._says(each, self._read(each, data[0], data[1])) for each in data[2:] if each in heard]
        said = []
        for each in heard:
            kept = b""
            if instruction == READ and len(data) == 2:
                kept = self._read(each, *data)
            elif instruction == WRITE and data:
                self._write(each, data[0], data[1:])
            elif instruction == LATER and data:
                self._waiting[each] = data[0], data[1:]
            elif instruction == ACTION:
                if each in self._waiting:
                    self._write(each, *self._waiting.pop(each))
            elif instruction != PING:
                continue
            said.append(self._says(each, kept))
        return said if number != ALL or instruction == PING else []

    def _says(self, number: int, data: bytes) -> tuple[int, bytes]:
        return number, frame(number, self.bench.trouble(number), data)

    def _read(self, number: int, address: int, length: int) -> bytes:
        return bytes(self.memory[number][address : address + length])

    def _put(self, number: int, address: int, value: int) -> None:
        self.memory[number][address : address + 2] = value.to_bytes(2, "little")

    def _word(self, number: int, address: int) -> int:
        return int.from_bytes(self.memory[number][address : address + 2], "little")

    def _shift(self, number: int) -> int:
        """By how many ticks its offset differs from the calibrated one."""
        return signed(self._word(number, OFFSET), 11) - self.bench.servos[number].offset

    def _seen(self, number: int) -> int:
        return self.bench.ticks(number) - self._shift(number)

    def _write(self, number: int, address: int, data: bytes) -> None:
        memory = self.memory[number]
        had = memory[TORQUE]
        touched = set(range(address, min(SIZE, address + len(data)))) - _FIXED
        for at in touched:
            memory[at] = data[at - address]
        if not memory[LOCK]:
            self._saved[number] = bytes(memory[:EEPROM]) + self._saved[number][EEPROM:]
        if TORQUE in touched:
            self.bench.power(number, memory[TORQUE] == 1)
        if SPEED in touched or SPEED + 1 in touched:
            self.bench.profile(number, self._word(number, SPEED))
        told = GOAL in touched or GOAL + 1 in touched
        if told or memory[TORQUE] != had:
            asked = signed(self._word(number, GOAL), 15)
            # The servo itself keeps within its limits and says nothing of it.
            kept = min(max(asked, self._word(number, LIMITS)), self._word(number, LIMITS + 2))
            if told:
                self.bench.told(number, asked)
            self.bench.aim(number, kept + self._shift(number))


def _fresh(servo: Servo) -> bytearray:
    memory = bytearray(SIZE)
    memory[0], memory[1], memory[5] = 3, 10, servo.id
    for address, value in (
        (3, servo.model),
        (LIMITS, servo.low),
        (LIMITS + 2, servo.high),
        (16, 1000),
        (OFFSET, unsigned(servo.offset, 11)),
        (48, 1000),
    ):
        memory[address : address + 2] = value.to_bytes(2, "little")
    memory[13], memory[14], memory[15], memory[8] = 70, 80, 40, 1
    return memory
