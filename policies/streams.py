"""Random streams of one's own for libraries that draw from the process-wide ones of torch, numpy and random.

stable-baselines3 draws its action noise and its shuffling from these. An agent swaps its own in while it works and the
others back afterwards: agents and learners in one process never disturb each other, and a run can be resumed exactly.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class Streams:
    """`own()` is a block in which the process-wide streams are this object's; they start as the process's are now."""

    def __init__(self) -> None:
        self._state = _now()

    @contextmanager
    def own(self) -> Iterator[None]:
        outside = _now()
        _set(self._state)
        try:
            yield
        finally:
            self._state = _now()
            _set(outside)

    def state_dict(self) -> dict[str, Any]:
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._state = dict(state)


def _now() -> dict[str, Any]:
    """The process-wide random states as arrays and numbers."""
    name, key, *counters, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": {"name": name, "key": np.array(key), "counters": [int(c) for c in counters], "cached": float(cached)},
        "python": {"version": version, "internal": np.array(internal, dtype=np.uint32), "gauss": gauss},
    }


def _set(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(torch.as_tensor(state["torch"]))
    numpy, python = state["numpy"], state["python"]
    np.random.set_state((numpy["name"], np.asarray(numpy["key"]), *numpy["counters"], numpy["cached"]))
    random.setstate((python["version"], tuple(int(i) for i in python["internal"]), python["gauss"]))
