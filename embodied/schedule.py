"""When the label budget is spent: how many questions each session asks."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Schedule = Literal["constant", "decaying", "growing"]


def shares(schedule: Schedule, questions: int, sessions: int) -> npt.NDArray[np.intp]:
    """Questions of session t = 1..T, [T], which add up to `questions`.

    In proportion to 1 (constant), (T-t+1)/T (decaying: much is asked before the policy has gone far astray) or
    T/(T-t+1) (growing: little before there is something worth asking about); B-Pref's schedules (arXiv 2111.03026),
    which count from 0 and in steps. A session may get none where there are hardly more questions than sessions. Raises
    ValueError for fewer than one session, questions below 0, and another schedule.
    """
    if sessions < 1 or questions < 0:
        raise ValueError(f"{questions} questions in {sessions} sessions; give at least 0 in at least 1")
    left = np.arange(sessions, 0, -1)  # T-t+1
    weights = {"constant": np.ones(sessions), "decaying": left / sessions, "growing": sessions / left}
    if schedule not in weights:
        raise ValueError(f"there is no schedule {schedule!r}; choose {', '.join(weights)}")
    upto = np.concatenate([[0.0], np.cumsum(weights[schedule])])
    return np.asarray(np.diff((upto * (questions / upto[-1])).round().astype(np.intp)))
