"""What goes to browsers and learners, as typed records: what was lent and kept, and refusals as one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from human_ui.clips import Clip
from human_ui.study import Item


class Refusal(BaseModel):
    """detail: a sentence that says what to do."""

    detail: str


_WHY = {
    400: "What was sent cannot be read.",
    401: "Nobody is signed in.",
    403: "Not for this role, or from another page.",
    404: "There is no such thing for you.",
    409: "It does not go with what is kept already.",
    410: "The question is nobody's any more.",
    413: "Too large.",
    422: "It makes no sense.",
    429: "Too much in one minute; Retry-After says when to go on.",
    503: "It cannot be saved or read now; Retry-After says when to send the same again.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: how it may refuse."""
    return {status: {"model": Refusal, "description": _WHY[status]} for status in statuses}


NO_NUL = r"^[^\x00]*$"  # PostgreSQL has no such character
READ = refusals(401, 403, 422, 503)
WRITE = refusals(400, 401, 403, 413, 422, 429, 503)

_VIDEO: dict[str, Any] = {"content": {"video/mp4": {}, "video/webm": {}}}
_TEXT: dict[str, Any] = {"content": {"text/plain": {}}}
CLIP: dict[int | str, dict[str, Any]] = {
    **refusals(404),
    200: {"content": {**_VIDEO["content"], **_TEXT["content"]}, "description": "The whole clip, or text."},
    206: {"content": {**_VIDEO["content"], **_TEXT["content"]}, "description": "The part that was asked for."},
    400: {**_TEXT, "description": "Range cannot be read."},
    416: {**_TEXT, "description": "There is no such part."},
}


@dataclass(frozen=True)
class Shown(Clip):
    """A clip, or a text, and of how many steps of behaviour it is."""

    steps: int


class Lease(BaseModel):
    """A question as one person is shown it. prompt: what texts answer. outcome: start and end are shown as stills."""

    lease: str
    kind: str
    question: str
    prompt: str
    until: float  # seconds since the epoch
    clips: list[Shown]
    anchor: Clip | None
    survey: list[Item]
    outcome: bool


class Answered(Lease):
    """One that this person has answered: the answer's id, and what was said, as it was shown."""

    answer: str
    value: Mapping[str, Any]


class Kept(BaseModel):
    """An answer is on disk, under this number. late: after its lease was over."""

    seq: int
    late: bool


class Me(BaseModel):
    """over: what people are told once there is nothing more to ask."""

    name: str
    answers: int
    over: str


class Result(BaseModel):
    """Of the quiz: whether all was right, and how many tries are left."""

    passed: bool
    left: int


class Said(BaseModel):
    """An answer as a learner reads it, in the query's own order."""

    id: str
    query: str
    annotator: str
    source: str
    value: Mapping[str, Any]
    supersedes: str
    seq: int


class Waiting(BaseModel):
    """Questions that are open and looked at, answers, people of the last five minutes, answers of the last one."""

    open: int
    leased: int
    answers: int
    people: int
    last_minute: int
    last_seq: int
