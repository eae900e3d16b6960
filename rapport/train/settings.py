"""Everything that the result of a training run depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from embodied.loop import Round
from embodied.schedule import Schedule, shares
from embodied.teachers import BPREF
from rapport.train.methods import Method, pebble

Algorithm = Literal["auto", "sac", "ppo"]


@dataclass(frozen=True)
class Settings:
    """steps: of the environment, all copies together. answers: questions that may be asked, in `sessions` rounds.

    tie_rate: this share of the teacher's answers are ties, whatever the returns (people's: `human_labels.TIE_RATE`).
    judged_by: what the teacher looks at: the sum of the true rewards, or how far a clip falls short of what could have
    been done, by the critics of `expert`, the folder of a run on the true reward ("": one is trained first, within the
    run's own folder).
    schedule: how the sessions share the questions. recent: questions are about this share of the remembered episodes,
    the newest. clip: steps of a segment. horizon: a time limit for an environment that has none (0: its own). rate:
    the agent's learning rate (0: the algorithm's own). hide_ends: values are bootstrapped where the environment says
    `terminated`, so that an end by itself is neither good nor bad.
    """

    env: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    method: Method = field(default_factory=pebble)
    answers: int = 100
    steps: int = 20_000
    seed: int = 0
    teacher: str = "oracle"
    tie_rate: float = 0.0
    judged_by: Literal["return", "regret"] = "return"
    expert: str = ""
    sessions: int = 10
    schedule: Schedule = "constant"
    recent: float = 1.0
    clip: int = 50
    copies: int = 1
    horizon: int = 0
    algorithm: Algorithm = "auto"
    rate: float = 0.0
    hide_ends: bool = True
    episodes: int = 10

    def __post_init__(self) -> None:
        wrong = {
            f"The seed is {self.seed}: give a whole number from 0 on.": self.seed < 0,
            f"There is no teacher {self.teacher!r}: choose {', '.join(BPREF)}.": self.teacher not in BPREF,
            f"A budget of {self.answers} answers: give at least one per session ({self.sessions}), or the method "
            "`true`, which asks nobody.": self.asks and self.answers < max(self.sessions, 1),
            f"{self.steps} steps in {self.sessions} sessions: give at least one session, and ten steps for each.": (
                self.sessions < 1 or self.steps < 10 * self.sessions
            ),
            f"Clips of {self.clip} steps, {self.copies} copies, {self.episodes} episodes to evaluate, a horizon of "
            f"{self.horizon}: give at least 1 of each (0 for the environment's own horizon).": (
                min(self.clip, self.copies, self.episodes) < 1 or self.horizon < 0
            ),
            f"The teacher {self.teacher} and judged by regret: its thresholds are shares of a return, which regret has "
            "not; take another teacher.": self.judged_by == "regret" and self.teacher in ("skip", "equal"),
            f"The expert is {self.expert!r}, and the teacher judges by {self.judged_by}: an expert knows regret, give "
            "judged_by regret too, or leave it out.": bool(self.expert) and self.judged_by == "return",
            f"Questions about the newest {self.recent} of the episodes: give a share in (0, 1].": not 0
            < self.recent
            <= 1,
            f"A tie rate of {self.tie_rate}: give a share of the answers in [0, 1).": not 0 <= self.tie_rate < 1,
            f"A learning rate of {self.rate}: give one above 0 and below 1, or 0 for the algorithm's own.": (
                not 0 <= self.rate < 1
            ),
        }
        for sentence, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(sentence)

    @property
    def asks(self) -> bool:
        return self.method.reward != "true"

    def rounds(self, chunk: int, limit: int | None) -> list[Round]:
        """First steps without questions, an episode of `limit` steps in every copy at least, then `sessions` rounds.

        All steps are multiples of `chunk`, the agent's rollout; the last round takes what is left.
        """
        first = max(
            self.copies * (limit or 1), round(self.method.explore * self.steps), self.steps // (2 * self.sessions)
        )
        first = -(-first // chunk) * chunk
        ends = np.linspace(first, self.steps, self.sessions + 1)
        ends = (np.ceil(ends / chunk) * chunk).astype(int)
        questions = shares(self.schedule, self.answers if self.asks else 0, self.sessions)
        steps = np.diff(ends)
        if (steps <= 0).any():
            raise ValueError(
                f"{self.steps} steps are too few: {first} go before the first question (an episode has to end), and "
                f"{self.sessions} sessions of at least {chunk} follow; give at least {first + self.sessions * chunk}."
            )
        return [Round(0, first), *(Round(int(q), int(s)) for q, s in zip(questions, steps, strict=True))]
