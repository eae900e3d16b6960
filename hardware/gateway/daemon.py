"""The gateway's connection with the daemon: one for all its clients, opened again when it is lost.

It beats from the same loop that serves everybody: a gateway that hangs or dies falls silent, and the daemon stops the
arm. A new connection has no lease, so nothing moves again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hardware.chunks import Chunk
from hardware.link import (
    BEAT_SECONDS,
    VERSION,
    Ask,
    Beat,
    Bye,
    Estop,
    Frames,
    GiveBack,
    Hello,
    Leader,
    LinkError,
    Message,
    Reply,
    Request,
    Scene,
    Snapshot,
    Stop,
    Take,
    pack,
)

AGAIN_SECONDS = 0.25
ANSWER_SECONDS, STOP_SECONDS = 20.0, 1.0  # a UR takes its time to power up
"""For which a reply is waited for: whoever asked for a stop is not to wait long for the truth."""
SILENT_SECONDS = 0.5
"""Without a Snapshot, after which the last one says nothing any more."""
MOST_WAITING = 1 << 20
"""Bytes the daemon has not read yet, after which it is thought to hang."""


class Gone(ConnectionError):
    """Nobody is at the daemon's end; the sentence says what to do."""


class Daemon:
    """told: called with every Snapshot; gone: when the daemon is lost. `snapshot` is the last one, and None while the
    daemon is not there or silent; `why` says why that is."""

    def __init__(
        self,
        path: Path,
        told: Callable[[Snapshot], object] = lambda snapshot: None,
        gone: Callable[[], object] = lambda: None,
    ) -> None:
        self.path, self.told, self.gone = path, told, gone
        self.hello: Hello | None = None
        self.snapshot: Snapshot | None = None
        self.why = f"the daemon is not at {path} yet"
        self.lease = ""
        """The last one that was taken through here."""
        self._writer: asyncio.StreamWriter | None = None
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._number, self._seq, self._heard = 0, 0, 0.0

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self.path))
                beating = asyncio.create_task(self._beat())
                try:
                    self.why = await self._hear(reader)
                finally:
                    beating.cancel()
            except (OSError, LinkError) as error:
                self.why = f"the daemon cannot be reached ({error}); start it, or look at its log"
            self._lost()
            await asyncio.sleep(AGAIN_SECONDS)

    async def ask(self, message: Request) -> Reply:
        """Once it is done, and seen in `snapshot`. Raises Gone, LinkError."""
        self._number += 1
        number = self._number
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        stops = isinstance(message, Stop | Estop)
        seconds = STOP_SECONDS if stops else ANSWER_SECONDS
        try:
            self.say(message, number)
            reply = await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            what = "not stopped: use the hardware e-stop" if stops else "stop the arm by hand"
            raise Gone(f"the daemon has not answered within {seconds:g} s; {what}") from None
        finally:
            self._asked.pop(number, None)
        if isinstance(message, Take) and reply.lease:
            self.lease = reply.lease
        if isinstance(message, Ask | Stop | Estop | Take | GiveBack | Scene):  # a Reply comes before its Snapshot
            await self.after(-1 if self.snapshot is None else self.snapshot.seq)
        return reply

    def say(self, message: Request, number: int = 0) -> None:
        """Commands are numbered here, for all clients together. Raises Gone, LinkError."""
        if self._writer is None:
            raise Gone(self.why)
        if isinstance(message, Chunk | Leader):
            self._seq += 1
            message = replace(message, seq=self._seq)
        self._writer.write(pack(message, number))
        if self._writer.transport.get_write_buffer_size() > MOST_WAITING:
            self._writer.transport.abort()

    async def after(self, seq: int, seconds: float = 1.0) -> Snapshot | None:
        """The newest Snapshot, once it is another than this one; None where the daemon is not there. A second without
        any is also told by the same one."""
        if self.snapshot is not None and self.snapshot.seq != seq:
            return self.snapshot
        news = asyncio.get_running_loop().create_future()
        self._waiting.append(news)
        try:
            await asyncio.wait_for(news, seconds)
        except TimeoutError:
            self._waiting.remove(news)
        return self.snapshot

    async def _hear(self, reader: asyncio.StreamReader) -> str:
        """Why it is over. Raises OSError, LinkError."""
        frames = Frames()
        while data := await reader.read(1 << 16):
            for found in frames.feed(data):
                if isinstance(found, LinkError):
                    raise found
                message = found[0]
                if isinstance(message, Bye):
                    return "the daemon has stopped the arm and ended; start it again"
                self._take(message)
        return (
            "the daemon is gone; its guard should have stopped the arm: if it moves, use the hardware e-stop; look at "
            "their logs, and start it again"
        )

    def _take(self, message: Message) -> None:
        match message:
            case Hello():
                if message.version != VERSION:
                    raise LinkError(f"the daemon speaks version {message.version}, this is {VERSION}; restart both")
                self.hello = message
            case Reply() if (answer := self._asked.get(message.to)) is not None and not answer.done():
                answer.set_result(message)
            case Snapshot():
                self.snapshot, self._heard = message, asyncio.get_running_loop().time()
                self.told(message)
                self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            if not news.done():
                news.set_result(None)

    def _lost(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self.hello, self.snapshot, self.lease = None, None, None, ""
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Gone(self.why))
        self.gone()
        self._wake()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            silent = asyncio.get_running_loop().time() - self._heard
            if self.snapshot is not None and silent > SILENT_SECONDS:
                self.snapshot = None
                self.why = (
                    "the daemon is silent: it hangs, or is busy opening or energising the arm; if the arm moves, use "
                    "the hardware e-stop"
                )
                self._wake()
            try:
                self.say(Beat())
            except Gone:
                return
