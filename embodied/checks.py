"""What every record is checked for, and the one error that says what is wrong with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_STEPS = 100_000
MAX_NAME = 200
MAX_TEXT = 10_000  # characters of anything that a person writes


class RecordError(ValueError):
    """A record that makes no sense; the sentence names the value and the mend."""


def check_name(what: str, value: object) -> None:
    """A name or id: any text of 1..MAX_NAME characters."""
    check_text(what, value)
    if not 1 <= len(str(value)) <= MAX_NAME:
        raise RecordError(f"{what} has {len(str(value))} characters: {str(value)[:40]!r}; give 1 to {MAX_NAME}")


def check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise RecordError(f"{what} is {value!r}; give text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{what} is {value!r}, which is no valid Unicode; remove the lone surrogate") from None


def check_written(what: str, value: object) -> None:
    """What a person writes: at most MAX_TEXT characters."""
    check_text(what, value)
    if len(str(value)) > MAX_TEXT:
        raise RecordError(f"{what} has {len(str(value))} characters; write at most {MAX_TEXT:,}")


def check_steps(what: str, steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise RecordError(f"{what} has {steps} steps; give 1 to {MAX_STEPS:,}")


def check_array(what: str, name: str, value: object, steps: int) -> None:
    """A numeric, finite array whose first axis is time."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise RecordError(f"{what}: {name} is {found}; give a numpy array of numbers")
    if value.ndim < 1 or len(value) != steps:
        raise RecordError(f"{what}: {name} has shape {value.shape}, not [{steps}, ...]; give one row per step")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        bad = np.argwhere(~np.isfinite(value))[0]
        raise RecordError(
            f"{what}: {name}{[int(i) for i in bad]} is {value[tuple(bad)]}; mend the environment or drop the episode"
        )


def number(what: str, value: object) -> float:
    """A finite number, as a float."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not math.isfinite(value):  # type: ignore[arg-type]
        raise RecordError(f"{what} is {value!r}; give a finite number")
    return float(value)  # type: ignore[arg-type]


def probability(what: str, value: object) -> float:
    found = number(what, value)
    if not 0.0 <= found <= 1.0:
        raise RecordError(f"{what} is {found!r}; give a probability in [0, 1]")
    return found


def whole(what: str, value: object, low: int, high: int | None = None) -> int:
    """A whole number from low to high, or from low on."""
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fits or value < low or (high is not None and value > high):  # type: ignore[operator]
        raise RecordError(
            f"{what} is {value!r}; give a whole number, {low} {'or more' if high is None else f'to {high}'}"
        )
    return int(value)  # type: ignore[call-overload, no-any-return]
