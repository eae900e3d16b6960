"""One run of the main job in one folder: questions, answers, training, the policy that is kept, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from embodied.episodes import Episodes
from embodied.feedback import Budget, spent
from embodied.loop import Ask, Round, preference_loop
from embodied.records import Query
from embodied.rewards.additive import Additive
from embodied.store import Store
from embodied.teachers import answer, noisy
from rapport.cup.agent import CupAgent, Recipe, held_out, proposer
from rapport.cup.features import FEATURES, PRIOR, step_features
from rapport.cup.measure import Measured, measure
from rapport.cup.people import PEOPLE, Person, TrueReward
from rapport.run import read_json, write_json

FEWEST, MOST = 10, 500
TEMPERATURE = 2.0  # of the simulated person's doubts: utility that makes the better clip e times as likely


@dataclass(frozen=True)
class Settings:
    """Everything that the result depends on. `coin` answers at random; `ask` lets a person answer in the terminal."""

    seed: int = 0
    person: str = "careful"
    answers: int = 100
    reward: Literal["learned", "true", "none"] = "learned"
    coin: bool = False
    ask: bool = False
    held_out: int = 512
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"The seed is {self.seed}: give a whole number from 0 on.")
        if self.person not in PEOPLE:
            raise ValueError(f"Nobody is called {self.person!r}: ask one of {', '.join(PEOPLE)}.")
        if self.reward != "learned" and (self.ask or self.coin):
            raise ValueError(f"With --reward {self.reward} nobody is asked: leave --ask and --coin out.")
        if self.ask and self.coin:
            raise ValueError("--ask asks you and --coin tosses a coin: give one of them.")
        if self.reward == "learned" and not FEWEST <= self.answers <= MOST:
            raise ValueError(
                f"A budget of {self.answers} answers cannot be spent here: give {FEWEST} to {MOST} (the rounds need at "
                "least a few each, and a pool of clips has only so many pairs worth asking about)."
            )
        if self.held_out < self.recipe.arms or self.held_out % self.recipe.arms:
            raise ValueError(
                f"{self.held_out} held-out layouts on {self.recipe.arms} arms: give a multiple of {self.recipe.arms}."
            )

    def rounds(self) -> list[Round]:
        rounds = self.recipe.schedule(self.answers)
        return rounds if self.reward == "learned" else [Round(0, r.steps) for r in rounds]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run leaves in memory: the agent with its kept policy, the reward, and the measurements."""

    agent: CupAgent
    reward: Additive
    before: Measured
    after: Measured
    rows: list[dict[str, Any]]
    budget: Budget


def simulated(store: Store, person: Person, seed: int, coin: bool) -> Ask:
    """A person with a slip in twenty and doubts between clips that are nearly alike; or the toss of a coin."""
    teacher = noisy(person.utility, seed=seed, temperature=TEMPERATURE, lapse=1.0 if coin else 0.05)
    name = "coin" if coin else person.name

    def ask(batch: Sequence[Query]) -> None:
        store.add_answers([answer(teacher, query, name) for query in batch])

    return ask


@contextmanager
def open_store(folder: Path) -> Iterator[tuple[Store, Episodes]]:
    episodes = Episodes(folder / "episodes")
    with Store(folder / "answers.sqlite", episodes) as store:
        yield store, episodes


def budget(store: Store, upto: int | None) -> Budget:
    """The account of all questions asked so far, with the answers up to the sequence number `upto`."""
    return spent(store.answers(upto=upto), store.queries())


def train(
    settings: Settings,
    folder: Path,
    *,
    ask: Callable[[Store], Ask] | None = None,
    progress: Callable[[int], object] = lambda n: None,
    told: Callable[[dict[str, Any]], object] = lambda row: None,
    doing: Callable[[str], object] = lambda what: None,
) -> Trained:
    """Runs what `folder`, opened by `run_folder`, has not finished of the run, and measures it. `told` gets one row per
    round, `progress` the environment steps as they are trained, `doing` what takes more than a moment. Torch is set to
    one thread for the whole process.

    The rows are for the eyes of whoever looks on: nothing is ever chosen by what is measured on held-out layouts.
    """
    torch.set_num_threads(1)  # networks this small are slower on two
    person = PEOPLE[settings.person]
    with open_store(folder) as (store, episodes):
        step = TrueReward(person).step if settings.reward == "true" else step_features
        doing("learning to hurry")
        agent = CupAgent(settings.recipe, settings.seed, step=step, progress=progress)
        reward = Additive(FEATURES, PRIOR)
        rng = np.random.default_rng([settings.seed, 1])
        asking = ask(store) if ask else simulated(store, person, settings.seed, settings.coin)
        if settings.reward == "true":
            agent.propose(0, np.random.default_rng([settings.seed, 2]))
            agent.reward_changed(TrueReward(person))
        layouts = held_out(settings.seed, settings.held_out)

        def announced(what: str, call: Callable[..., Any], then: str = "") -> Callable[..., Any]:
            def wrapped(*args: Any) -> Any:
                doing(what)
                result = call(*args)
                doing(then or what)
                return result

            return wrapped

        def look(snapshot: Any, n: int) -> Measured:
            return measure(person, agent.roll_out(layouts[:n], snapshot))

        kept = folder / "rounds.json"
        rows: dict[int, dict[str, Any]] = {r["round"]: r for r in read_json(kept)} if kept.exists() else {}
        glance = min(settings.held_out, settings.recipe.arms)
        with SummaryWriter(folder / "tensorboard") as writer:

            def note(index: int, metrics: dict[str, float]) -> None:
                seen, account = look(agent.past[index + 1], glance), budget(store, store.cursor("loop", index))
                row = {
                    "round": index,
                    "answers": account.answered,
                    "steps": agent.steps_of(index),
                    **asdict(seen),
                    "budget": asdict(account),
                    "metrics": metrics,
                }
                rows[index] = row
                write_json(kept, [rows[i] for i in sorted(rows)])
                for name in ("wishes", "task", "tilt", "path"):
                    writer.add_scalar(f"held_out/{name}", row[name], row["steps"])
                for name, value in metrics.items():
                    writer.add_scalar(name if "/" in name else f"round/{name}", value, row["steps"])
                writer.flush()
                told(row)

            doing("training")
            for report in preference_loop(
                agent,
                reward,
                rounds=settings.rounds(),
                propose=announced("choosing questions", proposer(agent, reward, episodes)),
                ask=announced("asking", asking, then="training"),
                store=store,
                folder=folder / "checkpoints",
                rng=rng,
            ):
                note(report.round, report.metrics)
            for index in range(len(settings.rounds())):
                if index not in rows:  # killed between a checkpoint and its row
                    note(index, {})
        doing("choosing the policy")
        agent.finish()
        doing("measuring")
        before, after = look(agent.pretrained, settings.held_out), look(None, settings.held_out)
        account = budget(store, None)
    return Trained(agent, reward, before, after, [rows[i] for i in sorted(rows)], account)
