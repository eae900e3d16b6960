"""`rapport ask`: serves a study, and looks after the people in it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import uvicorn

from embodied.database import StoreError
from envs.delivery import Board
from human_ui import people, texts
from human_ui.server import config, listen
from human_ui.site import TERMS, Site, open_site
from human_ui.study import Study
from rapport.boards import USUAL, read_board
from rapport.console import say, working

if TYPE_CHECKING:
    from rapport.cli import Ask

OWNER = "owner"


def command(options: Ask) -> int:
    if options.public != (options.address is not None):
        raise ValueError("--public and --address go together: people come through a proxy, and it has an address.")
    if options.board is not None and options.walks is None:
        raise ValueError(f"--board {options.board} goes with --walks N: say how many questions about it to ask.")
    world = None if options.walks is None else read_board(options.board or USUAL)
    if not (options.study / TERMS).exists():
        name = options.study.resolve().name
        options.study.mkdir(parents=True, exist_ok=True)
        (options.study / TERMS).write_text(template(name) if world is None else _about_walks(name, world))
        say(f"{options.study / TERMS} was not there and has been written: look into it for what can be set.")
    site = open_site(options.study, options.store, address=(options.address or "").rstrip("/"))
    try:
        if options.revoke or options.erase:
            return _end(site, options)
        if options.texts:
            asked = texts.offer(site, list(texts.read(options.texts)))
            say(f"{options.texts}: {len(asked)} questions about texts can be asked.")
        if world is not None and options.walks is not None:
            _offer_walks(site, world, options.walks)
        return _serve(site, options)
    finally:
        site.store.close()


def _about_walks(name: str, world: Board) -> str:
    from rapport.board_study import terms  # loads torch, which no other study needs

    return terms(name, world)


def _offer_walks(site: Site, world: Board, n: int) -> None:
    from rapport.board_study import offer

    with working(f"drawing {n} questions about walks"):
        kinds = Counter(pick.kind for pick in offer(site, world, n))
    say(
        f"walks: {kinds['at random']} pairs at random, {kinds['opposed']} opposed, {kinds['known']} with a known answer"
    )


def template(name: str) -> str:
    usual = Study(name)
    return (
        f"# What people are asked, and on what terms. A change is a new version, from the next question on.\n"
        f'name = "{name}"\n'
        f'question = "{usual.question}"\n'
        f"want = {usual.want}         # people per question\n"
        f"gold = {usual.gold}       # share of questions whose answer is known\n"
        f"clip_seconds = {usual.clip_seconds}  # how long the clips are that `rapport train --ask` shows ...\n"
        f"fps = {usual.fps}          # ... and how many steps of the environment go by in a second of them\n"
        f"rest = {usual.rest}        # a break is offered after so many answers\n"
        f'consent = ""\n'
        f'instructions = ""\n'
    )


def _end(site: Site, options: Ask) -> int:
    for name in options.revoke:
        people.revoke(site.store, name)
        print(f"{name}: the invitation is dead; what was answered stays.")
    for name in options.erase:
        gone = people.erase(site.store, name)
        print(f"{name}: {gone} answers erased. A run that has read them is no longer replayable.")
    return 0


def _serve(site: Site, options: Ask) -> int:
    listening = listen(options.port)
    here = "http://{}:{}".format(*listening.getsockname()[:2])
    address = site.address or here
    where = f"at {address}, from where a proxy passes it on to" if site.address else "only for this machine, at"
    print(f"{site.study().name}, {where} {here}")
    for name in options.invite:
        try:
            print(f"  for {name}: {address}/#{people.invite(site.store, name)}")
        except StoreError as error:
            say(str(error))
    print(f"  for you: {address}/owner#{people.invite_again(site.store, OWNER, 'owner')}", flush=True)
    say("Ctrl-C stops it; every answer is on disk, and the same command goes on.")
    uvicorn.Server(config(site, listening)).run([listening])
    return 0
