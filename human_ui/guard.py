"""What stands between the network and the pages: who is asking, from where, how much, how often, and safe headers."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embodied.database import StoreError, Unavailable
from embodied.records import RecordError
from human_ui import people
from human_ui.clips import ClipError
from human_ui.desk import Gone
from human_ui.people import Person
from human_ui.site import Limits, Site

COOKIE = "rapport_session"
WRITES = ("POST", "PUT", "DELETE")
READ_OUT = 1024 * 1024  # bytes of what is too large that are read all the same
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self' blob:; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def whoever(request: Request) -> Person | None:
    """Identity comes from the session or the token alone, never from what is sent besides."""
    site = site_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return people.of_token(site.store, token)
    session = request.cookies.get(COOKIE)
    return people.of_session(site.store, session) if session else None


async def _person(request: Request) -> Person | None:
    """Asked once for each request."""
    if not hasattr(request.state, "person"):
        request.state.person = await run_in_threadpool(whoever, request)
    found: Person | None = request.state.person
    return found


def _with_role(*roles: str) -> Callable[[Request], Awaitable[Person]]:
    async def person(request: Request) -> Person:
        found = await _person(request)
        if found is None:
            raise HTTPException(401, "You are not signed in any more. Open your invitation link again.")
        if found.role not in roles:
            raise HTTPException(403, f"This is for {' and '.join(roles)}s; you are invited as {found.role}.")
        return found

    return person


Annotator = Annotated[Person, Depends(_with_role("annotator", "owner"))]
Learner = Annotated[Person, Depends(_with_role("learner", "owner"))]


class _Rates:
    """How many writes each one made in the present minute. In memory: a restart forgives."""

    def __init__(self, limits: Limits) -> None:
        self._most = {"POST": limits.post, "PUT": limits.put, "DELETE": limits.delete}
        self._lock, self._minute, self._count = threading.Lock(), 0, dict[tuple[str, str], int]()

    def too_many(self, who: str, method: str) -> bool:
        with self._lock:
            if (minute := int(time.time() // 60)) != self._minute:
                self._minute, self._count = minute, {}
            count = self._count[who, method] = self._count.get((who, method), 0) + 1
        return count > self._most[method]


class _Guard:
    """Before and after every route: size, origin and rate of writes, and headers. Plain ASGI, since what Starlette
    makes of a function takes as long as a route."""

    def __init__(self, app: ASGIApp, site: Site, prefix: str) -> None:
        self.app, self.rates = app, _Rates(site.limits)
        self.public = f"{prefix}/static/", f"{prefix}/clips/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope, receive)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if not request.url.path.startswith(self.public):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            refused = await _refused(request, self.rates)
        except Unavailable:
            refused = _later()
        await (refused or self.app)(scope, receive, with_headers)


def protect(app: FastAPI) -> None:
    """The same for every route, and errors as one sentence each."""
    app.add_middleware(_Guard, site=app.state.site, prefix=app.root_path)

    @app.exception_handler(RequestValidationError)
    async def senseless(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _sentence(422, f"{where} makes no sense ({first['msg']}); send what /openapi.json describes.")

    @app.exception_handler(Gone)
    async def gone(request: Request, error: Exception) -> Response:
        return _sentence(410, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Exception) -> Response:
        return _later()

    @app.exception_handler(ClipError)
    async def missing(request: Request, error: Exception) -> Response:
        return _sentence(404, "A clip of this question is missing. Tell whoever invited you, and go on with the next.")

    @app.exception_handler(StoreError)
    async def conflict(request: Request, error: Exception) -> Response:
        return _sentence(409, str(error))

    @app.exception_handler(RecordError)
    async def unfit(request: Request, error: Exception) -> Response:
        return _sentence(422, str(error))


async def _refused(request: Request, rates: _Rates) -> Response | None:
    method = request.method
    site = site_of(request)
    if method not in WRITES:
        return None
    length = request.headers.get("content-length", "" if "transfer-encoding" in request.headers else "0")
    if not length.isdecimal() or len(length) > 12 or int(length) > site.limits.body:
        # What comes in pieces has no known end.
        await _read_out(request)
        return _sentence(413, f"What was sent has {length[:12] or 'no known'} bytes; send at most {site.limits.body}.")
    bearer = "authorization" in request.headers
    if not bearer and request.headers.get("x-rapport") != "1":
        return _sentence(403, "This came from another page. Open the page of the study itself.")
    origin = request.headers.get("origin")
    if origin and not bearer and origin != _origin(site, request):
        return _sentence(403, f"This came from {origin}. Open the page of the study itself.")
    person = await _person(request)
    who = f"person {person.id}" if person else f"address {request.client.host if request.client else ''}"
    if rates.too_many(who, method):
        return _sentence(429, "That was too much in one minute. It is sent again by itself.", retry=20)
    return None


async def _read_out(request: Request) -> None:
    """Whoever is still sending when the connection closes never reads why it did."""
    read = 0
    with suppress(ClientDisconnect):
        async for piece in request.stream():
            read += len(piece)
            if read > READ_OUT:
                return


def _origin(site: Site, request: Request) -> str:
    """Where our own pages come from: behind a proxy its address, whatever name the proxy was called by."""
    if not site.address:
        return f"http://{request.headers.get('host')}"
    at = urlsplit(site.address)
    return f"https://{at.netloc.lower().removesuffix(':443')}"


def _later() -> JSONResponse:
    # Where on the disk it lies is the owner's business.
    return _sentence(503, "It could not be saved just now; it is kept in this browser and sent again.", retry=5)


def _sentence(status: int, sentence: str, retry: int | None = None) -> JSONResponse:
    headers: dict[str, Any] = {} if retry is None else {"Retry-After": str(retry)}
    return JSONResponse({"detail": sentence}, status, headers=headers)
