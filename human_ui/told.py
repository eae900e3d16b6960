"""What a browser noticed beside an answer, as far as it can be used: anybody's browser sends it, so any part may be
missing, or of another kind than ours sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return None
    return float(value)


def milliseconds(told: Mapping[str, Any]) -> float | None:
    """From when the question was on the page to the answer."""
    return _number(told.get("ms"))


def deciding(told: Mapping[str, Any]) -> float | None:
    """Milliseconds from when every clip had been seen to its end to the answer; None where one had not."""
    at, seen = milliseconds(told), told.get("seen")
    if at is None or not isinstance(seen, list) or not seen:
        return None
    times = [time for one in seen if (time := _number(one)) is not None]
    return at - max(times) if len(times) == len(seen) else None


def early(told: Mapping[str, Any]) -> bool | None:
    """Whether the answer came sooner than the study calls considered."""
    found = told.get("early")
    return found if isinstance(found, bool) else None


def note(told: Mapping[str, Any]) -> str:
    """What the person wrote beside it."""
    found = told.get("note")
    return found if isinstance(found, str) else ""


def wordless(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without whatever may hold words of somebody's own."""

    def may_speak(value: object) -> bool:
        return any(map(may_speak, value)) if isinstance(value, list) else isinstance(value, str | dict)

    return {key: value for key, value in told.items() if not may_speak(value)}
