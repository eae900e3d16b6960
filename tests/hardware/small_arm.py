"""Limits and readings of a small arm, for tests of what is above it."""

from dataclasses import replace

import numpy as np

from hardware.arm import ArmState
from hardware.limits import Limits
from policies.chain import Chain

SMALL = Chain(  # about the size of an SO-101
    offsets=((0.0, 0.0, 0.06), (0.0, 0.0, 0.06), (0.0, 0.0, 0.11), (0.0, 0.0, 0.13), (0.0, 0.0, 0.06)),
    axes=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    tool=(0.0, 0.0, 0.1),
)
BENT = np.array([0.0, -0.6, 1.4, 0.7, 0.0, 0.2])  # its tool is in front of it


def limits(n=6, **changes):
    given = {
        "names": tuple(f"joint {i}" for i in range(n)),
        "lower": np.full(n, -1.8),
        "upper": np.linspace(1.6, 1.9, n),
        "velocity": np.linspace(2.0, 3.0, n),
        "acceleration": np.linspace(10.0, 20.0, n),
        "tracking": np.full(n, 0.2),
        "start": np.full(n, 0.1),
        "rate": 100.0,
    }
    return Limits(**(given | changes))


def with_tool(**changes):
    box = [[-0.1, -0.2, 0.02], [0.35, 0.2, 0.4]]
    return limits(**({"chain": SMALL, "box": box} | changes))


def reading(position, seq=0, time_ns=0):
    position = np.asarray(position, dtype=np.float64)
    unknown = np.full(position.shape, np.nan)
    powered = np.ones(position.shape, dtype=bool)
    return ArmState(position, np.zeros_like(position), unknown, unknown, powered, (), seq, time_ns)


def later(state, position, time_ns):
    return replace(state, position=np.asarray(position), seq=state.seq + 1, time_ns=time_ns)
