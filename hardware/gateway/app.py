"""The web app of one robot: its page, an interface over HTTP and WebSocket, and what Prometheus reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as AnyHTTPException

from hardware.gateway import metrics, policies
from hardware.gateway.daemon import Gone
from hardware.gateway.episodes import Listed, listed
from hardware.gateway.gate import OPEN, Doorway, Gate, Rates, person_of, sentence
from hardware.gateway.house import House
from hardware.gateway.policies import PolicyError
from hardware.gateway.shown import Shown
from hardware.gateway.stream import stream
from hardware.gateway.tokens import Person, Role, Tokens
from hardware.link import Ask, Estop, GiveBack, LinkError, Renew, Scene, Stop, Take
from hardware.link import Request as Asked

WEB = Path(__file__).parent / "web"
LOOK_SECONDS = 0.1
"""Between two looks whether the cameras see."""


class Refusal(BaseModel):
    """detail: a sentence that says what to do."""

    detail: str


class Done(BaseModel):
    """The daemon has done it, or begun to: the state tells."""

    done: Literal[True] = True


class LeaseOf(BaseModel):
    """To be sent as X-Lease with whatever needs it, and to be renewed before its seconds are over."""

    lease: str
    seconds: float


class Length(BaseModel):
    seconds: float = Field(default=30.0, gt=0, le=60)


class HowToStop(BaseModel):
    """category 0: power off at once, and a raised arm drops; 1: brake, then power off; 2: brake and hold. Without it
    the arm's own. done: the task is over, as it should be."""

    category: Literal[0, 1, 2] | None = None
    why: str = Field(default="", max_length=500)
    done: bool = False


class Task(BaseModel):
    """task: one sentence."""

    task: str = Field(default="", max_length=1000)


class Begin(Task):
    """contract: the text of the policy's contract.json, of whoever sends the chunks himself. Without it the policy
    server leads that the robot was started with."""

    contract: str = Field(default="", max_length=1 << 16)


class Things(BaseModel):
    """Numbers of the scene by their names in the robot's file."""

    values: dict[str, list[float]] = Field(max_length=100)


def _with(*roles: Role) -> Callable[[Request], Awaitable[Person]]:
    async def person(request: Request) -> Person:
        found = person_of(request.scope)
        if found.role not in roles:
            raise HTTPException(403, f"This is for {' and '.join(roles)}; this token may {found.role}.")
        return found

    return person


Anybody = Annotated[Person, Depends(_with("observe", "operate", "admin"))]
Operator = Annotated[Person, Depends(_with("operate", "admin"))]
XLease = Annotated[str, Header(max_length=100)]
_WHY = {401: "No valid token.", 403: "Not for this role, or from another page.", 409: "Not now, and why."}
_WHY |= {408: "Sent too slowly.", 413: "Too large.", 422: "It makes no sense.", 429: "Too often."}
_WHY |= {400: "What was sent cannot be read.", 503: "The daemon is not there, and what to do."}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": why} for status, why in _WHY.items()
}

_SAID = {
    "arm": "Power, and the arm holds where it is.",
    "disarm": "Takes the power: a raised arm drops; hold it.",
    "home": "The arm moves to its home.",
    "reset": "Out of FAULT or ESTOP. Takes the power: a raised arm drops; hold it.",
}


def create_app(house: House, tokens: Tokens, doorway: Doorway, rates: Rates | None = None) -> FastAPI:
    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(house.daemon.run()), asyncio.create_task(_look(house))]
        try:
            yield
        finally:
            for task in (*tasks, *([house.following] if house.following else [])):
                task.cancel()
            house.recording.close()
            house.watch.close()

    app = FastAPI(
        title="Rapport robot",
        version=version("rapport"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=life,
    )
    app.state.house = house
    app.add_middleware(
        Gate,
        tokens=tokens,
        doorway=doorway,
        refused=lambda status: house.metrics.refused.labels(status=str(status)).inc(),
        rates=rates or Rates(),
    )
    _errors(app)
    _pages(app)
    _looking(app, house)
    _commands(app, house)
    _leases(app, house)
    app.add_api_websocket_route("/v1/stream", stream)
    return app


async def _look(house: House) -> None:
    while house.watch.cameras:
        await asyncio.to_thread(house.watch.look)  # pictures are compared: not in the loop that beats
        await asyncio.sleep(LOOK_SECONDS)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(AnyHTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, AnyHTTPException)
        said = {404: "There is no such thing.", 405: "That cannot be done with it."}.get(
            error.status_code, error.detail
        )
        answer = sentence(error.status_code, said)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def senseless(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return sentence(422, f"{where} makes no sense ({first['msg']}); send what /openapi.json describes.")

    @app.exception_handler(Gone)
    async def gone(request: Request, error: Exception) -> Response:
        return sentence(503, f"{error}. If the arm moves, use the hardware e-stop.")

    @app.exception_handler(LinkError)
    async def unfit(request: Request, error: Exception) -> Response:
        return sentence(422, str(error))

    @app.exception_handler(PolicyError)
    async def foreign(request: Request, error: Exception) -> Response:
        return sentence(409, str(error))


def _pages(app: FastAPI) -> None:
    """What a stranger may have: the page without anything on it."""

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The gateway lives; nothing is said about the robot."""
        return "ok"

    for path in OPEN:
        if path != "/healthz":
            _file(app, path, WEB / ("index.html" if path == "/" else path.lstrip("/")))


def _file(app: FastAPI, path: str, file: Path) -> None:
    @app.get(path, include_in_schema=False)
    async def read() -> FileResponse:
        return FileResponse(file)


def _looking(app: FastAPI, house: House) -> None:
    @app.get("/v1/state", responses=_REFUSALS)
    async def state(person: Anybody) -> Shown:
        """What the robot does, and what may be asked of it now."""
        return Shown(**house.shown())

    @app.get("/v1/episodes", responses=_REFUSALS)
    def episodes(person: Anybody) -> list[Listed]:
        """The newest first."""
        return listed(house.config.journal)

    @app.get("/metrics", responses={**_REFUSALS, 200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def read(person: Anybody) -> Response:
        return Response(house.metrics.text(), media_type=metrics.CONTENT)


async def _ask(house: House, request: Asked) -> Done:
    """Raises HTTPException with the daemon's own sentence."""
    if refused := (await house.daemon.ask(request)).refused:
        raise HTTPException(409, refused)
    return Done()


def _commands(app: FastAPI, house: House) -> None:
    @app.post("/v1/estop", responses=_REFUSALS)
    async def estop(person: Anybody) -> Done:
        """Power off at once, latched, with any token and no lease: a raised arm drops."""
        return await _ask(house, Estop(person.name))

    @app.post("/v1/stop", responses=_REFUSALS)
    async def stop(person: Anybody, how: HowToStop | None = None) -> Done:
        """With any token and no lease."""
        how = how or HowToStop()
        category = house.category() if how.category is None else how.category
        return await _ask(house, Stop(category, person.name, how.why, how.done))

    @app.post("/v1/start", responses=_REFUSALS)
    async def start(person: Operator, begin: Begin, x_lease: XLease = "") -> Done:
        """The policy leads, from now on."""
        async with house.starting:  # two at once would be two connections
            snapshot, before = house.daemon.snapshot, house.following
            if snapshot is not None and snapshot.mode != "RUNNING":  # else the start is refused, and it leads on
                _leave(before)
            if begin.contract:
                await _ask(house, Ask("start", x_lease, begin.task, begin.contract))
                house.following = None
                house.told("")
            elif house.policy is None:
                raise PolicyError("there is no policy server; start the robot with --policy, or send a contract")
            else:
                house.following = await policies.start(
                    house.config, house.daemon, house.watch, house.policy, x_lease, begin.task, house.told
                )
            _leave(before)
        return Done()

    @app.post("/v1/teleop", responses=_REFUSALS)
    async def teleop(person: Operator, begin: Task, x_lease: XLease = "") -> Done:
        """A person leads, by targets over /v1/stream."""
        return await _ask(house, Ask("teleop", x_lease, begin.task))

    @app.post("/v1/scene", responses=_REFUSALS)
    async def scene(person: Operator, things: Things, x_lease: XLease = "") -> Done:
        """Where things are."""
        return await _ask(house, Scene(x_lease, {name: tuple(given) for name, given in things.values.items()}))

    for what in ("arm", "disarm", "home", "reset"):
        _command(app, house, what)


def _leave(following: asyncio.Task[None] | None) -> None:
    """Whoever was asked for an earlier start, and may still be waiting for his answer, is not followed any more."""
    if following is not None:
        following.cancel()


def _command(app: FastAPI, house: House, what: Literal["arm", "disarm", "home", "reset"]) -> None:
    @app.post(f"/v1/{what}", responses=_REFUSALS, name=what, description=_SAID[what])
    async def ask(person: Operator, x_lease: XLease = "") -> Done:
        return await _ask(house, Ask(what, x_lease))


def _leases(app: FastAPI, house: House) -> None:
    @app.post("/v1/lease", responses=_REFUSALS)
    async def take(person: Operator, length: Length) -> LeaseOf:
        """One commands at a time."""
        reply = await house.daemon.ask(Take(person.name, length.seconds))
        if reply.refused:
            raise HTTPException(409, reply.refused)
        return LeaseOf(lease=reply.lease, seconds=length.seconds)

    @app.patch("/v1/lease", responses=_REFUSALS)
    async def renew(person: Operator, length: Length, x_lease: XLease = "") -> LeaseOf:
        await _ask(house, Renew(x_lease, length.seconds))
        return LeaseOf(lease=x_lease, seconds=length.seconds)

    @app.delete("/v1/lease", responses=_REFUSALS)
    async def give_back(person: Operator, x_lease: XLease = "") -> Done:
        """While the arm moves, it stops. An admin needs no X-Lease, and ends whoever's it is."""
        whose = x_lease or (house.daemon.lease if person.role == "admin" else "")
        return await _ask(house, GiveBack(whose))
