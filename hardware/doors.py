"""The daemon's end of its socket: heard and told within a tick, never waiting for anybody."""

from __future__ import annotations

import os
import select
import socket
import struct
from itertools import islice
from pathlib import Path

from hardware.link import Frames, LinkError, Message, Reply, Told, pack

MOST_CLIENTS = 16
MOST_WAITING = 1 << 20
"""Bytes that may wait for somebody who does not read, before he is let go."""
MOST_READ, MOST_MESSAGES = 1 << 18, 64
"""Bytes and messages that are heard from one client in one tick: a flood waits, the loop does not."""
_PEER = struct.Struct("3i")


class Client:
    def __init__(self, end: socket.socket, number: int) -> None:
        self.end, self.number = end, number
        self.frames, self.waiting, self.gone = Frames(), bytearray(), False

    @property
    def pid(self) -> int:
        """As the kernel has it."""
        return peer(self.end)


class Doors:
    """Raises OSError where the socket cannot be made. The folder is made, for its owner only."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.path, self.clients = path, dict[int, Client]()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        old = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(old)
        self._listener.listen()
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._next = 0
        self._greeting = b""

    def open_to(self, hello: Told) -> None:
        """What everybody is told first, from now on."""
        self._greeting = pack(hello)

    def heard(self) -> tuple[list[tuple[int, int, Message]], list[int]]:
        """What came since: (client, number, message); and the clients that are gone."""
        ready = {descriptor for descriptor, _ in self._poll.poll(0)}
        if self._listener.fileno() in ready:
            self._welcome()
        said: list[tuple[int, int, Message]] = []
        for client in list(self.clients.values()):
            if not client.gone and (client.end.fileno() in ready or len(client.frames)):
                said += self._listen(client)
        gone = [client for client in self.clients.values() if client.gone]
        for client in gone:
            self._poll.unregister(client.end)
            client.end.close()
            del self.clients[client.number]
        return said, [client.number for client in gone]

    def tell(self, number: int, message: Told, to: int = 0) -> None:
        """One client. It waits for him to read, but not for ever."""
        if (client := self.clients.get(number)) is not None and not client.gone:
            client.waiting += pack(message, to)
            self._send(client)

    def tell_all(self, message: Told) -> None:
        """Everybody who has read what he was told before."""
        if not self.clients:
            return
        frame = pack(message)
        for client in self.clients.values():
            if client.waiting:
                self._send(client)
            if not client.waiting and not client.gone:
                client.waiting += frame
                self._send(client)

    def shut(self) -> None:
        """Nobody else comes in; who is in stays."""
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self.shut()
        for client in self.clients.values():
            client.end.close()
        self.clients.clear()

    def _welcome(self) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:  # nobody else, or he is gone again
                return
            if len(self.clients) >= MOST_CLIENTS:
                end.close()
                continue
            end.setblocking(False)
            self._next += 1
            client = self.clients[self._next] = Client(end, self._next)
            self._poll.register(end, select.POLLIN)
            client.waiting += self._greeting
            self._send(client)

    def _listen(self, client: Client) -> list[tuple[int, int, Message]]:
        said: list[tuple[int, int, Message]] = []
        try:
            data = b""
            if len(client.frames) < MOST_READ:
                try:
                    data = client.end.recv(MOST_READ)
                    client.gone = not data
                except BlockingIOError:
                    pass
            for found in islice(client.frames.feed(data), MOST_MESSAGES):
                if isinstance(found, LinkError):
                    self.tell(client.number, Reply(0, str(found)))
                else:
                    said.append((client.number, found[1], found[0]))
        except (OSError, LinkError):
            client.gone = True
        return said

    def _send(self, client: Client) -> None:
        try:
            sent = client.end.send(client.waiting)
            del client.waiting[:sent]
        except BlockingIOError:
            pass
        except OSError:
            client.gone = True
        if len(client.waiting) > MOST_WAITING:
            client.gone = True


def peer(end: socket.socket) -> int:
    """The process at the other end, as the kernel has it: who connected, or who listened."""
    data = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(data)[0])


class Caller:
    """The other end, for whoever may wait: the guard, the command line, tests. Raises OSError as sockets do."""

    def __init__(self, path: Path, seconds: float = 5.0) -> None:
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.end.settimeout(seconds)
        try:
            self.end.connect(str(path))
        except OSError:
            self.end.close()
            raise
        self._frames, self._heard, self._number = Frames(), list[Message](), 0

    def say(self, message: Message, number: int = 0) -> None:
        self.end.sendall(pack(message, number))

    def hear(self) -> Message:
        """The next message. Raises ConnectionError when there is none to come."""
        while not self._heard:
            self._heard += self.read()
        return self._heard.pop(0)

    def read(self) -> list[Message]:
        """Waits for bytes, and returns what is whole by then."""
        if not (data := self.end.recv(1 << 16)):
            raise ConnectionResetError("the daemon is gone")
        return [found[0] for found in self._frames.feed(data) if not isinstance(found, LinkError)]

    def ask(self, message: Message) -> Reply:
        """What the daemon replies."""
        self._number += 1
        self.say(message, self._number)
        while True:
            told = self.hear()
            if isinstance(told, Reply) and told.to in (self._number, 0):
                return told

    def close(self) -> None:
        self.end.close()
