"""`rapport align` on the command line: the fields are the flags, the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

MethodName = Literal[
    "dpo",
    "f_dpo",
    "cdpo",
    "robust_dpo",
    "length_dpo",
    "dense_dpo",
    "ipo",
    "slic",
    "kto",
    "apo_zero",
    "bco",
    "nca",
    "sppo",
    "sppo_hard",
    "rankings",
    "pro",
    "cpo",
    "simpo",
    "orpo",
    "cpl",
    "cpl_kl",
    "em_preference",
]


@dataclass(frozen=True)
class Align:
    """Fit a policy to stored answers directly, with no reward model between: DPO, IPO, CPL and their kin."""

    data: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """A data folder, a study or a run: episodes, and answers that compare or rank stretches of them."""
    policy: Annotated[str | None, tyro.conf.arg(metavar="P", help_behavior_hint="")] = None
    """What is aligned: the folder of an exported policy (RUN/pretrained, RUN/policy), or module:function or
    file.py:function that makes your own. Without, a new one imitates all segments first."""
    method: MethodName = "dpo"
    """How; docs/direct.md says what each is for. em_preference: DPO that learns whose answers can be trusted."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Coefficients of the method, such as beta=.2; a wrong one lists those that there are."""
    steps: int = 300
    """Gradient steps."""
    rate: float = 3e-4
    """Their learning rate."""
    seed: int = 0
    """Of what is held out, of the batches, and of a new policy."""
    imitate: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="")] = None
    """Steps of copying all segments first, preferred or not; by default 1000 for a new policy, none for a given one."""
    log_std: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="")] = None
    """Log of the deviation of an exported or new policy's actions; told by the stored actions unless given."""
    bounds: tuple[float, float] = (-1.0, 1.0)
    """What the actions of a new policy lie between."""
    any_start: tyro.conf.FlagCreatePairsOff[bool] = False
    """Hold segments from different starts against each other, also by methods for which that is wrong."""
    store: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """The study's PostgreSQL database, as `rapport ask` has it."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """The run's folder, in which the same command resumes; by default one under runs/, named by data and method."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object last: loss, agreement, log-probabilities and KL, before and after."""

    def __call__(self) -> int:
        from rapport.align.command import command

        return command(self)
