"""Who answers a run's questions, where that is kept, and when what is asked: a simulated teacher, or people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied.checkpoint import Stateful
from embodied.episodes import Episodes
from embodied.feedback import Segments
from embodied.loop import Ask, Learn, Round, Rounds
from embodied.store import Store
from rapport.train import people
from rapport.train.corrections import follow, withdraw
from rapport.train.learner import Actor
from rapport.train.pace import Pace
from rapport.train.people import Asking
from rapport.train.questions import Judged, groups, own_reward, segments, simulated
from rapport.train.settings import Settings
from rapport.train.spaces import World

USUAL = 50  # pairs of clips that a reward is normalised on


@dataclass(frozen=True, eq=False)
class Source:
    """steps(n): environment steps of the first n rounds. run: the run's name where it shares its store with others.
    kind: of the queries.
    look(n): what the row after n rounds tells besides. warnings(n): sentences for the report."""

    store: Store
    ask: Ask
    rounds: Rounds
    steps: Callable[[int], int]
    run: str = ""
    kind: str = "compare"
    learn: Learn | None = None
    parts: Mapping[str, Stateful] = field(default_factory=dict)
    look: Callable[[int], Mapping[str, int]] = lambda index: {}
    warnings: Callable[[int], list[str]] = lambda index: []

    @property
    def consumer(self) -> str:
        return self.run or "loop"

    @property
    def prefix(self) -> str:
        return f"{self.run}:" if self.run else ""


@contextmanager
def from_teacher(
    settings: Settings, folder: Path, actor: Actor, rounds: Sequence[Round], judged: Judged = own_reward
) -> Iterator[Source]:
    """A teacher who judges by the environment's own reward, and answers at once; everything is in the run's folder."""
    episodes = Episodes(folder / "episodes")
    with Store(folder / "answers.sqlite", episodes) as store:
        ask = simulated(actor, settings, episodes, store, judged)
        yield Source(store, ask, rounds, lambda n: sum(r.steps for r in rounds[:n]))


@contextmanager
def from_people(
    asking: Asking,
    run: str,
    want: int,
    config: Mapping[str, Any],
    actor: Actor,
    world: World,
    model: Any,
    rounds: Sequence[Round],
    clip: int,
    says: Callable[[str], object],
) -> Iterator[Source]:
    """People, who answer when they like; what is asked and said is in the study."""
    with people.opened(asking, run, config) as site:
        store = site.store
        pace = Pace(rounds, actor.chunk, store, run, want=want, patience=60 * asking.patience)
        watch = people.Watch(asking, site, says)

        def warnings(index: int) -> list[str]:
            gone = people.erased(store, run, index)
            return [*([f"{run} is no longer replayable: {gone} answers erased."] if gone else []), *_unanswered(index)]

        def _unanswered(index: int) -> list[str]:
            if not pace.gave_up:
                return []
            still = pace.open(index)
            return [
                f"No answer had come for {asking.patience:g} minutes, and nobody was waited for any more: "
                f"{still.unanswered} of the questions asked have no answer."
            ]

        def usual() -> Segments:
            seen = actor.trajectories()
            return segments(seen, world, groups(seen, USUAL, 2, clip, np.random.default_rng(0)))

        def corrected(index: int) -> Round | None:
            """Once the run comes to its end, nobody is asked to choose what it would not read."""
            upcoming = pace.next(index)
            if upcoming is None or pace.turns[-1] == "end":
                withdraw(site.store, run)
            else:
                follow(site, run, actor, world)
            return upcoming

        yield Source(
            store,
            people.asker(site, run, want, actor, world),
            corrected if asking.kind == "stop" else pace.next,
            pace.steps,
            run,
            asking.kind,
            people.learner(model, store, usual),
            {"pace": pace},
            lambda index: watch.look(pace.open(index).unanswered),
            warnings,
        )
