"""RTDE's frames and variables for PolyScope 5.11 (Universal Robots, "Real-Time Data Exchange (RTDE) Guide")."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

CODES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT32": "I",
    "UINT64": "Q",
    "INT32": "i",
    "DOUBLE": "d",
    "VECTOR3D": "3d",
    "VECTOR6D": "6d",
    "VECTOR6INT32": "6i",
    "VECTOR6UINT32": "6I",
}

_OF_TYPE = {
    "DOUBLE": "timestamp actual_execution_time speed_scaling target_speed_fraction actual_momentum actual_main_voltage "
    "actual_robot_voltage actual_robot_current standard_analog_input0 standard_analog_input1 standard_analog_output0 "
    "standard_analog_output1 payload",
    "VECTOR6D": "target_q target_qd target_qdd target_current target_moment actual_q actual_qd actual_current "
    "joint_control_output actual_TCP_pose actual_TCP_speed actual_TCP_force target_TCP_pose target_TCP_speed "
    "joint_temperatures actual_joint_voltage ft_raw_wrench payload_inertia external_force_torque",
    "VECTOR3D": "actual_tool_accelerometer payload_cog elbow_position elbow_velocity",
    "VECTOR6INT32": "joint_mode",
    "INT32": "robot_mode safety_mode",
    "UINT32": "runtime_state robot_status_bits safety_status_bits",
    "UINT64": "actual_digital_input_bits actual_digital_output_bits",
}
_TYPES = {name: kind for kind, names in _OF_TYPE.items() for name in names.split()}
_REGISTER = re.compile(r"(in|out)put_(int|double|bit)_registers?_?\d+(_to_\d+)?")
_REGISTERS = {"int": "INT32", "double": "DOUBLE", "bit": "UINT32"}
_INPUTS = {
    "speed_slider_mask": "UINT32",
    "speed_slider_fraction": "DOUBLE",
    "standard_digital_output_mask": "UINT8",
    "standard_digital_output": "UINT8",
    "configurable_digital_output_mask": "UINT8",
    "configurable_digital_output": "UINT8",
    "tool_digital_output_mask": "UINT8",
    "tool_digital_output": "UINT8",
    "standard_analog_output_mask": "UINT8",
    "standard_analog_output_type": "UINT8",
    "standard_analog_output_0": "DOUBLE",
    "standard_analog_output_1": "DOUBLE",
}


def type_of(name: str) -> str:
    """As the controller names it; NOT_FOUND for what it does not know."""
    if name in _TYPES:
        return _TYPES[name]
    if found := _REGISTER.fullmatch(name):
        return _REGISTERS[found[2]]
    return _INPUTS.get(name, "NOT_FOUND")


@dataclass(frozen=True)
class Recipe:
    """What one data package holds, in this order."""

    names: tuple[str, ...]

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(type_of(name) for name in self.names)

    def pack(self, values: dict[str, tuple[float, ...]]) -> bytes:
        body = b""
        for name, kind in zip(self.names, self.types, strict=True):
            code = CODES[kind]
            size = int(code[0]) if len(code) > 1 else 1
            given = values.get(name, (0,) * size)
            body += struct.pack(">" + code, *(given if code[-1] == "d" else map(int, given)))
        return body

    def unpack(self, body: bytes) -> dict[str, tuple[float, ...]]:
        """Raises struct.error when `body` is too short: the SDK sends such packages when it is given five joints."""
        values, start = {}, 0
        for name, kind in zip(self.names, self.types, strict=True):
            values[name] = struct.unpack_from(">" + CODES[kind], body, start)
            start += struct.calcsize(">" + CODES[kind])
        return values


def recipe(names: bytes) -> Recipe:
    return Recipe(tuple(name for name in names.decode().split(",") if name))


def frame(kind: str, body: bytes) -> bytes:
    """The size counts its own three bytes of header; `kind` is a letter."""
    return struct.pack(">HB", len(body) + 3, ord(kind)) + body


def frames(buffer: bytearray) -> Iterator[tuple[str, bytes]]:
    """Takes whole frames off the front of `buffer`."""
    while len(buffer) >= 3:
        size = max(3, int.from_bytes(buffer[:2], "big"))
        if len(buffer) < size:
            return
        kind, body = chr(buffer[2]), bytes(buffer[3:size])
        del buffer[:size]
        yield kind, body
