"""Texts as questions: what language models answered to one prompt, held against each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embodied.checks import RecordError
from embodied.records import Query
from embodied.texts import text_query
from embodied.values import KINDS, SIZES
from human_ui import desk
from human_ui.site import Site
from human_ui.study import StudyError


@dataclass(frozen=True)
class Texts:
    """Answers of models to one prompt; `kind` as that of a Query."""

    prompt: str
    answers: tuple[str, ...]
    kind: str = "compare"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.kind in ("mark", "stop"):
            raise RecordError(f"texts cannot be asked about in kind {self.kind!r}; use compare, or one without a clock")
        least, most = SIZES[self.kind]
        if not least <= len(self.answers) <= (most or 8):
            raise RecordError(f"{len(self.answers)} answers in kind {self.kind!r}; give {least} to {most or 8}")


def offer(site: Site, texts: Sequence[Texts], *, priority: float = 0.0) -> list[Query]:
    """They may be asked from now on; those that are asked already are left as they are. Raises RecordError for a kind
    that asks for another number of answers, and for texts that are too long."""
    queries, clips = [], {}
    for one in texts:
        episodes, query = text_query(one.prompt, one.answers, one.kind)
        site.store.episodes.save(episodes)
        clips[query.id] = [site.clips.put_text(answer).sha256 for answer in one.answers]
        queries.append(query)
    desk.offer(site.store, queries, clips, want=site.study().want, priority=priority)
    return queries


def read(path: Path) -> Iterator[Texts]:
    """JSON lines, {"prompt": ..., "answers": [..., ...]}, and "kind" if wanted. Raises StudyError that names a line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read ({error}); give JSON lines") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            match given:
                case {"prompt": str(prompt), "answers": [*answers], **rest} if set(rest) <= {"kind"}:
                    if all(isinstance(answer, str) for answer in answers):
                        yield Texts(prompt, tuple(answers), str(rest.get("kind", "compare")))
                        continue
            raise RecordError('give {"prompt": "...", "answers": ["...", "..."]}, and "kind" if it is not compare')
        except ValueError as error:
            raise StudyError(f"{path}, line {number}: {error}") from error
