"""What a person's browser calls: sign in, borrow queries, fetch their clips, answer, take back."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

from embodied.database import ANSWER
from embodied.records import MAX_NAME, value_from_json, value_to_json
from human_ui import desk, people, returns, wire
from human_ui.clips import TEXT, ClipError
from human_ui.guard import COOKIE, Annotator, site_of, whoever
from human_ui.people import SESSION_LASTS, Person
from human_ui.site import Site
from human_ui.wire import READ, WRITE, refusals

TRIES = 20  # how often more is lent instead of what cannot be shown
router = APIRouter()
T = TypeVar("T")
templates = Jinja2Templates(directory=Path(__file__).parent / "web" / "templates")

Id = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[A-Za-z0-9_-]+$")]
IdInPath = Annotated[str, InPath(min_length=1, max_length=MAX_NAME, pattern=r"^[A-Za-z0-9_-]+$")]
Sha = Annotated[str, InPath(pattern=r"^[0-9a-f]{64}$")]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Enter(_Sent):
    token: Annotated[str, Field(min_length=1, max_length=100)]


class Wanted(_Sent):
    """How many queries the browser wants to hold."""

    n: Annotated[int, Field(ge=1, le=desk.AT_ONCE)] = 3


class Given(_Sent):
    """An answer as it was shown: `value` as `embodied.records.value_to_json` writes it, places counted from 0.

    told: what else the browser noticed (milliseconds until each clip had been seen and until the key, a note, ...).
    """

    lease: Id
    value: dict[str, Any]
    told: dict[str, Any] = {}
    supersedes: Annotated[str, Field(max_length=MAX_NAME, pattern=r"^[A-Za-z0-9_-]*$")] = ""


class Unshown(_Sent):
    """Why a question could not be shown."""

    reason: Annotated[str, Field(min_length=1, max_length=500, pattern=wire.NO_NUL)]


class Quiz(_Sent):
    chosen: Annotated[list[Annotated[int, Field(ge=0, le=7)]], Field(max_length=50)]


def stage(site: Site, person: Person) -> Literal["consent", "quiz", "failed", "work"]:
    """Where this person is on the way to the first query."""
    study = site.study()
    if (study.consent or study.instructions) and not person.consent:
        return "consent"
    if study.quiz and not person.passed:
        return "failed" if person.tries >= study.tries else "quiz"
    return "work"


@router.get("/", response_class=HTMLResponse)
def page(request: Request) -> Response:
    """Joining, consent and instructions, the quiz, or work: whichever is next."""
    site, person = site_of(request), whoever(request)
    study = site.study()
    shown = {"study": study, "person": person}
    if person is None:
        return templates.TemplateResponse(request, "join.html", {**shown, "was_in": COOKIE in request.cookies})
    return templates.TemplateResponse(request, f"{stage(site, person)}.html", shown)


@router.post("/api/session", status_code=204, responses=WRITE)
def enter(request: Request, sent: Enter, response: Response) -> None:
    """The token of an invitation for a session, kept in a cookie that scripts cannot read."""
    site = site_of(request)
    session = people.enter(site.store, sent.token)
    if session is None:
        raise HTTPException(401, "This invitation is not valid any more. Ask whoever sent it for a new one.")
    path, secure = request.scope.get("root_path") or "/", bool(site.address)
    response.set_cookie(
        COOKIE, session, max_age=int(SESSION_LASTS), path=path, httponly=True, samesite="lax", secure=secure
    )


@router.post("/api/consent", status_code=204, responses=WRITE)
def consent(request: Request, person: Annotator) -> None:
    site = site_of(request)
    people.consented(site.store, person.id, site.study().version)


@router.post("/api/quiz", responses={**WRITE, **refusals(409)})
def quiz(request: Request, person: Annotator, sent: Quiz) -> wire.Result:
    """Whether all was right; how many tries are left. Which ones were wrong is not told."""
    site = site_of(request)
    study = site.study()
    if stage(site, person) != "quiz":
        raise HTTPException(409, "The questions are over. Load the page again.")
    passed = sent.chosen == [q.right for q in study.quiz]
    people.quizzed(site.store, person.id, passed)
    return wire.Result(passed=passed, left=0 if passed else study.tries - person.tries - 1)


@router.post("/api/leases", response_model=list[wire.Lease], responses={**WRITE, **refusals(409)})
async def lend(request: Request, person: Annotator, sent: Wanted) -> list[dict[str, Any]]:
    """What this person holds, and more until there are n; nothing where there is nothing to ask now.

    One whose clip is missing goes back, and another comes instead.
    """
    site = site_of(request)
    if stage(site, person) != "work":
        raise HTTPException(409, "There is something to read first. Load the page again.")
    told: list[dict[str, Any]] = []
    for _ in range(TRIES):
        lent = await _done(site, desk.lending(site.study(), person.id, sent.n, time.time(), site.rng))
        told = []
        for one in lent:
            try:
                told.append(_told(site, one))
            except ClipError as error:
                await _done(site, returns.unshowing(person.id, one.lease, str(error), time.time()))
        if len(told) == len(lent):
            break
    return told


@router.post("/api/leases/renew", status_code=204, responses=WRITE)
def renew(request: Request, person: Annotator) -> None:
    site = site_of(request)
    desk.renew(site.store, site.study(), person.id, time.time())


@router.post("/api/leases/{lease}/unshown", status_code=204, responses=WRITE)
def unshown(request: Request, person: Annotator, lease: IdInPath, sent: Unshown) -> None:
    """The browser could not show this question: it goes back, and the owner sees why."""
    returns.unshown(site_of(request).store, person.id, lease, sent.reason, time.time())


@router.delete("/api/leases", status_code=204, responses=WRITE)
def give_back(request: Request, person: Annotator) -> None:
    """A rest: all that is held goes back."""
    returns.give_back(site_of(request).store, person.id)


@router.put("/api/answers/{answer}", responses={**WRITE, **refusals(409, 410)})
async def take(request: Request, person: Annotator, answer: IdInPath, sent: Given) -> wire.Kept:
    """Saved when this answers. The same again has the same number.

    Taken though the study has got something new to read meanwhile: the question was lent before that.
    """
    site, value = site_of(request), value_from_json(sent.value)
    name, now = site.store.name, time.time()
    work = desk.taking(name, person.id, sent.lease, answer, value, sent.told, sent.supersedes, now)
    taken = await _done(site, work)
    return wire.Kept(seq=taken.seq, late=taken.late)


@router.get("/api/answers", response_model=list[wire.Answered], responses=READ)
def last(request: Request, person: Annotator) -> list[dict[str, Any]]:
    """The last ten answers of this person, newest first, to be looked at again and changed; without those of which a
    clip is missing by now."""
    site = site_of(request)
    told = []
    for lent, answer, value in desk.last(site.store, person.id, 10):
        with suppress(ClipError):
            told.append({**_told(site, lent), "answer": answer, "value": value_to_json(value)})
    return told


@router.get("/api/me", responses=READ)
def me(request: Request, person: Annotator) -> wire.Me:
    store = site_of(request).store
    with store.read() as connection:
        n = connection.execute(
            select(func.count()).select_from(ANSWER).where(ANSWER.c.annotator == person.id, ANSWER.c.supersedes == "")
        ).scalar_one()
    return wire.Me(name=person.id, answers=int(n), over=site_of(request).over)


@router.get("/clips/{sha}", response_class=FileResponse, responses={**READ, **wire.CLIP})
def clip(request: Request, person: Annotator, sha: Sha) -> FileResponse:
    """The bytes of a clip that this person was given; parts of them where a Range is asked for."""
    site = site_of(request)
    if person.role != "owner" and not desk.may_see(site.store, person.id, sha):
        raise HTTPException(404, "This clip is not part of what you were given. Load the page again.")
    path, media = site.clips.path(sha), site.clips.info(sha).media_type
    return FileResponse(path, media_type=media, headers={"Cache-Control": "private, max-age=31536000, immutable"})


async def _done(site: Site, work: desk.Work[T]) -> T:
    """Without a thread that waits for the disk."""
    return await asyncio.wrap_future(site.store.submit(work))


def _told(site: Site, lent: desk.Lent) -> dict[str, Any]:
    """A query as the page shows it. Of texts, what they answer is no question to whoever reads, but the prompt."""
    study = lent.study
    clips = [site.about(sha) for sha in (*lent.clips, *([lent.anchor] if lent.anchor else []))]
    anchor = clips.pop() if lent.anchor else None
    texts, asked = clips[0]["media_type"] == TEXT, study.asks(lent.kind, bool(lent.anchor))
    return {
        "lease": lent.lease,
        "kind": lent.kind,
        "question": asked if texts else lent.context or asked,
        "prompt": lent.context if texts else "",
        "until": lent.until,
        "clips": [{**clip, "steps": steps} for clip, steps in zip(clips, lent.steps, strict=True)],
        "anchor": anchor,
        "survey": [asdict(item) for item in study.survey] if lent.kind == "survey" else [],
        "outcome": study.outcome and not texts,
    }
