"""What `rapport robot` asks a running daemon, or finds in the journals that it left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from hardware import frames
from hardware.config import read
from hardware.doors import Caller
from hardware.journal import JournalError, journals, recover
from hardware.link import Estop, Hello, Snapshot, socket_path
from hardware.link import Stop as Stopping

if TYPE_CHECKING:
    from rapport.robot.verb import Episodes, Queries


class AskError(RuntimeError):
    """Why the robot does not answer, and the mend."""


NOT_STOPPED = "not stopped: use the hardware e-stop"


@contextmanager
def _calling(robot: Path, consequence: str = "", seconds: float = 5.0) -> Iterator[tuple[Caller, Hello]]:
    """Raises AskError, with the consequence, where there is no daemon, and where one is silent for so many seconds."""
    path = socket_path(read(robot).journal)
    try:
        caller = Caller(path, seconds)
    except OSError as error:
        why = f"no daemon is at {path} ({error.strerror or error}); `rapport robot run` starts one"
        raise AskError(f"{why}{consequence}") from error
    try:
        hello = caller.hear()
        assert isinstance(hello, Hello)
        yield caller, hello
    except TimeoutError:
        raise AskError(f"the daemon at {path} is there, and silent for {seconds:g} s: it hangs{consequence}") from None
    except OSError as error:
        raise AskError(f"the daemon at {path} is gone ({error}){consequence}") from error
    finally:
        caller.close()


def _next(caller: Caller) -> Snapshot:
    while not isinstance(snapshot := caller.hear(), Snapshot):
        pass
    return snapshot


def _power(hello: Hello, snapshot: Snapshot) -> str:
    return ", ".join(n for n, on in zip(hello.names, snapshot.powered, strict=True) if on) or "none"


def status(robot: Path) -> int:
    """Prints it; 1 where something is latched or nobody guards."""
    with _calling(robot) as (caller, hello):
        snapshot = _next(caller)
    with np.printoptions(precision=3, suppress=True):
        lines = {
            "state": f"{snapshot.mode}{f' ({snapshot.cause})' if snapshot.cause else ''}",
            "guard": "lives" if snapshot.guarded else "is not there",
            "lease": snapshot.holder or "nobody",
            "power": _power(hello, snapshot),
            "position": " ".join(f"{n} {p:.3f}" for n, p in zip(hello.names, snapshot.position, strict=True)),
            "loop": f"{hello.rate:g} Hz{', FIFO' if hello.fifo else ''}, {snapshot.overruns} overruns",
            "missed": f"{snapshot.misses} of {snapshot.seq} readings",
            "episode": snapshot.episode or "none is written",
        }
    lines |= {f"warning {i}": said for i, said in enumerate(hello.warnings, 1)}
    print(*(f"{name:9} {said}" for name, said in lines.items()), sep="\n")
    return 1 if snapshot.mode in ("FAULT", "ESTOP") or not snapshot.guarded else 0


def stop(robot: Path, estop: bool, category: int | None) -> int:
    """Returns once the daemon has begun to, and prints what it and the arm say then."""
    if category not in (None, 0, 1, 2):
        raise ValueError(f"--category is {category}; give 0, 1 or 2.")
    with _calling(robot, f"; {NOT_STOPPED}", seconds=1.0) as (caller, hello):
        kind = cast(Literal[0, 1, 2], hello.stop if category is None else category)
        who = "the command line"
        if refused := caller.ask(Estop(who) if estop else Stopping(kind, who)).refused:
            print(f"{refused}; {NOT_STOPPED}")
            return 1
        _next(caller)  # of the tick in which it was heard: who has power was read before
        snapshot = _next(caller)
    what = "e-stop, latched" if estop else f"stop, category {kind}"
    print(
        f"{what}: {snapshot.mode}{f' ({snapshot.cause})' if snapshot.cause else ''}, power: {_power(hello, snapshot)}"
    )
    return 0


def folder_of(robot: Path) -> Path:
    """Of journals: a folder as it is, or the one that a robot's file names."""
    return robot if robot.is_dir() else read(robot).journal


def episodes(options: Episodes) -> int:
    found = journals(folder_of(options.robot))
    if options.lerobot is not None:
        from hardware.to_lerobot import export

        done = export(found, options.lerobot, fps=options.fps, replace=options.replace)
        for why in done.left.values():
            print(f"left: {why}")
        print(f"{options.lerobot}: {done.episodes} episodes, {done.rows} rows")
        return 0
    for path in found:
        try:
            one = recover(path, truncate=options.recover)
        except JournalError as error:
            print(error)
            continue
        whole = "is written" if one.growing else "whole" if one.whole else f"torn ({one.lost} bytes lost)"
        ticks = one.ticks
        seconds = (ticks[-1].mono_ns - ticks[0].mono_ns) * 1e-9 if ticks else 0.0
        print(f"{one.name}  {seconds:7.1f} s  {whole:10}  {one.header.task}{_pictures(path)}")
    print(f"{len(found)} episodes in {folder_of(options.robot)}")
    return 0


def _pictures(journal: Path) -> str:
    try:
        found = frames.kept(frames.beside(journal))
    except JournalError as error:
        return f"  ({error})"
    told = (f"{n.frames} of {name}{f', {n.lost} lost: {n.why}' if n.lost else ''}" for name, n in found.items())
    return f"  pictures: {'; '.join(told)}" if found else ""


def queries(options: Queries) -> int:
    from human_ui.site import TERMS, open_site
    from rapport.ask import template
    from rapport.robot.circle import bring_back
    from rapport.robot.films import from_camera, of_cup_arm
    from rapport.robot.queries import Rules

    folder = folder_of(options.robot)
    if not (options.study / TERMS).exists():
        options.study.mkdir(parents=True, exist_ok=True)
        (options.study / TERMS).write_text(template(options.study.resolve().name))
    site = open_site(options.study)
    try:
        film = of_cup_arm if options.film == "cup" else from_camera(folder, options.camera)
        rules = Rules(seconds=options.seconds)
        done = bring_back(site, journals(folder), film, options.questions, rules, seed=options.seed, own=options.own)
    finally:
        site.store.close()
    for name, why in done.left.items():
        print(f"{name} is left out: {why}")
    if done.unseen:
        print(f"{done.unseen} stretches were not asked about: no camera's pictures show them")
    print(
        f"{options.study}: {done.episodes} episodes, {done.asked} questions ({done.made} of them new); people took "
        f"over {done.takeovers} times and stopped the arm {done.stops} times. `rapport ask {options.study}` asks them."
    )
    return 0
