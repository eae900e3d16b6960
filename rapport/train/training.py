"""One training run in one folder: explore, ask, learn the reward, advance the agent, and look how it does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from embodied import checkpoint
from embodied.feedback import Budget, spent
from embodied.loop import RewardModel, preference_loop
from embodied.losses import Loss, PairLoss
from embodied.rewards.advantage import RIVALS, AdvantageEnsemble
from embodied.rewards.conv import PixelEnsemble
from embodied.rewards.ensemble import RewardEnsemble
from embodied.rewards.learning import StepReward
from embodied.rewards.semi import SemiSupervised
from embodied.rewards.transformer import PreferenceTransformer
from human_ui import study
from human_ui.progress import put_progress
from human_ui.site import TERMS
from policies.sb3 import Sb3
from rapport.console import say
from rapport.data_folder import doubts
from rapport.run import machine, read_json, run_folder, write_json
from rapport.train.contrastive import Contrast
from rapport.train.expert import advantages, settings_of
from rapport.train.learner import EVALUATION, Actor, Learner, returns
from rapport.train.people import Asking, kept
from rapport.train.pictures import try_drawing
from rapport.train.questions import Judged, own_reward, proposer, unlabelled
from rapport.train.settings import Settings
from rapport.train.source import Source, from_people, from_teacher
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
    ask: Asking | None = None,
    progress: Callable[[int], object] = lambda n: None,
    told: Callable[[dict[str, Any]], object] = lambda row: None,
    doing: Callable[[str], object] = lambda what: None,
    says: Callable[[str], object] = say,
    **sb3: Any,
) -> Trained:
    """Runs what `folder` has not finished of the run. Torch is set to one thread for the whole process.

    Args:
        actor: makes an agent of your own (`rapport.train.learner.Actor`); by default SAC, or PPO for choices.
        reward: makes a reward network of your own. loss: a pair loss for the default network, checked first.
        ask: a study whose people answer instead of the simulated teacher, while training goes on.
        progress, told, doing: get environment steps, a row per round, and what takes more than a moment.
        says: gets sentences for whoever looks on.
        sb3: `algorithm` and `policy`, classes of stable-baselines3 or yours, and `kwargs` of the algorithm.

    Raises SpaceError, UnfitEnvironment, RunError, ValueError for settings that cannot work, NotFinite when numbers turn
    bad in the middle: the last round is then on disk, and the same call goes on from it.
    """
    if reward and loss:
        raise ValueError("a reward network of your own learns by its own loss; give it the loss, or leave one out")
    if actor and sb3:
        raise ValueError(f"an actor of your own makes no use of {', '.join(sb3)}; leave that or the actor out")
    if ask and not settings.asks:
        raise ValueError(f"The method {settings.method.name} asks nobody: give another one, or leave the study out.")
    if ask and settings.method.preference == "cpl" and ask.kind not in ("compare", "survey"):
        raise ValueError(
            f"With cpl, people can be asked in kinds compare and survey, and kind is {ask.kind!r}: take one of them, "
            "or another preference."
        )
    folder = Path(folder)
    if ask:
        ask.check()
    torch.set_num_threads(1)  # networks this small are slower on two
    doing("trying the environment")
    place = world(settings.env, settings.env_kwargs, settings.horizon, settings.seed)
    if ask:
        try_drawing(place, settings.seed)
    own = {name: _named(part) for name, part in {"actor": actor, "reward": reward, "loss": loss, **sb3}.items()}
    learner = lambda: Learner(place, settings, seeded=ask is not None, progress=progress, **sb3)  # noqa: E731
    acts: Actor = actor(place, settings) if actor else learner()
    model = _reward(settings, place, acts, reward, loss)
    rounds = settings.rounds(acts.chunk, place.limit)
    config = {**asdict(settings), "own": own}
    if ask is None:
        home = Path(settings.expert) if settings.expert else folder / "expert"
        knows = (
            settings_of(settings, home) if settings.judged_by == "regret" else None
        )  # refused before a folder is made
        with run_folder(folder, config):
            judged = _expert(knows, home, doing, says, **sb3) if knows else own_reward
            with from_teacher(settings, folder, acts, rounds, judged) as source:
                return _run(settings, folder, place, acts, model, source, told, doing, says)
    run, want = ask.named(folder), kept(folder, "want", study.load(ask.study / TERMS).want)
    config["asked"] = {"study": str(ask.study.resolve()), "run": run, "want": want, "kind": ask.kind}
    people = from_people(ask, run, want, config, acts, place, model, rounds, settings.clip, says)
    with run_folder(folder, config), people as source:
        return _run(settings, folder, place, acts, model, source, told, doing, says)


def _expert(
    own: Settings, home: Path, doing: Callable[[str], object], says: Callable[[str], object], **sb3: Any
) -> Judged:
    """Who knows what could have been done; trained first, where no such run is given."""
    doing("training the expert")
    if not (home / "result.json").exists():
        says(
            f"First an expert, who learns from the true reward in {own.steps} steps: the teacher judges by its values."
        )
    knows = train(own, home, says=says, **sb3)
    says(f"The expert's true return is {knows.result['return_after']:.4g}.")
    agent: Sb3 = knows.actor.sb3  # type: ignore[attr-defined]
    return advantages(agent.value, float(agent.model.gamma))


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


def spent_so_far(source: Source, rounds: int) -> Budget:
    """The account of all questions, with the answers that had been read by the end of so many rounds."""
    upto = source.store.cursor(source.consumer, rounds - 1)
    return spent(source.store.answers(upto=upto, prefix=source.prefix), source.store.queries(prefix=source.prefix))


def progress_row(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a round the owner of a study sees: see `human_ui.progress.Round`."""
    figures = {**row["metrics"], **{name: row[name] for name in ("answers", "steps", "return")}}
    wanted = ("answers", "steps", "return", "accuracy", "decided", "loss")
    return {name: figures[name] for name in wanted if name in figures and math.isfinite(figures[name])}


def _run(
    settings: Settings,
    folder: Path,
    place: World,
    actor: Actor,
    model: Any,
    source: Source,
    told: Callable[[dict[str, Any]], object],
    doing: Callable[[str], object],
    says: Callable[[str], object],
) -> Trained:
    kept, clock = folder / "rounds.json", folder / "seconds.json"
    rows: dict[int, dict[str, Any]] = {r["round"]: r for r in read_json(kept)} if kept.exists() else {}
    spent, started = float(read_json(clock)) if clock.exists() else 0.0, time.perf_counter()
    resumed = checkpoint.latest(folder / "checkpoints") or 0
    resumes: list[int] = read_json(folder / "resumes.json") if (folder / "resumes.json").exists() else []
    if resumed and not (folder / "result.json").exists():
        resumes.append(resumed)
        write_json(folder / "resumes.json", resumes)
        for sentence in source.warnings(resumed):
            says(f"{sentence} It goes on from its last checkpoint.")
    store = source.store
    with SummaryWriter(folder / "tensorboard") as writer:

        def note(index: int, budget: Budget, metrics: Mapping[str, float]) -> None:
            doing("looking")
            found = returns(actor.act, place, settings.episodes, EVALUATION)
            steps = source.steps(index)
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
            if source.run:
                put_progress(store, source.run, index, progress_row(row))
            told({**row, **source.look(index)})
            doing("training")

        if not resumed and 0 not in rows:
            note(0, Budget(), {})
        if resumed and resumed not in rows:  # killed between a checkpoint and its row
            checkpoint.load(folder / "checkpoints", agent=actor, **source.parts)
            note(resumed, spent_so_far(source, resumed), {})
        doing("training")
        done = resumed
        for report in preference_loop(
            actor,
            model,
            rounds=source.rounds,
            propose=proposer(actor, place, settings, model, store.episodes, store, source.run, source.kind),
            ask=source.ask,
            store=store,
            folder=folder / "checkpoints",
            rng=np.random.default_rng([settings.seed, 1]),
            consumer=source.consumer,
            prefix=source.prefix,
            learn=source.learn,
            **source.parts,
        ):
            done = report.round + 1
            note(done, report.budget, report.metrics)
        budget = spent_so_far(source, done)
        result = {
            "env": settings.env,
            "method": settings.method.name,
            "seed": settings.seed,
            "budget": asdict(budget),
            "return_before": rows[0]["return"],
            "return_after": rows[done]["return"],
            "returns_after": rows[done]["returns"],
            "steps": source.steps(done),
            "seconds": round(read_json(clock), 1),
            "exact": place.checked.exact,
            "warnings": [*_warnings(settings, place, source, resumes), *source.warnings(done)],
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
    if settings.method.preference == "cpl":
        if make or loss or not isinstance(actor, Learner):
            raise ValueError(
                "cpl has no reward network, a loss of its own, and the policy of the default agent: leave yours out, "
                "or take another preference"
            )
        return Contrast(actor.sb3.policy, place, settings.rate)
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
        if settings.method.preference == "regret":
            raise ValueError(f"{settings.env} shows frames, and advantages are of vectors; take the return")
        height, width, colours = place.observations.shape
        network = PixelEnsemble((height, width, colours), acts, seed=seed, loss=loss)
    elif settings.method.preference == "regret":
        network = AdvantageEnsemble(size, acts, place.any_actions(RIVALS, seed), seed=seed, loss=loss, steps=FIT)
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
    if settings.method.preference == "regret":
        raise ValueError(
            f"{type(network).__name__} says itself what it pays: make an AdvantageEnsemble of it, and leave the "
            "preference at return"
        )
    if missing := [name for name in needs if not callable(getattr(network, name, None))]:
        raise ValueError(
            f"{type(network).__name__} has no {', '.join(missing)}, which {settings.method.name} with "
            f"{settings.method.select} questions calls; add it as embodied.rewards.learning.StepReward has it"
        )
    return network


def _warnings(settings: Settings, place: World, source: Source, resumed: Sequence[int]) -> list[str]:
    store, prefix = source.store, source.prefix
    found = [*place.checked.warnings, *doubts(store.answers(prefix=prefix), store.queries(prefix=prefix))]
    if not place.checked.exact:
        missing = ", ".join(place.checked.missing) or "something that no attribute shows"
        rounds = ", ".join(map(str, resumed))
        again = f" This run was resumed in that way after round {rounds}." if resumed else ""
        found.append(
            f"{settings.env} cannot tell its whole state (missing: {missing}): a resumed run begins new episodes, and "
            f"its figures differ from an uninterrupted one's.{again}"
        )
    return found
