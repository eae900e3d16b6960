"""What a person's browser calls: sign in, borrow queries, fetch their clips, answer, take back."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

from embodied.database import ANSWER
from embodied.records import MAX_NAME, RecordError, Survey, value_from_json, value_to_json
from human_ui import desk, people
from human_ui.clips import TEXT
from human_ui.guard import COOKIE, Annotator, site_of, whoever
from human_ui.people import SESSION_LASTS, Person
from human_ui.site import Site

router = APIRouter()
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
    name = "join.html" if person is None else f"{stage(site, person)}.html"
    return templates.TemplateResponse(request, name, shown)


@router.post("/api/session", status_code=204)
def enter(request: Request, sent: Enter, response: Response) -> None:
    """The token of an invitation for a session, kept in a cookie that scripts cannot read."""
    site = site_of(request)
    session = people.enter(site.store, sent.token)
    if session is None:
        raise HTTPException(401, "This invitation is not valid any more. Ask whoever sent it for a new one.")
    path = request.scope.get("root_path") or "/"
    response.set_cookie(
        COOKIE, session, max_age=int(SESSION_LASTS), path=path, httponly=True, samesite="lax", secure=site.public
    )


@router.post("/api/consent", status_code=204)
def consent(request: Request, person: Annotator) -> None:
    site = site_of(request)
    people.consented(site.store, person.id, site.study().version)


@router.post("/api/quiz")
def quiz(request: Request, person: Annotator, sent: Quiz) -> dict[str, Any]:
    """Whether all was right; how many tries are left. Which ones were wrong is not told."""
    site = site_of(request)
    study = site.study()
    if stage(site, person) != "quiz":
        raise HTTPException(409, "The questions are over. Load the page again.")
    passed = sent.chosen == [q.right for q in study.quiz]
    people.quizzed(site.store, person.id, passed)
    return {"passed": passed, "left": 0 if passed else study.tries - person.tries - 1}


@router.post("/api/leases")
def lend(request: Request, person: Annotator, sent: Wanted) -> list[dict[str, Any]]:
    """What this person holds, and more until there are n; nothing where there is nothing to ask now."""
    site = site_of(request)
    _at_work(site, person)
    lent = desk.lend(site.store, site.study(), person.id, sent.n, time.time(), site.rng)
    return [_told(site, one) for one in lent]


@router.post("/api/leases/renew", status_code=204)
def renew(request: Request, person: Annotator) -> None:
    site = site_of(request)
    desk.renew(site.store, site.study(), person.id, time.time())


@router.delete("/api/leases", status_code=204)
def give_back(request: Request, person: Annotator) -> None:
    """A rest: all that is held goes back."""
    desk.give_back(site_of(request).store, person.id)


@router.put("/api/answers/{answer}")
def take(request: Request, person: Annotator, answer: IdInPath, sent: Given) -> dict[str, int]:
    """Saved when this answers. The same again has the same number."""
    site = site_of(request)
    _at_work(site, person)
    value = value_from_json(sent.value)
    if isinstance(value, Survey):
        asked = {item.name for item in site.study().survey}
        if unknown := sorted({name for name, _ in value.items} - asked):
            raise RecordError(f"the survey asks nothing called {unknown[0]!r}; load the page again")
    return {"seq": desk.take(site.store, person.id, sent.lease, answer, value, sent.told, sent.supersedes, time.time())}


@router.get("/api/answers")
def last(request: Request, person: Annotator) -> list[dict[str, Any]]:
    """The last ten answers of this person, newest first, to be looked at again and changed."""
    site = site_of(request)
    return [
        {**_told(site, lent), "answer": answer, "value": value_to_json(value)}
        for lent, answer, value in desk.last(site.store, person.id, 10)
    ]


@router.get("/api/me")
def me(request: Request, person: Annotator) -> dict[str, Any]:
    store = site_of(request).store
    with store.read() as connection:
        n = connection.execute(
            select(func.count()).select_from(ANSWER).where(ANSWER.c.annotator == person.id)
        ).scalar_one()
    return {"name": person.id, "answers": int(n), "over": site_of(request).over}


@router.get("/clips/{sha}")
def clip(request: Request, person: Annotator, sha: Sha) -> FileResponse:
    """The bytes of a clip that this person was given; parts of them where a Range is asked for."""
    site = site_of(request)
    if person.role != "owner" and not desk.may_see(site.store, person.id, sha):
        raise HTTPException(404, "This clip is not part of what you were given. Load the page again.")
    path, media = site.clips.path(sha), site.clips.info(sha).media_type
    return FileResponse(path, media_type=media, headers={"Cache-Control": "private, max-age=31536000, immutable"})


def _at_work(site: Site, person: Person) -> None:
    if stage(site, person) != "work":
        raise HTTPException(409, "There is something to read first. Load the page again.")


def _told(site: Site, lent: desk.Lent) -> dict[str, Any]:
    """A query as the page shows it. Of texts, what they answer is no question to whoever reads, but the prompt."""
    study = site.study()
    clips = [asdict(site.clips.info(sha)) for sha in (*lent.clips, *([lent.anchor] if lent.anchor else []))]
    anchor = clips.pop() if lent.anchor else None
    texts = clips[0]["media_type"] == TEXT
    return {
        "lease": lent.lease,
        "kind": lent.kind,
        "question": study.question if texts else lent.context or study.question,
        "prompt": lent.context if texts else "",
        "until": lent.until,
        "clips": [{**clip, "steps": steps} for clip, steps in zip(clips, lent.steps, strict=True)],
        "anchor": anchor,
        "survey": [asdict(item) for item in study.survey] if lent.kind == "survey" else [],
        "outcome": study.outcome and not texts,
    }
