"""`rapport demo`: the main job from the command line, from questions to the report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from embodied import checkpoint
from embodied.feedback import Budget
from envs.arm_render import RenderError
from rapport.console import Clock, say, working
from rapport.cup.agent import CupAgent
from rapport.cup.clips import render_before_after
from rapport.cup.handover import hand_over
from rapport.cup.measure import Measured
from rapport.cup.page import asker as page_asker
from rapport.cup.people import PEOPLE
from rapport.cup.terminal import asker as terminal_asker
from rapport.cup.terminal import need_clips
from rapport.cup.train import Settings, train
from rapport.run import machine, read_json, run_folder, write_json

if TYPE_CHECKING:
    from rapport.cli import Demo


def default_folder(settings: Settings) -> Path:
    """One folder per setting, so that two runs never meet."""
    parts = ["demo", settings.person, f"seed{settings.seed}", f"{settings.answers}answers"]
    parts += [settings.reward] * (settings.reward != "learned") + ["coin"] * settings.coin + ["asked"] * settings.ask
    return Path("runs") / "-".join(parts)


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What --json prints: shares in [0, 1]."""
    before, after = result["before"], result["after"]
    return {
        "answers": result["answers"],
        "wishes_before": before["wishes"],
        "wishes_after": after["wishes"],
        "task_before": before["task"],
        "task_after": after["task"],
        "seconds": result["seconds"],
    }


def demo(options: Demo) -> int:
    settings = Settings(
        seed=options.seed,
        person=options.person,
        answers=options.answers if options.reward == "learned" else 0,
        reward=options.reward,
        coin=options.coin,
        ask=options.ask,
    )
    folder = options.out or default_folder(settings)
    if settings.ask:
        need_clips()
    with run_folder(folder, asdict(settings)):
        finished = folder / "result.json"
        if finished.exists():
            result = read_json(finished)
            say(f"{folder} finished on {result['finished']}: this is what it found. Another --out makes a new run.")
        else:
            result = run(settings, folder, options.terminal)
        if options.clips and not (folder / "clips").exists():
            draw_clips(folder)
        with working("writing the report"):
            from rapport.cup.report import write_report

            report = write_report(folder)
    verdict(settings, result, report)
    if options.json:
        print(json.dumps(summary(result)))
    return 0


def draw_clips(folder: Path) -> None:
    """A picture that cannot be drawn stops nothing: the result does not depend on it."""
    try:
        render_before_after(folder)
    except (RenderError, OSError) as error:
        say(f"The clips could not be drawn, and the rest goes on: {str(error).strip().splitlines()[-1]}")


def run(settings: Settings, folder: Path, terminal: bool = False) -> dict[str, Any]:
    """In a folder opened by `run_folder`: trains what is left, exports the kept policy, writes result.json."""
    clock = Clock(folder / "seconds.json")
    total = sum(r.steps for r in settings.rounds())
    done = checkpoint.latest(folder / "checkpoints") or 0
    before = sum(r.steps for r in settings.rounds()[:done])
    if done:
        say(f"{folder}: going on after round {done} of {len(settings.rounds())}.")
    say(f"An arm carries a full cup in a hurry. Asking {_who(settings)}; everything goes to {folder}.")
    bar = tqdm(
        total=total,
        initial=before,
        unit=" steps",
        unit_scale=True,
        file=sys.stderr,
        mininterval=0.5,
        dynamic_ncols=True,
    )

    def told(row: dict[str, Any]) -> None:
        clock.save()
        bar.set_postfix_str(f"{row['answers']} answers, wishes {row['wishes']:.0%}, task {row['task']:.0%}")

    with bar, ExitStack() as page:
        ask: Callable[..., Any] | None = None
        if settings.ask and terminal:
            ask = lambda store: terminal_asker(store, folder / "questions", bar.clear)  # noqa: E731
        elif settings.ask:
            ask = lambda store: page.enter_context(page_asker(store, folder / "asked", bar.clear))  # noqa: E731
        trained = train(settings, folder, ask=ask, progress=bar.update, told=told, doing=bar.set_description_str)
    hand_over(folder / "pretrained", trained.agent.pretrained, "none: it imitates a hurried carrier")
    hand_over(folder / "policy", trained.agent.sb3.snapshot(), _reward_sentence(settings, trained.budget))
    result = {
        "answers": trained.budget.answered,
        "budget": asdict(trained.budget),
        "before": asdict(trained.before),
        "after": asdict(trained.after),
        "seconds": round(clock.save(), 1),
        "machine": {**machine(), "torch threads": str(torch.get_num_threads())},
        "finished": time.strftime("%Y-%m-%d %H:%M"),
    }
    write_json(folder / "result.json", result)
    return result


def verdict(settings: Settings, result: dict[str, Any], report: Path) -> None:
    person = PEOPLE[settings.person]
    before, after = (Measured(**result[k]) for k in ("before", "after"))
    print(f"\n{after.episodes} layouts never seen in training. {whose(settings)}")
    print(f"{'':24}{'before':>8}{'after':>8}   95 %")
    rows = [("wishes met", before.wishes, after.wishes), ("task done", before.task, after.task)]
    rows += [(f"  {name}", before.each[name], after.each[name]) for name in person.wishes]
    for name, was, now in rows:
        low, high = after.interval(now)
        print(f"{name:24}{was:>8.1%}{now:>8.1%}   {low:.1%} to {high:.1%}")
    print(f"{result['answers']} answers, {result['seconds']:.0f} s. Look at it: {report}")


def whose(settings: Settings) -> str:
    """Whose wishes are measured: those of a person at the terminal are not known."""
    person = PEOPLE[settings.person]
    if settings.ask:
        return f"What you wish is not known; these are the wishes of {person.name}, who wants {person.wants}:"
    return f"{person.name.capitalize()} wants {person.wants}:"


def _who(settings: Settings) -> str:
    if settings.reward == "none":
        return "nobody"
    if settings.reward == "true":
        return "nobody: the hidden reward itself is used"
    whom = "you" if settings.ask else f"a simulated person ({PEOPLE[settings.person].name})"
    return f"{whom} {settings.answers} questions" + (", who tosses a coin" if settings.coin else "")


def _reward_sentence(settings: Settings, budget: Budget) -> str:
    low, high = CupAgent.WEIGHTS
    own = f"the task, weighted {low:g} to {high:g} by its own success, less {CupAgent.PATH_COST:g} per metre"
    if settings.reward == "none":
        return own
    source = "the hidden reward" if settings.reward == "true" else f"a reward learned from {budget.answered} answers"
    return f"{own}, and {source}"
