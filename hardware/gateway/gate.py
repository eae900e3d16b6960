"""What stands between the network and the robot: who is asking, from where, how much, how often, and safe headers.

A stranger gets the page, which holds nothing, and is told that the gateway lives; to everything else, whether it is
there or not, the answer is the same. Stopping the arm needs a token of any role, and is never too often.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hardware.gateway.tokens import Person, Tokens

MOST_BYTES = 8 << 20
BODY_SECONDS = 10.0
OPEN = ("/", "/healthz", "/robot.css", "/page.js", "/api.js", "/shown.js", "/icon.svg")
STOPPING = ("/v1/stop", "/v1/estop")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Doorway:
    """Where the gateway is reached: `hosts` as a Host header may name it, and the scheme of its pages."""

    hosts: frozenset[str]
    scheme: str = "http"

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(f"{self.scheme}://{host}" for host in self.hosts)


@dataclass
class Rates:
    """How much anybody did in the present second. In memory: a restart forgives."""

    most: int = 50
    _second: int = 0
    _count: Counter[str] = field(default_factory=Counter)

    def too_many(self, who: str) -> bool:
        if (second := int(time.monotonic())) != self._second:
            self._second, self._count = second, Counter()
        self._count[who] += 1
        return self._count[who] > self.most


class Gate:
    """Plain ASGI about the whole app. refused: told the status of whatever is not let in."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        doorway: Doorway,
        refused: Callable[[int], object],
        rates: Rates,
    ) -> None:
        self.app, self.tokens, self.doorway, self.refused, self.rates = app, tokens, doorway, refused, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if (refusal := self._refusal(scope)) is not None:
            self.refused(refusal.status_code)
            return await refusal(scope, receive, with_headers)
        if scope["type"] == "websocket" or scope["method"] in ("GET", "HEAD"):
            return await self.app(scope, receive, with_headers)
        body = await _body(receive)
        if isinstance(body, Response):
            self.refused(body.status_code)
            return await body(scope, receive, with_headers)
        await self.app(scope, _again(body, receive), with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self.doorway.hosts:
            return sentence(403, "The robot has another name. Open the address that starting it told.")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self.doorway.origins:
            return sentence(403, "This came from another page. Open the robot's own.")
        if scope["type"] == "http" and scope["path"] in OPEN and scope["method"] in ("GET", "HEAD"):
            return None
        person = self.tokens.whose(token_of(headers))
        if person is None:
            address = (scope.get("client") or ("",))[0]
            if self.rates.too_many(f"stranger {address}"):
                return sentence(429, "That was too much in one second.", retry=1)
            return sentence(401, "A valid token is needed. Open the address that starting the robot told.")
        scope.setdefault("state", {})["person"] = person
        if scope["path"] not in STOPPING and self.rates.too_many(person.name):
            return sentence(429, "That was too much in one second.", retry=1)
        return None


def person_of(scope: Scope) -> Person:
    found: Person = scope["state"]["person"]
    return found


def token_of(headers: Headers) -> str:
    """From the Authorization header; browsers can send none with a WebSocket, and name it beside the subprotocol."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    offered = [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",")]
    return next((part.removeprefix("bearer.") for part in offered if part.startswith("bearer.")), "")


def sentence(status: int, said: str, retry: int | None = None) -> JSONResponse:
    return JSONResponse({"detail": said}, status, headers={} if retry is None else {"Retry-After": str(retry)})


async def _body(receive: Receive) -> bytes | Response:
    """The whole of it, or why not: too large, or too slow."""
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return sentence(400, "It ended in the middle.")
                read += message.get("body", b"")
                if len(read) > MOST_BYTES:
                    return sentence(413, f"What was sent is too large; send at most {MOST_BYTES} bytes.")
                if not message.get("more_body", False):
                    return bytes(read)
    except TimeoutError:
        return sentence(408, f"It took longer than {BODY_SECONDS:g} s to send.")


def _again(body: bytes, receive: Receive) -> Receive:
    first = True

    async def read() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return read
