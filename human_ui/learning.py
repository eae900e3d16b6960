"""What a learner calls, from another process or machine: answers by number, as they come; the queue; how it goes."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import and_, func, or_, select
from starlette.concurrency import run_in_threadpool

from embodied.database import ANSWER
from embodied.records import MAX_NAME, Answer, value_to_json
from embodied.store import Store
from human_ui import desk, wire
from human_ui.guard import Learner, site_of
from human_ui.progress import MOST, put_progress
from human_ui.tables import LEASE, OFFER, OPEN
from human_ui.wire import READ, WRITE, refusals

router = APIRouter(prefix="/api/learner")
LONGEST = 25.0  # seconds that a request may wait; proxies give up at 30
LOOK = 0.1  # seconds between looks: several servers may write to one database


_Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=wire.NO_NUL)]


class Queries(BaseModel):
    model_config = ConfigDict(extra="forbid")
    queries: Annotated[list[_Name], Field(max_length=1000)]


class Told(BaseModel):
    """A round of a training: figures by name, `answers` (read so far) among them; null where one is not known."""

    model_config = ConfigDict(extra="forbid")
    run: _Name
    step: Annotated[int, Field(ge=0, le=10**12)]
    row: Annotated[dict[_Name, Annotated[float, Field(allow_inf_nan=False)] | None], Field(max_length=MOST)]


def told(answer: Answer) -> dict[str, Any]:
    return {**vars(answer), "value": value_to_json(answer.value)}


@router.get("/answers", response_model=list[wire.Said], responses=READ)
async def answers(
    request: Request,
    learner: Learner,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    wait: Annotated[float, Query(ge=0, le=LONGEST)] = 0.0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[dict[str, Any]]:
    """Answers with a number above `after`, in order: at once if there are any, else as soon as there are, or nothing
    after `wait` seconds. A reader that asks with the last number it has stored sees each answer exactly once."""
    store, until = site_of(request).store, time.monotonic() + wait
    # Whoever waits holds no thread, of which there are few, nor does whoever has left.
    while not (found := await run_in_threadpool(store.answers, after)) and time.monotonic() < until:
        if await request.is_disconnected():
            break
        await asyncio.sleep(LOOK)
    return [told(answer) for answer in found[:limit]]


def queue_now(store: Store, now: float) -> wire.Waiting:
    """Questions that are open, looked at and answered, people who look or did lately, answers in the last minute."""
    with store.read() as connection:
        free = connection.execute(select(func.count()).select_from(OFFER).where(OPEN))
        leased = select(func.count()).select_from(LEASE).where(LEASE.c.state == "open", LEASE.c.until >= now)
        looking = or_(LEASE.c.given > now - 300, and_(LEASE.c.state == "open", LEASE.c.until >= now))
        people = select(func.count(func.distinct(LEASE.c.person))).where(looking)
        lately = select(func.count()).select_from(LEASE).where(LEASE.c.state == "answered", LEASE.c.given > now - 60)
        return wire.Waiting(
            open=int(free.scalar_one()),
            leased=int(connection.execute(leased).scalar_one()),
            answers=int(connection.execute(select(func.count()).select_from(ANSWER)).scalar_one()),
            people=int(connection.execute(people).scalar_one()),
            last_minute=int(connection.execute(lately).scalar_one()),
            last_seq=store.last_seq(),
        )


@router.get("/queue", responses=READ)
def queue(request: Request, learner: Learner) -> wire.Waiting:
    """For sizing the next batch: `queue_now`."""
    return queue_now(site_of(request).store, time.time())


@router.post("/withdraw", status_code=204, responses=WRITE)
def withdraw(request: Request, learner: Learner, sent: Queries) -> None:
    """These are asked no more; what is being looked at may still be answered."""
    desk.withdraw(site_of(request).store, sent.queries)


@router.post("/progress", status_code=204, responses={**WRITE, **refusals(409)})
def progress(request: Request, learner: Learner, sent: Told) -> None:
    """How the training goes, for the owner's page. The same step again replaces what was told of it."""
    put_progress(site_of(request).store, sent.run, sent.step, sent.row)
