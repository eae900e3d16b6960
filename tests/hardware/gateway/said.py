"""What a daemon would say, made up."""

from typing import Any

import numpy as np

from hardware.link import Snapshot


def snapshot(**changes: Any) -> Snapshot:
    """Of two joints that hold."""
    still = np.zeros(2)
    given: dict[str, Any] = {
        "seq": 1,
        "time_ns": 0,
        "mode": "HOLD",
        "cause": "",
        "category": 2,
        "holder": "",
        "lease_left_ns": 0,
        "guarded": True,
        **dict.fromkeys(("position", "velocity", "effort", "temperature", "powered", "command"), still),
        "faults": (),
        "requested": np.zeros(0),
        "source": "hold",
        "verdict": "",
        "clipped": (),
        "why": "",
        "clips": {},
        "reading_ns": 0,
        "chunk": -1,
        "action_age_ns": 0,
        "lateness_ns": 0,
        "missed": False,
        "overruns": 0,
        "misses": 0,
        "starved": 0,
        "episode": "",
        "journal_failed": "",
        "disk_free": 1 << 40,
    }
    return Snapshot(**given | changes)
