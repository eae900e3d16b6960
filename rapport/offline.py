"""Learning from a data folder alone: a reward from its answers, every episode paid anew, a policy by implicit
Q-learning. Nothing is tried out, so nothing here knows an environment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from tqdm import tqdm

from embodied import AdvantageEnsemble, RewardEnsemble, checkpoint
from embodied.episodes import Episode
from embodied.feedback import feedback
from embodied.loop import RewardModel
from embodied.records import Answer, Array, Query, value_to_json
from embodied.rewards.advantage import RIVALS
from policies.iql import Iql, Transitions, transitions
from rapport.data_folder import look, open_folder
from rapport.run import RunError, read_json, run_folder, write_json

CHECKPOINTS, LOSSES, REWARD, RESULT = "checkpoints", "losses.json", "reward.json", "result.json"


class Reward(RewardModel, Protocol):
    """A reward model that can also pay single steps: obs [B,O], act [B,A] -> [B], about 1 in size."""

    def reward(self, obs: Array, act: Array) -> Array: ...


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on, beside the data. The defaults of IQL are its paper's for locomotion; its
    antmaze has expectile .9 and temperature 10, its adroit temperature .5. preference: what people compared; of regret
    an advantage is learned.
    """

    seed: int = 0
    steps: int = 20_000
    low: float = -1.0
    high: float = 1.0
    hidden: tuple[int, ...] = (256, 256)
    expectile: float = 0.7
    temperature: float = 3.0
    gamma: float = 0.99
    tau: float = 0.005
    rate: float = 3e-4
    batch: int = 256
    members: int = 3
    reward_hidden: tuple[int, ...] = (64, 64)
    reward_steps: int = 100
    chunk: int = 1000
    preference: Literal["return", "regret"] = "return"

    def __post_init__(self) -> None:
        if self.seed < 0 or self.steps < 1 or self.chunk < 1:
            raise ValueError(
                f"The seed is {self.seed}, steps are {self.steps} and chunks {self.chunk}: give a seed from 0 on, and "
                "at least one step in all and in a chunk."
            )


@dataclass(frozen=True, eq=False)
class Offline:
    """What was learned, and what `result.json` says of it."""

    policy: Iql
    reward: Reward
    result: dict[str, Any] = field(repr=False)


def offline(
    folder: Path,
    out: Path,
    settings: Settings | None = None,
    *,
    reward: Reward | None = None,
    progress: Callable[[int], object] | None = None,
) -> Offline:
    """Learns from the data folder into the run's folder `out`; killed, the same call goes on and ends the same.

    `reward` is fitted to the answers (an ensemble of networks unless one is given; a given one is part of what must be
    the same). Saves policy and reward every `chunk` steps, losses, and `result.json`: the label budget, how the reward
    agrees with the answers, and, where rewards were recorded, how it orders the episodes against them; the recorded
    ones are looked at for this report alone. Torch is set to one thread for the whole process.

    Raises what the data and the run's folder raise, and ValueError where nobody answered, episodes have unlike sizes,
    or actions lie outside [low, high].
    """
    settings = settings or Settings()
    torch.set_num_threads(1)  # networks this small are slower on two
    with open_folder(folder) as store:
        episodes = [store.episodes.load(id) for id in store.episodes.ids()]
        answers, queries = store.answers(), store.queries()
    if not answers or not episodes:
        raise ValueError(
            f"{folder} holds {len(episodes)} episodes and {len(answers)} answers: there is nothing to learn a reward "
            "from; import labels, or ask."
        )
    told, _ = feedback(answers, queries)
    if not len(told):
        raise ValueError(f"All {len(answers)} answers in {folder} are skips: ask for at least one comparison.")
    _check(episodes, settings)
    sizes = episodes[0].obs.shape[1], episodes[0].act.shape[1]
    if reward and settings.preference == "regret":
        raise ValueError(
            f"{type(reward).__name__} says itself what it pays: make an AdvantageEnsemble of it, and leave the "
            "preference at return."
        )
    model = reward or _ensemble(settings, episodes, *sizes)
    policy = _policy(settings, *sizes)
    config = {
        **asdict(settings),
        "data": _digest(episodes, queries, answers),
        "reward": getattr(model, "fingerprint", lambda: type(model).__name__)(),
        "sizes": sizes,
    }
    with run_folder(out, config):
        saved = out / CHECKPOINTS
        rng = np.random.default_rng([settings.seed, 1])
        if checkpoint.latest(saved) is None:
            fitted = {name: value if np.isfinite(value) else None for name, value in model.fit(told, rng).items()}
            write_json(out / REWARD, fitted)
            checkpoint.save(saved, 0, policy=policy, reward=model)
        done = checkpoint.load(saved, policy=policy, reward=model)
        paid = transitions(episodes, model.reward)
        _train(settings, policy, model, paid, out, done, progress)
        result = {
            "data": asdict(look(folder)),
            "reward": {**read_json(out / REWARD), **_against_recorded(episodes, model)},
            "losses": read_json(out / LOSSES)[-1],
        }
        write_json(out / RESULT, result)
    return Offline(policy, model, result)


def load_policy(out: Path) -> Iql:
    """The policy that `offline` left in `out`. Raises RunError or CheckpointError for what is no such folder."""
    config = read_json(Path(out) / "config.json")
    if checkpoint.latest(Path(out) / CHECKPOINTS) is None:
        raise RunError(f"{out} holds no policy yet: the run stopped before its first checkpoint; start it again.")
    sizes = config.pop("sizes")
    kept = {name: config[name] for name in Settings.__dataclass_fields__}
    policy = _policy(Settings(**{**kept, "hidden": tuple(kept["hidden"])}), *sizes)
    checkpoint.load(Path(out) / CHECKPOINTS, policy=policy)
    return policy


def _train(
    settings: Settings,
    policy: Iql,
    model: Reward,
    paid: Transitions,
    out: Path,
    done: int,
    progress: Callable[[int], object] | None,
) -> None:
    kept = out / LOSSES
    rows = [row for row in read_json(kept) if row["step"] <= done] if kept.exists() else []
    # A row before its checkpoint: a kill between the two costs the chunk again, never the row.
    with tqdm(total=settings.steps, initial=done, unit=" steps", disable=None if progress is None else True) as bar:
        while done < settings.steps:
            steps = min(settings.chunk, settings.steps - done)
            losses = policy.fit(paid, steps)
            done += steps
            rows.append({"step": done, **losses})
            write_json(kept, rows)
            checkpoint.save(out / CHECKPOINTS, done, policy=policy, reward=model)
            bar.update(steps)
            if progress is not None:
                progress(done)


def _policy(settings: Settings, obs_size: int, act_size: int) -> Iql:
    names = ("seed", "low", "high", "hidden", "expectile", "temperature", "gamma", "tau", "rate", "batch")
    return Iql(obs_size, act_size, **{name: getattr(settings, name) for name in names})


def _ensemble(settings: Settings, episodes: list[Episode], obs_size: int, act_size: int) -> Reward:
    """Normalised on the steps of all episodes: what the policy is paid has deviation 1 on its data."""
    network: dict[str, Any] = {
        "members": settings.members,
        "hidden": settings.reward_hidden,
        "steps": settings.reward_steps,
        "seed": settings.seed,
    }
    rivals = np.random.default_rng(settings.seed).uniform(settings.low, settings.high, (RIVALS, act_size))
    model = (
        AdvantageEnsemble(obs_size, act_size, rivals, **network)
        if settings.preference == "regret"
        else RewardEnsemble(obs_size, act_size, **network)
    )
    model.anchor(np.concatenate([e.obs for e in episodes]), np.concatenate([e.act for e in episodes]))
    return model


def _check(episodes: list[Episode], settings: Settings) -> None:
    first = episodes[0]
    for episode in episodes:
        shapes = episode.obs.shape[1:], episode.act.shape[1:]
        if len(shapes[0]) != 1 or len(shapes[1]) != 1 or shapes != (first.obs.shape[1:], first.act.shape[1:]):
            raise ValueError(
                f"A step of episode {episode.id!r} has observations {shapes[0]} and actions {shapes[1]}, of "
                f"{first.id!r} {first.obs.shape[1:]} and {first.act.shape[1:]}: give vectors of one environment."
            )
        low, high = float(episode.act.min()), float(episode.act.max())
        if low < settings.low - 1e-6 or high > settings.high + 1e-6:
            raise ValueError(
                f"Actions of episode {episode.id!r} go from {low:.4g} to {high:.4g}, outside [{settings.low}, "
                f"{settings.high}]: set the bounds (--bounds LOW HIGH) to those of the environment."
            )


def _digest(episodes: Sequence[Episode], queries: Sequence[Query], answers: Sequence[Answer]) -> str:
    """Of all that is learned from, so that a run never goes on with other data."""
    digest = hashlib.sha256()
    for episode in episodes:
        digest.update(json.dumps([episode.id, episode.obs.shape, episode.act.shape, episode.terminated]).encode())
        for array in (episode.obs, episode.act, episode.info.get("final_obs", np.zeros(0))):
            digest.update(array.tobytes())
    asked = [[q.id, [[s.episode, s.start, s.stop] for s in q.segments]] for q in queries]
    said = [[a.id, a.query, a.annotator, value_to_json(a.value), a.supersedes] for a in answers]
    digest.update(json.dumps([asked, said]).encode())
    return digest.hexdigest()


def _against_recorded(episodes: list[Episode], model: Reward) -> dict[str, float]:
    """Rank correlation, over episodes, of the mean reward of a step, learned against recorded, if it was recorded."""
    from scipy.stats import spearmanr

    if len(episodes) < 3 or not all("reward" in episode.info for episode in episodes):
        return {}
    learned = [float(model.reward(episode.obs, episode.act).mean()) for episode in episodes]
    recorded = [float(np.mean(episode.info["reward"])) for episode in episodes]
    if not np.ptp(recorded) or not np.ptp(learned):
        return {}
    return {"rank_correlation_with_recorded": float(spearmanr(learned, recorded).statistic)}
