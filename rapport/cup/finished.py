"""A finished run of the main job, opened to be looked at: both policies, the learned reward, and rollouts of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodied import checkpoint
from embodied.rewards.additive import Additive
from envs.arm import CupArms, Layouts
from policies.export import load_policy
from rapport.cup import pools
from rapport.cup.agent import Recipe
from rapport.cup.features import FEATURES, PRIOR
from rapport.cup.handover import agreed
from rapport.cup.train import Settings
from rapport.run import RunError, read_json


@dataclass(frozen=True, eq=False)
class Finished:
    """`before` and `after` act as the pre-trained and the kept policy; `reward` is what was learned from answers, if
    anything was; `result` and `rows` are the run's own result.json and rounds.json."""

    folder: Path
    settings: Settings
    result: Mapping[str, Any]
    rows: list[dict[str, Any]]
    before: pools.Act
    after: pools.Act
    reward: Additive | None

    def roll_out(
        self, act: pools.Act, layouts: Layouts, progress: Callable[[int], object] = lambda n: None
    ) -> pools.Rollouts:
        """Whole episodes on any number of layouts, without noise, as many arms at a time as in training: the same
        number gives the same rounding, and so the very numbers of result.json. `progress(n)` is told of every n."""
        arms, n = self.settings.recipe.arms, len(layouts)
        envs, parts = CupArms(arms, seed=0), []
        for first in range(0, n, arms):
            these = layouts[np.arange(first, first + arms) % n]
            parts.append(pools.roll_out(envs, these, [act], None, np.random.default_rng(0))[: n - first])
            progress(len(parts[-1].obs))
        return pools.together(parts)


def settings_of(config: Mapping[str, Any]) -> Settings:
    """From config.json. Raises TypeError or ValueError when they are not settings of the main job."""
    return Settings(**{**config, "recipe": Recipe(**config["recipe"])})


def open_finished(folder: Path) -> Finished:
    """Raises RunError for a folder that is no finished run; ContractError and CheckpointError for damaged files."""
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}: give the folder of a finished run, as `rapport demo` writes it.")
    try:
        settings = settings_of(read_json(folder / "config.json"))
    except (TypeError, KeyError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{folder} is no run of the main job of this version ({error}): give one that is.") from error
    if not (folder / "result.json").exists():
        raise RunError(f"{folder} has not finished: the `rapport demo` command that began it goes on with it.")
    reward = None
    if settings.reward == "learned":
        reward = Additive(FEATURES, PRIOR)
        checkpoint.load(folder / "checkpoints", reward=reward)
    return Finished(
        folder,
        settings,
        read_json(folder / "result.json"),
        read_json(folder / "rounds.json"),
        load_policy(folder / "pretrained").act,
        load_policy(folder / "policy").act,
        reward,
    )


def open_policy(folder: Path, person: str) -> Finished:
    """An exported policy alone, to be judged by the wishes of `person`. Raises ContractError for one that is not of the
    main job's arm."""
    policy = load_policy(folder, agreed("whatever it was trained for"))
    return Finished(folder, Settings(person=person), {}, [], policy.act, policy.act, None)
