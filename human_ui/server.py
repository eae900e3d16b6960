"""A site on this machine's own address, beside whatever else the process does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from human_ui.app import create_app
from human_ui.site import Site

LOOPBACK = "127.0.0.1"
KEEP = 75  # seconds for which a connection is kept while somebody looks: a new one takes longer than an answer


class ServerError(OSError):
    """The address cannot be served at; the sentence says why."""


def config(site: Site, listening: socket.socket) -> uvicorn.Config:
    """Who is behind a proxy is believed of a proxy on this machine alone, whatever the environment says."""
    host, port = listening.getsockname()[:2]
    return uvicorn.Config(
        create_app(site),
        host,
        port,
        log_level="warning",
        server_header=False,
        proxy_headers=bool(site.address),
        forwarded_allow_ips=LOOPBACK,
        timeout_keep_alive=KEEP,
    )


def listen(port: int = 0, host: str = LOOPBACK) -> socket.socket:
    """A socket at this port, or any free one for 0. Raises ServerError where it is taken."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ServerError(f"{host}:{port} cannot be served at ({error.strerror}); give another --port") from error
    return listening


@contextmanager
def beside(site: Site, port: int = 0) -> Iterator[str]:
    """Serves in a thread; gives the address, http://127.0.0.1:PORT."""
    listening = listen(port)
    server = uvicorn.Server(config(site, listening))
    thread = threading.Thread(target=server.run, args=([listening],), name="web server", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield "http://{}:{}".format(*listening.getsockname()[:2])
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        listening.close()
