"""Calls of an OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama, hosted ones): many at once, and no more than
it takes. Each reply is handed on as it comes, so that whoever keeps them loses none to a kill. No torch."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from tqdm import tqdm

Body = Mapping[str, Any]  # of a request: model, messages or prompt, and how to sample
T = TypeVar("T")
REFUSED = ("400", "413", "422")  # by which a server refuses one text, or a setting
Heard = Callable[[int, str], None]  # which of the bodies, and the reply's JSON as it came


class EndpointError(RuntimeError):
    """A server that cannot be used so; the sentence names the setting, what the server said, and the mend."""


@dataclass(frozen=True)
class Server:
    """Where a server is and what it takes. Raises EndpointError for what makes no sense.

    The key is never among the settings: `key` names the environment variable that holds it.
    """

    url: str
    """Up to and with /v1, say http://localhost:8000/v1"""
    model: str
    key: str = "OPENAI_API_KEY"
    concurrency: int = 16
    """Calls at once."""
    per_minute: float = 0.0
    """Requests a minute at most, evenly spaced, those that are tried again included; 0: as many as go."""
    timeout: float = 60.0
    """Seconds for one try."""
    retries: int = 5
    """Further tries after 408, 409, 429, 5xx and lost connections; Retry-After is obeyed."""
    deadline: float = 3600.0
    """Seconds for all calls together."""
    give_up: int = 8
    """Calls that fail one after another before the server is taken for dead."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(f"url is {self.url!r}; give an address such as http://localhost:8000/v1")
        if parts.username or parts.password:
            raise EndpointError(f"url holds a password for {parts.hostname}; put it into the variable that key names")
        least = {"concurrency": 1, "retries": 0, "give_up": 1, "per_minute": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise EndpointError(f"{name} is {getattr(self, name)}; give at least {low}")
        for name in ("timeout", "deadline"):
            if not getattr(self, name) > 0:
                raise EndpointError(f"{name} is {getattr(self, name)}; give seconds above 0")


def call(
    server: Server,
    kind: Literal["chat", "text"],
    bodies: Sequence[Body],
    heard: Heard,
    *,
    doing: str = "asking",
    known: int = 0,
) -> dict[int, str]:
    """Sends every body; `heard` gets the replies in the order in which they come. Returns why each other one failed.

    kind: chat completions, or completions of a prompt. known: replies of this server that the caller has from before;
    what is left may then all be what it never answers. Raises EndpointError at once for 401, 403 and 404; after
    `give_up` failures in a row, refused texts apart (400, 413, 422) once anything was answered; when every call failed,
    unless something is known and the server did reply; and at the deadline. What was heard until then was handed on.
    """
    if not bodies:
        return {}
    return _run(_all(server, kind, bodies, heard, doing, known))


async def _all(
    server: Server, kind: str, bodies: Sequence[Body], heard: Heard, doing: str, known: int
) -> dict[int, str]:
    failed: dict[int, str] = {}
    row = done = 0
    following = iter(range(len(bodies)))
    async with _client(server) as client:
        create = (client.chat.completions if kind == "chat" else client.completions).with_raw_response.create

        async def worker() -> None:
            nonlocal row, done
            for i in following:
                text, why = await _one(server, create, bodies[i])
                bar.update()
                if why is None:
                    heard(i, text)
                    row, done = 0, done + 1
                    continue
                failed[i] = why
                row += not (why.startswith(REFUSED) and (done or known))
                if row >= server.give_up:
                    raise EndpointError(
                        f"{row} calls of {server.url} failed one after another, the last: {why}. {done} of "
                        f"{len(bodies)} were answered; mend the server or its settings and run the same again"
                    )

        # Bars are for those who look: with disable=None there is none in a log.
        with tqdm(total=len(bodies), desc=doing, unit="call", disable=None) as bar:
            tasks = [asyncio.create_task(worker()) for _ in range(min(server.concurrency, len(bodies)))]
            try:
                async with asyncio.timeout(server.deadline):
                    await asyncio.gather(*tasks)
            except TimeoutError:
                raise EndpointError(
                    f"the deadline of {server.deadline:g} s is over with {done} of {len(bodies)} calls answered; give "
                    "more seconds, more concurrency or fewer pairs, and run the same again"
                ) from None
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    own = known and all(why.startswith((*REFUSED, "status 200")) for why in failed.values())
    if len(failed) == len(bodies) and not own:
        raise EndpointError(f"all {len(bodies)} calls of {server.url} failed, the first: {failed[min(failed)]}")
    return failed


async def _one(server: Server, create: Any, body: Body) -> tuple[str, str | None]:
    """The reply, or why there is none."""
    openai = _openai()
    named = {name: value for name, value in body.items() if name in ("model", "messages", "prompt")}
    more = {name: value for name, value in body.items() if name not in named}
    try:
        reply = (await create(**named, extra_body=more)).http_response
    except openai.APITimeoutError:
        return "", f"none within {server.timeout:g} s, {server.retries + 1} times; give a longer timeout"
    except openai.APIConnectionError as error:
        return "", f"no connection ({_clean(server, str(error.__cause__ or error))}); is the server up at this url?"
    except openai.APIStatusError as error:
        said = f"{error.status_code}: {_clean(server, _said(error))}"
        match error.status_code:
            case 401 | 403:
                raise EndpointError(
                    f"{server.url} refuses the key: {said}. Put one that it takes into the environment variable "
                    f"{server.key}, or name another variable as key"
                ) from None
            case 404:
                raise EndpointError(
                    f"{server.url} has no model {server.model!r}, or no such page: {said}. Mend model (see "
                    "/models of the server) or url, which ends with /v1"
                ) from None
            case 400 | 413 | 422:
                return "", f"{said}. The server refuses a setting of the request, or the text is too long for it"
            case _:
                return "", f"{said}, after {server.retries + 1} tries"
    return _checked(server, reply)


def _checked(server: Server, reply: Any) -> tuple[str, str | None]:
    """A page of a proxy comes with status 200 as well."""
    text = reply.text
    try:
        data = json.loads(text)
    except ValueError:
        kind = reply.headers.get("content-type", "no type")
        return (
            "",
            f"status 200 with {kind} in place of JSON: {_clean(server, text)!r}; is the url right, and no proxy's?",
        )
    if not (isinstance(data, dict) and isinstance(data.get("choices"), list) and data["choices"]):
        return "", f"status 200 without choices: {_clean(server, text)!r}; is this an OpenAI-compatible server?"
    return text, None


def _said(error: Any) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(error.response.text or error)


def _clean(server: Server, text: str) -> str:
    """Short, and without the key, which some servers say back."""
    key = os.environ.get(server.key)
    text = " ".join((text.replace(key, "[key]") if key else text).encode(errors="replace").decode().split())
    return text if len(text) <= 300 else text[:300] + "..."


def _client(server: Server) -> Any:
    openai = _openai()
    pause = 60 / server.per_minute if server.per_minute else 0.0
    free = 0.0  # when the next request may go

    async def pace(request: Any) -> None:
        nonlocal free
        now = asyncio.get_running_loop().time()
        turn = max(now, free)
        free = turn + pause
        await asyncio.sleep(turn - now)

    # As a hook it also holds back what the client itself tries again.
    hooks = {"request": [pace]} if pause else {}
    http = openai.DefaultAsyncHttpxClient(event_hooks=hooks, timeout=server.timeout)
    return openai.AsyncOpenAI(
        base_url=server.url,
        api_key=os.environ.get(server.key) or "none",
        timeout=server.timeout,
        max_retries=server.retries,
        http_client=http,
    )


def _openai() -> Any:
    try:
        return importlib.import_module("openai")
    except ModuleNotFoundError as error:
        raise EndpointError("calling a server needs the openai package: pip install 'rapport[judge]'") from error


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:  # in a notebook a loop runs already
        return pool.submit(asyncio.run, work).result()
