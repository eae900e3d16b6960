"""A real HTTP server on this machine that replies as a script says."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    body: Any = None  # bytes, or what becomes JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0  # s
    reset: bool = False


@dataclass(frozen=True)
class Seen:
    at: float  # s, of this server's monotonic clock
    path: str
    key: str
    body: dict[str, Any]


Script = Callable[[int, dict[str, Any]], Reply]  # which request this is, and its body


@dataclass
class Heard:
    url: str
    seen: list[Seen]

    def times(self, text: str) -> int:
        """Requests whose messages hold the text."""
        return sum(text in json.dumps(one.body) for one in self.seen)


@contextmanager
def serving(script: Script) -> Iterator[Heard]:
    seen: list[Seen] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(seen)
                seen.append(Seen(time.monotonic(), self.path, self.headers.get("Authorization", ""), body))
            reply = script(number, body)
            time.sleep(reply.wait)
            if reply.reset:
                linger = struct.pack("ii", 1, 0)  # so that closing is a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                for end in (self.rfile, self.wfile, self.connection):
                    end.close()
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in ({"Content-Type": "application/json"} | dict(reply.headers)).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:  # of connections that were reset
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Heard(f"http://127.0.0.1:{server.server_port}/v1", seen)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def letter(p: float, others: float = 0.0) -> dict[str, Any]:
    """A chat completion that says A with probability p, B with the rest, but for what is left to other tokens."""
    shares = {"A": p * (1 - others), "B": (1 - p) * (1 - others), "The": others}
    top = [{"token": t, "logprob": math.log(x) if x else -9999.0, "bytes": None} for t, x in shares.items()]
    said = max(shares, key=shares.__getitem__)
    return chat(said, {"content": [top[list(shares).index(said)] | {"top_logprobs": top}]})


def chat(text: str | None, logprobs: Any = None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text} | {k: v for k, v in more.items() if k == "refusal"}
    choice = {"index": 0, "message": message, "finish_reason": more.get("finish", "stop"), "logprobs": logprobs}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}


def asked(body: dict[str, Any]) -> tuple[str, str]:
    """Which two answers a request shows, by the fences."""
    text = body["messages"][1]["content"]
    parts = [text.split(f"Answer {letter}:\n", 1)[1] for letter in "AB"]
    fences = [part.split("\n", 1)[0] for part in parts]
    first, second = (part.split("\n", 1)[1].split(f"\n{f}", 1)[0] for part, f in zip(parts, fences, strict=True))
    return first, second
