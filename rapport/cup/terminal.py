"""A person answers in the terminal: each question is one clip with both behaviours side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embodied.loop import Ask
from embodied.records import Answer, Compare, Query, Skip, Value
from embodied.store import Store
from envs.arm_render import GL_INSTALL_LINE, gl
from rapport.cup.clips import render_questions

ANNOTATOR = "you"
KEYS: dict[str, Value] = {"1": Compare(1.0), "2": Compare(0.0), "0": Compare(0.5), "x": Skip("cannot tell")}
HELP = "1 left is better   2 right is better   0 about equal   x cannot tell   z one back   q stop for now"


def need_clips() -> None:
    """Raises ValueError where clips cannot be rendered: a question is a clip."""
    if gl() is None:
        raise ValueError(f"--ask shows clips, and this machine has no OpenGL to render them: {GL_INSTALL_LINE}")


def asker(
    store: Store,
    folder: Path,
    quiet: Callable[[], object],
    read: Callable[[str], str] = input,
    render: Callable[[Sequence[Query], Path], Mapping[str, Path]] = render_questions,
) -> Ask:
    """Asks on stdin; every answer is on disk before the next question. q, or the end of stdin, raises
    KeyboardInterrupt: the run resumes."""

    def ask(batch: Sequence[Query]) -> None:
        quiet()
        asked = len({answer.query for answer in store.answers()})
        print(f"\n{len(batch)} questions.", flush=True)
        clips = render(batch, folder)
        print(f"Which do you like better?   {HELP}", flush=True)
        i = 0
        while i < len(batch):
            query = batch[i]
            try:
                key = read(f"{asked + i + 1}: {clips[query.id]}  > ").strip().lower()
            except EOFError:
                key = "q"
            if key == "q":
                raise KeyboardInterrupt
            if key == "z":
                if i == 0:
                    print("Nothing to undo in this batch.")
                else:
                    i -= 1
            elif key in KEYS:
                _record(store, query, KEYS[key])
                i += 1
            else:
                print(f"{key!r} is no answer.   {HELP}")

    return ask


def _record(store: Store, query: Query, value: Value) -> None:
    """An answer given again supersedes the last one to that query."""
    earlier = [answer for answer in store.answers() if answer.query == query.id and answer.annotator == ANNOTATOR]
    name = f"{query.id}-{ANNOTATOR}-{time.time_ns()}"
    store.add_answers(
        [Answer(name, query.id, ANNOTATOR, "person", value, supersedes=earlier[-1].id if earlier else "")]
    )
