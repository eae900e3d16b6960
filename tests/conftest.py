"""For every test: one thread, since the networks are small; laws are tried on the same examples each time, untimed.
Stores are tried in SQLite and on a real PostgreSQL server, which the tests start; pages in a real browser."""

import os
import shutil
import tempfile
import uuid

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported

settings.register_profile("rapport", deadline=None, derandomize=True)
settings.load_profile("rapport")


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of its own, as somebody would run it."""
    import pgserver

    # A short path: that of a socket has a limit.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        running = pgserver.get_server(folder)
        yield running
        running.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where a store may be: a file, or a new database of a server."""
    if request.param == "sqlite":
        return tmp_path / "new" / "folder" / "store.sqlite"
    server = request.getfixturevalue("server")
    name = f"test_{uuid.uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")
    return server.get_uri(name)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no Chromium: apt-get install chromium, or name one in the environment variable CHROMIUM")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=quiet)
        yield running
        running.close()
