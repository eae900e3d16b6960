"""What people are asked, and on what terms: one TOML file, whose every version is kept beside its answers."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from embodied.checks import MAX_TEXT
from embodied.values import MAX_ITEMS

_KINDS: Mapping[str, tuple[Any, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
    "bool": (bool, "true or false"),
}


class StudyError(ValueError):
    """A study that makes no sense; the sentence names the file, the value and the mend."""


QUESTIONS: Mapping[str, str] = MappingProxyType(
    {
        "grade": "Which is better, and by how much?",
        "rank": "Which is best, which comes next?",
        "choose": "Which is best?",
        "rate": "How good is this?",
        "mark": "What is good, what is bad?",
        "stop": "Where should it have stopped?",
        "write": "What would you say about this?",
    }
)
"""What is asked where a study has no question of its own; of other kinds, the usual one."""


@dataclass(frozen=True)
class Quiz:
    """One comprehension check: a question, what can be chosen, and which is right (0 is the first)."""

    question: str
    choices: tuple[str, ...]
    right: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        if not 2 <= len(self.choices) <= 8 or not 0 <= self.right < len(self.choices):
            raise StudyError(
                f"quiz {self.question!r} has {len(self.choices)} choices and right = {self.right}; give 2 to 8 "
                "choices, and the number of one of them, counted from 0"
            )


@dataclass(frozen=True)
class Item:
    """A question of a survey, `name` in the answers. of: `each` clip, answered yes or no, or `both`, which of them."""

    name: str
    question: str
    of: str = "each"

    def __post_init__(self) -> None:
        if self.of not in ("each", "both"):
            raise StudyError(f"survey {self.name!r} is of {self.of!r}; give each or both")
        if not self.name.strip() or not self.question.strip():
            raise StudyError(f"survey {self.name!r} asks {self.question!r}; give a name and a question")


@dataclass(frozen=True)
class Study:
    """`question`: the sentence above the clips where a query has none of its own.

    want: people per query. lease: seconds for which a query is kept for whoever looks at it. look: seconds of looking
    before an answer counts as considered (earlier ones are marked, not refused). gold: the share of queries shown
    whose answer is known. rest: after so many answers a rest is offered. ties, skips: whether these can be answered.
    consent, instructions: texts shown once, before the first query; empty ones are left out. quiz: asked after them;
    `tries`: how often. clip_seconds, fps: how clips are cut and shown. survey: what is asked in queries of that kind.
    goal: what whoever acts is to do, shown above the clips. outcome: start and end of each clip are shown as stills
    beside it, as whoever judges decisions has to know what came of them.
    """

    name: str
    question: str = "Which is better?"
    want: int = 1
    lease: float = 120.0
    look: float = 1.0
    gold: float = 0.0
    rest: int = 40
    ties: bool = True
    skips: bool = True
    consent: str = ""
    instructions: str = ""
    quiz: tuple[Quiz, ...] = ()
    tries: int = 2
    clip_seconds: float = 2.0
    fps: float = 20.0
    survey: tuple[Item, ...] = ()
    goal: str = ""
    outcome: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "quiz", tuple(q if isinstance(q, Quiz) else Quiz(**q) for q in self.quiz))
        object.__setattr__(self, "survey", tuple(i if isinstance(i, Item) else Item(**i) for i in self.survey))
        for field in fields(self):
            value, (kinds, told) = getattr(self, field.name), _KINDS.get(str(field.type), (object, ""))
            if not isinstance(value, kinds) or (isinstance(value, bool) and field.type != "bool"):
                raise StudyError(f"{field.name} is {value!r}; give {told}")
        for name in ("name", "question", "consent", "instructions", "goal"):
            if len(getattr(self, name)) > MAX_TEXT:
                raise StudyError(f"{name} has {len(getattr(self, name))} characters; give at most {MAX_TEXT}")
        wrong = {
            f"name is {self.name!r}; give the study a name": not self.name.strip(),
            "two questions of the survey have one name; give each its own": (
                len({item.name for item in self.survey}) < len(self.survey)
            ),
            f"the survey has {len(self.survey)} questions; give at most {MAX_ITEMS}": len(self.survey) > MAX_ITEMS,
            f"want is {self.want}; give 1 to 100 people per query": not 1 <= self.want <= 100,
            f"lease is {self.lease} s; give 10 to 3600": not 10 <= self.lease <= 3600,
            f"look is {self.look} s; give 0 to 60": not 0 <= self.look <= 60,
            f"gold is {self.gold}; give a share of the queries, 0 to .5": not 0 <= self.gold <= 0.5,
            f"rest is {self.rest}; give 0 (never) or more answers": self.rest < 0,
            f"tries is {self.tries}; give 1 to 10": not 1 <= self.tries <= 10,
            f"clip_seconds is {self.clip_seconds}; give more than 0, at most 600": not 0 < self.clip_seconds <= 600,
            f"fps is {self.fps}; give more than 0, at most 120": not 0 < self.fps <= 120,
        }
        for sentence, is_wrong in wrong.items():
            if is_wrong:
                raise StudyError(sentence)

    @cached_property
    def version(self) -> str:
        """A name for exactly these terms: answers say under which they were given."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def asks(self, kind: str, anchor: bool = False) -> str:
        """The sentence above queries of this kind."""
        if self.question != Study.question:
            return self.question
        return "Which is more like the one above?" if anchor else QUESTIONS.get(kind, self.question)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)


@lru_cache(maxsize=64)
def from_json(terms: str) -> Study:
    """The inverse of `Study.to_json`. Of terms that came with imported answers some may not be known."""
    known = json.loads(terms)
    return Study(**{**known, "name": known.get("name") or "unknown"})


def from_mapping(given: Mapping[str, Any], where: str) -> Study:
    """Raises StudyError that names `where`, for unknown keys too: a misspelt one would silently do nothing."""
    known = {field.name for field in fields(Study)}
    if unknown := sorted(set(given) - known):
        raise StudyError(f"{where}: nothing is called {unknown[0]!r}; it may have {', '.join(sorted(known))}")
    try:
        return Study(**given)
    except TypeError as error:
        raise StudyError(
            f"{where}: {error}; name at least the study, and give every quiz question, choices, right, "
            "every question of a survey name, question"
        ) from error
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from error


def load(path: Path) -> Study:
    """Raises StudyError for a file that is not there or makes no sense."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f'{path} is not there; write one with at least: name = "my study"') from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is no TOML ({error}); mend that line") from error
    return from_mapping(given, str(path))
