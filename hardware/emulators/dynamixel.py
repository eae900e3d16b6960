"""Dynamixel X servos, byte for byte: Protocol 2.0 and the control table (ROBOTIS e-Manual)."""

from __future__ import annotations

import math

from hardware.arms.calibration import Servo
from hardware.emulators.bench import Bench

PING, READ, WRITE, LATER, ACTION, REBOOT, ALL = 1, 2, 3, 4, 5, 8, 0xFE
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ, BULK_READ, BULK_WRITE, FAST_BULK_READ = 0x82, 0x83, 0x8A, 0x92, 0x93, 0x9A
MODE, OFFSET, HIGHEST, LOWEST, SHUTDOWN, TORQUE, ERROR, WATCHDOG = 11, 20, 48, 52, 63, 64, 70, 98
PROFILE, GOAL, CURRENT, VELOCITY, POSITION, VOLTS, CELSIUS = 112, 116, 126, 128, 132, 144, 146
SIZE, EEPROM, POSITION_MODE = 147, 64, 3
INSTRUCTION_ERROR, RANGE_ERROR, LENGTH_ERROR, LIMIT_ERROR, ACCESS_ERROR, ALERT = 2, 4, 5, 6, 7, 0x80
VELOCITY_UNIT = 0.229 * 2 * math.pi / 60
"""Radians a second of one unit of the registers of speed."""

_READ_ONLY = {*range(7), 69, 70, *range(120, SIZE)}
_GOALS = {*range(100, 108), *range(116, 120)}


def _table() -> list[int]:
    found = []
    for value in range(256):
        rest = value << 8
        for _ in range(8):
            rest = (rest << 1) ^ (0x8005 if rest & 0x8000 else 0)
        found.append(rest & 0xFFFF)
    return found


_CRC = _table()


def crc(data: bytes) -> int:
    """CRC-16 of polynomial 8005 hex from 0, not reflected."""
    rest = 0
    for byte in data:
        rest = (rest << 8 & 0xFFFF) ^ _CRC[rest >> 8 ^ byte]
    return rest


def frame(number: int, instruction: int, data: bytes) -> bytes:
    """With FD put after every FF FF FD in instruction and data, so that a header is found at the beginning only."""
    body = (bytes((instruction,)) + data).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    head = b"\xff\xff\xfd\x00" + bytes((number,)) + (len(body) + 2).to_bytes(2, "little") + body
    return head + crc(head).to_bytes(2, "little")


def take(buffer: bytearray) -> bytes | None:
    """The first whole frame with a true CRC, its body unstuffed; it and what came before it are removed. None: more
    bytes are needed."""
    while (start := buffer.find(b"\xff\xff\xfd\x00")) >= 0:
        del buffer[:start]
        if len(buffer) < 7:
            return None
        length = int.from_bytes(buffer[5:7], "little")
        if not 3 <= length <= 1024:
            del buffer[0]
            continue
        if len(buffer) < length + 7:
            return None
        found = bytes(buffer[: length + 7])
        if crc(found[:-2]) == int.from_bytes(found[-2:], "little"):
            del buffer[: length + 7]
            return found[:7] + found[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd") + found[-2:]
        del buffer[0]
    del buffer[: max(0, len(buffer) - 3)]
    return None


class Dynamixel:
    """`answer` does what a frame says, and returns who says what to it."""

    take, torque = staticmethod(take), TORQUE

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.memory: dict[int, bytearray] = {}
        self._saved: dict[int, bytes] = {}
        self._heard = 0.0
        self.reset()

    def reset(self) -> None:
        """As made and calibrated, without power."""
        self._waiting: dict[int, tuple[int, bytes]] = {}
        for number, servo in self.bench.servos.items():
            self._saved[number] = bytes(_fresh(servo))
            self.reboot(number)

    def reboot(self, number: int) -> None:
        """What its EEPROM does not hold is lost, power too, and every turn beyond the first."""
        self.memory[number] = bytearray(self._saved[number])
        self._waiting.pop(number, None)
        self.bench.power(number, False)
        self.bench.profile(number, 0)

    def refresh(self) -> None:
        """The registers of what is measured; servos that have heard nothing for too long stop."""
        for number, memory in self.memory.items():
            servo = self.bench.servos[number]
            self._put(number, CURRENT, 2, round(1000 * self.bench.effort(number)))
            speed = self.bench.speed(number) * 2 * math.pi / servo.turn / VELOCITY_UNIT
            self._put(number, VELOCITY, 4, round(speed))
            self._put(number, POSITION, 4, self.bench.ticks(number) + self._shift(number))
            memory[VOLTS], memory[CELSIUS] = 120, self.bench.celsius[number]
            memory[ERROR] = self.bench.trouble(number)
            if memory[ERROR] & memory[SHUTDOWN] and memory[TORQUE]:
                memory[TORQUE] = 0
                self.bench.power(number, False)
            if 0 < memory[WATCHDOG] < 128 and self.bench.now - self._heard > memory[WATCHDOG] * 0.02:
                memory[WATCHDOG] = 0xFF
                self.bench.aim(number, self.bench.ticks(number))

    def answer(self, packet: bytes) -> list[tuple[int, bytes]]:
        self._heard = self.bench.now
        number, instruction, data = packet[4], packet[7], packet[8:-2]
        heard = [each for each in self.memory if number in (each, ALL) and each not in self.bench.dead]
        if instruction in (SYNC_READ, FAST_SYNC_READ) and len(data) >= 4:
            address, length = _word(data, 0), _word(data, 2)
            asked = [(each, address, length) for each in data[4:]]
            return self._fast(asked, heard) if instruction == FAST_SYNC_READ else self._several(asked, heard)
        if instruction in (BULK_READ, FAST_BULK_READ):
            asked = [(data[at], _word(data, at + 1), _word(data, at + 3)) for at in range(0, len(data) - 4, 5)]
            return self._fast(asked, heard) if instruction == FAST_BULK_READ else self._several(asked, heard)
        if instruction == SYNC_WRITE and len(data) >= 4:
            length = _word(data, 2)
            for at in range(4, len(data) - length, length + 1):
                if data[at] in heard:
                    self._write(data[at], _word(data, 0), data[at + 1 : at + 1 + length])
            return []
        if instruction == BULK_WRITE:
            at = 0
            while at + 5 <= len(data):
                end = at + 5 + _word(data, at + 3)
                if data[at] in heard and end <= len(data):
                    self._write(data[at], _word(data, at + 1), data[at + 5 : end])
                at = end
            return []
        said = [self._single(each, instruction, data) for each in heard]
        return said if number != ALL or instruction == PING else []

    def _single(self, number: int, instruction: int, data: bytes) -> tuple[int, bytes]:
        error, kept = 0, b""
        if instruction == PING:
            kept = bytes(self.memory[number][0:2]) + bytes((self.memory[number][6],))
        elif instruction == READ and len(data) == 4:
            error, kept = self._read(number, _word(data, 0), _word(data, 2))
        elif instruction == WRITE and len(data) > 2:
            error = self._write(number, _word(data, 0), data[2:])
        elif instruction == LATER and len(data) > 2:
            self._waiting[number] = _word(data, 0), data[2:]
        elif instruction == ACTION:
            if number in self._waiting:
                error = self._write(number, *self._waiting.pop(number))
        elif instruction == REBOOT:
            self.bench.status[number] = 0
            self.reboot(number)
        else:
            error = INSTRUCTION_ERROR
        return self._says(number, error, kept)

    def _says(self, number: int, error: int, data: bytes) -> tuple[int, bytes]:
        return number, frame(number, 0x55, bytes((self._alert(number) | error,)) + data)

    def _alert(self, number: int) -> int:
        return ALERT if self.bench.trouble(number) else 0

    def _several(self, asked: list[tuple[int, int, int]], heard: list[int]) -> list[tuple[int, bytes]]:
        return [self._says(each, *self._read(each, at, length)) for each, at, length in asked if each in heard]

    def _fast(self, asked: list[tuple[int, int, int]], heard: list[int]) -> list[tuple[int, bytes]]:
        """One frame that all write at in turn, each with a CRC of all before; it ends where somebody is missing."""
        total = 1 + sum(length + 4 for _, _, length in asked)
        if total > 1024:
            return []
        whole = b"\xff\xff\xfd\x00" + bytes((ALL,)) + total.to_bytes(2, "little") + b"\x55"
        for each, address, length in asked:
            if each not in heard:
                break
            error, data = self._read(each, address, length)
            whole += bytes((self._alert(each) | error, each)) + data.ljust(length, b"\0")
            whole += crc(whole).to_bytes(2, "little")
        return [(asked[0][0], whole)] if asked and asked[0][0] in heard else []

    def _read(self, number: int, address: int, length: int) -> tuple[int, bytes]:
        if length < 1 or address + length > SIZE:
            return (ACCESS_ERROR, b"")
        return 0, bytes(self.memory[number][address : address + length])

    def _put(self, number: int, address: int, length: int, value: int) -> None:
        self.memory[number][address : address + length] = value.to_bytes(length, "little", signed=True)

    def _get(self, number: int, address: int) -> int:
        return int.from_bytes(self.memory[number][address : address + 4], "little", signed=True)

    def _shift(self, number: int) -> int:
        """By how many ticks its offset differs from the calibrated one."""
        return self._get(number, OFFSET) - self.bench.servos[number].offset

    def _write(self, number: int, address: int, data: bytes) -> int:
        """The error that the answer says; with one, nothing is written."""
        if not data:
            return LENGTH_ERROR
        memory = self.memory[number]
        touched = set(range(address, address + len(data)))
        if max(touched) >= SIZE or touched & _READ_ONLY or (min(touched) < EEPROM and memory[TORQUE]):
            return ACCESS_ERROR
        if touched & _GOALS and memory[WATCHDOG] == 0xFF:
            return RANGE_ERROR
        wanted = bytearray(memory)
        wanted[address : address + len(data)] = data
        goal = int.from_bytes(wanted[GOAL : GOAL + 4], "little", signed=True)
        aimed = not touched.isdisjoint(range(GOAL, GOAL + 4))
        if aimed:
            self.bench.told(number, goal)
            if wanted[MODE] == POSITION_MODE and not self._get(number, LOWEST) <= goal <= self._get(number, HIGHEST):
                return LIMIT_ERROR
        had = memory[TORQUE]
        if TORQUE in touched and wanted[TORQUE] and memory[ERROR] & memory[SHUTDOWN]:
            wanted[TORQUE] = 0  # only a reboot lets it have power again
        memory[:] = wanted
        self._saved[number] = bytes(memory[:EEPROM]) + self._saved[number][EEPROM:]
        if TORQUE in touched:
            self.bench.power(number, memory[TORQUE] == 1)
        if not touched.isdisjoint(range(PROFILE, PROFILE + 4)):
            turn = self.bench.servos[number].turn
            self.bench.profile(number, self._get(number, PROFILE) * VELOCITY_UNIT * turn / (2 * math.pi))
        if aimed:
            self.bench.aim(number, goal - self._shift(number))
        elif memory[TORQUE] and not had:
            self.bench.aim(number, self._get(number, GOAL) - self._shift(number))
        return 0


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _fresh(servo: Servo) -> bytearray:
    memory = bytearray(SIZE)
    memory[6], memory[7], memory[8], memory[MODE], memory[SHUTDOWN], memory[68] = (
        46,
        servo.id,
        3,
        POSITION_MODE,
        0x34,
        2,
    )
    for address, length, value in (
        (0, 2, servo.model),
        (OFFSET, 4, servo.offset),
        (44, 4, 200),
        (HIGHEST, 4, servo.high),
        (LOWEST, 4, servo.low),
        (GOAL, 4, servo.zero),
    ):
        memory[address : address + length] = value.to_bytes(length, "little", signed=True)
    memory[31] = 70
    return memory
