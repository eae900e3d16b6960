"""A person answers in the browser: one page on this machine, with each question's two clips on one clock."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from embodied.loop import Ask
from embodied.records import Query
from embodied.store import Store
from human_ui import desk, people, tables
from human_ui.clips import Clips
from human_ui.server import beside
from human_ui.site import TERMS, Site
from rapport.cup.clips import render_segments
from rapport.cup.terminal import ANNOTATOR

LOOK = 0.2  # seconds between looks for answers
LINGER = 5.0  # seconds in which an open page hears that it is over
_TERMS = """name = "The cup"
question = "Which do you like better?"
lease = 3600.0
look = 0.0
rest = 0
"""


@contextmanager
def asker(
    store: Store, folder: Path, quiet: Callable[[], object], show: Callable[[str], object] = webbrowser.open
) -> Iterator[Ask]:
    """Serves the page while the run lasts. `quiet` clears the progress bar before something is said; `show` is given
    the page's link.

    Every answer is on disk before the page says so; whoever stops the run goes on later with the same command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TERMS).write_text(_TERMS)
    store.write(tables.create)
    site = Site(folder, store, Clips(folder / "clips"))
    site.study()
    token = people.invite_again(store, ANNOTATOR)
    with beside(site) as url:
        link = f"{url}/#{token}"
        quiet()
        print(f"\nAnswer here: {link}", flush=True)
        show(link)

        def ask(batch: Sequence[Query]) -> None:
            quiet()
            print(f"\n{len(batch)} questions, at {url}", flush=True)
            files = render_segments(batch, folder / "drawn")
            clips = {q.id: [site.clips.put(f.read_bytes()).sha256 for f in files[q.id]] for q in batch}
            desk.offer(store, batch, clips, want=1)
            waiting = {query.id for query in batch}
            while waiting - {answer.query for answer in store.answers()}:
                time.sleep(LOOK)

        yield ask
        site.over = "That was all, thank you. The arm has learned; you may close this page."
        time.sleep(LINGER)
