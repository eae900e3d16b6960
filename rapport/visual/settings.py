"""Everything that the result of a run about videos depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from embodied.video_methods import Method
from policies.filmed import Pay

Kind = Method | Literal["true"]
Teacher = Literal["oracle", "mistake", "noisy"]
Algorithm = Literal["ppo", "sac"]
TEACHERS: tuple[Teacher, ...] = get_args(Teacher)
USUAL = 20  # pictures of an episode
FEWEST = 6  # answers from which demonstrations and a reward can both be had


@dataclass(frozen=True)
class Settings:
    """env: as `rapport.train` has it; "": there are videos alone, and no policy is learned. videos: a folder of them,
    which are asked about instead of films of the environment. demos: a folder of demonstrations; "": the best of what
    was ranked.

    reward: one of `embodied.video_methods`, or true, the environment's own, which asks nobody. reward_from: a run whose
    reward is paid, learned before; nobody is asked. trunk: soft-argmax, learned here; resnet18 and other names of timm,
    or a file of weights. pay, frames: see `policies.filmed`; an episode gives about so many pictures; 0: as many as the
    reward that is paid was learned from, and 20 for a new one. pool: episodes
    that are filmed to be asked about. steps, copies, sessions, rate: of the agent; it is looked at, over `episodes`
    episodes, after each session. pretraining: steps in which soft-argmax learns.
    """

    env: str = ""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    videos: str = ""
    demos: str = ""
    reward: Kind = "rapl"
    reward_from: str = ""
    trunk: str = "soft-argmax"
    pay: Pay = "sum"
    frames: int = 0
    pool: int = 300
    answers: int = 50
    teacher: Teacher = "oracle"
    steps: int = 20_000
    seed: int = 0
    sessions: int = 10
    copies: int = 1
    horizon: int = 0
    algorithm: Algorithm = "ppo"
    rate: float = 0.0
    episodes: int = 20
    pretraining: int = 1500

    def __post_init__(self) -> None:
        least = 1 if self.demos else FEWEST
        wrong = {
            "Neither an environment nor a folder of videos is given: give one or both.": not (self.env or self.videos),
            f"The reward {self.reward} is of an environment, and there is none: give one too.": (
                not self.env and (self.reward == "true" or bool(self.reward_from))
            ),
            f"The reward is {self.reward} and one of {self.reward_from} is paid: leave one of them out.": (
                bool(self.reward_from) and self.reward != "rapl"
            ),
            "Cloning needs what was done in the demonstrations, and a folder of videos does not tell: take another "
            "reward, or films of an environment.": (self.reward == "cloning" and bool(self.videos or self.demos)),
            "Cloning tells what is done after a picture, and of an episode there is 1: give at least 2 --frames.": (
                self.reward == "cloning" and self.frames == 1
            ),
            "One picture of an episode shows no movement, by which soft-argmax learns to see: give another --trunk, or "
            "at least 2 --frames.": (self.asks and self.trunk == "soft-argmax" and self.frames == 1),
            f"Cycles lead from one demonstration to another, and {self.answers} answers give one: give at least "
            f"{2 * FEWEST}.": (self.reward == "cycles" and not self.demos and self.answers < 2 * FEWEST),
            f"{self.answers} answers: give at least {least}"
            + ("." if self.demos else ", or a folder of demonstrations with --demos.").rstrip(): (
                self.asks and self.answers < least
            ),
            f"{self.frames} pictures of an episode: give at least 1, or 0 for the usual number.": self.frames < 0,
            f"A horizon of {self.horizon} steps: give at least 1, or 0 for the environment's own.": self.horizon < 0,
            f"A pool of {self.pool}, {self.copies} copies, {self.episodes} episodes to look at, {self.sessions} "
            "sessions: give at least 1 of each.": (min(self.pool, self.copies, self.episodes, self.sessions) < 1),
            f"A pool of {self.pool} videos: a question is about three, give at least that many.": (
                self.asks and not self.videos and self.pool < 3
            ),
            f"The seed is {self.seed}: give a whole number from 0 on.": self.seed < 0,
            f"{self.steps} steps in {self.sessions} sessions: give ten steps for each session at least.": (
                bool(self.env) and self.steps < 10 * self.sessions
            ),
            f"A learning rate of {self.rate}: give one above 0 and below 1, or 0 for the algorithm's own.": (
                not 0 <= self.rate < 1
            ),
        }
        for sentence, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(sentence)

    @property
    def asks(self) -> bool:
        """Whether anybody is asked anything."""
        return self.reward != "true" and not self.reward_from
