"""How policy servers and their clients speak: openpi's WebSocket form, so that either end may be somebody else's.

The server says a map of metadata first. From then on the client sends one map, the observation, and the server answers
with one, which has `actions` [H,n]; an error is a text instead. Maps are msgpack, arrays in them {b"__ndarray__": True,
b"data", b"dtype", b"shape"} and numpy's numbers {b"__npgeneric__": True, b"data", b"dtype"}. Never pickle.

A robot of ours sends, each name after `observation/`: `state` and `velocity` [n] as measured (rad, rad/s; an arm that
measures no velocities sends none), `command` [n] (rad, where it is told to be at that moment), `clock` (s since the
start), `scene/NAME` for every thing of the scene, `CAMERA` uint8 [H,W,3]; and `prompt`, the task. A server of ours
says in its metadata `contract` (the text of a contract.json in the robot's terms) and `every` (after how many steps it
wants to be asked again; without, half a chunk), and in its answer also `obs` and `act`: what the policy saw, and said
in its own terms.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

MOST_BYTES = 8 << 20
"""Of a message."""
STATE, VELOCITY, COMMAND = "observation/state", "observation/velocity", "observation/command"
CLOCK, SCENE = "observation/clock", "observation/scene/"
_ARRAY, _NUMBER = b"__ndarray__", b"__npgeneric__"


class WireError(ValueError):
    """A message that says nothing sensible; the sentence says what is wrong with it."""


def pack(message: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(message, default=_plain)
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """Arrays in it can be written to. Raises WireError, and nothing else, whatever the bytes are."""
    if len(data) > MOST_BYTES:
        raise WireError(f"a message of {len(data)} bytes is too long; {MOST_BYTES} are the most")
    try:
        found = msgpack.unpackb(
            data,
            object_hook=_array,
            max_str_len=1 << 16,
            max_bin_len=MOST_BYTES,
            max_array_len=1 << 16,
            max_map_len=1 << 10,
            max_ext_len=0,
        )
    except Exception as error:  # a stranger's bytes may raise anything
        raise WireError(f"{len(data)} bytes are no message ({type(error).__name__}: {str(error)[:100]})") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise WireError(f"a message is {str(found)[:50]}; send a map")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        if isinstance(value, np.ndarray):
            return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
        return {_NUMBER: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} {getattr(value, 'dtype', '')} cannot be sent")


def _array(found: dict[Any, Any]) -> Any:
    if _ARRAY not in found and _NUMBER not in found:
        return found
    dtype = np.dtype(found[b"dtype"])
    if dtype.kind not in "biuf" or dtype.subdtype is not None:
        raise ValueError(f"dtype {dtype}")
    if _ARRAY in found:
        return np.frombuffer(found[b"data"], dtype).reshape([int(n) for n in found[b"shape"]]).copy()
    return dtype.type(found[b"data"])
