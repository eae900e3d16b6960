"""/v1/stream: what the robot does, as it does it; and what is sent to it many times a second.

Subprotocol `rapport.json`, for pages: a text of `Shown` twenty times a second; heard are stops, of anybody, each a text
{"ask": "stop" or "estop", "number": N, "why": TEXT}, answered by {"to": N, "refused": TEXT}. `rapport.msgpack`, or none
named: the daemon's own messages of `link`, each a binary frame of msgpack [kind, number, {field: value}]: Hello,
then every Snapshot, and Replies; heard are Chunk, Leader, Seen, Scene and Renew, of the holder of the lease, and Stop
and Estop, of anybody. A number of 0 wants no Reply, and waits for none. Chunks and Leaders are to be numbered upwards.
Who reads slowly gets the newest when he reads.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Literal

from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field

from hardware.chunks import Chunk
from hardware.gateway.daemon import Daemon, Gone
from hardware.gateway.gate import Rates, person_of, sentence
from hardware.gateway.house import House
from hardware.gateway.tokens import Person
from hardware.link import Estop, Leader, LinkError, Message, Renew, Reply, Request, Scene, Seen, Stop, pack, unpack

JSON, MSGPACK = "rapport.json", "rapport.msgpack"
MOST_STREAMS = 8
SHOWN_SECONDS = 0.05
MOST_A_SECOND = 400
"""Messages of one client; who sends more is let go."""
_HEAD = 4  # bytes of a frame's length, which a WebSocket knows itself


class _Stopping(BaseModel):
    ask: Literal["stop", "estop"]
    number: int
    why: str = Field(default="", max_length=500)


async def stream(socket: WebSocket) -> None:
    house: House = socket.app.state.house
    if house.streams >= MOST_STREAMS:
        house.metrics.refused.labels(status="429").inc()
        return await socket.send_denial_response(sentence(429, f"{MOST_STREAMS} look on already.", retry=5))
    offered = [part.strip() for part in socket.headers.get("sec-websocket-protocol", "").split(",")]
    form = next((part for part in offered if part in (JSON, MSGPACK)), None)
    house.streams += 1
    try:
        await socket.accept(form)
        told = _pages if form == JSON else _everything
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(told(socket, house))
            person = person_of(socket.scope)
            if form == JSON:
                group.create_task(_stops(socket, house, person, telling, group))
            else:
                group.create_task(_listen(socket, house, person, telling))
    except* (WebSocketDisconnect, RuntimeError, OSError):  # he is gone, whichever end noticed it first
        pass
    finally:
        house.streams -= 1


async def _pages(socket: WebSocket, house: House) -> None:
    last = -1
    while True:
        if (snapshot := await house.daemon.after(last)) is not None:
            last = snapshot.seq
        await socket.send_text(json.dumps(house.shown(), allow_nan=False))
        await asyncio.sleep(SHOWN_SECONDS)


async def _everything(socket: WebSocket, house: House) -> None:
    daemon, last = house.daemon, -1
    if daemon.hello is not None:
        await socket.send_bytes(pack(daemon.hello)[_HEAD:])
    while (snapshot := await daemon.after(last)) is not None:
        if snapshot.seq != last:
            last = snapshot.seq
            await socket.send_bytes(pack(snapshot)[_HEAD:])
    await socket.close(1012, daemon.why[:100])


async def _stops(
    socket: WebSocket, house: House, person: Person, telling: asyncio.Task[None], group: asyncio.TaskGroup
) -> None:
    """A page's: its stream is open already, whoever else keeps the gateway's door busy."""
    rates = Rates(MOST_A_SECOND)
    try:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            try:
                if rates.too_many(""):
                    raise ValueError("too many")
                asked = _Stopping.model_validate_json(message.get("text") or "")
            except ValueError:
                return await socket.close(1008, "nothing of the kind is heard here")
            group.create_task(_stop(socket, house, person, asked))  # an e-stop does not wait for a stop's answer
    finally:
        telling.cancel()


async def _stop(socket: WebSocket, house: House, person: Person, asked: _Stopping) -> None:
    try:
        request = Estop(person.name) if asked.ask == "estop" else Stop(house.category(), person.name, asked.why)
        refused = (await house.daemon.ask(request)).refused
    except (LinkError, Gone) as error:
        refused = f"{error}. If the arm moves, use the hardware e-stop."
    await socket.send_text(json.dumps({"to": asked.number, "refused": refused}))


async def _listen(socket: WebSocket, house: House, person: Person, telling: asyncio.Task[None]) -> None:
    rates, seq = Rates(MOST_A_SECOND), -1
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data is None or rates.too_many(""):
                return await socket.close(1008, "nothing of the kind is heard here")
            number = 0
            try:
                found, number = unpack(data)
                if isinstance(found, Chunk | Leader):
                    if found.seq <= seq:
                        raise LinkError(f"command {found.seq} comes after {seq}; number them upwards, each once")
                    seq = found.seq
                reply = await _done(house.daemon, person, found, number)
            except (LinkError, Gone) as error:
                reply = Reply(number, str(error))
            if number or reply.refused:
                await socket.send_bytes(pack(replace(reply, to=number))[_HEAD:])
    finally:
        telling.cancel()


async def _done(daemon: Daemon, person: Person, message: Message, number: int) -> Reply:
    """Raises LinkError, Gone."""
    match message:
        case Stop() | Estop():
            return await daemon.ask(replace(message, who=person.name))
        case Chunk() | Leader() | Seen() | Scene() | Renew() if person.role != "observe":
            request: Request = message
            if number:
                return await daemon.ask(request)
            daemon.say(request)
            return Reply(0)
    raise LinkError(f"a {type(message).__name__} of {person.name} ({person.role}) is not heard here")
