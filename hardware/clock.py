"""Time as the daemon sees it: the machine's monotonic clock, or one that moves only when it is slept on."""

from __future__ import annotations

import time
from collections.abc import Callable


class RealClock:
    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until(self, time_ns: int) -> None:
        if (left := time_ns - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)


class VirtualClock:
    """Tests are exact with it: nothing passes but what is slept. `moved(now_ns)` is told (an emulator's physics)."""

    def __init__(self, moved: Callable[[int], object] = lambda now_ns: None) -> None:
        self._now, self._moved = 0, moved

    def now_ns(self) -> int:
        return self._now

    def sleep_until(self, time_ns: int) -> None:
        if time_ns > self._now:
            self._now = time_ns
            self._moved(time_ns)
