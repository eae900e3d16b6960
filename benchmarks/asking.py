"""The pages and the server that people answer through: how long until the next clips show, and how many can answer.

.venv/bin/python benchmarks/asking.py keys
.venv/bin/python benchmarks/asking.py load --people 200 --seconds 60
.venv/bin/python benchmarks/asking.py load --people 1000 --seconds 60 --postgresql
.venv/bin/python benchmarks/asking.py load --people 64 --think 0 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from embodied.episodes import Episode, cut
from embodied.records import Query
from human_ui import desk, people
from human_ui.clips import encode
from human_ui.server import beside, listen
from human_ui.site import TERMS, Site, open_site

SIZE, STEPS, FPS = (360, 480), 40, 20  # pixels, frames, frames a second
TERMS_OF_THIS = 'name = "Benchmark"\nrest = 0\nlook = 0\n'


def fill(site: Site, n: int, clips: int) -> None:
    """n questions about pairs of so many different clips."""
    rng = np.random.default_rng(0)
    made, shas = [], []
    for i in range(clips):
        made.append(Episode(f"e{i}", np.full((STEPS, 1), float(i)), np.zeros((STEPS, 1))))
        ground = rng.integers(0, 160, (*SIZE, 3)).astype(np.uint8) // 8 + 60
        frames = np.repeat(ground[None], STEPS, 0)
        for t in range(STEPS):
            frames[t, 100:200, 10 * t : 10 * t + 60] = 250
        shas.append(site.clips.put(encode(frames, fps=FPS)).sha256)
    site.store.episodes.save(made)
    pairs = [(i % clips, (i + 1 + i // clips % (clips - 1)) % clips) for i in range(n)]
    queries = [
        Query(f"q{k}", (cut(made[i], 0, STEPS - k % 8), cut(made[j], 0, STEPS))) for k, (i, j) in enumerate(pairs)
    ]
    shown = {q.id: (shas[i], shas[j]) for q, (i, j) in zip(queries, pairs, strict=True)}
    for start in range(0, n, 2000):
        desk.offer(site.store, queries[start : start + 2000], shown, want=1)


def percentiles(ms: list[float]) -> str:
    p50, p95, p99 = np.percentile(ms, [50, 95, 99])
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms ({len(ms)})"


# From the key to the first frame of both next clips, as the browser says that it is on the screen.
MEASURE = """
() => {
  window.took = [];
  let pressed = null;
  addEventListener("keydown", () => (pressed = performance.now()), true);
  new MutationObserver(() => {
    const from = pressed, videos = [...document.querySelectorAll("#stage video")];
    if (from === null || videos.length !== 2) return;
    pressed = null;
    const shown = (video) =>
      new Promise((resolve) => video.requestVideoFrameCallback((now, frame) => resolve(frame.expectedDisplayTime)));
    Promise.all(videos.map(shown)).then((times) => window.took.push(Math.max(...times) - from));
  }).observe(document.querySelector("#stage"), { childList: true });
}
"""


def keys(n: int) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = study(Path(folder))
        fill(site, n + 10, 40)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with beside(site) as url:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"{url}/#{people.invite(site.store, 'ann')}")
            page.wait_for_function("() => document.querySelectorAll('#stage video').length === 2")
            page.evaluate(MEASURE)
            for i in range(n):
                page.wait_for_timeout(600)  # the next ones are loaded meanwhile, as while somebody looks
                page.keyboard.press("1")
                page.wait_for_function("(n) => window.took.length === n", arg=i + 1)
            print(f"key to both next clips: {percentiles(page.evaluate('() => window.took'))}")
        browser.close()
        site.store.close()


def study(folder: Path, place: str | None = None) -> Site:
    (folder / TERMS).write_text(TERMS_OF_THIS)
    return open_site(folder, place)


@contextmanager
def database(postgresql: bool) -> Iterator[str | None]:
    if not postgresql:
        yield None
        return
    from pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = get_server(folder)
        yield server.get_uri()
        server.cleanup()


class Connection:
    """One person's: HTTP/1.1, as much of it as is needed. A whole client would take more than the server does."""

    def __init__(self, port: int, token: str, took: dict[str, list[float]]) -> None:
        self.port, self.head, self.took = port, f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n", took

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def call(self, what: str, method: str, path: str, body: object) -> Any:
        data = json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\n{self.head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        )
        start = time.perf_counter()
        self.writer.write(f"{head}\r\n".encode() + data)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.split("content-length:")[1].split()[0])
        told = await self.reader.readexactly(length)
        self.took[what].append(1000 * (time.perf_counter() - start))
        if (status := int(answer.split()[1])) != 200:
            self.took["errors"].append(status)
            return []
        return json.loads(told)


async def annotator(port: int, token: str, think: float, until: float, took: dict[str, list[float]]) -> None:
    """Borrows three, thinks, answers, borrows again; without a pause, answers all three at once."""
    here, rng, n = Connection(port, token, took), random.Random(token), 0
    await asyncio.sleep(rng.uniform(0, think))
    await here.open()
    while time.monotonic() < until:
        lent = await here.call("lease", "POST", "/api/leases", {"n": 3})
        for one in lent[:1] if think else lent:
            await asyncio.sleep(rng.uniform(0.6, 1.4) * think)
            n += 1
            body = {"lease": one["lease"], "value": {"compare": rng.choice([0, 1])}, "told": {"ms": 1234}}
            await here.call("answer", "PUT", f"/api/answers/{token[:8]}-{n}", body)
    here.writer.close()


def load(count: int, think: float, seconds: float, postgresql: bool) -> None:
    with database(postgresql) as place, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = study(folder, place)
        fill(site, round(count * 6 + (seconds / think * count if think else 1000 * seconds)), 12)
        tokens = [people.invite(site.store, f"p{i}") for i in range(count)]
        with listen() as free:
            port = free.getsockname()[1]
        where = [] if place is None else ["--store", place]
        command = [sys.executable, "-m", "rapport", "ask", name, "--port", str(port), *where]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/api/me")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            took: dict[str, list[float]] = {"lease": [], "answer": [], "errors": []}

            async def crowd() -> float:
                start = time.monotonic()
                until = start + seconds
                await asyncio.gather(*(annotator(port, token, think, until, took) for token in tokens))
                return time.monotonic() - start

            spent = asyncio.run(crowd())
        finally:
            running.terminate()
            running.wait()
        kept = len(site.store.answers())
        site.store.close()
    print(f"{count} people, {think:g} s to think, {'PostgreSQL' if postgresql else 'SQLite'}, {spent:.0f} s:")
    print(f"  {len(took['answer']) / spent:.0f} answers/s, {len(took['errors'])} errors, {kept} stored")
    print(f"  answer {percentiles(took['answer'])}")
    print(f"  lease of 3 {percentiles(took['lease'])}")
    if kept != len(took["answer"]) or took["errors"]:
        raise SystemExit(f"acknowledged {len(took['answer'])}, stored {kept}, errors {sorted(set(took['errors']))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_subparsers(required=True, dest="which")
    which.add_parser("keys").add_argument("--answers", type=int, default=60)
    crowd = which.add_parser("load")
    crowd.add_argument("--people", type=int, default=200)
    crowd.add_argument("--think", type=float, default=5.0, help="seconds to think, on average")
    crowd.add_argument("--seconds", type=float, default=60)
    crowd.add_argument("--postgresql", action="store_true")
    args = parser.parse_args()
    if args.which == "keys":
        keys(args.answers)
    else:
        load(args.people, args.think, args.seconds, args.postgresql)


if __name__ == "__main__":
    main()
