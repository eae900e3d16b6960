"""Who ranks the videos, and where that is kept: a simulated person at once, or the people of a study, who take time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodied.episodes import Episodes
from embodied.records import Answer, Array, Query
from embodied.store import Store
from embodied.teachers import Teacher, answer
from human_ui import desk
from human_ui.clips import encode
from rapport.train import people
from rapport.train.people import Asking

LOOK = 0.5  # seconds between two looks at what has come in
SIDE = 256  # pixels: smaller pictures are shown larger, by whole factors, so that a video codec leaves them sharp


@dataclass(frozen=True, eq=False)
class Source:
    """ask(stage, questions): returns once they are answered, or nobody is waited for, with all that was said up to
    there of this and earlier stages; asked again it says the same."""

    store: Store
    run: str
    ask: Callable[[int, Sequence[Query]], list[Answer]]

    @property
    def prefix(self) -> str:
        return f"{self.run}:question-" if self.run else "question-"

    def gave_up(self) -> bool:
        return any(self.store.cursor(f"{self.run}:given-up", stage) is not None for stage in (0, 1))


@contextmanager
def from_teacher(folder: Path, teacher: Teacher, name: str) -> Iterator[Source]:
    with Store(folder / "answers.sqlite", Episodes(folder / "episodes")) as store:

        def ask(stage: int, questions: Sequence[Query]) -> list[Answer]:
            store.add_queries(questions)
            store.add_answers([answer(teacher, query, name) for query in questions])
            return _read(store, source, stage)

        source = Source(store, "", ask)
        yield source


@contextmanager
def from_people(
    asking: Asking,
    run: str,
    want: int,
    config: Mapping[str, Any],
    film: Callable[[str], Array],
    says: Callable[[str], object],
    looks: Callable[[int, int], object],
) -> Iterator[Source]:
    """film(episode): the pictures of a video, uint8 [T,H,W,3]. want: people per question. looks(open, people): now."""
    with people.opened(asking, run, config) as site:
        watch = people.Watch(asking, site, says)

        def ask(stage: int, questions: Sequence[Query]) -> list[Answer]:
            seconds = site.study().clip_seconds
            clips = {
                query.id: [
                    site.clips.put(encode(shown(film(s.episode)), fps=max(1.0, len(s) / seconds))).sha256
                    for s in query.segments
                ]
                for query in questions
            }
            desk.offer(site.store, questions, clips, want=want)
            _wait(site.store, source, stage, questions)
            return _read(site.store, source, stage)

        def _wait(store: Store, source: Source, stage: int, questions: Sequence[Query]) -> None:
            """Until every question has as many answers as are wanted, skips among them, or long enough none came."""
            log = f"{run}:given-up"
            if store.cursor(_consumer(source), stage) is not None or store.cursor(log, stage) is not None:
                return
            heard, since = -1, time.monotonic()
            while True:
                said = defaultdict(set)
                for one in store.answers(prefix=source.prefix):
                    said[one.query].add(one.annotator)
                missing = [query.id for query in questions if len(said[query.id]) < want]
                looks(len(missing), watch.look(len(missing))["people"])
                if not missing:
                    return
                if (now := sum(map(len, said.values()))) != heard:
                    heard, since = now, time.monotonic()
                if time.monotonic() - since > 60 * asking.patience:
                    desk.withdraw(store, missing)  # first: whoever is killed between the two waits again
                    store.log_cursor(log, stage, store.last_seq())
                    return
                time.sleep(LOOK)

        source = Source(site.store, run, ask)
        yield source


def _consumer(source: Source) -> str:
    return source.run or "loop"


def _read(store: Store, source: Source, stage: int) -> list[Answer]:
    """What was said when this stage was first over, and nothing that came later."""
    upto = store.log_cursor(_consumer(source), stage, store.last_seq())
    return store.answers(upto=upto, prefix=source.prefix)


def shown(frames: Array) -> Array:
    """As people see it, larger where it is small."""
    factor = max(1, -(-SIDE // max(frames.shape[1:3])))
    return np.repeat(np.repeat(frames, factor, 1), factor, 2)
