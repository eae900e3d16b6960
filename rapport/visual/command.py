"""`rapport train --reward` and `--videos`: a run about videos, from the command line."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from embodied import checkpoint
from rapport.console import say, working
from rapport.train.people import Asking
from rapport.visual.settings import TEACHERS, Settings
from rapport.visual.training import Show, learn_from_videos

if TYPE_CHECKING:
    from rapport.cli import Compare, Train

OURS = ("reward", "reward_from", "videos", "demos", "trunk", "pay", "frames", "pool", "cache")
SHARED = ("env", "answers", "teacher", "seed", "ask", "store", "run", "patience", "out", "json")
ACTING = ("steps", "sessions", "copies", "horizon", "algorithm", "rate", "pay")
ASKING = ("videos", "demos", "trunk", "pool", "cache", "answers", "teacher", "ask", "store", "run", "patience")


def about_videos(options: Train) -> bool:
    """Whether any flag says so."""
    return any(name in OURS for name in given(options))


def given(options: Train | Compare) -> list[str]:
    """The flags that are not as they are by default."""
    return [f.name for f in fields(options) if getattr(options, f.name) != f.default]


def settings_of(options: Train) -> Settings:
    """Raises ValueError for flags of which one makes the other meaningless."""
    set_ = given(options)
    if not (options.reward or options.videos or options.reward_from):
        ours = ", ".join(_flag(name) for name in set_ if name in OURS)
        raise ValueError(f"{ours}: of a reward from videos; give --reward too, --reward rapl say, or leave that out.")
    reward = options.reward or "rapl"
    _refuse([n for n in set_ if n not in (*OURS, *SHARED, *ACTING)], "not of a run about videos")
    if options.env is None:
        _refuse([n for n in set_ if n in ACTING], "of training an agent, and there is no --env")
    if options.videos and not options.ask and not options.reward_from:
        raise ValueError(
            f"Nobody knows which videos of {options.videos} are good: give --ask STUDY, whose people rank them. A "
            "simulated person needs an environment, whose return it knows."
        )
    if options.videos:
        _refuse([n for n in set_ if n == "pool"], "of filming episodes, and --videos has the videos")
    if reward == "true" or options.reward_from:
        _refuse([n for n in set_ if n in ASKING], "of learning a reward, which is there already")
    if reward == "true":
        _refuse([n for n in set_ if n in ("pay", "frames")], "of a reward from videos, and --reward is true")
    if options.ask:
        _refuse([n for n in set_ if n == "teacher"], "of a simulated person, and --ask asks people")
    else:
        _refuse([n for n in set_ if n in ("store", "run", "patience")], "of asking people, and there is no --ask")
    if options.teacher not in TEACHERS:
        raise ValueError(f"--teacher {options.teacher} does not rank videos: take {', '.join(TEACHERS)}.")
    return Settings(
        env=options.env or "",
        videos=_place(options.videos),
        demos=_place(options.demos),
        reward=reward,
        reward_from=_place(options.reward_from),
        trunk=options.trunk,
        pay=options.pay,
        frames=options.frames,
        pool=options.pool,
        answers=options.answers,
        teacher=options.teacher,
        steps=options.steps,
        seed=options.seed,
        sessions=options.sessions,
        copies=options.copies,
        horizon=options.horizon,
        algorithm="sac" if options.algorithm == "sac" else "ppo",
        rate=options.rate,
    )


def _refuse(names: list[str], why: str) -> None:
    if names:
        raise ValueError(f"{', '.join(map(_flag, names))}: {why}; leave that out.")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _place(path: Path | None) -> str:
    return "" if path is None else str(path)


def default_folder(settings: Settings, asking: Asking | None) -> Path:
    about = settings.env or Path(settings.videos).resolve().name
    parts = [
        "train",
        re.sub(r"[^A-Za-z0-9._-]+", "-", about),
        "" if settings.reward_from else settings.reward,
        f"seed{settings.seed}",
    ]
    parts += [f"{settings.answers}answers"] if settings.asks else []
    parts += [f"from-{Path(settings.reward_from).resolve().name}"] if settings.reward_from else []
    parts += [f"asked-{asking.study.resolve().name}"] if asking else []
    return Path("runs") / "-".join(part for part in parts if part)


def command(options: Train) -> int:
    settings = settings_of(options)
    asking = Asking(options.ask, options.store, options.run or "", options.patience, "rank") if options.ask else None
    folder = options.out or default_folder(settings, asking)
    if (folder / "result.json").exists():
        say(f"{folder} is finished: this is what it found. Another --out makes a new run.")
    elif done := checkpoint.latest(folder / "checkpoints"):
        say(f"{folder}: going on after session {done} of {settings.sessions}.")
    steps = settings.steps if settings.env else None
    with tqdm(total=steps, unit=" steps", unit_scale=True, file=sys.stderr, mininterval=0.5, dynamic_ncols=True) as bar:

        def told(row: dict[str, Any]) -> None:
            success = "" if row["success"] is None else f", success {row['success']:.0%}"
            bar.set_postfix_str(f"own return {row['return']:.4g}{success}")

        def steps_known(steps: int) -> None:
            bar.total = steps
            bar.refresh()

        show = Show(
            doing=bar.set_description_str,
            progress=bar.update,
            total=steps_known,
            told=told,
            says=lambda text: tqdm.write(text, file=sys.stderr),
            looks=lambda left, people: bar.set_postfix_str(f"{left} questions open, {people} people answer"),
        )
        result = learn_from_videos(settings, folder, ask=asking, cache=options.cache, show=show)
    with working("writing the report"):
        from rapport.visual.report import write_report

        report = write_report(folder)
    for warning in result["warnings"]:
        say(f"Note: {warning}")
    if options.json:
        print(json.dumps(summary(result)))
        return 0
    print("", *lines(settings, result), f"{result['seconds']:.0f} s. Look at it: {report}", sep="\n")
    return 0


def lines(settings: Settings, result: dict[str, Any]) -> list[str]:
    """What the run found, in a few sentences."""
    found = []
    if settings.asks:
        spent, (share, low, high) = result["budget"], result["agreement"]
        demos = len(result["demos"])
        found.append(
            f"{spent['asked']} questions: {spent['answered']} answered, {spent['skipped']} skipped; "
            f"{result['learned_from'] or 'no'} rankings learned from, {demos} demonstration{'s' * (demos != 1)}"
        )
        if share is not None:
            within = "" if low is None else f" [{low:.0%}, {high:.0%}]"
            found.append(f"of pairs in rankings it had not learned from, the reward orders {share:.0%}{within} alike")
    if settings.env:
        success, steps = result["success_after"], result["steps"]
        rounded = "" if steps == settings.steps else f", whole rollouts of the {settings.steps} asked for"
        found.append(
            f"own return {result['return_before']:.4g} before, {result['return_after']:.4g} after {steps} "
            f"steps{rounded} (at random {result['return_at_random']:.4g})"
            + ("" if success is None else f"; success {success:.0%}")
        )
    else:
        best = sorted(result["worth"].items(), key=lambda item: -item[1])
        found += [f"{worth:8.3f}  {name}" for name, worth in best]
    return found


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """What --json prints."""
    keys = ("env", "method", "seed", "return_before", "return_after", "success_after", "steps", "exact")
    more = ("seconds", "learned_from", "questions_learned_from", "demos", "agreement", "correlation", "warnings")
    spent = result.get("budget", {})
    worth = {} if "steps" in result else {"worth": result["worth"]}
    return {**{k: result[k] for k in (*keys, *more) if k in result}, **worth, **spent}
