"""People who answer a run's questions in a study: what they are shown, and what is made of what they said."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import select

from embodied.annotators import TRUST, reliabilities
from embodied.feedback import Feedback, Segments
from embodied.label_models import EM, LabelModel, as_given
from embodied.loop import Ask, Learn
from embodied.records import KINDS, Answer, Grade, Query, Skip, value_from_json
from embodied.store import Store
from embodied.values import first_better
from human_ui import desk
from human_ui.clips import encode
from human_ui.learning import queue_now
from human_ui.overview import standing
from human_ui.site import TERMS, Site, open_site
from human_ui.tables import OFFER
from rapport.run import RunError, read_json, run_folder
from rapport.train.learner import Actor
from rapport.train.pictures import drawing, frames
from rapport.train.questions import episode_id
from rapport.train.spaces import World

ASKED = tuple(kind for kind in KINDS if kind != "write")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Asking:
    """Who is asked instead of a simulated teacher: the people of a study, which `rapport ask` serves meanwhile.

    study: its folder. store: its PostgreSQL address, where it has one. run: what the run is called in it, by default as
    its own folder; several may share a study. patience: minutes without a new answer after which nobody is waited for.
    kind: what is asked of clips (see `embodied.values`); whoever stops one is then shown other ways to go on.
    """

    study: Path
    store: str | None = None
    run: str = ""
    patience: float = 30.0
    kind: str = "compare"

    def __post_init__(self) -> None:
        if self.kind not in ASKED:
            raise ValueError(f"Questions of kind {self.kind!r}: nothing is learned from them; use {', '.join(ASKED)}.")
        if not self.patience > 0:
            raise ValueError(f"A patience of {self.patience} minutes: give more than 0.")
        if self.run and not _NAME.fullmatch(self.run):
            raise ValueError(f"A run called {self.run!r}: use up to 80 letters, digits, dots, dashes and underscores.")

    def named(self, folder: Path) -> str:
        if self.run:
            return self.run
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name)[:80]
        if not _NAME.fullmatch(name):
            raise ValueError(f"The run's folder is {folder}, and a run cannot be called so: give it a name with --run.")
        return name

    def check(self) -> None:
        """Raises ValueError where there is no such study."""
        if not (self.study / TERMS).exists():
            raise ValueError(
                f"{self.study} has no {TERMS}, so it is no study yet: `rapport ask {self.study}` makes one and serves "
                "it. Then give this command again, beside that."
            )

    @property
    def how(self) -> str:
        return f"rapport ask {self.study}" + (" --store URL" if self.store else "")


@contextmanager
def opened(asking: Asking, run: str, config: Mapping[str, Any]) -> Iterator[Site]:
    """The study, for a run of this name and no other. Raises RunError where its name is another run's."""
    try:
        with run_folder(asking.study / "runs" / run, config):
            site = open_site(asking.study, asking.store)
            try:
                yield site
            finally:
                site.store.close()
    except RunError as error:
        if str(asking.study / "runs" / run) in str(error):
            raise RunError(f"{error} Every run of a study has its own name: --run gives this one another.") from error
        raise


def asker(site: Site, run: str, want: int, actor: Actor, world: World) -> Ask:
    """Draws the clips of the questions, and puts them into the study, each as soon as it is drawn."""

    def ask(batch: Sequence[Query]) -> None:
        with site.store.read() as connection:
            offered = select(OFFER.c.query).where(OFFER.c.query.in_([query.id for query in batch]))
            there = set(connection.execute(offered).scalars())
        known = {episode_id(run, t.number): t for t in actor.trajectories()}
        with drawing(world) as env:
            for query in batch:
                if query.id in there:
                    continue
                clips = []
                for part in query.segments:
                    shown = frames(world, env, known[part.episode], part.start, part.stop)
                    clips.append(site.clips.put(encode(shown, fps=site.study().fps)).sha256)
                desk.offer(site.store, [query], {query.id: clips}, want=want)

    return ask


def learner(model: Any, store: Store, usual: Callable[[], Segments]) -> Learn:
    """Refits the reward, and tells which share of the new decided answers it had foretold.

    usual(): clips of what the agent does, for the reward to be normalised on before it learns its first answer; those
    that somebody happened to answer first would be too few.

    Where several people have answered, each is believed as far as gold questions, their agreement, and the reward say
    (`EM`); what one person alone says is taken as given.
    """

    def learn(
        data: Feedback | Sequence[Feedback], answers: Sequence[Answer], before: int, rng: np.random.Generator
    ) -> dict[str, float]:
        network = getattr(model, "model", model)  # within `SemiSupervised`
        if getattr(network, "anchors", ()) is None:
            network.prepare(usual())
        told = foretold(model, [data] if isinstance(data, Feedback) else data, answers, before)
        people = list(dict.fromkeys(answer.annotator for answer in answers))  # numbered as Feedback does
        with labelled(model, EM(known(store, people, answers[-1].seq)) if len(people) > 1 else as_given):
            return {**told, **model.fit(data, rng)}

    return learn


def foretold(model: Any, data: Sequence[Feedback], answers: Sequence[Answer], before: int) -> dict[str, float]:
    """`accuracy` on comparisons that were made since, by a reward that has not learned from them, and how many of them
    were `decided`; nothing where there is nothing."""
    learned = any(answer.seq <= before and not isinstance(answer.value, Skip) for answer in answers)
    if not (learned and hasattr(model, "utilities")):
        return {}
    right = []
    for part in data:
        if part.kind not in ("compare", "grade"):
            continue
        graded = part.kind == "grade"
        said = ((a, first_better(a.value)) for a in standing(answers) if isinstance(a.value, Grade) == graded)
        rows = [(answer, first) for answer, first in said if first is not None]
        if new := [n for n, (answer, first) in enumerate(rows) if answer.seq > before and first != 0.5]:
            thought = torch.diff(model.utilities(part.segments).mean(0)).squeeze(-1)
            right += (torch.diff(part.target).squeeze(-1) * thought > 0)[new].tolist()
    return {"accuracy": sum(right) / len(right), "decided": float(len(right))} if right else {}


def known(store: Store, people: Sequence[str], upto: int) -> list[tuple[float, float]]:
    """Each one's counts, right and wrong, from all that was said in the study up to there."""
    with store.read() as connection:
        offered = connection.execute(select(OFFER.c.query, OFFER.c.truth).where(OFFER.c.truth != "")).all()
    truths = {row.query: first_better(value_from_json(json.loads(row.truth))) for row in offered}
    gold = {query: first for query, first in truths.items() if first is not None}
    said = [(a.query, a.annotator, first_better(a.value)) for a in standing(store.answers(upto=upto))]
    triples = [(query, name, first) for query, name, first in said if first is not None]
    found = {r.annotator: r.beta for r in (reliabilities(triples, gold).annotators if triples else ())}
    return [found.get(name, TRUST) for name in people]


@contextmanager
def labelled(model: Any, labels: LabelModel) -> Iterator[None]:
    """The reward network with this label model, as far as it has none of its own. It is made anew for every refit, and
    so no part of what is saved."""
    network = getattr(model, "model", model)  # within `SemiSupervised`
    if labels is as_given or getattr(network, "label_model", None) is not as_given:
        yield
        return
    del network.label_model  # torch keeps a module and a function in different places
    network.label_model = labels
    try:
        yield
    finally:
        del network.label_model
        network.label_model = as_given


class Watch:
    """What whoever runs the training is told of the people: how many questions are open, how many answer."""

    def __init__(self, asking: Asking, site: Site, says: Callable[[str], object]) -> None:
        self.asking, self.site, self.says, self.alone = asking, site, says, False

    def look(self, unanswered: int) -> dict[str, int]:
        people = queue_now(self.site.store, time.time()).people
        alone = bool(unanswered and not people)
        if alone and not self.alone:
            self.says(f"{unanswered} questions wait, and nobody answers; serve them with: {self.asking.how}")
        self.alone = alone
        return {"open": unanswered, "people": people}


def erased(store: Store, run: str, rounds: int) -> int:
    """How many answers are gone that were there when the run read up to them, in its first so many rounds."""
    if not rounds:
        return 0
    begun, upto = (store.cursor(run, index) or 0 for index in (0, rounds - 1))
    return store.erased(upto) - store.erased(begun)


def kept(folder: Path, name: str, usual: int) -> int:
    """A term of the study as it was when the run began."""
    config = folder / "config.json"
    began: Mapping[str, Any] = read_json(config).get("asked", {}) if config.exists() else {}
    return int(began.get(name, usual))
