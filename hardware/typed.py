"""Fields of records on a wire: what is sent for each, and what is believed of what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import numpy as np

from hardware.arm import Array


class LinkError(ValueError):
    """A frame that says nothing sensible; the sentence says what is wrong with it."""


def plain(value: Any) -> Any:
    """What msgpack has a word for."""
    if isinstance(value, np.ndarray):
        return [list(value.shape), np.ascontiguousarray(value, "<f8").tobytes()]
    return dict(value) if isinstance(value, Mapping) else value


def typed(kind: str, name: str, hint: Any, value: Any) -> Any:
    """What came, as its field's type has it. Raises LinkError."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is np.ndarray:
        return _array(kind, name, value)
    if origin is Literal and type(value) in (str, int) and value in inside:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(typed(kind, name, inside[0], part) for part in value)
    if origin is Mapping and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: typed(kind, name, inside[1], part) for key, part in value.items()}
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise LinkError(f"{name} of a {kind} is {str(value)[:50]!r}; send {getattr(hint, '__name__', hint)}")


def _array(kind: str, name: str, value: Any) -> Array:
    try:
        shape, data = value
        found = np.frombuffer(data, "<f8").reshape([int(n) for n in shape])
    except (TypeError, ValueError) as error:
        raise LinkError(f"{name} of a {kind} is no vector ({str(error)[:100]}); send [shape, float64 bytes]") from None
    return found.astype(np.float64)
