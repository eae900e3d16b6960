"""What could have been done: the critics of an agent that learned from the true reward, for a teacher who judges by
regret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from embodied.episodes import Episode
from embodied.records import Array
from rapport.run import read_json
from rapport.train.methods import Method, true_reward
from rapport.train.settings import Settings


def settings_of(settings: Settings, folder: Path) -> Settings:
    """Of the run that the expert is, or is to be. Raises ValueError where it learned something else."""
    own = replace(settings, method=true_reward(), answers=0, judged_by="return", expert="", teacher="oracle")
    if not (folder / "config.json").exists():
        if settings.expert:
            raise ValueError(f"{folder} is no run: give one of `rapport train --method true`, or leave the expert out.")
        return own
    config: Mapping[str, Any] = read_json(folder / "config.json")
    if settings.expert and not (folder / "result.json").exists():
        raise ValueError(f"{folder} is not finished: an expert has to have learned; finish it with its own command.")
    if config.get("env") != settings.env or config.get("method", {}).get("reward") != "true":
        raise ValueError(
            f"{folder} learned {config.get('env')} by {config.get('method', {}).get('name')}: an expert has learned "
            f"{settings.env} from the true reward; give such a run, or leave the expert out."
        )
    if dict(settings.env_kwargs) != config.get("env_kwargs"):
        raise ValueError(
            f"{folder} learned {settings.env} with {config.get('env_kwargs')}, and here it is made with "
            f"{dict(settings.env_kwargs)}; give an expert of the same."
        )
    if missing := [f.name for f in fields(Settings) if f.name not in config]:
        raise ValueError(
            f"{folder} is a run of an earlier version, whose settings say nothing of {', '.join(missing)}: train an "
            "expert anew, or leave the expert out."
        )
    kept = {f.name: config[f.name] for f in fields(Settings)} | {"method": Method(**config["method"])}
    return Settings(**kept)


def advantages(value: Callable[[Array], Array], gamma: float) -> Callable[[Episode], Array]:
    """r + gamma V(s') - V(s) of every step [T]: minus what it cost, by an expert's own critics, noise and all.

    value: obs [N,*O] -> [N], what the expert expects from there on.
    What the last step of an episode led to was not recorded unless it ended there: nothing is said about it, 0.
    """

    def of(episode: Episode) -> Array:
        here = value(episode.obs)
        ahead = np.append(here[1:], 0.0)
        found: Array = np.asarray(episode.info["reward"], np.float64) + gamma * ahead - here
        if not episode.terminated:
            found[-1] = 0.0
        return found

    return of
