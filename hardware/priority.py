"""Who comes first on a busy machine: daemon, then guard, then gateway, and all of them before others."""

from __future__ import annotations

import ctypes
import gc
import os

EMULATED, DAEMON, GUARD, GATEWAY = 60, 50, 30, 10
"""Of SCHED_FIFO. What stands in for an arm waits for no process, as an arm does not. The guard is not to disturb the
daemon, nor to wait for whatever the gateway does when it is needed."""

NOT_FIRST = "it is scheduled like any other process (SCHED_FIFO is not permitted; set LimitRTPRIO)"


def first(priority: int, fifo: bool = True) -> tuple[bool, tuple[str, ...]]:
    """What is loaded by now stays, and is no garbage; this thread comes before other processes, as far as that is
    permitted: its children do not. Whether it comes first, and what was not permitted, a sentence each."""
    gc.collect()
    gc.freeze()
    if not fifo:
        return False, ()
    warnings = []
    if ctypes.CDLL(None, use_errno=True).mlockall(1 | 2 | 4) != 0:  # current, future, once they are touched
        warnings.append("its memory may be swapped out (mlockall is not permitted; set LimitMEMLOCK)")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError:
        warnings.append(NOT_FIRST)
        return False, tuple(warnings)
    return True, tuple(warnings)
