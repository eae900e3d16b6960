"""One training run in one folder: explore, ask, learn the reward, advance the agent, and look how it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from embodied import checkpoint
from embodied.episodes import Episodes
from embodied.feedback import Budget, spent
from embodied.loop import RewardModel, Round, preference_loop
from embodied.losses import Loss, PairLoss
from embodied.rewards.conv import PixelEnsemble
from embodied.rewards.ensemble import RewardEnsemble
from embodied.rewards.learning import StepReward
from embodied.rewards.semi import SemiSupervised
from embodied.rewards.transformer import PreferenceTransformer
from embodied.store import Store
from rapport.data_folder import doubts
from rapport.run import machine, read_json, run_folder, write_json
from rapport.train.learner import EVALUATION, Actor, Learner, returns
from rapport.train.questions import proposer, simulated, unlabelled
from rapport.train.settings import Settings
from rapport.train.spaces import World, world

FIT = 50  # steps of reward training in each session; more only fits the same answers more closely
MakeActor = Callable[[World, Settings], Actor]
MakeReward = Callable[[int, int, int], RewardModel]
"""(observation size, action size, seed) -> a reward network of the user's own."""


@dataclass(frozen=True)
class Trained:
    """`rows`: one per round, with answers, steps and the mean own return of the policy; `result`: what is on disk."""

    actor: Actor
    reward: Any
    rows: list[dict[str, Any]]
    result: dict[str, Any]


def train(
    settings: Settings,
    folder: Path | str,
    *,
    actor: MakeActor | None = None,
    reward: MakeReward | None = None,
    loss: Loss | PairLoss | None = None,
    progress: Callable[[int], object] = lambda n: None,
    told: Callable[[dict[str, Any]], object] = lambda row: None,
    doing: Callable[[str], object] = lambda what: None,
    **sb3: Any,
) -> Trained:
    """Runs what `folder` has not finished of the run. Torch is set to one thread for the whole process.

    Args:
        actor: makes an agent of your own (`rapport.train.learner.Actor`); by default SAC, or PPO for choices.
        reward: makes a reward network of your own. loss: a pair loss for the default network, checked first.
        progress, told, doing: get environment steps, a row per round, and what takes more than a moment.
        sb3: `algorithm` and `policy`, classes of stable-baselines3 or yours, and `kwargs` of the algorithm.

    Raises SpaceError, UnfitEnvironment, RunError, ValueError for settings that cannot work, NotFinite when numbers turn
    bad in the middle: the last round is then on disk, and the same call goes on from it.
    """
    if reward and loss:
        raise ValueError("a reward network of your own learns by its own loss; give it the loss, or leave one out")
    if actor and sb3:
        raise ValueError(f"an actor of your own makes no use of {', '.join(sb3)}; leave that or the actor out")
    torch.set_num_threads(1)  # networks this small are slower on two
    doing("trying the environment")
    place = world(settings.env, settings.env_kwargs, settings.horizon, settings.seed)
    own = {name: _named(part) for name, part in {"actor": actor, "reward": reward, "loss": loss, **sb3}.items()}
    acts: Actor = actor(place, settings) if actor else Learner(place, settings, progress=progress, **sb3)
    model = _reward(settings, place, acts, reward, loss)
    rounds = settings.rounds(acts.chunk, place.limit)
    with run_folder(Path(folder), {**asdict(settings), "own": own}) as opened:
        return _run(settings, opened, place, acts, model, rounds, told, doing)


def _named(part: Any) -> Any:
    """What identifies a part of the user's own in config.json: a name where it has one, plain values as they are."""
    if isinstance(part, Mapping):
        return {str(key): _named(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_named(value) for value in part]
    if part is None or isinstance(part, bool | int | float | str):
        return part
    made = part if hasattr(part, "__qualname__") else type(part)
    return f"{made.__module__}.{made.__qualname__}"


def spent_so_far(store: Store, rounds: int) -> Budget:
    """The account of all questions, with the answers that had been read by the end of so many rounds."""
    return spent(store.answers(upto=store.cursor("loop", rounds - 1)), store.queries())


def _run(
    settings: Settings,
    folder: Path,
    place: World,
    actor: Actor,
    model: Any,
    rounds: Sequence[Round],
    told: Callable[[dict[str, Any]], object],
    doing: Callable[[str], object],
) -> Trained:
    kept, clock = folder / "rounds.json", folder / "seconds.json"
    rows: dict[int, dict[str, Any]] = {r["round"]: r for r in read_json(kept)} if kept.exists() else {}
    spent, started = float(read_json(clock)) if clock.exists() else 0.0, time.perf_counter()
    resumed = checkpoint.latest(folder / "checkpoints") or 0
    resumes: list[int] = read_json(folder / "resumes.json") if (folder / "resumes.json").exists() else []
    if 0 < resumed < len(rounds):
        resumes.append(resumed)
        write_json(folder / "resumes.json", resumes)
    episodes = Episodes(folder / "episodes")
    with Store(folder / "answers.sqlite", episodes) as store, SummaryWriter(folder / "tensorboard") as writer:

        def note(index: int, budget: Budget, metrics: Mapping[str, float]) -> None:
            doing("looking")
            found = returns(actor.act, place, settings.episodes, EVALUATION)
            steps = sum(r.steps for r in rounds[:index])
            rows[index] = row = {
                "round": index,
                "answers": budget.answered,
                "asked": budget.asked,
                "steps": steps,
                "return": float(found.mean()),
                "returns": found.tolist(),
                "metrics": dict(metrics),
            }
            write_json(kept, [rows[i] for i in sorted(rows)])
            write_json(clock, spent + time.perf_counter() - started)
            writer.add_scalar("evaluation/return", row["return"], steps)
            for name, value in metrics.items():
                writer.add_scalar(name if "/" in name else f"round/{name}", value, steps)
            writer.flush()
            told(row)
            doing("training")

        if not resumed and 0 not in rows:
            note(0, Budget(), {})
        if resumed and resumed not in rows:  # killed between a checkpoint and its row
            checkpoint.load(folder / "checkpoints", agent=actor)
            note(resumed, spent_so_far(store, resumed), {})
        doing("training")
        reports = preference_loop(
            actor,
            model,
            rounds=rounds,
            propose=proposer(actor, place, settings, model, episodes, store),
            ask=simulated(actor, settings, episodes, store),
            store=store,
            folder=folder / "checkpoints",
            rng=np.random.default_rng([settings.seed, 1]),
        )
        for report in reports:
            note(report.round + 1, report.budget, report.metrics)
        budget = spent_so_far(store, len(rounds))
        result = {
            "env": settings.env,
            "method": settings.method.name,
            "seed": settings.seed,
            "budget": asdict(budget),
            "return_before": rows[0]["return"],
            "return_after": rows[len(rounds)]["return"],
            "returns_after": rows[len(rounds)]["returns"],
            "steps": sum(r.steps for r in rounds),
            "seconds": round(read_json(clock), 1),
            "exact": place.checked.exact,
            "warnings": _warnings(settings, place, store, resumes),
            "machine": machine(),
        }
        if not (folder / "result.json").exists():
            write_json(folder / "result.json", result)
    return Trained(actor, model, [rows[i] for i in sorted(rows)], result)


def _reward(
    settings: Settings, place: World, actor: Actor, make: MakeReward | None, loss: Loss | PairLoss | None
) -> Any:
    """The network that the method asks for; the true reward needs none, and has one that nobody teaches."""
    size, acts, seed = int(np.prod(place.observations.shape)), place.act_size, settings.seed
    if make is not None:
        return _fit_for(settings, make(size, acts, seed))
    if settings.method.reward == "transformer":
        if place.frames:
            raise ValueError(f"{settings.env} shows frames, and the transformer reads vectors; take another method")
        members = 1 if settings.method.select in ("uniform", "k-centre", "entropy") else 3  # one alone never disagrees
        history = max(2, min(20, settings.clip))
        return PreferenceTransformer(size, acts, members=members, seed=seed, loss=loss, history=history)
    network: StepReward
    if place.frames:
        height, width, colours = place.observations.shape
        network = PixelEnsemble((height, width, colours), acts, seed=seed, loss=loss)
    else:
        network = RewardEnsemble(size, acts, seed=seed, loss=loss, steps=FIT)
    if (semi := settings.method.semi) is None:
        return network
    source = unlabelled(actor, place, settings)
    crop = round(semi.crop * settings.clip)
    return SemiSupervised(network, source, tau=semi.tau, weight=semi.weight, ratio=semi.ratio, crop=crop)


def _fit_for(settings: Settings, network: Any) -> Any:
    """A network of the user's own, if it has what this run will ask of it."""
    needs = ["fit", "state_dict", "load_state_dict", "fingerprint"]
    needs += ["reward_after"] if getattr(network, "history", 1) > 1 else ["reward"]
    needs += ["utilities"] if settings.method.select not in ("uniform", "k-centre") else []
    needs += ["spread"] if settings.method.bonus else []
    if missing := [name for name in needs if not callable(getattr(network, name, None))]:
        raise ValueError(
            f"{type(network).__name__} has no {', '.join(missing)}, which {settings.method.name} with "
            f"{settings.method.select} questions calls; add it as embodied.rewards.learning.StepReward has it"
        )
    return network


def _warnings(settings: Settings, place: World, store: Store, resumed: Sequence[int]) -> list[str]:
    found = [*place.checked.warnings, *doubts(store.answers(), store.queries())]
    if not place.checked.exact:
        missing = ", ".join(place.checked.missing) or "something that no attribute shows"
        rounds = ", ".join(map(str, resumed))
        again = f" This run was resumed in that way after round {rounds}." if resumed else ""
        found.append(
            f"{settings.env} cannot tell its whole state (missing: {missing}): a resumed run begins new episodes, and "
            f"its figures differ from an uninterrupted one's.{again}"
        )
    return found
